//! The documents as they stand in the repository: pages, blocks, tables, links.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// A document, by its path in the repository.
pub struct Page {
    pub path: String,
    pub text: String,
}

/// A fenced block, with the marker comment that stands before it or before
/// the block that it follows on.
pub struct Block {
    pub page: String,
    pub marker: Option<String>,
    pub language: String,
    pub text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(path: &str) -> Page {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    Page { path: path.to_owned(), text }
}

pub fn readme() -> Page {
    page("README.md")
}

/// The documents of one folder, in the order of their names.
fn folder(name: &str) -> Vec<Page> {
    let entries = std::fs::read_dir(root().join(name)).expect("the folder can be read");
    let names = entries.map(|entry| entry.expect("its entries can be read").file_name().into_string());
    let names: BTreeSet<String> = names.map(|name| name.expect("names are of UTF-8")).collect();
    let is_page = |name: &String| name.ends_with(".md");
    names.into_iter().filter(is_page).map(|own| page(Path::new(name).join(own).to_str().expect("it is one"))).collect()
}

/// The pages of `docs/`, its index among them.
pub fn docs() -> Vec<Page> {
    folder("docs")
}

/// What its users read: the README, and the pages of `docs/`.
pub fn manual() -> Vec<Page> {
    let mut pages = vec![readme()];
    pages.extend(docs());
    pages
}

/// All documents.
pub fn all() -> Vec<Page> {
    let mut pages = folder("");
    pages.extend(docs());
    pages.push(page("rpc-examples/README.md"));
    pages
}

impl Page {
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut marker = None;
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            let (indent, line) = line.split_at(line.len() - line.trim_start().len());
            if let Some(comment) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
                marker = Some(comment.to_owned());
            } else if let Some(language) = line.strip_prefix("```") {
                let inside = lines.by_ref().map(|line| line.strip_prefix(indent).unwrap_or(line));
                let text = inside.take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
                let (page, language) = (self.path.clone(), language.to_owned());
                blocks.push(Block { page, marker: marker.clone(), language, text });
            } else {
                marker = None;
            }
        }
        blocks
    }

    /// Its lines without those of blocks.
    pub fn prose(&self) -> impl Iterator<Item = &str> {
        let mut is_in_block = false;
        self.text.lines().filter(move |line| {
            let is_fence = line.trim_start().starts_with("```");
            is_in_block ^= is_fence;
            !is_fence && !is_in_block
        })
    }

    /// What stands in its prose between backticks.
    pub fn quoted(&self) -> impl Iterator<Item = &str> {
        self.prose().flat_map(|line| line.split('`').skip(1).step_by(2))
    }

    /// The places in it that a link may lead to, named as GitHub names them.
    fn anchors(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let headings =
            self.prose().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let named = headings.map(|heading| {
            let name: String = heading.to_lowercase().chars().filter(is_kept).collect();
            let name = name.replace(' ', "-");
            let count = seen.entry(name.clone()).and_modify(|count| *count += 1).or_insert(0);
            if *count == 0 { name } else { format!("{name}-{count}") }
        });
        named.collect()
    }

    /// Where its links lead that do not leave the repository.
    pub fn links(&self) -> Vec<&str> {
        let targets = self.prose().flat_map(|line| line.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
        targets.filter(|target| !target.starts_with("https://") && !target.starts_with("http://")).collect()
    }

    /// The path that a link on this page leads to.
    pub fn target(&self, link: &str) -> PathBuf {
        let path = link.split('#').next().unwrap_or_default();
        if path.is_empty() {
            return PathBuf::from(&self.path);
        }
        let mut target = Path::new(&self.path).parent().map(Path::to_owned).unwrap_or_default();
        for part in Path::new(path).components() {
            match part {
                Component::ParentDir => assert!(target.pop(), "{}: {link} leaves the repository", self.path),
                part => target.push(part),
            }
        }
        target
    }

    /// The cells of the rows of the table under this heading.
    pub fn table(&self, heading: &str) -> Vec<Vec<String>> {
        let mut sections = self.text.split("\n#").map(|section| section.trim_start_matches('#').trim_start());
        let section = sections.find(|section| section.lines().next() == Some(heading));
        let section = section.unwrap_or_else(|| panic!("{} has no section {heading}", self.path));
        let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
        rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
    }
}

