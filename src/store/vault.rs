//! Secrets at rest: sealed by a master key that only the server has, so that a store, a
//! copy of it or its log gives none of them away.
//!
//! What is sealed is a text, `enc1:KEY:BASE64`: the id of its key, and a random nonce
//! with what AES-256-GCM makes of the secret. It is bound to the webhook and the column
//! that it stands in, so one that is copied into another row opens nothing. Without a
//! key, secrets stand there as they are, and none that looks sealed is taken for it.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

use crate::domain::fingerprint::FingerprintKey;
use crate::domain::id::WebhookId;
use crate::store::error::StoreError;

/// What a master key begins with.
const KEY_MARK: &str = "thmk_";
/// What is sealed begins with this, …
const SEALED: &str = "enc1:";
/// … and what is not, and looks as if it were, with this.
const PLAIN: &str = "raw1:";
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// The most keys of a file: the one that seals, and those before it.
const KEYS_MAX: usize = 16;

/// By which master key something is sealed: the beginning of that key's hash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(String);

/// A master key. It can't be printed by accident.
pub struct MasterKey {
    id: KeyId,
    key: LessSafeKey,
    text: String,
}

/// Where a secret stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Whose it is.
    pub webhook: WebhookId,
    /// In which column.
    pub column: &'static str,
}

/// The master keys of a server, of which the first one seals; there may be none.
#[derive(Default)]
pub struct Vault {
    /// Where they were read.
    file: Option<PathBuf>,
    keys: RwLock<Arc<Vec<Arc<MasterKey>>>>,
    /// Counts how often they were exchanged.
    generation: AtomicU64,
}

impl MasterKey {
    /// A new one.
    pub fn generate() -> Self {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        Self::of(&bytes)
    }

    /// Reads one; the error does not repeat it.
    fn read(text: &str) -> Result<Self, String> {
        let bytes = text.strip_prefix(KEY_MARK).and_then(|rest| STANDARD.decode(rest).ok());
        match bytes.as_deref().map(<[u8; KEY_BYTES]>::try_from) {
            Some(Ok(bytes)) => Ok(Self::of(&bytes)),
            _ => Err(format!("is no master key, which is {KEY_MARK} and base64 of {KEY_BYTES} bytes")),
        }
    }

    fn of(bytes: &[u8; KEY_BYTES]) -> Self {
        let id = Sha256::digest(bytes)[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("it has the length of a key");
        let text = format!("{KEY_MARK}{}", STANDARD.encode(bytes));
        Self { id: KeyId(id), key: LessSafeKey::new(key), text }
    }

    /// Its id.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The key itself, as a line of a file.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl Vault {
    /// With the keys of a file. The error says what is wrong with which line.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let keys = read(path)?;
        Ok(Self { file: Some(path.to_owned()), keys: RwLock::new(Arc::new(keys)), generation: AtomicU64::new(0) })
    }

