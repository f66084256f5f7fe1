//! The OpenRPC document: every method with its parameters, result, faults and
//! examples, made from the method table and from `rpc-examples/`, so that it
//! can't say anything else than the server does.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::envelope::{INTERNAL_ERROR, INVALID_PARAMS, words};
use super::examples::Examples;
use super::spec::{Notification, Spec};
use crate::domain::fault::FaultCode;

/// The version of the OpenRPC specification that the document follows: the
/// newest that all of its tools read.
const OPENRPC: &str = "1.2.6";
/// Where schemas stand that are used more than once.
const SCHEMAS: &str = "/components/schemas";

/// The document of a server that is called at `url`.
pub fn document<'a>(specs: impl Iterator<Item = &'a Spec>, url: &str) -> Value {
    // Two generators, since what may be left out of a parameter is null in a result.
    let settings = || {
        SchemaSettings::draft07()
            .with(|settings| settings.definitions_path = SCHEMAS.into())
            .with_transform(RecursiveTransform(tidy))
    };
    let mut taken = settings().for_deserialize().into_generator();
    let mut given = settings().for_serialize().into_generator();
    let examples = Examples::read();
    let described = specs.filter(|spec| !spec.is_reserved());
    let methods: Vec<_> = described.map(|spec| describe(spec, &examples, &mut taken, &mut given)).collect();
    let mut schemas = taken.take_definitions(true);
    for (name, schema) in given.take_definitions(true) {
        let other = schemas.insert(name, schema.clone());
        assert!(other.is_none_or(|other| other == schema), "two schemas of one name");
    }
    json!({
        "openrpc": OPENRPC,
        "info": {
            "title": env!("CARGO_PKG_NAME"),
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "name": "JSON-RPC 2.0 over HTTP POST", "url": url }],
        "methods": methods,
        "components": { "schemas": schemas, "errors": errors() },
    })
}

const DESCRIPTION: &str = "A webhook server: accepted means durable, every delivery is signed, and each webhook's \
    deliveries are numbered without gaps.\n\nLog in with `login`, and give the session's key as the first parameter; \
    or send an Authorization header (HTTP Basic of user and API key, or Bearer with a session's key) and null in its \
    place. Every method whose name has a dot can also be called through `call` and `multiCall`. A fault's number is \
    the `code` of the error; on the paths `/api/jsonrpc` and `/backend/api/jsonrpc` it is −(32000 + number).\n\n\
    A list that would be longer than the server lets an answer be is cut: beside its `result` the answer has a member \
    `cut`, such as `{\"after_webhook_id\": 17}`, the option to go on with. In a multiCall it is fault 111.\n\n\
    A GET at the same URL that asks for a WebSocket gets one: each message is what a body is, and subscriptions can be made.";

fn describe(spec: &Spec, examples: &Examples, taken: &mut SchemaGenerator, given: &mut SchemaGenerator) -> Value {
    let mut params = Vec::new();
    if spec.takes_session {
        params.push(session());
    }
    params.extend(own_params(spec, taken));
    let mut method = json!({
        "name": spec.name,
        "summary": spec.summary,
        "paramStructure": "either",
        "params": params,
        "result": { "name": "result", "schema": finished((spec.result_schema)(given), given) },
        "errors": errors_of(spec),
        "examples": examples.of(spec),
    });
    if let Some(resource) = spec.resource() {
        method["tags"] = json!([{ "name": resource }]);
    }
    let description = described(spec);
    if !description.is_empty() {
        method["description"] = description.into();
    }
    if spec.needs_websocket {
        method["x-transport"] = "websocket".into();
    }
    if let Some(Notification { method: name, result_schema }) = spec.notification {
        method["x-notification"] = json!({ "method": name, "schema": finished(result_schema(given), given) });
    }
    method
}

