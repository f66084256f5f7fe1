//! Logging in, and the methods that call or describe others.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::NoParams;
use crate::api::rpc::answer::Reply;
use crate::api::rpc::args::from_raw;
use crate::api::rpc::fault::{Data, data};
use crate::api::rpc::method::{CALLER_FAULTS, Method, Request, Table, TurnOf};
use crate::api::rpc::wire::{Object, schema};
use crate::domain::fault::{FAULTS, Fault, FaultCode};
use crate::domain::nearest::nearest;
use crate::service::caller::{Caller, Credentials};
use crate::work::READ_AT_ONCE_MAX;

/// What a result of many is counted as before it is there, in bytes.
const ITEM_BYTES_MIN: usize = 1_024;

/// The methods without a resource.
pub fn methods() -> Vec<Method> {
    vec![
        Method::open("login", "Opens a session for a user and returns its key.", login).faults(
            FaultCode::MissingParameter,
            &[FaultCode::AccessDenied, FaultCode::UserDisabled, FaultCode::TooManyCalls, FaultCode::CallQuota],
        ),
        Method::open("startSession", "Opens a session for the user of the Authorization header.", start_session)
            .faults(FaultCode::MissingParameter, CALLER_FAULTS),
        Method::open("endSession", "Ends a session.", end_session),
        Method::relay("call", "Calls a resource method; its other faults are that method's.", call)
            .faults(FaultCode::MissingParameter, &[FaultCode::InvalidPath, FaultCode::NotCallable]),
        Method::with_session("multiCall", "Calls several resource methods in turn.", multi_call).in_turn(TurnOf::None),
        Method::with_session("resources", "Lists the resources and their methods.", resources),
        Method::with_session("resourceFaults", "Lists the faults of a resource.", resource_faults)
            .faults(FaultCode::MissingParameter, &[FaultCode::InvalidPath]),
        Method::with_session("globalFaults", "Lists the faults that any method may raise.", global_faults),
        Method::open_reply("rpc.discover", "Describes the server: its OpenRPC document.", discover),
    ]
}

#[derive(Deserialize, JsonSchema)]
struct Login {
    /// The name of the user.
    username: String,
    /// The user's API key.
    api_key: String,
}

async fn login(request: Request, params: Login) -> Result<String, Fault> {
    request.service.login(&params.username, &params.api_key, request.context.sender).await
}

async fn start_session(request: Request, _: NoParams) -> Result<String, Fault> {
    let Request { service, context, .. } = request;
    if matches!(context.credentials, Credentials::None) {
        return Err(Fault::new(FaultCode::AccessDenied)
            .detail("Send an Authorization header, or call login with username and API key."));
    }
    let caller = service.authenticate(&context.credentials, context.sender).await?;
    service.start_session(&caller).await
}

#[derive(Deserialize, JsonSchema)]
struct EndSession {
    /// The session's key; that of the Authorization header, if left out.
    #[schemars(schema_with = "schema::session")]
    #[serde(default)]
    session: Option<Value>,
}

async fn end_session(request: Request, params: EndSession) -> Result<bool, Fault> {
    let key = match (params.session, request.context.credentials) {
        (Some(Value::String(key)), _) if !key.is_empty() => Some(key),
        (None | Some(Value::String(_)), Credentials::Bearer(key)) => Some(key),
        // What is no key has no session to end.
        _ => None,
    };
    if let Some(key) = key {
        request.service.end_session(&key, request.context.sender.peer).await?;
    }
    Ok(true)
}

#[derive(Deserialize, JsonSchema)]
struct Call {
    /// The method, such as `webhook.list`.
    path: String,
    /// Its arguments in their order; what is no array is the sole argument.
    args: Option<Box<RawValue>>,
}

async fn call(request: Request, caller: Caller, params: Call) -> Result<Reply, Fault> {
    Table::call(request, caller, &params.path, params.args).await
}

#[derive(Deserialize, JsonSchema)]
struct MultiCall {
    /// The calls in their order, each `[path, args]`, `[path]` or the path alone.
    #[schemars(schema_with = "schema::calls")]
    calls: Vec<Box<RawValue>>,
    /// How to go on.
    options: Option<Object<Options>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(inline)]
