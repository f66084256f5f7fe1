//! TLS to callers: what the operator's files say, and what they come to say while the
//! server runs.

use std::fmt;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::sign::SingleCertAndKey;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::domain::time::{Clock, Timestamp};
use crate::trust::{self, Trusted, identity};

/// What is spoken over it, as the handshake names it.
const ALPN: &[u8] = b"http/1.1";
/// How often the files are looked at. What has changed is read once it is the same at two
/// looks: whoever puts two files in place does not do it in one moment.
const FILES_LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The files that the operator names, in PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of which a caller has to have a certificate; `None`: it needs none.
    pub client_ca: Option<PathBuf>,
}

/// Which of the files is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// That of the certificate.
    Certificate,
    /// That of the key.
    Key,
    /// That of the callers' authorities.
    ClientCa,
}

/// Why the files can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Flaw {
    /// The file that is to blame.
    pub which: Which,
    /// What is wrong with it, with its path.
    pub problem: String,
}

/// What the files held when they were read.
#[derive(Clone)]
pub struct Tls {
    files: Files,
    seen: Seen,
    config: Arc<ServerConfig>,
    valid_until: Option<Timestamp>,
}

/// How the files looked, by which it is noticed that one is another, or was written to. `None`:
/// it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen([Option<Looks>; 3]);

/// Which file it is, how long it is, and when it was written.
type Looks = ((u64, u64), u64, Option<SystemTime>);

/// What is served now, and how to have the files read anew.
pub struct Followed {
    /// What the next handshake goes by.
    pub current: watch::Receiver<Arc<ServerConfig>>,
    /// Has the files read at once.
    pub asked: Arc<Notify>,
}

impl Files {
    fn look(&self) -> Seen {
        let look = |path: &Path| {
            let looks = |found: Metadata| (identity_of(&found), found.len(), found.modified().ok());
            std::fs::metadata(path).map(looks).ok()
        };
        Seen([look(&self.certificate), look(&self.key), self.client_ca.as_deref().and_then(look)])
    }
}

#[cfg(unix)]
fn identity_of(found: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino())
}

/// Elsewhere length and time have to do.
#[cfg(not(unix))]
fn identity_of(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

impl Tls {
    /// Reads the files, and fails with what is wrong with one of them.
    pub fn read(files: Files) -> Result<Self, Flaw> {
        // Before they are read: what is written to them meanwhile is noticed afterwards.
        let seen = files.look();
        let certified = identity::read(&files.certificate, &files.key).map_err(|unusable| match unusable {
            identity::Unusable::Certificate(problem) => Flaw { which: Which::Certificate, problem },
            identity::Unusable::Key(problem) => Flaw { which: Which::Key, problem },
        })?;
        let valid_until = identity::valid_until(&certified);
        let broken = |cause: rustls::Error| Flaw { which: Which::Certificate, problem: format!("no TLS: {cause}") };
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(broken)?;
        let builder = match &files.client_ca {
            Some(path) => {
                let flaw = |problem| Flaw { which: Which::ClientCa, problem };
                let trusted = callers_trusted(path).map_err(flaw)?;
                let verifier = trust::verifier_of_callers(&trusted)
                    .map_err(|cause| flaw(format!("{} can't be used: {cause}", path.display())))?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { files, seen, config: Arc::new(config), valid_until })
    }

    /// Serves what was read, and from then on whatever the files come to hold, as long as
    /// somebody goes by it. What can't be used is told once, and the old goes on.
    pub fn follow(self) -> Followed {
        let (current, followed) = watch::channel(Arc::clone(&self.config));
        let asked = Arc::<Notify>::default();
        self.tell();
        tokio::spawn(follow(self, current, Arc::clone(&asked)));
        Followed { current: followed, asked }
    }

    fn tell(&self) {
        let certificate = self.files.certificate.display();
        let valid_until = self.valid_until.map(Timestamp::rfc3339_s);
        match self.valid_until {
            Some(until) if until < Clock::system().now() => {
                warn!(%certificate, valid_until, "the certificate has expired, and callers refuse it; renew it");
            }
            _ => info!(%certificate, valid_until, "TLS is spoken with this certificate"),
        }
    }
}

async fn follow(tls: Tls, current: watch::Sender<Arc<ServerConfig>>, asked: Arc<Notify>) {
    let Tls { files, seen: mut read, .. } = tls;
    let mut last = read.clone();
    loop {
        let is_asked = tokio::select! {
            () = current.closed() => return,
            () = asked.notified() => true,
            () = tokio::time::sleep(FILES_LOOK_INTERVAL) => false,
        };
        // A file may lie on a disk that hangs.
        let (look, known) = (files.clone(), (last, read.clone()));
        let looked = tokio::task::spawn_blocking(move || {
            let found = look.look();
            let is_new = found != known.1 && found == known.0;
            (found, (is_asked || is_new).then(|| Tls::read(look)))
        });
        let Ok((found, anew)) = looked.await else { return error!("looking at the files of TLS panicked") };
        last = found.clone();
        match anew {
            None => {}
            Some(Ok(tls)) => {
                tls.tell();
                read = tls.seen;
                current.send_replace(tls.config);
            }
            Some(Err(flaw)) => {
                read = found;
                error!(%flaw, "the new files of TLS can't be used; what was read before goes on being served");
            }
        }
    }
}

fn callers_trusted(path: &Path) -> Result<Trusted, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|cause| format!("{shown} can't be read: {cause}"))?;
    let trusted = Trusted::from_pem(&text).map_err(|flaw| format!("{shown}, {flaw}"))?;
    match trusted.has_no_authority() {
        true => Err(format!("{shown}: none of its certificates is that of an authority, which signs others")),
        false => Ok(trusted),
    }
}

impl fmt::Debug for Tls {
    /// Without what was read, of which a part is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}
