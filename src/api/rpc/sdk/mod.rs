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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// For Node, and whatever else has `fetch`.
    TypeScript,
    /// For Python.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A document with a list, a method that is called over a WebSocket, and
    /// names that a language keeps for itself.
    fn document() -> Value {
        let robot = json!({
            "type": "object",
            "properties": { "robot_id": { "type": "integer" }, "mood": { "type": ["string", "null"], "enum": ["glad", null] } },
            "required": ["robot_id", "mood"],
        });
        let options = json!({
            "type": ["object", "null"],
            "properties": {
                "after_robot_id": { "type": ["integer", "null"], "minimum": 0 },
                "limit": { "type": ["integer", "null"], "minimum": 1 },
                "from": { "type": "string", "enum": ["here", "there"] },
            },
        });
        let result = |schema: Value| json!({ "name": "result", "schema": schema });
        json!({
            "info": { "version": "1.2.3" },
            "methods": [
                {
                    "name": "robot.list",
                    "summary": "Lists robots.",
                    "tags": [{ "name": "robot" }],
                    "params": [
                        { "name": "session", "required": true, "schema": { "type": "string" } },
                        { "name": "options", "required": false, "schema": options },
                    ],
                    "result": result(json!({ "type": "array", "items": { "$ref": "#/components/schemas/Robot" } })),
                    "errors": [{ "$ref": "#/components/errors/NoRobot" }],
                },
                {
                    "name": "robot.subscribe",
                    "summary": "Watches robots.",
                    "tags": [{ "name": "robot" }],
                    "x-transport": "websocket",
                    "params": [],
                    "result": result(json!({ "type": "boolean" })),
                    "errors": [],
                },
            ],
            "components": {
                "schemas": { "Robot": robot, "SpareRobot": { "type": "object", "properties": {} } },
                "errors": {
                    "NoRobot": { "code": 120, "message": "Robot not exists." },
                    "InvalidParams": { "code": -32602, "message": "Invalid params" },
                },
            },
        })
    }

    fn contains(text: &str, parts: &[&str]) {
        parts.iter().for_each(|part| assert!(text.contains(part), "{part} is missing in:\n{text}"));
    }

    #[test]
    fn a_list_is_read_page_by_page() {
        let (typescript, python) = (package(&document(), Language::TypeScript), package(&document(), Language::Python));
        contains(
            &typescript["src/client.ts"],
            &[
                "list(options: types.RobotListOptions = {}): Promise<types.Robot[]> {",
                "  async *listAll(\n    options: types.RobotListOptions = {},\n  ): AsyncGenerator<types.Robot, void, undefined> {",
                "await this.list({ ...options, limit, after_robot_id });",
                "after_robot_id = last.robot_id;",
            ],
        );
        contains(
            &python["src/tallyhook/_client.py"],
            &[
                "    def list_all(\n",
                "from_: types.RobotListFrom | None = None,",
                "after_robot_id = page[-1][\"robot_id\"]",
                "\"from\": from_",
                "limit=count,",
            ],
        );
    }

    /// Every list of the server, as its document describes it.
    #[test]
    fn the_servers_own_lists_are_read_page_by_page() {
        let document = crate::api::rpc::openrpc("https://example.com/");
        let methods = document["methods"].as_array().expect("there are methods").iter();
        let lists =
            methods.filter(|method| method["name"].as_str().is_some_and(|name| name.ends_with(".list"))).count();
        let client = &package(&document, Language::TypeScript)["src/client.ts"];
        assert_eq!((lists, client.matches("async *listAll(").count()), (4, 4), "{client}");
    }

    #[test]
    fn only_what_can_be_called_and_is_used_is_printed() {
        for language in [Language::TypeScript, Language::Python] {
            let files = package(&document(), language);
            for (path, text) in &files {
                assert!(!text.contains("subscribe(") && !text.contains("SpareRobot"), "{path}:\n{text}");
                assert!(!text.contains(VERSION), "{path} has no version");
            }
            let faults = files.iter().find(|(path, _)| path.contains("faults.")).expect("there are faults").1;
            assert!(faults.contains("NoRobotError") && !faults.contains("InvalidParams"), "{faults}");
            let metadata = files.get("package.json").or(files.get("pyproject.toml")).expect("there is metadata");
            assert!(metadata.contains("\"1.2.3\""), "{metadata}");
        }
    }
}
