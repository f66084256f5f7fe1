//! The flags that say which server, and who calls.

use std::path::{Path, PathBuf};

use clap::Args;

use super::client::{Http, RpcClient, RpcError, Session, Target, TlsOptions};
use super::{DEMO_KEY, DEMO_USER, Failure, read_text};
use crate::config::{
    CLIENT_CERT_VARIABLE, CLIENT_KEY_VARIABLE, KEY_VARIABLE, SERVER_CA_VARIABLE, URL_VARIABLE, USER_VARIABLE,
};
use crate::trust::{Trusted, identity};

/// A server, and who calls it.
#[derive(Args)]
pub struct ServerFlags {
    #[command(flatten)]
    address: AddressFlags,
    #[command(flatten)]
    login: LoginFlags,
}

/// A server.
#[derive(Args)]
pub struct AddressFlags {
    /// The server
    #[arg(long, env = URL_VARIABLE, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Certificates in PEM that the server may have besides those of the system's authorities: of
    /// its own authority, or its own
    #[arg(long, value_name = "PATH", env = SERVER_CA_VARIABLE)]
    ca_file: Option<PathBuf>,
    /// A certificate in PEM to present, to a server that asks for one
    #[arg(long, value_name = "PATH", env = CLIENT_CERT_VARIABLE, requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its key in PEM
    #[arg(long, value_name = "PATH", env = CLIENT_KEY_VARIABLE, requires = "client_cert")]
    client_key: Option<PathBuf>,
}

/// Who calls.
#[derive(Args, Clone)]
pub struct LoginFlags {
    /// Who to log in as
    #[arg(long, env = USER_VARIABLE, requires = "key")]
    user: Option<String>,
    /// The user's API key; better given as the variable, which other users of the machine can't see
    #[arg(long, env = KEY_VARIABLE, hide_env_values = true, requires = "user")]
    key: Option<String>,
}

impl ServerFlags {
    /// The server.
    pub fn target(&self) -> Result<Target, Failure> {
        self.address.target()
    }

    /// A client of it.
    pub fn http(&self, target: Target) -> Result<Http, Failure> {
        self.address.http(target)
    }

    /// User and key for it.
    pub fn credentials(&self, target: &Target) -> Result<(String, String), Failure> {
        self.login.credentials(target)
    }
}

impl AddressFlags {
    /// The server.
    pub fn target(&self) -> Result<Target, Failure> {
        Target::try_new(&self.url).map_err(Failure::usage)
    }

    /// A client of it.
    pub fn http(&self, target: Target) -> Result<Http, Failure> {
        let trusted = self.ca_file.as_deref().map(read_trusted).transpose()?.unwrap_or_default();
        let identity = match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => Some(identity::read(certificate, key).map_err(Failure::failed)?),
            _ => None,
        };
        Http::new(target, TlsOptions { trusted, identity }).map_err(Failure::failed)
    }
}

/// Logs in; a server that refuses says whom.
pub async fn log_in<'a>(client: &'a RpcClient, user: &str, key: &str) -> Result<Session<'a>, Failure> {
    client.login(user, key).await.map_err(|error| match error {
        RpcError::Fault { .. } => Failure::failed(format!("{error} (at the login as {user})")),
        other => Failure::failed(other),
    })
}

fn read_trusted(path: &Path) -> Result<Trusted, Failure> {
    let flaw = |flaw| Failure::failed(format!("{}, {flaw}", path.display()));
    Trusted::from_pem(&read_text(path)?).map_err(flaw)
}

impl LoginFlags {
    /// Who to log in as: who is named, or on this machine the demo user.
    pub fn credentials(&self, target: &Target) -> Result<(String, String), Failure> {
        let named = self.user.clone().zip(self.key.clone());
        if named.is_none() && !target.is_loopback() {
            let why = "a server on another machine has to be told who calls";
            return Err(Failure::usage(format!("{why}; give --user and --key, or {USER_VARIABLE} and {KEY_VARIABLE}")));
        }
        Ok(named.unwrap_or_else(|| (DEMO_USER.to_owned(), DEMO_KEY.to_owned())))
    }
}
