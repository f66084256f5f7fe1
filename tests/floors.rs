//! Rules about the code that a compiler does not check.

#[path = "common/files.rs"]
mod files;
#[path = "floors/imports.rs"]
mod imports;

use std::collections::BTreeSet;
use std::path::Path;

use files::rust_files;

/// From the roof down: a floor may import those after it, and itself. The
/// last imports none.
const FLOORS: &[&str] = &[
    "main", "cli", "app", "config", "api", "service", "delivery", "render", "store", "work", "spans", "trust",
    "domain", "metrics",
];
/// Beside the floors: imported by whoever starts things, importing nothing.
const TELEMETRY: &str = "telemetry";

fn floor(name: &str) -> usize {
    FLOORS.iter().position(|floor| *floor == name).unwrap_or_else(|| panic!("{name} is no floor of the plan"))
}

#[test]
fn imports_go_down_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    for file in rust_files(&source) {
        let inside = file.strip_prefix(&source).unwrap();
        let own = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if own == "lib" {
            continue;
        }
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let path = line.trim_start();
            let path = path.strip_prefix("pub ").unwrap_or(path);
            let names: Vec<String> = match path.strip_prefix("use crate::") {
                Some(rest) if rest.starts_with('{') => rest
                    .trim_matches(['{', '}', ';', ' '])
                    .split(',')
                    .map(|name| name.trim().split("::").next().unwrap().to_owned())
                    .collect(),
                Some(rest) => vec![rest.split([':', ';', ' ']).next().unwrap().to_owned()],
                None => continue,
            };
            for name in names {
                checked += 1;
                if name == own || (name == TELEMETRY && matches!(own.as_str(), "cli" | "app" | "main")) {
                    continue;
                }
                assert!(own != TELEMETRY, "{}: telemetry imports nothing of ours", inside.display());
                assert!(floor(&own) < floor(&name), "{}: {own} imports {name}, which lies above", inside.display());
            }
        }
    }
    assert!(checked > 100, "only {checked} imports were found; the test no longer reads them");
}

/// Whoever reads a file need not have read the one that he came from: what two
/// have in common stands in a third.
#[test]
fn no_files_import_in_a_circle() {
    let graph = imports::graph(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let imports: usize = graph.values().map(BTreeSet::len).sum();
    assert!(graph.len() > 200 && imports > 1_000, "{} files, {imports} imports: they are no longer read", graph.len());
    let names = |circle: &BTreeSet<Vec<String>>| circle.iter().map(|file| file.join("::")).collect::<Vec<_>>();
    let circles: Vec<_> = imports::circles(&graph).iter().map(names).collect();
    assert!(circles.is_empty(), "these import from one another: {circles:?}");
}

/// No file of the project may grow past what a person reads in one go.
#[test]
fn files_stay_readable() {
    const LINES_MAX: usize = 650;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in rust_files(&source) {
        let text = std::fs::read_to_string(&file).unwrap();
        // What is behind the tests' heading is read by another reader.
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", file.display());
    }
}

/// Where a store comes from, and what it can do, is said by `store` itself.
#[test]
fn no_floor_but_the_store_names_its_engine() {
    /// It measures what the bare engine can do at best.
    const MAY: &str = "cli/bench/ceiling.rs";
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut named = Vec::new();
    for file in rust_files(&source) {
        let inside = file.strip_prefix(&source).unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        // In quotes it is a store's address, such as "sqlite::memory:".
        let names_it = text.match_indices("sqlite::").any(|(at, _)| !text[..at].ends_with('"'));
        if names_it || text.contains("::sqlite") {
            named.push(inside);
        }
    }
    assert!(named.iter().any(|file| file.starts_with("store/")), "the test no longer finds what it looks for");
    assert!(named.iter().any(|file| file == MAY), "{MAY} needs no exception any more");
    named.retain(|file| file != MAY && !file.starts_with("store/"));
    assert_eq!(named, [""; 0]);
}

/// What `deny.toml` bans, and where all comes from, as far as `Cargo.lock` says:
/// so that nobody needs another tool to be told.
#[test]
fn nothing_banned_is_built_in() {
    const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
    let read = |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let (deny, lock) = (read("deny.toml"), read("Cargo.lock"));
    let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
    let packages: Vec<_> = lock.lines().filter(|line| line.starts_with("name = ")).filter_map(quoted).collect();
    let banned: Vec<_> = deny.lines().filter(|line| line.trim_start().starts_with("{ crate = ")).collect();
    assert!(banned.len() > 5 && packages.len() > 100, "{} {}", banned.len(), packages.len());
    for line in banned {
        let name = quoted(line).unwrap();
        assert!(!packages.contains(&name), "{name} is built in: {line}");
        assert!(line.contains("reason = "), "{line}");
    }
    let sources = lock.lines().filter(|line| line.starts_with("source = ")).filter_map(quoted);
    assert_eq!(sources.filter(|source| source != REGISTRY).collect::<Vec<_>>(), [""; 0]);
}