    /// Reads the file once more; false if there is none. If it can't be used, the keys
    /// stay as they are. One that is not there any more opens what it has sealed until the
    /// next start, which tells if there is such.
    pub fn reload(&self) -> Result<bool, String> {
        let Some(path) = &self.file else { return Ok(false) };
        let mut keys = read(path)?;
        let gone = |old: &&Arc<MasterKey>| keys.iter().all(|key| key.id != old.id);
        let gone: Vec<_> = self.keys().iter().filter(gone).cloned().collect();
        keys.extend(gone);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        self.generation.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Goes up when the keys were exchanged.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The ids of its keys, the one that seals first.
    pub fn ids(&self) -> Vec<KeyId> {
        self.keys().iter().map(|key| key.id.clone()).collect()
    }

    /// By what secrets are told from one another in the audit log: it follows from the key that
    /// seals.
    pub fn fingerprint_key(&self) -> FingerprintKey {
        self.keys().first().map_or(FingerprintKey::OPEN, |key| FingerprintKey::of_master(key.expose()))
    }

    /// A secret as it is stored.
    pub fn seal<'a>(&self, place: Place, secret: &'a str) -> Cow<'a, str> {
        let keys = self.keys();
        let Some(MasterKey { id, key, .. }) = keys.first().map(|key| &**key) else {
            return match secret.starts_with(SEALED) || secret.starts_with(PLAIN) {
                true => format!("{PLAIN}{secret}").into(),
                false => secret.into(),
            };
        };
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).expect("the system gives random bytes");
        let mut sealed = secret.as_bytes().to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place.bound(), &mut sealed)
            .expect("no secret is too long");
        let bytes = [&nonce[..], &sealed].concat();
        format!("{SEALED}{id}:{}", STANDARD.encode(bytes)).into()
    }

    /// The secret that is stored so. Fails if it is sealed by another key, for another
    /// place, or was changed.
    pub fn open_secret<'a>(&self, place: Place, stored: &'a str) -> Result<Cow<'a, str>, StoreError> {
        if let Some(secret) = stored.strip_prefix(PLAIN) {
            return Ok(secret.into());
        }
        let Some(sealed) = stored.strip_prefix(SEALED) else { return Ok(stored.into()) };
        let failed = |why: &str| StoreError::failed(format!("{} of webhook {} {why}", place.column, place.webhook));
        let (id, text) = sealed.split_once(':').ok_or_else(|| failed("is damaged"))?;
        let keys = self.keys();
        let Some(MasterKey { key, .. }) = keys.iter().find(|key| key.id.0 == id).map(|key| &**key) else {
            let there = self.ids().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let there = if there.is_empty() { "there is none".to_owned() } else { format!("there are {there}") };
            return Err(failed(&format!(
                "is sealed by the master key {id}, which is not among those of master_key_file ({there})"
            )));
        };
        let damaged = || failed("was changed, or belongs to another webhook: its master key does not open it");
        let mut bytes = STANDARD.decode(text).map_err(|_| damaged())?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let secret = key.open_in_place(nonce, place.bound(), sealed).map_err(|_| damaged())?;
        String::from_utf8(secret.to_vec()).map(Cow::Owned).map_err(|_| damaged())
    }

    /// True if it is stored as it would be now.
    pub fn is_current(&self, stored: &str) -> bool {
        match (self.keys().first(), key_of(stored)) {
            (Some(current), Some(id)) => current.id == id,
            (None, None) => true,
            _ => false,
        }
    }

    fn keys(&self) -> Arc<Vec<Arc<MasterKey>>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Place {
    /// What is authenticated with the secret.
    fn bound(self) -> Aad<Vec<u8>> {
        Aad::from(format!("tallyhook webhook {} {}", self.webhook, self.column).into_bytes())
    }
}

/// By which key a text is sealed; `None`: it is not.
pub fn key_of(stored: &str) -> Option<KeyId> {
    stored.strip_prefix(SEALED)?.split_once(':').map(|(id, _)| KeyId(id.to_owned()))
}

