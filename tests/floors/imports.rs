//! Which file imports from which, as far as paths say so that begin with
//! `crate`, `self` or `super`, or with a module of the file's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::files::rust_files;

/// A file by its module's path, such as `["store", "ledger"]`.
pub type Module = Vec<String>;

/// What each file imports from. What is for tests alone does not count, nor that
/// a parent declares its children.
pub fn graph(source: &Path) -> BTreeMap<Module, BTreeSet<Module>> {
    let texts: BTreeMap<Module, String> = rust_files(source)
        .into_iter()
        .map(|file| (module(file.strip_prefix(source).unwrap()), std::fs::read_to_string(&file).unwrap()))
        .collect();
    let mut tests = BTreeSet::new();
    let codes: BTreeMap<_, _> = texts.iter().map(|(own, text)| (own, code(own, text, &mut tests))).collect();
    let is_test = |own: &Module| (1..=own.len()).any(|end| tests.contains(&own[..end]));
    let imports = |own: &Module, code: &str| {
        let named = paths(code).into_iter().filter_map(|path| resolve(own, &path, &texts));
        named.filter(|other| other != own).collect()
    };
    let files = codes.iter().filter(|(own, _)| !is_test(own));
    files.map(|(own, code)| ((*own).clone(), imports(own, code))).collect()
}

/// Files that import from one another in a circle; each is in one of these at
/// the most.
pub fn circles(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<BTreeSet<Module>> {
    let reached = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(file) = next.pop() {
            let others = graph.get(&file).into_iter().flatten();
            next.extend(others.filter(|other| seen.insert((*other).clone())).cloned());
        }
        seen
    };
    let reached: BTreeMap<_, _> = graph.keys().map(|file| (file, reached(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, others) in &reached {
        let back = |other: &&Module| reached.get(other).is_some_and(|others| others.contains(*file));
        let circle: BTreeSet<_> = others.iter().filter(back).cloned().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn module(file: &Path) -> Module {
    let parts = file.with_extension("");
    let mut module: Module = parts.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// The text without comments and without what is for tests alone; modules that
/// are, are noted. In a module within the file, `super` is the file itself.
fn code(own: &Module, text: &str, tests: &mut BTreeSet<Module>) -> String {
    let (mut code, mut lines, mut inner) = (String::new(), text.lines().peekable(), None);
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            while lines.next_if(|line| line.trim_start().starts_with("#[")).is_some() {}
            let Some(item) = lines.next() else { break };
            let name = item.trim_start().trim_start_matches("pub ").strip_prefix("mod ");
            match name.map(|name| name.strip_suffix(';')) {
                // The rest of the file is its tests.
                Some(None) => break,
                Some(Some(name)) => drop(tests.insert([here(own), &[name.to_owned()]].concat())),
                None => {
                    let mut last = item;
                    while !last.ends_with([';', '}']) {
                        last = lines.next().expect("an item has an end");
                    }
                }
            }
            continue;
        }
        if line.trim_start().starts_with("//") {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let begins = line.trim_start().trim_start_matches("pub ").starts_with("mod ") && line.ends_with('{');
        match inner {
            None if begins => inner = Some(indent),
            Some(begun) if line.trim() == "}" && indent == begun => inner = None,
            _ => {}
        }
        let line = if inner.is_some() { line.replace("super::", "self::") } else { line.to_owned() };
        code.push_str(&line);
        code.push('\n');
    }
    code
}

/// All paths that begin with `crate`, `self` or `super`, and those of `use`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in code.match_indices("::") {
        let before = code[..at].rfind(|c: char| !is_word(c)).map_or(0, |place| place + 1);
        let is_begun = code[..before].ends_with("::") || !code.is_char_boundary(before);
        let (first, line) = (&code[before..at], code[..before].rsplit('\n').next().unwrap_or_default());
        let is_use = line.trim_start().trim_start_matches("pub ").trim() == "use";
        if !is_begun && (is_use || matches!(first, "crate" | "self" | "super")) {
            tree(&code[before..], &mut Vec::new(), &mut paths);
        }
    }
    paths
}

/// Reads a path, or a tree of them; what is left behind it.
fn tree<'a>(text: &'a str, before: &mut Vec<String>, paths: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if let Some(rest) = rest.strip_prefix('}') {
                return rest;
            }
            let mut own = before.clone();
            let left = tree(rest, &mut own, paths);
            rest = left.find([',', '}']).map_or("", |end| &left[end..]);
            assert!(!rest.is_empty(), "a tree of imports has an end");
        }
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    before.push(text[..end].to_owned());
    match text[end..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|c: char| c == '{' || c == '_' || c.is_alphabetic()) => {
            tree(rest, before, paths)
        }
        _ => {
            paths.push(before.clone());
            &text[end..]
        }
    }
}

/// Where a file's children are.
fn here(own: &Module) -> &[String] {
    if matches!(own.as_slice(), [root] if root == "lib" || root == "main") { &[] } else { own }
}

/// The file in which a path ends.
fn resolve(own: &Module, path: &[String], files: &BTreeMap<Module, String>) -> Option<Module> {
    let here = here(own);
    let ups = path.iter().take_while(|name| *name == "super").count();
    let whole = match path.first()?.as_str() {
        "crate" => path[1..].to_vec(),
        "self" => [here, &path[1..]].concat(),
        "super" => [&here[..here.len().checked_sub(ups)?], &path[ups..]].concat(),
        _ => [here, path].concat(),
    };
    let least = if matches!(path[0].as_str(), "crate" | "self" | "super") { 1 } else { here.len() + 1 };
    (least..=whole.len()).rev().map(|end| whole[..end].to_vec()).find(|module| files.contains_key(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_trees_and_in_code() {
        let code =
            "use super::{a, b::{C, d::E}, self as f};\npub use self::g::H;\nfn i() { crate::j::k(&l::M) }\nuse n::O;\n";
        let found: Vec<_> = paths(code).iter().map(|path| path.join("::")).collect();
        let expected =
            ["super::a", "super::b::C", "super::b::d::E", "super::self", "self::g::H", "crate::j::k", "n::O"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_circle_is_found_and_what_leads_to_it_is_not_in_it() {
        let file = |name: &str| vec![name.to_owned()];
        let graph = [("a", vec!["b"]), ("b", vec!["c"]), ("c", vec!["b", "d"]), ("d", vec![])];
        let graph = graph.map(|(from, to)| (file(from), to.into_iter().map(file).collect()));
        let circle: BTreeSet<_> = [file("b"), file("c")].into();
        assert_eq!(circles(&graph.into()), [circle]);
    }
}
