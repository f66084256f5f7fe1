//! `tallyhook sdk`: client packages for other languages.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{Failure, tell};
use crate::api::rpc::{self, Label, Language};

/// What its help ends with.
pub const EXAMPLES: &str = "Examples:
  tallyhook sdk typescript --out clients/typescript
  tallyhook sdk python --out clients/python
  tallyhook sdk typescript --out clients/acme --name @acme/hooks --version 2.0.0

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
    /// What the package is called where it is published, instead of tallyhook
    #[arg(long)]
    name: Option<String>,
    /// Its version, instead of the server's
    #[arg(long)]
    version: Option<String>,
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
    let label = Label { name: args.name.clone(), version: args.version.clone() };
    check(&label, args.language).map_err(Failure::usage)?;
    // Where a server is called is for those to say who use the package.
    let document = rpc::openrpc("http://127.0.0.1:8080/");
    for (name, text) in rpc::sdk(&document, args.language.into(), &label) {
        let path = args.out.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|cause| cannot_write(folder, &cause))?;
        }
        std::fs::write(&path, text).map_err(|cause| cannot_write(&path, &cause))?;
        tell(&path.display().to_string())?;
    }
    Ok(())
}

fn cannot_write(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::failed(format!("{} can't be written: {cause}", path.display()))
}

/// Refuses what a registry would: names and versions stand in files as they are.
fn check(label: &Label, language: Name) -> Result<(), String> {
    let is_word = |text: &str, others: &[u8]| {
        text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
    };
    if let Some(name) = &label.name {
        let is_lower = !name.bytes().any(|b| b.is_ascii_uppercase());
        let fits = name.len() <= 214
            && match (language, name.strip_prefix('@').and_then(|rest| rest.split_once('/'))) {
                (Name::TypeScript, Some((scope, own))) => is_lower && is_word(scope, b"-._~") && is_word(own, b"-._~"),
                (Name::TypeScript, None) => is_lower && is_word(name, b"-._~"),
                (Name::Python, _) => is_word(name, b"-._") && name.ends_with(|c: char| c.is_ascii_alphanumeric()),
            };
        if !fits {
            return Err(format!("--name {name:?} is no name of a package; write one such as acme-hooks"));
        }
    }
    if let Some(version) = &label.version {
        let numbers = version.split(['-', '+']).next().unwrap_or_default();
        let fits = match language {
            Name::TypeScript => {
                let parts: Vec<_> = numbers.split('.').collect();
                parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok()) && is_word(version, b".-+")
            }
            Name::Python => version.starts_with(|c: char| c.is_ascii_digit()) && is_word(version, b".+"),
        };
        if !fits {
            return Err(format!("--version {version:?} is no version of a package; write one such as 1.0.0"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_are_those_of_packages() {
        let fits = |language, name: &str, version: &str| {
            let label = Label { name: Some(name.to_owned()), version: Some(version.to_owned()) };
            check(&label, language).is_ok()
        };
        for (name, version) in [("@acme/hooks", "1.2.3"), ("acme-hooks", "1.0.0-rc.1"), ("a", "0.0.1+5")] {
            assert!(fits(Name::TypeScript, name, version), "{name} {version}");
        }
        for (name, version) in
            [("Acme", "1.2.3"), ("@acme", "1.2.3"), ("a\"b", "1.2.3"), ("a", "1.2"), ("a", "1.2.3\""), ("", "1.2.3")]
        {
            assert!(!fits(Name::TypeScript, name, version), "{name} {version}");
        }
        for (name, version) in [("Acme.Hooks", "1.2"), ("acme", "2026.11rc1"), ("a1", "1.0.0+local.1")] {
            assert!(fits(Name::Python, name, version), "{name} {version}");
        }
        for (name, version) in [("@acme/hooks", "1.0"), ("acme-", "1.0"), ("acme", "v1"), ("acme", "1.0\n")] {
            assert!(!fits(Name::Python, name, version), "{name} {version}");
        }
    }
}