/// What is to be known besides the summary.
fn described(spec: &Spec) -> String {
    let names: Vec<_> = spec.permissions.iter().map(|permission| format!("`{}`", permission.name())).collect();
    let permission = (!names.is_empty()).then(|| format!("Needs the permission {}.", names.join(" or ")));
    let transport = spec.needs_websocket.then(|| "Over a WebSocket only.".to_owned());
    let notification = spec.notification.map(|notification| {
        let method = notification.method;
        format!(
            "Its answer is followed by notifications: `{{\"jsonrpc\": \"2.0\", \"method\": \"{method}\", \"params\": \
             {{\"subscription\": …, \"result\": …}}}}`; the last may have an `error` in place of the `result`, which says \
             why the subscription has ended."
        )
    });
    let cut = spec.goes_on_by.map(|option| {
        format!("A list that is too long for an answer is cut, and goes on by `{option}`, which `cut` tells beside the result.")
    });
    permission.into_iter().chain(cut).chain(transport).chain(notification).collect::<Vec<_>>().join(" ")
}

/// A schema as the document has it: what is written in a member's place, and
/// not under its name among the components, has not been through this yet.
fn finished(mut schema: Schema, generator: &mut SchemaGenerator) -> Schema {
    for transform in generator.transforms_mut() {
        transform.transform(&mut schema);
    }
    schema
}

/// Leaves out what says nothing new (that what may be left out is null by
/// default), and formats that JSON Schema does not have (of numbers), at which
/// strict validators stop.
fn tidy(schema: &mut Schema) {
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
    if schema.get("format").is_some_and(|format| format != "date-time" && format != "uri") {
        schema.remove("format");
    }
}

/// The first parameter of methods that need to know who calls.
fn session() -> Value {
    json!({
        "name": "session",
        "description": "A session's key; null or an empty text where an Authorization header says who calls.",
        "required": true,
        "schema": { "type": ["string", "null"] },
    })
}

fn own_params(spec: &Spec, taken: &mut SchemaGenerator) -> Vec<Value> {
    let schema = finished((spec.params_schema)(taken), taken);
    let members = schema.get("properties").and_then(Value::as_object);
    let param = |param: &super::args::Param| {
        let mut schema = members.and_then(|members| members.get(&param.name)).cloned().unwrap_or(Value::Bool(true));
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({ "name": param.name, "description": description, "required": param.is_required, "schema": schema })
    };
    spec.params.iter().map(param).collect()
}

/// In their places, for some tools follow no references there; the components
/// have their names, by the code.
fn errors_of(spec: &Spec) -> Vec<Value> {
    let all = errors();
    let missing = (!spec.params.is_empty()).then(|| "InvalidParams".to_owned());
    let faults = spec.all_faults().into_iter().filter(|code| *code != FaultCode::MissingParameter);
    faults.map(|code| format!("{code:?}")).chain(missing).filter_map(|name| all.get(&name).cloned()).collect()
}

