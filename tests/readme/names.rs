//! What the documents name is there: methods, faults, keys of the
//! configuration, commands and their flags.

use std::collections::{BTreeMap, BTreeSet};

use tallyhook::config::KEYS;
use tallyhook::domain::delivery::{DeliveryState, EndReason};
use tallyhook::domain::fault::FAULTS;

use super::pages::{Page, all, blocks, docs, manual, readme, table};
use super::{PROGRAM, command, examples};

/// Those that the examples call, which are all that there are.
pub fn methods() -> BTreeSet<String> {
    let unknown = ["foobar"];
    let examples = examples::load();
    let methods = examples.values().filter_map(|example| example["request"]["method"].as_str());
    methods.filter(|method| !unknown.contains(method)).map(str::to_owned).collect()
}

/// What a subscription tells comes under these.
fn notifications() -> BTreeSet<String> {
    let examples = examples::load();
    let told = examples.values().filter_map(|example| example["notifications"].as_array()).flatten();
    told.filter_map(|notification| notification["method"].as_str()).map(str::to_owned).collect()
}

/// Those but the history, which names what was.
fn present() -> Vec<Page> {
    all().into_iter().filter(|page| page.path != "CHANGELOG.md").collect()
}

#[test]
fn methods_that_are_named_are_there() {
    let known: BTreeSet<_> = methods().into_iter().chain(notifications()).collect();
    let resources: BTreeSet<&str> = known.iter().filter_map(|name| name.split_once('.')).map(|(own, _)| own).collect();
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let mut count = 0;
    for page in present() {
        let named = page.quoted().filter(|text| {
            text.split_once('.').is_some_and(|(own, verb)| {
                resources.contains(own) && is_name(verb) && !matches!(verb, "rs" | "md" | "py" | "ends_at")
            })
        });
        for name in named {
            assert!(known.contains(name), "{}: there is no method {name}", page.path);
            count += 1;
        }
    }
    assert!(count > 120, "only {count} were found");
}

#[test]
fn faults_that_are_named_are_there() {
    let mut count = 0;
    for page in present() {
        for line in page.prose() {
            let numbers = line.split("fault ").skip(1).filter_map(|rest| {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<i32>().ok()
            });
            for number in numbers {
                assert!(FAULTS.iter().any(|entry| entry.code.number() == number), "{}: {line}", page.path);
                count += 1;
            }
        }
    }
    assert!(count > 10, "only {count} were found");
}

#[test]
fn keys_that_are_named_are_there() {
    let ends = ["_max", "_max_ms", "_max_s", "_ttl_s", "_timeout_ms", "_days", "_after_s", "_overlap_s"];
    let is_key = |text: &&str| {
        text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && ends.iter().any(|end| text.ends_with(end))
    };
    let mut count = 0;
    for page in present() {
        for name in page.quoted().filter(is_key) {
            assert!(KEYS.iter().any(|key| key.name == name), "{}: there is no key {name}", page.path);
            count += 1;
        }
    }
    assert!(count > 100, "only {count} were found");
}

/// Each limit stands in the page on limits, so that nobody has to guess what it
/// comes to; and its default is the code's.
#[test]
fn limits_are_those_of_the_code() {
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    for heading in ["Connections of clients", "Deliveries", "Subscriptions", "The store"] {
        for row in table("docs/limits.md", heading) {
            let names: Vec<&str> = row[0].split('`').skip(1).step_by(2).collect();
            let defaults: Vec<&str> = row[1].split(", ").collect();
            assert!(names.is_empty() || defaults.len() == names.len() || defaults.len() == 1, "{row:?}");
            for (place, name) in names.iter().enumerate() {
                let default = defaults.get(place).or(defaults.first()).expect("there is one");
                told.insert((*name).to_owned(), (*default).to_owned());
            }
        }
    }
    let value = |text: &str| -> String {
        let scales = [(" KiB", 1_u64 << 10), (" MiB", 1 << 20), (" GiB", 1 << 30), (" s", 1_000)];
        for (unit, scale) in scales {
            if let Some(number) = text.strip_suffix(unit) {
                return (number.parse::<u64>().expect("it is a number") * scale).to_string();
            }
        }
        if text == "none" { "0".to_owned() } else { text.to_owned() }
    };
    for (name, default) in &told {
        let key = KEYS.iter().find(|key| key.name == name).unwrap_or_else(|| panic!("there is no key {name}"));
        let known = if key.default.is_empty() { "0" } else { key.default };
        assert_eq!(value(default), known, "the default of {name}");
    }
    for key in KEYS.iter().filter(|key| key.name.contains("_max")) {
        // Those that say how long something may take hold nothing in memory.
        if !key.name.ends_with("_ms") && !key.name.ends_with("_s") {
            assert!(told.contains_key(key.name), "docs/limits.md lacks {}", key.name);
        }
    }
}

