//! The flags that say which server, and who calls.

use clap::Args;

use super::client::Target;
use super::{DEMO_KEY, DEMO_USER, Failure};
use crate::config::{KEY_VARIABLE, URL_VARIABLE, USER_VARIABLE};

/// A server, and who calls it.
#[derive(Args)]
pub struct ServerFlags {
    /// The server
    #[arg(long, env = URL_VARIABLE, default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    login: LoginFlags,
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
        Target::try_new(&self.url).map_err(Failure::usage)
    }

    /// User and key for it.
    pub fn credentials(&self, target: &Target) -> Result<(String, String), Failure> {
        self.login.credentials(target)
    }
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