/// Every fault, and the specification's errors that a call may meet.
fn errors() -> Map<String, Value> {
    let error = |code: i32, message: &str| json!({ "code": code, "message": message });
    let faults = crate::domain::fault::FAULTS
        .iter()
        .map(|entry| (entry.name.to_owned(), error(entry.code.number(), entry.message)));
    let own = [("InvalidParams", INVALID_PARAMS), ("InternalError", INTERNAL_ERROR)];
    faults.chain(own.map(|(name, code)| (name.to_owned(), error(code, words(code))))).collect()
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::api::rpc::method::{Method, Request};
    use crate::api::rpc::sdk::{self, Label, Language};
    use crate::domain::fault::Fault;
    use crate::domain::user::Permission;
    use crate::service::caller::Caller;

    #[derive(Deserialize, JsonSchema)]
    struct Params {
        /// How far.
        #[schemars(range(max = 9))]
        distance: u8,
        /// How fast, in metres a second.
        speed: Option<u8>,
    }

    #[derive(JsonSchema, Serialize)]
    struct Walked {
        /// Where it ended.
        place: String,
    }

    async fn walk(_: Request, _: Caller, params: Params) -> Result<Walked, Fault> {
        Ok(Walked { place: format!("{} {:?}", params.distance, params.speed) })
    }

    /// One entry in the table is all that a method needs.
    #[test]
    fn a_method_describes_itself() {
        let method = Method::with_session("robot.walk", "Walks.", walk)
            .needs(&[Permission::Admin])
            .faults(FaultCode::InvalidEvent, &[FaultCode::NoEvent]);
        let document = document([&method.spec].into_iter(), "https://example.com/");
        let own = ["Internal", "AccessDenied", "SessionExpired", "InvalidEvent", "NoEvent"];
        let names = [&own[..], &["UserDisabled", "TooManyCalls", "CallQuota", "InvalidParams"]].concat();
        let errors: Vec<_> = names.iter().map(|name| &document["components"]["errors"][name]).collect();
        let expected = json!({
            "name": "robot.walk",
            "summary": "Walks.",
            "paramStructure": "either",
            "params": [
                session(),
                {
                    "name": "distance",
                    "description": "How far.",
                    "required": true,
                    "schema": { "type": "integer", "minimum": 0, "maximum": 9 },
                },
                {
                    "name": "speed",
                    "description": "How fast, in metres a second.",
                    "required": false,
                    "schema": { "type": ["integer", "null"], "minimum": 0, "maximum": 255 },
                },
            ],
            "result": { "name": "result", "schema": { "$ref": "#/components/schemas/Walked" } },
            "errors": errors,
            "examples": [],
            "tags": [{ "name": "robot" }],
            "description": "Needs the permission `admin`.",
        });
        assert_eq!(document["methods"][0], expected);
        assert_eq!(document["components"]["schemas"]["Walked"]["properties"]["place"]["type"], "string");
        // The page for people is made from the document.
        let page = crate::api::rpc::reference::page(&document, crate::api::rpc::Audience::Demo);
        for part in
            ["id=\"robot.walk\"", "Walks.", "How fast, in metres a second.", "id=\"type-Walked\"", "Where it ended."]
        {
            assert!(page.contains(part), "{part}");
        }
    }

    /// The same entry is all that the client packages need.
    #[test]
    fn a_method_is_in_the_packages() {
        let method = Method::with_session("robot.walk_home", "Walks home.", walk)
            .needs(&[Permission::Admin])
            .faults(FaultCode::InvalidEvent, &[FaultCode::NoEvent]);
        let document = document([&method.spec].into_iter(), "https://example.com/");
        let typescript = sdk::package(&document, Language::TypeScript, &Label::default());
        let python = sdk::package(&document, Language::Python, &Label::default());
        let has = |text: &str, parts: &[&str]| {
            parts.iter().for_each(|part| assert!(text.contains(part), "{part} is missing in:\n{text}"));
        };
        has(
            &typescript["src/client.ts"],
            &[
                "readonly robot: RobotMethods;",
                "   * Walks home.\n   *\n   * Needs the permission `admin`.\n   * @param distance - How far. 0 to 9.",
                "NoEventError (114)",
                "walkHome(distance: number, options: types.RobotWalkHomeOptions = {}): Promise<types.Walked> {",
                r#"this.#transport.call("robot.walk_home", { distance, ...given }, { signal, timeoutMs })"#,
            ],
        );
        has(
            &typescript["src/types.ts"],
            &[
                "export interface Walked {\n  /** Where it ended. */\n  place: string;\n}",
                "  /** How fast, in metres a second. 0 to 255. */\n  speed?: number | null | undefined;",
            ],
        );
        has(
            &python["src/tallyhook/_client.py"],
            &[
                "self.robot = RobotMethods(self._transport)",
                "    def walk_home(\n        self,\n        distance: int,\n        *,\n        speed: int | None = None,",
                "    ) -> types.Walked:\n        \"\"\"Walks home.\n\n        Needs the permission `admin`.",
                "            NoEventError: Fault 114.",
                r#"params: Dict[str, object] = {"distance": distance, **present({"speed": speed})}"#,
            ],
        );
        has(
            &python["src/tallyhook/types.py"],
            &["class Walked(TypedDict):\n    place: str\n    \"\"\"Where it ended.\"\"\""],
        );
    }
}