/// Commands of blocks, a line each, and those between backticks.
fn commands() -> Vec<(String, String)> {
    let mut commands = Vec::new();
    for block in blocks().into_iter().filter(|block| block.language == "sh") {
        let text = block.text.replace("\\\n", " ").replace("target/release/tallyhook", "tallyhook");
        let own = text.lines().map(str::trim).filter(|line| line.starts_with("tallyhook "));
        commands.extend(own.map(|line| (block.page.clone(), line.to_owned())));
    }
    for page in manual() {
        let own = page.quoted().filter(|text| text.starts_with("tallyhook "));
        commands.extend(own.map(|text| (page.path.clone(), text.to_owned())));
    }
    commands
}

/// A subcommand's help must name each flag that stands in the documents.
#[test]
fn commands_and_their_flags_are_there() {
    let mut helps: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let commands = commands();
    assert!(commands.len() > 30, "only {} were found", commands.len());
    for (page, line) in commands {
        let line = line.split(" #").next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let depth = if matches!(words.first(), Some(&("user" | "topic" | "node" | "store" | "sdk"))) { 2 } else { 1 };
        let named: Vec<String> =
            words.iter().take(depth).take_while(|word| !word.starts_with('-')).map(|word| (*word).to_owned()).collect();
        let own = named.clone();
        let help = helps.entry(named).or_insert_with(|| {
            let told = command(PROGRAM).args(&own).arg("--help").output().expect("the program starts");
            assert!(told.status.success(), "{page}: {line}: {}", String::from_utf8_lossy(&told.stderr));
            String::from_utf8(told.stdout).expect("help is text")
        });
        for flag in words.iter().filter_map(|word| word.split('=').next()).filter(|word| word.starts_with("--")) {
            assert!(flag == "--help" || help.contains(flag), "{page}: {line} has {flag}, which there is not:\n{help}");
        }
    }
}

/// The README's rows of speed are among those that were measured.
#[test]
fn its_figures_are_those_that_were_measured() {
    let measured = docs().into_iter().find(|page| page.path == "docs/measured.md").expect("there is such a page");
    let rows = readme().table("Speed");
    assert!(rows.len() >= 3, "{rows:?}");
    let known = measured.table("One machine");
    for row in rows {
        let of_it = known.iter().find(|own| own[0].starts_with(&row[0]));
        let own = of_it.unwrap_or_else(|| panic!("docs/measured.md has no {}", row[0]));
        for cell in row.iter().skip(2).filter(|cell| !cell.is_empty()) {
            assert!(own.contains(cell), "{row:?} is not {own:?}");
        }
    }
}

/// A comment that cites a page names a heading that is there.
#[test]
fn headings_that_the_code_cites_are_there() {
    let pages = docs();
    let mut count = 0;
    for folder in ["src", "tests/api", "tests/delivery"] {
        for file in crate::files::rust_files(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            let text = std::fs::read_to_string(&file).expect("the file can be read");
            let comment = |line: &str| line.trim_start().trim_start_matches(['/', '!']).trim_start().to_owned();
            let text = text.lines().map(comment).collect::<Vec<_>>().join(" ");
            for cited in text.split("(docs/").skip(1).chain(text.split(": docs/").skip(1)) {
                let Some((name, rest)) = cited.split_once(", \"") else { continue };
                let heading = rest.split('"').next().expect("it ends");
                let page = pages.iter().find(|page| page.path == format!("docs/{name}"));
                let page = page.unwrap_or_else(|| panic!("{}: there is no docs/{name}", file.display()));
                let is_there = |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == heading;
                assert!(page.prose().any(is_there), "{}: docs/{name} has no {heading}", file.display());
                count += 1;
            }
        }
    }
    assert!(count >= 12, "only {count} were found");
}