struct Options {
    /// 1: the first fault ends it.
    #[schemars(schema_with = "schema::any_flag")]
    #[serde(default, rename = "break")]
    stop: Option<Value>,
}

/// What came of a call in `multiCall`.
#[derive(JsonSchema, Serialize)]
#[schemars(inline)]
#[serde(untagged)]
enum ItemResult {
    /// The result of the method.
    Done(Box<RawValue>),
    /// Why there is none.
    Fault {
        /// True.
        #[serde(rename = "isFault")]
        is_fault: bool,
        /// The number of the fault.
        #[serde(rename = "faultCode")]
        fault_code: i32,
        /// Its words.
        #[serde(rename = "faultMessage")]
        fault_message: String,
        /// What was wrong, where the words do not say it.
        #[serde(rename = "faultData", skip_serializing_if = "Option::is_none")]
        fault_data: Option<Data>,
    },
}

async fn multi_call(request: Request, caller: Caller, params: MultiCall) -> Result<Vec<ItemResult>, Fault> {
    let max = request.service.calls_max();
    if params.calls.len() > max {
        let count = params.calls.len();
        return Err(Fault::new(FaultCode::MissingParameter)
            .field("calls")
            .detail(format!("{count} calls are too many for one multiCall; up to {max} are run.")));
    }
    let Object(Options { stop }) = params.options.unwrap_or_default();
    let stops = stop.is_some_and(|stop| ![json!(0), json!(false), json!("0"), json!("")].contains(&stop));
    let response_bytes_max = request.table.response_bytes_max();
    let (mut results, mut bytes, mut caller) = (Vec::with_capacity(params.calls.len()), 0, Ok(caller));
    for (place, item) in params.calls.into_iter().enumerate() {
        if place > 0
            && let Ok(before) = &caller
        {
            caller = request.service.check_again(before).await;
        }
        let result = match &caller {
            Err(fault) => Err(fault.clone()),
            Ok(caller) if bytes < response_bytes_max => run_item(&request, caller, place, bytes, item).await,
            Ok(_) => Err(Fault::new(FaultCode::Unknown).detail(format!(
                "Not run: the results before this one fill the {response_bytes_max} bytes of a response. Call it again."
            ))),
        };
        bytes += result.as_ref().map_or(0, |result| result.get().len());
        // What is there is counted; the next call is refused if there is no room.
        request.room.is(bytes);
        let failed = result.is_err();
        results.push(result.map_or_else(
            |fault| {
                ItemResult::Fault {
                    is_fault: true,
                    fault_code: fault.code.number(),
                    fault_message: fault.to_string(),
                    fault_data: data(&fault, request.context.sender.request_id)
                        .filter(|_| fault.code.keeps_its_words() || fault.is_logged),
                }
            },
            ItemResult::Done,
        ));
        if failed && stops {
            break;
        }
    }
    Ok(results)
}

/// Runs one call of many, whose result comes behind `before` bytes of others.
async fn run_item(
    request: &Request,
    caller: &Caller,
    place: usize,
    before: usize,
    item: Box<RawValue>,
) -> Result<Box<RawValue>, Fault> {
    if place > 0 {
        // The first was counted as the multiCall itself.
        request.service.count_call(caller)?;
        request.room.count(before + ITEM_BYTES_MIN)?;
    }
    let split = match item.get().len() > READ_AT_ONCE_MAX {
        true => request.service.apart(caller, move || split_item(&item)).await?,
        false => split_item(&item),
    };
    let Some((path, args)) = split else {
        return Err(Fault::new(FaultCode::InvalidPath).detail("Each call is [\"resource.method\", [arguments]]."));
    };
    let request = Request { room: request.room.behind(before), ..request.clone() };
    let reply = Table::call(request, caller.clone(), &path, args).await?;
    if reply.cut.is_some() {
        return Err(Fault::new(FaultCode::InvalidSelection)
            .detail("The list is too long to be one result of many. Call it by itself, or with a limit."));
    }
    // It was JSON that a method has written.
    let text = String::from_utf8_lossy(&reply.result).into_owned();
    RawValue::from_string(text).map_err(|_| FaultCode::Internal.into())
}