fn read(path: &Path) -> Result<Vec<Arc<MasterKey>>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|cause| format!("{shown} can't be read: {cause}"))?;
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if !line.is_empty() && !line.starts_with('#') {
            let key = MasterKey::read(line).map_err(|problem| format!("{shown}, line {number}: it {problem}"))?;
            keys.push(Arc::new(key));
        }
    }
    match keys.len() {
        0 => Err(format!("{shown} has no master key; `tallyhook key new --out {shown}` makes one in a new file")),
        count if count > KEYS_MAX => Err(format!("{shown} has {count} master keys; keep {KEYS_MAX} at the most")),
        _ => Ok(keys),
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("keys", &self.ids()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HERE: Place = Place { webhook: WebhookId(7), column: "secret_key" };

    fn file(keys: &[&MasterKey]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        write(&path, keys);
        (folder, path)
    }

    fn write(path: &Path, keys: &[&MasterKey]) {
        let lines: Vec<_> = keys.iter().map(|key| key.expose()).collect();
        fs::write(path, format!("# of tests\n\n{}\n", lines.join("\n"))).unwrap();
    }

    #[test]
    fn what_is_sealed_opens_where_it_belongs_and_nowhere_else() {
        let key = MasterKey::generate();
        let (_folder, path) = file(&[&key]);
        let vault = Vault::from_file(&path).unwrap();
        let sealed = vault.seal(HERE, "a secret of tests").into_owned();
        assert!(!sealed.contains("secret") && sealed.starts_with(&format!("enc1:{}:", key.id())), "{sealed}");
        assert_ne!(sealed, vault.seal(HERE, "a secret of tests"), "nobody sees that two are the same");
        assert_eq!(vault.open_secret(HERE, &sealed).unwrap(), "a secret of tests");
        let mut damaged = sealed.clone().into_bytes();
        damaged[20] ^= 1;
        let damaged = String::from_utf8(damaged).unwrap();
        for (place, stored) in [
            (Place { webhook: WebhookId(8), ..HERE }, &*sealed),
            (Place { column: "basic_password", ..HERE }, &sealed),
            (HERE, &damaged),
            (HERE, &sealed[..20]),
            (HERE, &sealed[..30]),
            (HERE, "enc1:"),
        ] {
            let cause = vault.open_secret(place, stored).unwrap_err().to_string();
            assert!(cause.contains(place.column) && !cause.contains("a secret"), "{cause}");
        }
        assert_eq!(vault.open_secret(HERE, "as it is").unwrap(), "as it is", "from the time before the key");
    }

    #[test]
    fn what_only_looks_sealed_is_not_opened() {
        let vault = Vault::default();
        for secret in ["enc1:00000000:AAAA", "raw1:enc1:", "enc", "whsec_x"] {
            let stored = vault.seal(HERE, secret).into_owned();
            assert_eq!(vault.open_secret(HERE, &stored).unwrap(), secret);
            assert!(vault.is_current(&stored), "{stored}");
        }
    }

    #[test]
    fn a_new_key_seals_and_the_old_ones_open() {
        let (old, new) = (MasterKey::generate(), MasterKey::generate());
        let (_folder, path) = file(&[&old]);
        let vault = Vault::from_file(&path).unwrap();
        let before = vault.seal(HERE, "a secret of tests").into_owned();
        write(&path, &[&new, &old]);
        assert!(vault.is_current(&before) && vault.reload().unwrap() && vault.generation() == 1);
        assert!(!vault.is_current(&before) && !vault.is_current("as it is"));
        assert_eq!(vault.open_secret(HERE, &before).unwrap(), "a secret of tests");
        let after = vault.seal(HERE, "a secret of tests").into_owned();
        assert!(vault.is_current(&after));

        fs::write(&path, "thmk_short").unwrap();
        let flaw = vault.reload().unwrap_err();
        assert!(flaw.contains("line 1") && !flaw.contains("short"), "{flaw}");
        assert_eq!(vault.open_secret(HERE, &after).unwrap(), "a secret of tests", "the keys stay as they were");
        write(&path, &[&old]);
        vault.reload().unwrap();
        assert_eq!(vault.open_secret(HERE, &after).unwrap(), "a secret of tests", "until the next start");
        assert!(!vault.is_current(&after));
        let cause = Vault::from_file(&path).unwrap().open_secret(HERE, &after).unwrap_err().to_string();
        assert!(cause.contains(&new.id().to_string()) && cause.contains(&old.id().to_string()), "{cause}");
        assert!(!format!("{vault:?}").contains(KEY_MARK));
    }

    #[test]
    fn a_file_without_keys_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        assert!(Vault::from_file(&path).unwrap_err().contains("can't be read"));
        fs::write(&path, "# nothing\n").unwrap();
        assert!(Vault::from_file(&path).unwrap_err().contains("tallyhook key new"));
    }
}
