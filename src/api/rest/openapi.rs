//! A dialect's OpenAPI document, made from its table of operations.

use std::collections::BTreeSet;

use http::StatusCode;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::Dialect;
use super::operation::{Describe, Operation};

/// The version of the OpenAPI specification that documents follow.
const OPENAPI: &str = "3.1.0";
/// What the schema of a parameter has for a `maximum` where the configuration
/// bounds it.
pub const LIST_LIMIT_MAX: &str = "list_limit_max";
/// What any request may be answered with besides, unless the dialect has another status for it.
const REFUSALS: [(StatusCode, &str); 11] = [
    (StatusCode::BAD_REQUEST, "The request is wrong, or can't be done."),
    (StatusCode::UNAUTHORIZED, "Nobody knows who calls."),
    (StatusCode::FORBIDDEN, "The caller has not the permission."),
    (StatusCode::NOT_FOUND, "There is no such thing."),
    (StatusCode::REQUEST_TIMEOUT, "The body took too long to arrive."),
    (StatusCode::GONE, "The user is disabled."),
    (StatusCode::PAYLOAD_TOO_LARGE, "The body is too long."),
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body has a Content-Encoding; Accept-Encoding says what is read."),
    (StatusCode::TOO_MANY_REQUESTS, "Too many attempts or calls; Retry-After says how long to wait."),
    (StatusCode::INTERNAL_SERVER_ERROR, "The server failed; its log says how."),
    (StatusCode::SERVICE_UNAVAILABLE, "The server can't do it now; Retry-After says how long to wait."),
];

/// The document of a dialect on a server that is called at `url`, and lists up
/// to so much.
pub fn document(dialect: &Dialect, url: &str, list_limit_max: u32) -> Value {
    // Two generators, since what may be left out of a request is there in an answer.
    let settings =
        || SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut taken = settings().for_deserialize().into_generator();
    let no_nulls = RecursiveTransform(without_null);
    let mut given = settings().for_serialize().with_transform(no_nulls).into_generator();
    let refusal = (dialect.refusal)(&mut given);
    let mut paths = Map::<String, Value>::new();
    for operation in &dialect.operations {
        let mut described = describe(operation, dialect, &refusal, &mut taken, &mut given);
        for parameter in described["parameters"].as_array_mut().into_iter().flatten() {
            if parameter["schema"]["maximum"] == LIST_LIMIT_MAX {
                parameter["schema"]["maximum"] = list_limit_max.into();
            }
        }
        described["tags"] = json!([tag(dialect, operation.path)]);
        paths.entry(operation.path).or_insert_with(|| json!({}))[operation.method.as_str().to_ascii_lowercase()] =
            described;
    }
    let mut schemas = taken.take_definitions(true);
    for (name, schema) in given.take_definitions(true) {
        let other = schemas.insert(name, schema.clone());
        assert!(other.is_none_or(|other| other == schema), "two schemas of one name");
    }
    let (security, ways) = (dialect.security)();
    let tags: BTreeSet<_> = dialect.operations.iter().map(|operation| tag(dialect, operation.path)).collect();
    let tags: Vec<_> = tags
        .into_iter()
        .map(|tag| json!({ "name": tag, "description": format!("What lies under `{tag}`.") }))
        .collect();
    json!({
        "openapi": OPENAPI,
        "info": {
            "title": dialect.title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A dialect of tallyhook. Webhooks that are made in it are seen in all others, too.",
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": url.trim_end_matches('/') }],
        "security": ways,
        "tags": tags,
        "paths": paths,
        "components": { "schemas": schemas, "securitySchemes": security },
    })
}

/// What has no value is left out of an answer or a query, and is never null;
/// typed clients raise at one.
fn without_null(schema: &mut Schema) {
    if let Some(Value::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            schema.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(branches)) = schema.get_mut("anyOf") {
        branches.retain(|branch| branch["type"] != "null");
        if let [branch] = branches.as_slice()
            && let Some(branch) = branch.as_object().cloned()
        {
            schema.remove("anyOf");
            branch.into_iter().for_each(|(key, value)| {
                schema.insert(key, value);
            });
        }
    }
}

/// What groups an operation with others: what comes first under the dialect's
/// own paths.
fn tag(dialect: &Dialect, path: &'static str) -> &'static str {
    let rest = dialect.bases.iter().find_map(|base| path.strip_prefix(base)).unwrap_or(path);
    rest.split('/').find(|part| !part.is_empty()).unwrap_or(dialect.name)
}

fn describe(
    operation: &Operation,
    dialect: &Dialect,
    refusal: &Schema,
    taken: &mut SchemaGenerator,
    given: &mut SchemaGenerator,
) -> Value {
    let mut parameters = members(operation.path_schema, "path", taken);
    parameters.extend(members(operation.query_schema, "query", taken));
    let mut responses = Map::new();
    let content = |schema: &Schema, media: &[&str]| -> Map<String, Value> {
        media.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": schema }))).collect()
    };
    let schema = (operation.result_schema)(given);
    let answer = match operation.status {
        StatusCode::NO_CONTENT => json!({ "description": "Done." }),
        _ => json!({ "description": "Done.", "content": content(&schema, dialect.media) }),
    };
    responses.insert(operation.status.as_str().to_owned(), answer);
    for (status, description) in REFUSALS.into_iter().filter(|(status, _)| (dialect.status)(*status) == *status) {
        let mut answer = json!({ "description": description, "content": content(refusal, dialect.media) });
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let seconds = json!({ "type": "integer", "minimum": 0 });
            answer["headers"]["Retry-After"] = json!({ "description": "How many seconds to wait.", "schema": seconds });
        }
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            let schema = json!({ "type": "string" });
            answer["headers"]["Accept-Encoding"] = json!({ "description": "What is read.", "schema": schema });
        }
        if let Some((name, description)) = &dialect.refusal_header {
            let schema = json!({ "type": "string" });
            answer["headers"][name.as_str()] = json!({ "description": description, "schema": schema });
        }
        responses.insert(status.as_str().to_owned(), answer);
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = operation.body_schema {
        let schema = body(taken);
        described["requestBody"] =
            json!({ "content": content(&schema, dialect.media), "required": operation.needs_body });
    }
    described
}

/// The members of an object as parameters.
fn members(describe: Describe, place: &str, generator: &mut SchemaGenerator) -> Vec<Value> {
    let schema = describe(generator);
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let parameter = |(name, member): (&String, &Value)| {
        let mut member = member.clone();
        let description = member.as_object_mut().and_then(|member| member.remove("description"));
        // In a query, what is left out is not null.
        member.as_object_mut().map(|member| member.remove("default"));
        if let Ok(mut schema) = Schema::try_from(member.clone()) {
            without_null(&mut schema);
            member = schema.to_value();
        }
        json!({
            "name": name,
            "in": place,
            "required": place == "path" || required.contains(&Value::from(name.as_str())),
            "description": description,
            "schema": member,
        })
    };
    members.map(parameter).collect()
}
