//! `tallyhook sdk`: client packages for other languages.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{Failure, print};
use crate::api::rpc::{self, Language};

/// What its help ends with.
pub const EXAMPLES: &str = "Examples:
  tallyhook sdk typescript --out clients/typescript
  tallyhook sdk python --out clients/python

Each is a package that can be published as it is, made from the description of
the interface that `tallyhook openrpc` prints. Its README.md shows how to build
and use it. Files that are there already are replaced, others are left alone.";

/// What to write, and where.
#[derive(Args)]
pub struct SdkArgs {
    /// The language
    language: Name,
    /// The folder to write to; made if it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// A language as it is typed.
#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// For Node 18 or newer, and whatever else has fetch
    #[value(name = "typescript")]
    TypeScript,
    /// For Python 3.10 or newer
    Python,
}

impl From<Name> for Language {
    fn from(name: Name) -> Self {
        match name {
            Name::TypeScript => Self::TypeScript,
            Name::Python => Self::Python,
        }
    }
}

/// Writes the files, and says which.
pub fn run(args: &SdkArgs) -> Result<(), Failure> {
    // Where a server is called is for those to say who use the package.
    let document = rpc::openrpc("http://127.0.0.1:8080/");
    for (name, text) in rpc::sdk(&document, args.language.into()) {
        let path = args.out.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|cause| cannot_write(folder, &cause))?;
        }
        std::fs::write(&path, text).map_err(|cause| cannot_write(&path, &cause))?;
        print(&path.display().to_string())?;
    }
    Ok(())
}

fn cannot_write(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::failed(format!("{} can't be written: {cause}", path.display()))
}