/// One call of many: `[path]`, `[path, args]`, or just the path. Not through
/// an untagged enum, which would take the arguments apart.
fn split_item(item: &RawValue) -> Option<(String, Option<Box<RawValue>>)> {
    if item.get().starts_with('"') {
        return Some((serde_json::from_str(item.get()).ok()?, None));
    }
    let mut parts: Vec<Box<RawValue>> = from_raw(item, "calls", FaultCode::InvalidPath).ok()?;
    if parts.is_empty() || parts.len() > 2 {
        return None;
    }
    let args = (parts.len() == 2).then(|| parts.swap_remove(1));
    Some((serde_json::from_str(parts[0].get()).ok()?, args))
}

/// A resource in `resources`.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Resource")]
struct ResourceItem {
    /// Its name.
    name: &'static str,
    /// Its name for people.
    title: String,
    /// Other names; there are none.
    #[schemars(schema_with = "schema::nothing")]
    aliases: [(); 0],
    /// Its methods.
    methods: Vec<MethodItem>,
}

/// A method in `resources`.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "ResourceMethod")]
struct MethodItem {
    /// The part of its name after the dot.
    name: &'static str,
    /// What it does.
    title: &'static str,
    /// Its whole name.
    path: &'static str,
    /// Other names; there are none.
    #[schemars(schema_with = "schema::nothing")]
    aliases: [(); 0],
}

async fn resources(request: Request, _: Caller, _: NoParams) -> Result<Vec<ResourceItem>, Fault> {
    Ok(listed(request.table.methods()))
}

fn listed(methods: &[Method]) -> Vec<ResourceItem> {
    let mut resources: Vec<ResourceItem> = Vec::new();
    for method in methods {
        let (Some(resource), Some((_, verb))) = (method.spec.resource(), method.spec.name.split_once('.')) else {
            continue;
        };
        let item = MethodItem { name: verb, title: method.spec.summary, path: method.spec.name, aliases: [] };
        match resources.iter_mut().find(|entry| entry.name == resource) {
            Some(entry) => entry.methods.push(item),
            None => resources.push(ResourceItem {
                name: resource,
                title: format!("{}{}", resource[..1].to_uppercase(), &resource[1..]),
                aliases: [],
                methods: vec![item],
            }),
        }
    }
    resources
}

/// A fault by its number.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "FaultEntry")]
struct FaultItem {
    /// Its number.
    code: i32,
    /// Its words.
    message: &'static str,
}

fn faults_of(scope: &str) -> Vec<FaultItem> {
    let rows = FAULTS.iter().filter(|entry| entry.scope == scope);
    rows.map(|entry| FaultItem { code: entry.code.number(), message: entry.message }).collect()
}

#[derive(Deserialize, JsonSchema)]
struct ResourceFaults {
    /// The resource, such as `webhook`.
    resource: String,
}

async fn resource_faults(request: Request, _: Caller, params: ResourceFaults) -> Result<Vec<FaultItem>, Fault> {
    let resource = params.resource.as_str();
    let known = || request.table.methods().iter().filter_map(|method| method.spec.resource());
    if !known().any(|known| known == resource) {
        return Err(Fault::new(FaultCode::InvalidPath)
            .detail("There is no such resource; \"resources\" lists them.")
            .nearest(nearest(resource, known())));
    }
    Ok(faults_of(resource))
}

async fn global_faults(_: Request, _: Caller, _: NoParams) -> Result<Vec<FaultItem>, Fault> {
    Ok(faults_of("global"))
}

async fn discover(request: Request, _: NoParams) -> Result<Reply, Fault> {
    Ok(Reply::shared(request.table.document().await))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry in the table is all that a method needs.
    #[test]
    fn a_method_is_among_the_resources() {
        let method = Method::open("robot.walk", "Walks.", async |_: Request, _: NoParams| Ok::<bool, Fault>(true));
        let expected = json!([{
            "name": "robot", "title": "Robot", "aliases": [],
            "methods": [{"name": "walk", "title": "Walks.", "path": "robot.walk", "aliases": []}],
        }]);
        assert_eq!(json!(listed(&[method])), expected);
    }
}
