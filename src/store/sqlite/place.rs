//! Whether the paths of a store still lead to the files that are open.
//!
//! SQLite goes on with files that were deleted or moved under it: what is
//! committed then is in no file that anybody finds again.

use std::path::{Path, PathBuf};

/// The files of a store that is open.
#[derive(Debug)]
pub struct Place {
    files: Vec<(PathBuf, Identity)>,
}

/// What a file is, whatever it is called: its device and its inode.
#[cfg(unix)]
type Identity = (u64, u64);
/// Elsewhere a file that is open stays where it is.
#[cfg(not(unix))]
type Identity = ();

impl Place {
    /// Notes what lies there. To be called when the store has been read, for
    /// its log is made by that.
    pub fn of(store: &Path) -> std::io::Result<Self> {
        let paths = [store.to_owned(), beside(store, "-wal"), beside(store, "-shm")];
        let files = paths.into_iter().map(|path| identity(&path).map(|identity| (path, identity)));
        Ok(Self { files: files.collect::<Result<_, _>>()? })
    }

    /// A path that leads elsewhere by now, or nowhere. A look at each costs
    /// some microseconds.
    pub fn lost(&self) -> Option<&Path> {
        let is_lost = |(path, was): &&(PathBuf, Identity)| !identity(path).is_ok_and(|is| is == *was);
        self.files.iter().find(is_lost).map(|(path, _)| path.as_path())
    }
}

/// The path of a file that belongs to the store: SQLite names them after what
/// the store is really called.
pub fn beside(store: &Path, ending: &str) -> PathBuf {
    let mut name = std::fs::canonicalize(store).unwrap_or_else(|_| store.to_owned()).into_os_string();
    name.push(ending);
    name.into()
}

#[cfg(unix)]
fn identity(path: &Path) -> std::io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> std::io::Result<Identity> {
    std::fs::metadata(path).map(drop)
}
