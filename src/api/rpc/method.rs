//! The method table: each method stands in it once, and is reachable as a
//! registered method and through `call`, described by `resources`, and
//! whatever else is made from the table.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use jsonrpsee::types::{ErrorObjectOwned, Params};
use jsonrpsee::{ResponsePayload, RpcModule};
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::answer::{ListWriter, Listed, Reply, Room, Steps, untaken};
use super::args::{Args, Param, SessionArg};
use super::counts::CallCounts;
use super::fault::{Addressee, Codes, error_object, registered_error};
use super::live::Live;
use super::openrpc;
use super::reference::{self, Audience};
use super::spec::Notification;
pub use super::spec::{CALLER_FAULTS, Spec, TurnOf};
use super::unknown::no_such_path;
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::request_id::Sender;
use crate::domain::user::Permission;
use crate::service::Service;
use crate::service::caller::{Caller, Credentials};
use crate::work::budget::{Budget, Reservation};
use crate::work::{Account, READ_AT_ONCE_MAX};

/// Those that are refused with fault 109 whatever of the store fails for now.
const PUBLISHES: [&str; 2] = ["event.publish", "event.publish_many"];

/// What came with the request besides the call.
#[derive(Clone)]
pub struct Context {
    /// From the Authorization header.
    pub credentials: Credentials,
    /// Who sent it, and what it is called.
    pub sender: Sender,
    /// Which codes the path has.
    pub codes: Codes,
    /// What a WebSocket has besides; `None` over HTTP.
    pub live: Option<Live>,
    /// The count of its body, which ends when nobody has this any more; `None`
    /// if it is short.
    pub body: Option<Arc<Reservation>>,
}

impl Context {
    /// To whom faults are told.
    pub fn addressee(&self) -> Addressee {
        Addressee { codes: self.codes, request_id: self.sender.request_id }
    }
}

/// What a method works with.
#[derive(Clone)]
pub struct Request {
    /// The use cases.
    pub service: Arc<Service>,
    /// All methods, for those that call or describe others.
    pub table: Arc<Table>,
    /// What came with the request.
    pub context: Context,
    /// Room for the answer.
    pub room: Room,
}

impl Request {
    /// What a WebSocket has besides. Fails with fault 4 over HTTP.
    pub fn live(&self) -> Result<&Live, Fault> {
        self.context.live.as_ref().ok_or_else(|| {
            Fault::new(FaultCode::NotCallable).detail(
                "It needs a WebSocket: open one at this URL, with ws:// in place of http://, and call it there.",
            )
        })
    }
}

/// What an answer is counted as before anything of it is there, in bytes.
const ANSWER_BYTES_MIN: usize = 4_096;
/// How many items a list reads at once: of those that may be long, and others.
pub const HEAVY_STEP: u32 = 16;
pub const LIGHT_STEP: u32 = 1_000;
/// How many items most lists have if the caller does not say.
const LIST_LIMIT_DEFAULT: u32 = 100;

impl Request {
    /// A list to write, and the steps in which to read it.
    pub fn list(&self, limit: Option<i64>, step: u32) -> (ListWriter, Steps) {
        self.list_up_to(limit, self.service.list_limit_max(), step)
    }

    /// The same for a list that may have other items than most.
    pub fn list_up_to(&self, limit: Option<i64>, max: u32, step: u32) -> (ListWriter, Steps) {
        let limit = limit.unwrap_or_else(|| LIST_LIMIT_DEFAULT.min(max).into());
        (ListWriter::new(self.table.response_bytes_max, self.room.clone()), Steps::new(limit, max, step))
    }

