//! Finding operations in an OpenAPI document.

use serde_json::Value;

/// Every operation of a document.
pub fn operations(document: &Value) -> impl Iterator<Item = &Value> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(_, methods)| methods.as_object().into_iter().flatten().map(|(_, operation)| operation))
}

/// The operation that a request goes to, if the document has it.
pub fn operation_of<'a>(document: &'a Value, method: &str, path: &str) -> Option<&'a Value> {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |template: &str| {
        let (parts, own): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        parts.len() == own.len() && parts.iter().zip(&own).all(|(part, own)| part.starts_with('{') || part == own)
    };
    let found = document["paths"].as_object()?.iter().filter(|(template, _)| fits(template));
    // What is spelt out goes before what stands for anything.
    let (_, methods) = found.min_by_key(|(template, _)| template.matches('{').count())?;
    methods.get(method.to_ascii_lowercase())
}
