//! Client packages for other languages, made from the OpenRPC document.
//!
//! What the document says (methods, types, faults) is printed by a file for
//! each language here. The rest (transport, session, receiver, metadata) lies
//! in `templates/sdk/` as it is delivered, but for the version.

mod model;
mod names;
mod python;
mod typescript;
mod words;

use std::collections::BTreeMap;

use clap::ValueEnum;
use include_dir::{Dir, include_dir};
use serde_json::Value;

use self::model::Model;

static TYPESCRIPT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates/sdk/typescript");
static PYTHON: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates/sdk/python");
/// Goes along with each package.
const LICENSES: [(&str, &str); 2] = [
    ("LICENSE-APACHE", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE-APACHE"))),
    ("LICENSE-MIT", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE-MIT"))),
];
/// Stands for the version in the templates.
const VERSION: &str = "TALLYHOOK_VERSION";

/// A language that there is a package for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// For Node 18 or newer and browsers
    #[value(name = "typescript")]
    TypeScript,
    /// For Python 3.10 or newer
    Python,
}

/// The files of a package: text by path.
pub fn package(document: &Value, language: Language) -> BTreeMap<String, String> {
    let model = Model::new(document);
    let (folder, printed) = match language {
        Language::TypeScript => (&TYPESCRIPT, typescript::files(&model)),
        Language::Python => (&PYTHON, python::files(&model)),
    };
    let mut files = BTreeMap::new();
    gather(folder, &model.version, &mut files);
    let licenses = LICENSES.map(|(name, text)| (name.to_owned(), text.to_owned()));
    for (path, text) in printed.into_iter().chain(licenses) {
        let other = files.insert(path, text);
        assert!(other.is_none(), "a template lies where a file is printed");
    }
    files
}

/// The templates of a folder, with the version filled in.
fn gather(folder: &Dir<'_>, version: &str, files: &mut BTreeMap<String, String>) {
    for file in folder.files() {
        let text = file.contents_utf8().expect("templates are texts");
        files.insert(file.path().display().to_string(), text.replace(VERSION, version));
    }
    for inner in folder.dirs() {
        gather(inner, version, files);
    }
}
