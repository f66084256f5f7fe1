//! A folder for a store that is not to stay.

use std::path::{Path, PathBuf};

use super::Failure;
use crate::domain::secret::generate_store_id;

/// A temporary folder that goes when this does.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one, for `purpose`, that nobody else on the machine can read.
    pub fn make(purpose: &str) -> Result<Self, Failure> {
        // Random, so that nobody can have laid something in its place; and
        // making it fails if somebody has.
        let name = format!("tallyhook-{purpose}-{}-{}", std::process::id(), generate_store_id());
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(&path)
            .map_err(|cause| Failure::failed(format!("{}: can't be made: {cause}", path.display())))?;
        Ok(Self(path))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A temporary folder that stays is a pity, not a failure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