/// The page that has this table, and the table.
pub fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let found = docs().into_iter().find(|own| own.path == page);
    found.unwrap_or_else(|| panic!("there is no {page}")).table(heading)
}

/// The blocks of all pages that users read.
pub fn blocks() -> Vec<Block> {
    manual().iter().flat_map(Page::blocks).collect()
}

/// The snippets of all pages, by name; none is there twice.
pub fn snippets() -> BTreeMap<String, String> {
    let mut snippets = BTreeMap::new();
    for block in blocks() {
        let marker = block.marker.as_deref().unwrap_or_default();
        if let Some(name) = marker.strip_prefix("snippet: ") {
            assert!(snippets.insert(name.to_owned(), block.text).is_none(), "{}: {name} is there twice", block.page);
        }
    }
    snippets
}

#[test]
fn links_lead_somewhere() {
    let pages = all();
    let anchors: BTreeMap<PathBuf, BTreeSet<String>> =
        pages.iter().map(|page| (PathBuf::from(&page.path), page.anchors())).collect();
    let (mut links, mut anchored) = (0, 0);
    for page in &pages {
        for link in page.links() {
            let target = page.target(link);
            assert!(root().join(&target).exists(), "{}: nothing is at {link}", page.path);
            links += 1;
            if let Some((_, anchor)) = link.split_once('#') {
                let known = anchors.get(&target).unwrap_or_else(|| panic!("{}: {link} is no page", page.path));
                assert!(known.contains(anchor), "{}: {link} is no heading; there are {known:?}", page.path);
                anchored += 1;
            }
        }
    }
    assert!(links > 100 && anchored > 50, "only {links} links were found, {anchored} of them to headings");
}

#[test]
fn anchors_are_those_of_github() {
    let text = "# A `b.c`, d\n## Twice\n```sh\n# no heading\n```\n### Twice\n## x_y — Z\n".to_owned();
    let page = Page { path: "docs/x.md".to_owned(), text };
    let anchors: Vec<String> = page.anchors().into_iter().collect();
    assert_eq!(anchors, ["a-bc-d", "twice", "twice-1", "x_y--z"]);
    assert_eq!(page.target("../README.md#a"), Path::new("README.md"));
    assert_eq!(page.target("#a"), Path::new("docs/x.md"));
}

#[test]
fn the_index_has_every_page() {
    let docs = docs();
    let index = docs.iter().find(|page| page.path == "docs/README.md").expect("there is an index");
    let listed: BTreeSet<PathBuf> = index.links().into_iter().map(|link| index.target(link)).collect();
    for page in docs.iter().filter(|page| page.path != index.path) {
        assert!(listed.contains(Path::new(&page.path)), "the index lacks {}", page.path);
    }
    let home = readme();
    assert!(
        home.links().into_iter().any(|link| home.target(link) == Path::new("docs/README.md")),
        "and nobody finds it"
    );
}

#[test]
fn every_page_says_first_whom_it_is_for() {
    for page in docs() {
        let mut lines = page.text.lines().filter(|line| !line.is_empty());
        let (title, first) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        assert!(title.starts_with("# ") && first.starts_with("For "), "{}: {title:?}, {first:?}", page.path);
    }
}

/// It is read in a minute. What takes longer has a page of its own.
#[test]
fn the_readme_is_short() {
    const BYTES_MAX: usize = 13_000;
    let bytes = readme().text.len();
    assert!(bytes <= BYTES_MAX, "it has {bytes} bytes, of {BYTES_MAX}");
}

/// Each fact has one place; whatever else speaks of it links there.
#[test]
fn nothing_is_said_twice() {
    const LINE_BYTES_MIN: usize = 80;
    let pages = all();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for page in pages.iter().filter(|page| page.path != "CHANGELOG.md") {
        // Tables of one kind have one heading.
        let mut lines = page.prose().map(str::trim).peekable();
        while let Some(line) = lines.next() {
            let is_heading = lines.peek().is_some_and(|next| next.starts_with("|---"));
            if is_heading || line.len() < LINE_BYTES_MIN {
                continue;
            }
            if let Some(other) = seen.insert(line, &page.path) {
                panic!("{other} and {} both say: {line}", page.path);
            }
        }
    }
    assert!(seen.len() > 500, "only {} lines were looked at", seen.len());
}