    /// The same for a list that has all there is unless it has a limit.
    pub fn list_of_all(&self, limit: Option<i64>, step: u32) -> (ListWriter, Steps) {
        let writer = ListWriter::new(self.table.response_bytes_max, self.room.clone());
        let max = self.service.list_limit_max();
        (writer, limit.map_or_else(|| Steps::endless(max, step), |limit| Steps::new(limit, max, step)))
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Reply, Fault>> + Send>>;
type Run = Box<dyn Fn(&Spec, Request, Option<Caller>, Args<'_>) -> Result<Answer, Fault> + Send + Sync>;

/// A method: its description and its code.
pub struct Method {
    pub spec: Spec,
    /// Its faults are those of the method it calls.
    is_relay: bool,
    run: Run,
    /// How its calls have ended; set when it comes into the table.
    counts: Option<CallCounts>,
}

impl Method {
    /// A method that needs to know who calls: the session is its first parameter.
    pub fn with_session<P, R, F>(
        name: &'static str,
        summary: &'static str,
        run: impl Fn(Request, Caller, P) -> F + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema,
        R: Serialize + JsonSchema + 'static,
        F: Future<Output = Result<R, Fault>> + Send + 'static,
    {
        let run = move |request, caller: Option<Caller>, params| {
            Ok(run(request, caller.ok_or(FaultCode::SessionExpired)?, params))
        };
        Self::new::<P, R, R, F>(name, summary, true, run, |result| print(&result).map(Reply::from))
    }

    /// A method that returns a list, which is cut off where it becomes too
    /// long and goes on by this option. It changes nothing, so it may be
    /// refused after it has run.
    pub fn listing<P, T, F>(
        name: &'static str,
        summary: &'static str,
        goes_on_by: &'static str,
        run: impl Fn(Request, Caller, P) -> F + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema,
        T: JsonSchema,
        F: Future<Output = Result<Listed<T>, Fault>> + Send + 'static,
        Listed<T>: 'static,
    {
        let run = move |request, caller: Option<Caller>, params| {
            Ok(run(request, caller.ok_or(FaultCode::SessionExpired)?, params))
        };
        let mut method = Self::new::<P, Vec<T>, Listed<T>, F>(name, summary, true, run, |list| Ok(list.into()));
        (method.spec.goes_on_by, method.spec.turn) = (Some(goes_on_by), TurnOf::HeavyCalls);
        method
    }

    /// A method that anybody may call and whose answer is there already.
    pub fn open_reply<P, F>(
        name: &'static str,
        summary: &'static str,
        run: impl Fn(Request, P) -> F + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema,
        F: Future<Output = Result<Reply, Fault>> + Send + 'static,
    {
        let run = move |request, _, params| Ok(run(request, params));
        Self::new::<P, Box<RawValue>, Reply, F>(name, summary, false, run, Ok)
    }

    /// A method that hands on the answer of the method it calls, and its
    /// faults: on the way out they stay as they are.
    pub fn relay<P, F>(
        name: &'static str,
        summary: &'static str,
        run: impl Fn(Request, Caller, P) -> F + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema,
        F: Future<Output = Result<Reply, Fault>> + Send + 'static,
    {
        let run = move |request, caller: Option<Caller>, params| {
            Ok(run(request, caller.ok_or(FaultCode::SessionExpired)?, params))
        };
        let method = Self { is_relay: true, ..Self::new::<P, Box<RawValue>, Reply, F>(name, summary, true, run, Ok) };
        method.in_turn(TurnOf::None)
    }

    /// A method that anybody may call.
    pub fn open<P, R, F>(
        name: &'static str,
        summary: &'static str,
        run: impl Fn(Request, P) -> F + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema,
        R: Serialize + JsonSchema + 'static,
        F: Future<Output = Result<R, Fault>> + Send + 'static,
    {
        let run = move |request, _, params| Ok(run(request, params));
        Self::new::<P, R, R, F>(name, summary, false, run, |result| print(&result).map(Reply::from))
    }

    /// `R` is what the description says, and `A` what `run` gives for `reply`
    /// to write.
    fn new<P, R, A, F>(
        name: &'static str,
        summary: &'static str,
        takes_session: bool,
        run: impl Fn(Request, Option<Caller>, P) -> Result<F, Fault> + Send + Sync + 'static,
        reply: fn(A) -> Result<Reply, Fault>,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema,
        R: JsonSchema,
        A: 'static,
        F: Future<Output = Result<A, Fault>> + Send + 'static,
    {
        let spec = Spec {
            name,
            summary,
            params: Param::all_of::<P>(),
            takes_session,
            permissions: &[],
            invalid: FaultCode::MissingParameter,
            faults: &[],
            params_schema: P::json_schema,
            result_schema: SchemaGenerator::subschema_for::<R>,
            needs_websocket: false,
            notification: None,
            goes_on_by: None,
            turn: TurnOf::Calls,
        };
        let run: Run = Box::new(move |spec, request, caller, args| {
            let service = Arc::clone(&request.service);
            let account = caller.as_ref().map_or(Account::of_stranger(request.context.sender.peer), Account::from);
            let (turn_of, name) = (spec.turn, spec.name);
            let answer = run(request, caller, args.decode(spec.name, &spec.params, spec.invalid)?)?;
            Ok(Box::pin(async move {
                let _turn = match turn_of {
                    TurnOf::Calls => Some(service.turn(account).await),
                    TurnOf::HeavyCalls => Some(service.heavy_turn(account).await),
                    TurnOf::None => None,
                };
                let began = Instant::now();
                let answer = answer.await;
                // Others have calls run that are told of themselves, or wait on purpose.
                if turn_of != TurnOf::None {
                    service.tell_of_call(name, began.elapsed());
                }
                reply(answer?)
            }))
        });
        Self { spec, is_relay: false, run, counts: None }
    }

    /// The same method, for callers with one of these.
    pub fn needs(mut self, permissions: &'static [Permission]) -> Self {
        self.spec.permissions = permissions;
        self
    }

    /// The same method, with the fault for a value of the wrong kind and the
    /// others it may raise, besides those that any method may.
    pub fn faults(mut self, invalid: FaultCode, others: &'static [FaultCode]) -> Self {
        (self.spec.invalid, self.spec.faults) = (invalid, others);
        self
    }

    /// The same method, which waits for this before it runs.
    pub fn in_turn(mut self, turn: TurnOf) -> Self {
        self.spec.turn = turn;
        self
    }

    /// The same method, over a WebSocket only.
    pub fn over_websocket(mut self) -> Self {
        self.spec.needs_websocket = true;
        self
    }

    /// The same method, over a WebSocket only, whose answer notifications with
    /// this name follow.
    pub fn notifies<N: JsonSchema>(mut self, method: &'static str) -> Self {
        self.spec.notification = Some(Notification { method, result_schema: SchemaGenerator::subschema_for::<N> });
        self.over_websocket()
    }

    /// Checks the permission and decodes; what it gives back runs the method.
    fn prepare(&self, request: Request, caller: Option<Caller>, args: Args<'_>) -> Result<Answer, Fault> {
        if let (Some(first), Some(caller)) = (self.spec.permissions.first(), &caller)
            && !self.spec.permissions.iter().any(|permission| caller.permissions.allow(*permission))
        {
            caller.check(*first)?;
        }
        if self.spec.needs_websocket {
            request.live()?;
        }
        (self.run)(&self.spec, request, caller, args)
    }

    /// Counts a call that ended well.
    fn succeeded(&self) {
        self.counts.iter().for_each(CallCounts::succeeded);
    }

    /// Counts a call that ended with this fault.
    fn counted(&self, fault: Fault) -> Fault {
        self.counts.iter().for_each(|counts| counts.failed(fault.code));
        fault
    }

    /// A fault on its way out. One that the description does not name is a
    /// mistake in the description, and the tests find it.
    fn described(&self, fault: Fault) -> Fault {
        debug_assert!(
            self.is_relay || self.spec.all_faults().contains(&fault.code),
            "{} does not tell of {:?}",
            self.spec.name,
            fault.code
        );
        fault
    }
}

/// A result that was written at once, since it borrows from what it shows.
pub struct Written<T>(Box<RawValue>, PhantomData<fn(&T)>);

impl<T: Serialize> Written<T> {
    /// Writes it.
    pub fn new(result: &T) -> Result<Self, Fault> {
        Ok(Self(print(result)?, PhantomData))
    }
}

impl<T> Serialize for Written<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

fn print(result: &impl Serialize) -> Result<Box<RawValue>, Fault> {
    to_raw_value(result).map_err(|cause| {
        tracing::error!(%cause, "a result could not be written");
        FaultCode::Internal.into()
    })
}

/// What each is, apart from what it does.
pub fn specs(methods: &[Method]) -> impl Iterator<Item = &Spec> + Clone {
    methods.iter().map(|method| &method.spec)
}

/// All methods.
pub struct Table {
    methods: Vec<Method>,
    by_name: HashMap<&'static str, usize>,
    service: Arc<Service>,
    url: String,
    response_bytes_max: usize,
    unsent: Arc<Budget>,
    document: OnceLock<Bytes>,
    reference: OnceLock<Bytes>,
}

/// Where a registered method leaves its answer, so that it is not copied
/// through jsonrpsee's.
pub type Outlet = Arc<Mutex<Option<Reply>>>;

impl Table {
    /// A table of these methods over the use cases, of a server that is called
    /// at `url`.
    pub fn new(
        mut methods: Vec<Method>,
        service: Arc<Service>,
        url: String,
        response_bytes_max: usize,
        unsent: Arc<Budget>,
    ) -> Self {
        for method in &mut methods {
            method.counts = Some(CallCounts::new(service.metrics(), &method.spec));
        }
        let by_name = methods.iter().enumerate().map(|(place, method)| (method.spec.name, place)).collect();
        Self {
            methods,
            by_name,
            service,
            url,
            response_bytes_max,
            unsent,
            document: OnceLock::new(),
            reference: OnceLock::new(),
        }
    }

    /// The OpenRPC document of the methods, made once.
    pub async fn document(self: Arc<Self>) -> Bytes {
        self.made(|table| &table.document, |document| document.to_string()).await
    }

    /// The same as a page for people.
    pub async fn reference(self: Arc<Self>) -> Bytes {
        let text: fn(serde_json::Value) -> String = match self.service.is_dev() {
            true => |document| reference::page(&document, Audience::Demo),
            false => |document| reference::page(&document, Audience::Own),
        };
        self.made(|table| &table.reference, text).await
    }

    /// Making it takes longer than a call may hold a thread.
    async fn made(
        self: Arc<Self>,
        place: fn(&Self) -> &OnceLock<Bytes>,
        text: fn(serde_json::Value) -> String,
    ) -> Bytes {
        if let Some(made) = place(&self).get() {
            return made.clone();
        }
        let make = move || {
            let made = || text(openrpc::document(specs(&self.methods), &self.url)).into();
            place(&self).get_or_init(made).clone()
        };
        tokio::task::spawn_blocking(make).await.expect("a test makes all documents")
    }

    /// Once results fill so many bytes, no further call is run for them.
    pub fn response_bytes_max(&self) -> usize {
        self.response_bytes_max
    }

    /// All methods, in the order in which they are described.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// Registers each method with jsonrpsee.
    pub fn module(self: Arc<Self>) -> RpcModule<Arc<Self>> {
        let mut module = RpcModule::new(Arc::clone(&self));
        for method in &self.methods {
            let name = method.spec.name;
            module
                .register_async_method(name, move |params, table, extensions| {
                    let table = Arc::clone(table.as_ref());
                    let context = extensions.get::<Context>().cloned();
                    let outlet = extensions.get::<Outlet>().cloned();
                    async move {
                        let (Some(context), Some(outlet)) = (context, outlet) else {
                            return ResponsePayload::error(jsonrpsee::types::ErrorCode::InternalError);
                        };
                        match table.registered(name, context, params).await {
                            Ok(reply) => {
                                *outlet.lock().expect("nothing panics while it holds an answer") = Some(reply);
                                ResponsePayload::success(())
                            }
                            Err(error) => ResponsePayload::error(error),
                        }
                    }
                })
                .expect("each name stands in the table once; a test checks it");
        }
        module
    }

    /// Runs a registered method. Long parameters are read apart.
    async fn registered(
        self: Arc<Self>,
        name: &'static str,
        mut context: Context,
        params: Params<'static>,
    ) -> Result<Reply, ErrorObjectOwned> {
        let to = context.addressee();
        let method = self.find(name).ok_or_else(|| registered_error(&FaultCode::InvalidPath.into(), to))?;
        let own = |fault: Fault| registered_error(&method.counted(fault), to);
        let (peer, takes_session, params) = (context.sender.peer, method.spec.takes_session, Arc::new(params));
        let stranger = Account::of_stranger(peer);
        let is_long = params.as_str().map_or(0, str::len) > READ_AT_ONCE_MAX;
        let mut args = (!is_long).then(|| Args::read(params.as_str()));
        let caller = if takes_session {
            let session = match &mut args {
                Some(args) => args.take_session(),
                None => {
                    let params = Arc::clone(&params);
                    let take = move || Args::read(params.as_str()).take_session();
                    self.service.apart(stranger, take).await.map_err(own)?
                }
            };
            let found = self.authenticate(session, &mut context).await;
            Some(found.map_err(|fault| match fault.is_for_now() {
                // Who it is could not be looked up, so he is no stranger yet.
                true if PUBLISHES.contains(&name) => own(fault.or_refused(FaultCode::EventRefused)),
                true => own(fault),
                false => own(self.service.count_stranger(peer).err().unwrap_or(fault)),
            })?)
        } else {
            self.service.count_stranger(peer).map_err(own)?;
            None
        };
        let payer = caller.as_ref().map_or(stranger, |caller| caller.into());
        if let Some(body) = &context.body {
            body.put_down_to(payer);
        }
        let held = self.unsent.try_hold(payer, ANSWER_BYTES_MIN).ok_or_else(|| own(untaken(self.service.metrics())))?;
        let (room, service) = (Room::new(held, Arc::clone(self.service.metrics())), Arc::clone(&self.service));
        let request = Request { service, table: Arc::clone(&self), context, room: room.clone() };
        let prepared = match args {
            Some(args) => method.prepare(request, caller, args),
            None => {
                let (table, params) = (Arc::clone(&self), Arc::clone(&params));
                let prepare = move || {
                    let mut args = Args::read(params.as_str());
                    if takes_session {
                        args.take_session();
                    }
                    table.find(name).ok_or(FaultCode::InvalidPath)?.prepare(request, caller, args)
                };
                self.service.apart(payer, prepare).await.and_then(|prepared| prepared)
            }
        };
        // They have been decoded, and may be long.
        drop(params);
        let described = |fault| own(method.described(fault));
        let answer = prepared.map_err(described)?.await;
        let mut reply = answer.map_err(|fault| {
            if method.is_relay { error_object(&method.counted(fault), to) } else { described(fault) }
        })?;
        method.succeeded();
        reply.payer = Some(payer);
        if !reply.is_shared {
            reply.result = room.around(reply.result);
        }
        Ok(reply)
    }

    /// Runs a method on behalf of `call`, whose caller is known. Long arguments
    /// are read apart.
    pub async fn call(
        request: Request,
        caller: Caller,
        path: &str,
        args: Option<Box<RawValue>>,
    ) -> Result<Reply, Fault> {
        let table = Arc::clone(&request.table);
        let Some(&place) = table.by_name.get(path) else { return Err(no_such_path(path, specs(&table.methods))) };
        let method = &table.methods[place];
        if method.spec.resource().is_none() {
            let detail = format!("{path} is no method of a resource; it is called by itself, not through \"call\".");
            return Err(Fault::new(FaultCode::NotCallable).detail(detail));
        }
        let described = |fault| method.counted(method.described(fault));
        let is_long = args.as_ref().is_some_and(|args| args.get().len() > READ_AT_ONCE_MAX);
        let (service, account, of) = (Arc::clone(&request.service), caller.merchant(), Arc::clone(&table));
        let prepare = move || of.methods[place].prepare(request, Some(caller), Args::of_call(args.as_deref()));
        let prepared =
            if is_long { service.apart(account, prepare).await.and_then(|prepared| prepared) } else { prepare() };
        let running = prepared.map_err(described)?;
        let ran = AssertUnwindSafe(running).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(method = path, "a method panicked");
            Err(FaultCode::Internal.into())
        });
        ran.inspect(|_| method.succeeded()).map_err(described)
    }

    fn find(&self, name: &str) -> Option<&Method> {
        self.by_name.get(name).map(|&place| &self.methods[place])
    }

    /// A session that is given counts; without one, the header does. What
    /// counted stays in the context.
    async fn authenticate(&self, session: SessionArg, context: &mut Context) -> Result<Caller, Fault> {
        match session {
            SessionArg::Key(key) => context.credentials = Credentials::Session(key),
            SessionArg::Absent => {}
            SessionArg::Unusable => return Err(FaultCode::SessionExpired.into()),
        }
        self.service.authenticate(&context.credentials, context.sender).await
    }
}
