//! Client packages for other languages, made from the OpenRPC document.
//!
//! What the document says (methods, types, faults) is printed by a file for
//! each language here. The rest (transport, session, receiver, metadata) lies
//! in `templates/sdk/` as it is delivered, but for its name and version.

mod model;
mod names;
mod python;
mod typescript;
mod values;
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
/// Stand for name and version in the templates.
const NAME: &str = "TALLYHOOK_NAME";
const VERSION: &str = "TALLYHOOK_VERSION";

/// A language that there is a package for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// For Node, and whatever else has `fetch`.
    TypeScript,
    /// For Python.
    Python,
}

/// What a package is called where it is published; what is left out is as the
/// server has it.
#[derive(Clone, Debug, Default)]
pub struct Label {
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
}

/// The files of a package: text by path.
pub fn package(document: &Value, language: Language, label: &Label) -> BTreeMap<String, String> {
    let model = Model::new(document, language == Language::TypeScript);
    let (folder, printed) = match language {
        Language::TypeScript => (&TYPESCRIPT, typescript::files(&model)),
        Language::Python => (&PYTHON, python::files(&model)),
    };
    let mut files = BTreeMap::new();
    let name = label.name.as_deref().unwrap_or(env!("CARGO_PKG_NAME"));
    gather(folder, [(NAME, name), (VERSION, label.version.as_deref().unwrap_or(&model.version))], &mut files);
    let licenses = LICENSES.map(|(name, text)| (name.to_owned(), text.to_owned()));
    for (path, text) in printed.into_iter().chain(licenses) {
        let other = files.insert(path, text);
        assert!(other.is_none(), "a template lies where a file is printed");
    }
    files
}

/// The templates of a folder, with name and version filled in.
fn gather(folder: &Dir<'_>, filled: [(&str, &str); 2], files: &mut BTreeMap<String, String>) {
    for file in folder.files() {
        let text = file.contents_utf8().expect("templates are texts").to_owned();
        let text = filled.iter().fold(text, |text, (place, value)| text.replace(place, value));
        files.insert(file.path().display().to_string(), text);
    }
    for inner in folder.dirs() {
        gather(inner, filled, files);
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
                    "errors": [{ "code": 120, "message": "Robot not exists." }],
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

    fn written(document: &Value, language: Language) -> BTreeMap<String, String> {
        package(document, language, &Label::default())
    }

    #[test]
    fn a_package_has_the_name_and_version_that_it_is_given() {
        let label = Label { name: Some("@acme/hooks".to_owned()), version: Some("7.0.1".to_owned()) };
        let typescript = package(&document(), Language::TypeScript, &label);
        contains(&typescript["package.json"], &["\"name\": \"@acme/hooks\"", "\"version\": \"7.0.1\""]);
        contains(&typescript["README.md"], &["from \"@acme/hooks\";", "from \"@acme/hooks/file-store\";"]);
        let label = Label { name: Some("acme-hooks".to_owned()), ..label };
        let python = package(&document(), Language::Python, &label);
        // What is imported is called what it was.
        let parts = ["name = \"acme-hooks\"\nversion = \"7.0.1\"", "[tool.flit.module]\nname = \"tallyhook\""];
        contains(&python["pyproject.toml"], &parts);
    }

    /// Making a webhook needs what changing one does not; and what the server
    /// tells of can be watched.
    #[test]
    fn types_tell_making_from_changing_and_subscriptions_are_iterators() {
        let document = crate::api::rpc::openrpc("https://example.com/");
        let typescript = written(&document, Language::TypeScript);
        let interface = |name: &str| {
            let text = &typescript["src/types.ts"];
            let start = text.find(&format!("export interface {name} {{")).unwrap_or_else(|| panic!("no {name}"));
            text[start..].split("\n}").next().unwrap().to_owned()
        };
        contains(&interface("NewWebhookData"), &["\n  topics: string | readonly string[];", "\n  url?: "]);
        contains(&interface("WebhookData"), &["\n  topics?: string | readonly string[] | null | undefined;"]);
        contains(&interface("DeliveryStatus"), &["last_attempt: LastAttempt | null;"]);
        contains(
            &typescript["src/client.ts"],
            &[
                "create(webhook: types.NewWebhookData, ",
                "    changes: types.WebhookData,\n",
                "subscribe(options: DeliverySubscribeOptions = {}): AsyncGenerator<DeliveryNews, void, undefined> {",
                "subscribe(options: EventSubscribeOptions = {}): AsyncGenerator<EventNews, void, undefined> {",
                "return followEvent(this.#transport, options);",
            ],
        );
        let python = written(&document, Language::Python);
        contains(&python["src/tallyhook/types.py"], &["class NewWebhookData("]);
        assert!(!python["src/tallyhook/types.py"].contains("DeliveryStatus"), "Python has no subscriptions");
    }

    fn contains(text: &str, parts: &[&str]) {
        parts.iter().for_each(|part| assert!(text.contains(part), "{part} is missing in:\n{text}"));
    }

    #[test]
    fn a_list_is_read_page_by_page() {
        let (typescript, python) = (written(&document(), Language::TypeScript), written(&document(), Language::Python));
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
        let is_named = |method: &&Value| method["name"].as_str().is_some_and(|name| name.ends_with(".list"));
        // That of the servers has no pages.
        let is_list = |method: &&Value| method["result"]["schema"]["type"] == "array";
        let lists = methods.filter(is_named).filter(is_list).count();
        let client = &written(&document, Language::TypeScript)["src/client.ts"];
        assert_eq!((lists, client.matches("async *listAll(").count()), (9, 9), "{client}");
    }

    #[test]
    fn only_what_can_be_called_and_is_used_is_printed() {
        for language in [Language::TypeScript, Language::Python] {
            let files = written(&document(), language);
            for (path, text) in &files {
                let is_code = !path.ends_with("README.md");
                let has_more = text.contains("SpareRobot") || (is_code && text.contains("subscribe("));
                assert!(!has_more, "{path}:\n{text}");
                assert!(!text.contains(VERSION) && !text.contains(NAME), "{path} has no version, or no name");
            }
            let faults = files.iter().find(|(path, _)| path.contains("faults.")).expect("there are faults").1;
            assert!(faults.contains("NoRobotError") && !faults.contains("InvalidParams"), "{faults}");
            let metadata = files.get("package.json").or(files.get("pyproject.toml")).expect("there is metadata");
            assert!(metadata.contains("\"1.2.3\""), "{metadata}");
        }
    }
}
