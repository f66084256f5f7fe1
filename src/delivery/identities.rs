//! How TLS is spoken as somebody: one configuration for each certificate that webhooks
//! present, so that no session that was begun as one is resumed as another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;

use crate::domain::identity::ClientIdentity;
use crate::trust::identity::{Flawed, from_pem};

/// Configurations that are kept: the one that was used longest ago gives way. Each has some
/// kilobytes.
const KEPT_MAX: usize = 1_024;
/// Sessions that are kept for each, to be resumed.
const SESSIONS_MAX: usize = 64;

/// A certificate that can't be presented, though it could when it was accepted.
#[derive(Debug, thiserror::Error)]
#[error("the webhook's client_certificate can't be presented: {0}")]
pub struct Unpresentable(String);

/// Configurations by whom they present.
pub struct Identities {
    /// What presents nobody.
    anonymous: Arc<ClientConfig>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By fingerprint, each with when it was used last.
    configs: HashMap<Box<str>, (Arc<ClientConfig>, u64)>,
    uses: u64,
}

impl Identities {
    /// All else is as it is said there.
    pub fn new(anonymous: ClientConfig) -> Self {
        Self { anonymous: Arc::new(anonymous), kept: Mutex::default() }
    }

    /// How TLS is spoken as that one.
    pub fn config(&self, identity: Option<&ClientIdentity>) -> Result<Arc<ClientConfig>, Unpresentable> {
        let Some(identity) = identity else { return Ok(Arc::clone(&self.anonymous)) };
        let mut kept = self.kept.lock().expect("nothing panics while it holds the configurations");
        kept.uses += 1;
        let uses = kept.uses;
        if let Some((config, used)) = kept.configs.get_mut(identity.fingerprint()) {
            *used = uses;
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.presenting(identity)?);
        if kept.configs.len() >= KEPT_MAX {
            let oldest = kept.configs.iter().min_by_key(|(_, (_, used))| *used).map(|(own, _)| own.clone());
            oldest.and_then(|oldest| kept.configs.remove(&oldest));
        }
        kept.configs.insert(identity.fingerprint().into(), (Arc::clone(&config), uses));
        Ok(config)
    }

    fn presenting(&self, identity: &ClientIdentity) -> Result<ClientConfig, Unpresentable> {
        let certified = from_pem(identity.certificate(), identity.expose_key()).map_err(|flawed| match flawed {
            Flawed::Certificate(problem) | Flawed::Key(problem) => Unpresentable(problem),
        })?;
        let mut config = ClientConfig::clone(&self.anonymous);
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(config)
    }
}
