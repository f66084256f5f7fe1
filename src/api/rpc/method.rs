//! The method table: each method stands in it once, and is reachable as a
//! registered method and through `call`, described by `resources`, and
//! whatever else is made from the table.

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt;
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::{ResponsePayload, RpcModule};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use super::args::{Args, Param, SessionArg};
use super::fault::{Codes, error_object, registered_error};
use crate::domain::fault::{Fault, FaultCode};
use crate::domain::user::Permission;
use crate::service::Service;
use crate::service::auth::{Caller, Credentials};

/// What came with the request besides the call.
#[derive(Clone)]
pub struct Context {
    /// From the Authorization header.
    pub credentials: Credentials,
    /// Who sent it.
    pub peer: IpAddr,
    /// Which codes the path has.
    pub codes: Codes,
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
}

/// What a method is, apart from what it does.
pub struct Spec {
    /// `resource.verb`, or a bare name.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// What it takes, after the session.
    pub params: &'static [Param],
    /// What its caller must be allowed to do.
    pub permission: Option<Permission>,
    /// The fault for a value of the wrong kind.
    pub invalid: FaultCode,
}

type Answer = Pin<Box<dyn Future<Output = Result<Box<RawValue>, Fault>> + Send>>;
type Run = Box<dyn Fn(Request, Option<Caller>, Args<'_>) -> Result<Answer, Fault> + Send + Sync>;

/// A method: its description and its code.
pub struct Method {
    pub spec: Spec,
    takes_session: bool,
    /// Its faults are those of the method it calls.
    is_relay: bool,
    run: Run,
}

impl Method {
    /// A method that needs to know who calls: the session is its first parameter.
    pub fn with_session<P, R, F>(spec: Spec, run: impl Fn(Request, Caller, P) -> F + Send + Sync + 'static) -> Self
    where
        P: DeserializeOwned,
        R: Serialize,
        F: Future<Output = Result<R, Fault>> + Send + 'static,
    {
        Self::new(spec, true, move |request, caller, params| {
            Ok(run(request, caller.ok_or(FaultCode::SessionExpired)?, params))
        })
    }

    /// A method that anybody may call.
    pub fn open<P, R, F>(spec: Spec, run: impl Fn(Request, P) -> F + Send + Sync + 'static) -> Self
    where
        P: DeserializeOwned,
        R: Serialize,
        F: Future<Output = Result<R, Fault>> + Send + 'static,
    {
        Self::new(spec, false, move |request, _, params| Ok(run(request, params)))
    }

    fn new<P, R, F>(
        spec: Spec,
        takes_session: bool,
        run: impl Fn(Request, Option<Caller>, P) -> Result<F, Fault> + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned,
        R: Serialize,
        F: Future<Output = Result<R, Fault>> + Send + 'static,
    {
        let (name, params, invalid) = (spec.name, spec.params, spec.invalid);
        let run: Run = Box::new(move |request, caller, args| {
            let answer = run(request, caller, args.decode(name, params, invalid)?)?;
            Ok(Box::pin(async move { print(&answer.await?) }))
        });
        Self { spec, takes_session, is_relay: false, run }
    }

    /// The same method, whose faults are those of the method it calls: on the
    /// way out they stay as they are.
    pub fn relaying(self) -> Self {
        Self { is_relay: true, ..self }
    }

    /// The part before the dot; `None` for a bare name.
    pub fn resource(&self) -> Option<&'static str> {
        self.spec.name.split_once('.').map(|(resource, _)| resource)
    }

    /// Checks the permission and decodes; what it gives back runs the method.
    fn prepare(&self, request: Request, caller: Option<Caller>, args: Args<'_>) -> Result<Answer, Fault> {
        if let (Some(permission), Some(caller)) = (self.spec.permission, &caller) {
            caller.check(permission)?;
        }
        (self.run)(request, caller, args)
    }
}

fn print(result: &impl Serialize) -> Result<Box<RawValue>, Fault> {
    to_raw_value(result).map_err(|cause| {
        tracing::error!(%cause, "a result could not be written");
        FaultCode::Internal.into()
    })
}

/// All methods.
pub struct Table {
    methods: Vec<Method>,
    by_name: HashMap<&'static str, usize>,
    service: Arc<Service>,
    response_bytes_max: usize,
}

impl Table {
    /// A table of these methods over the use cases.
    pub fn new(methods: Vec<Method>, service: Arc<Service>, response_bytes_max: usize) -> Self {
        let by_name = methods.iter().enumerate().map(|(place, method)| (method.spec.name, place)).collect();
        Self { methods, by_name, service, response_bytes_max }
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
                    async move {
                        let Some(context) = context else {
                            return ResponsePayload::error(jsonrpsee::types::ErrorCode::InternalError);
                        };
                        match table.registered(name, context, params.as_str()).await {
                            Ok(result) => ResponsePayload::success(result),
                            Err(error) => ResponsePayload::error(error),
                        }
                    }
                })
                .expect("each name stands in the table once; a test checks it");
        }
        module
    }

    /// Runs a registered method.
    async fn registered(
        self: Arc<Self>,
        name: &str,
        context: Context,
        params: Option<&str>,
    ) -> Result<Box<RawValue>, ErrorObjectOwned> {
        let codes = context.codes;
        let own = |fault: Fault| registered_error(&fault, codes);
        let method = self.find(name).ok_or_else(|| own(FaultCode::InvalidPath.into()))?;
        let mut args = Args::read(params);
        let caller = match method.takes_session {
            true => Some(self.authenticate(args.take_session(), &context).await.map_err(own)?),
            false => None,
        };
        let request = Request { service: Arc::clone(&self.service), table: Arc::clone(&self), context };
        let answer = method.prepare(request, caller, args).map_err(own)?;
        answer.await.map_err(|fault| if method.is_relay { error_object(&fault, codes) } else { own(fault) })
    }

    /// Runs a method on behalf of `call`, whose caller is known.
    pub async fn call(
        request: Request,
        caller: Caller,
        path: &str,
        args: Option<&RawValue>,
    ) -> Result<Box<RawValue>, Fault> {
        let table = Arc::clone(&request.table);
        let Some(method) = table.find(path) else {
            let is_resource = table.methods.iter().any(|method| method.resource() == Some(path));
            return Err(if is_resource { FaultCode::NotCallable } else { FaultCode::InvalidPath }.into());
        };
        if method.resource().is_none() {
            return Err(FaultCode::NotCallable.into());
        }
        let running = method.prepare(request, Some(caller), Args::of_call(args))?;
        AssertUnwindSafe(running).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(path, "a method panicked");
            Err(FaultCode::Internal.into())
        })
    }

    fn find(&self, name: &str) -> Option<&Method> {
        self.by_name.get(name).map(|&place| &self.methods[place])
    }

    /// A session that is given counts; without one, the header does.
    async fn authenticate(&self, session: SessionArg, context: &Context) -> Result<Caller, Fault> {
        match session {
            SessionArg::Key(key) => self.service.authenticate(&Credentials::Session(key), context.peer).await,
            SessionArg::Absent => self.service.authenticate(&context.credentials, context.peer).await,
            SessionArg::Unusable => Err(FaultCode::SessionExpired.into()),
        }
    }
}