/// What the README says of attacks is what the table of the last run says.
#[test]
fn its_attacks_are_those_that_were_measured() {
    let measured = docs().into_iter().find(|page| page.path == "docs/measured.md").expect("there is such a page");
    let rows = measured.table("Now");
    let is_noticed = |row: &&Vec<String>| row.iter().any(|cell| cell.contains("**"));
    let during = rows.iter().flatten().filter_map(|cell| cell.trim_matches('*').split_once(" → "));
    let worst = during.filter_map(|(_, after)| after.parse::<f64>().ok()).fold(0.0, f64::max);
    let unnoticed = rows.len() - rows.iter().filter(is_noticed).count();
    let text = readme().text;
    for told in [
        format!("[{} attacks]", rows.len()),
        format!("of {unnoticed} the neighbour notices nothing"),
        format!("his p99 is {worst} ms"),
    ] {
        assert!(text.contains(&told), "the README lacks: {told}");
    }
}

/// The diagram of a delivery's life has every state and every reason.
#[test]
fn the_life_of_a_delivery_is_told_whole() {
    let architecture = all().into_iter().find(|page| page.path == "ARCHITECTURE.md").expect("there is one");
    let diagram = architecture.blocks().into_iter().find(|block| block.language == "mermaid");
    let diagram = diagram.expect("there is a diagram").text;
    let transitions = diagram.lines().filter_map(|line| line.trim().split_once(" --> "));
    let from: BTreeSet<&str> = transitions.map(|(from, _)| from).filter(|from| *from != "[*]").collect();
    assert_eq!(from, DeliveryState::ALL.map(DeliveryState::name).into());
    for reason in EndReason::ALL {
        assert!(diagram.contains(reason.name()), "{}", reason.name());
    }
}

/// The picture of the floors is that of the test which holds imports to them;
/// and the table of tests has every program of tests.
#[test]
fn the_architecture_is_that_of_the_code() {
    let architecture = all().into_iter().find(|page| page.path == "ARCHITECTURE.md").expect("there is one");
    let plan = include_str!("../floors.rs");
    let (_, plan) = plan.split_once("const FLOORS: &[&str] =").expect("the test has a plan");
    let (plan, _) = plan.split_once(';').expect("it ends");
    let known: Vec<&str> = plan.split('"').skip(1).step_by(2).collect();
    let blocks = architecture.blocks();
    let picture = &blocks.first().expect("the picture comes first").text;
    let floors = picture.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    let shown: Vec<&str> = floors
        .flat_map(|line| line.split("  ").next().expect("a line has a beginning").split(", "))
        .map(str::trim)
        .collect();
    assert_eq!(shown, known);

    let told: BTreeSet<String> = architecture
        .table("Tests")
        .into_iter()
        .flat_map(|row| row[0].split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).expect("the folder can be read");
    let paths = folder.map(|entry| entry.expect("it can be read").path());
    let is_program = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").exists()
    };
    let name = |path: std::path::PathBuf| path.file_name().expect("it has a name").to_string_lossy().into_owned();
    let programs: BTreeSet<String> = paths.filter(is_program).map(|path| format!("tests/{}", name(path))).collect();
    assert_eq!(told, programs);
}

/// Each table of the store is in the map of it.
#[test]
fn the_map_of_the_store_is_that_of_the_schema() {
    let architecture = all().into_iter().find(|page| page.path == "ARCHITECTURE.md").expect("there is one");
    let told: BTreeSet<String> = architecture
        .table("A map of the store")
        .into_iter()
        .flat_map(|row| row[0].split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let schema = include_str!("../../schema.sql").lines().filter_map(|line| line.strip_prefix("CREATE TABLE "));
    let known: BTreeSet<String> = schema.map(|rest| rest.trim_end_matches(" (").to_owned()).collect();
    assert_eq!(told, known);
}

/// Each trait of the boundary is in the table of them.
#[test]
fn the_boundary_of_the_store_is_told() {
    let architecture = all().into_iter().find(|page| page.path == "ARCHITECTURE.md").expect("there is one");
    let told: BTreeSet<String> = architecture
        .table("The store's boundary")
        .into_iter()
        .map(|row| row[0].trim_matches([' ', '`']).to_owned())
        .collect();
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store")).expect("the folder can be read");
    let paths = folder.map(|entry| entry.expect("it can be read").path()).filter(|path| path.is_file());
    let mut known = BTreeSet::new();
    for path in paths {
        let text = std::fs::read_to_string(path).expect("it can be read");
        let traits = text.lines().filter_map(|line| line.strip_prefix("pub trait "));
        known.extend(traits.filter_map(|rest| rest.split(':').next()).map(str::to_owned));
    }
    assert!(known.remove("Store"), "it is their sum");
    assert_eq!(told, known);
}
