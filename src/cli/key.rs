//! `tallyhook key`: the master keys that encrypt secrets at rest.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::flags::StoreFlags;
use super::user::check_exists;
use super::{Failure, print, say};
use crate::store::admin::Admin;
use crate::store::vault::{MasterKey, Vault};

/// What its help ends with.
pub const EXAMPLES: &str = "\
Examples:
  tallyhook key new --out /etc/tallyhook/master.key
  tallyhook serve --master-key-file /etc/tallyhook/master.key
  tallyhook key rotate /etc/tallyhook/master.key
  tallyhook key status --store sqlite:/srv/tallyhook.db

Without its master key a store's secrets are lost: keep a copy of the key, and not
where the copies of the store are.

To rotate, run key rotate and have the server read the file anew by SIGHUP. It goes
over all webhooks beside its other work, and key status shows how far it is. When
nothing is left under an old key, take its line out of the file.
Servers that share a store need the new key before one of them uses it: give all of
them the file with the new key behind the old ones, and then with it in front.";

/// What can be done with master keys.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Make a master key, and print it.
    New {
        /// Write it to a new file, which only its owner may read, instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Put a new master key in front of those of a file.
    Rotate {
        /// The file that master_key_file names
        file: PathBuf,
    },
    /// Show by which keys the secrets of a store are encrypted.
    Status(StoreFlags),
}

/// Does it.
pub fn run(command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::New { out: None } => print(MasterKey::generate().expose()),
        KeyCommand::New { out: Some(path) } => new(&path),
        KeyCommand::Rotate { file } => rotate(&file),
        KeyCommand::Status(store) => status(&store),
    }
}

fn new(path: &Path) -> Result<(), Failure> {
    let key = MasterKey::generate();
    write_new(path, &format!("{}\n", key.expose())).map_err(|cause| cannot_write(path, &cause))?;
    print(&format!("{} holds the master key {}", path.display(), key.id()))
}

/// The file is as it was until the new one is whole.
fn rotate(path: &Path) -> Result<(), Failure> {
    Vault::from_file(path).map_err(Failure::failed)?;
    let cannot = |cause: std::io::Error| cannot_write(path, &cause);
    let (old, key) = (std::fs::read_to_string(path).map_err(cannot)?, MasterKey::generate());
    let permissions = std::fs::metadata(path).map_err(cannot)?.permissions();
    let beside = beside(path);
    let written = write_new(&beside, &format!("{}\n{old}", key.expose()))
        .and_then(|()| set_owner(path, &beside, permissions))
        .and_then(|()| std::fs::rename(&beside, path));
    if let Err(cause) = written {
        // What is left of it holds a key that nobody knows of.
        let _ = std::fs::remove_file(&beside);
        return Err(cannot(cause));
    }
    say("tallyhook: have the server read the file anew by SIGHUP; then see key status");
    print(&format!("{} encrypts by the master key {} from now on", path.display(), key.id()))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// The new file belongs to whom the old one belongs: the server may be another user.
#[cfg(unix)]
fn set_owner(old: &Path, new: &Path, permissions: Permissions) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let owner = std::fs::metadata(old)?;
    chown(new, Some(owner.uid()), Some(owner.gid()))?;
    std::fs::set_permissions(new, permissions)
}

#[cfg(not(unix))]
fn set_owner(_: &Path, new: &Path, permissions: Permissions) -> std::io::Result<()> {
    std::fs::set_permissions(new, permissions)
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn cannot_write(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::failed(format!("{} can't be written: {cause}", path.display()))
}

fn status(store: &StoreFlags) -> Result<(), Failure> {
    let config = store.load()?.store;
    check_exists(&config)?;
    let by_key = Admin::open(&config).map_err(Failure::failed)?.sealed_by().map_err(Failure::failed)?;
    for (key, webhooks) in by_key {
        print(&match key {
            Some(key) => format!("key {key}: webhooks {webhooks}"),
            None => format!("not encrypted: webhooks {webhooks}"),
        })?;
    }
    Ok(())
}
