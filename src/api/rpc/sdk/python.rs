//! Prints Python.

use super::model::{Fault, Group, Member, Method, Model, Paging, Shape, TypeDef, TypeKind, Use};
use super::words::{pascal, snake, wrap};

/// How wide text may be.
const WIDTH: usize = 100;
/// Where the client finds the types of the document.
const TYPES: &str = "types.";
/// Above each printed file.
const HEADER: &str = "# Made by `tallyhook sdk` from the server's own description; changes belong there.\n";
/// What no parameter and no method can be called: Python's own words, and those that every
/// method has.
const TAKEN_WORDS: [&str; 37] = [
    "False",
    "None",
    "True",
    "and",
    "as",
    "assert",
    "async",
    "await",
    "break",
    "class",
    "continue",
    "def",
    "del",
    "elif",
    "else",
    "except",
    "finally",
    "for",
    "from",
    "global",
    "if",
    "import",
    "in",
    "is",
    "lambda",
    "nonlocal",
    "not",
    "or",
    "pass",
    "raise",
    "return",
    "try",
    "while",
    "with",
    "yield",
    "timeout",
    "cancellation",
];

/// The files that depend on the document.
pub fn files(model: &Model) -> Vec<(String, String)> {
    let file = |name: &str, text: String| (format!("src/tallyhook/{name}.py"), format!("{HEADER}{text}"));
    vec![file("_client", client(model)), file("faults", faults(model)), file("types", types(model))]
}

/// A text that grows.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// A docstring of these paragraphs, each of one or several lines.
    fn docs(&mut self, indent: &str, paragraphs: &[Vec<String>]) {
        let mut lines: Vec<String> = Vec::new();
        for paragraph in paragraphs.iter().filter(|paragraph| !paragraph.is_empty()) {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.extend(paragraph.iter().map(|line| line.replace('\\', "\\\\").replace("\"\"\"", "'''")));
        }
        match lines.as_slice() {
            [] => {}
            [line] => self.line(&format!("{indent}\"\"\"{line}\"\"\"")),
            [first, rest @ ..] => {
                self.line(&format!("{indent}\"\"\"{first}"));
                for line in rest {
                    self.line(format!("{indent}{line}").trim_end());
                }
                self.line(&format!("{indent}\"\"\""));
            }
        }
    }
}

fn paragraph(text: &str, indent: usize) -> Vec<String> {
    wrap(text, WIDTH - indent)
}

/// A heading with entries below it: `name: what it is.`
fn section(heading: &str, entries: &[(String, String)], indent: usize) -> Vec<String> {
    if entries.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!("{heading}:")];
    for (name, text) in entries {
        let text = if text.is_empty() { name.clone() } else { format!("{name}: {text}") };
        let wrapped = wrap(&text, WIDTH - indent - 8);
        lines.extend(wrapped.into_iter().enumerate().map(|(n, line)| {
            let margin = if n == 0 { 4 } else { 8 };
            format!("{}{line}", " ".repeat(margin))
        }));
    }
    lines
}

fn types(model: &Model) -> String {
    let mut page = Page::default();
    page.line("JsonValue = Any");
    page.line("\"\"\"Whatever JSON can say.\"\"\"\n");
    page.line("JsonObject = Dict[str, Any]");
    page.line("\"\"\"A JSON object whose members only its publisher knows.\"\"\"");
    let (enumerations, objects): (Vec<_>, Vec<_>) =
        model.types.iter().partition(|def| matches!(def.kind, TypeKind::Enumeration(_)));
    // An alias is read at once, so those that others use come first.
    for def in enumerations.into_iter().chain(objects) {
        page.line("");
        type_def(&mut page, def);
    }
    let says = "What goes to the server and comes from it, with the names that it has on the wire.";
    let typing = import(&page, &["Any", "Dict", "List", "Literal", "Mapping", "Sequence", "TypedDict"]);
    format!("\"\"\"{says}\"\"\"\n\n{FUTURE}\n{typing}\n{}", page.0)
}

fn type_def(page: &mut Page, def: &TypeDef) {
    let docs = [paragraph(&def.docs, 4)];
    let members = match &def.kind {
        TypeKind::Enumeration(values) => {
            let values: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
            let line = format!("{} = Literal[{}]", def.name, values.join(", "));
            if line.len() <= WIDTH {
                page.line(&line);
            } else {
                page.line(&format!("{} = Literal[\n    {},\n]", def.name, values.join(",\n    ")));
            }
            page.docs("", &docs);
            return;
        }
        TypeKind::Object(members) => members,
    };
    let side = if def.uses == Use::Taken { Side::Taken } else { Side::Given };
    let (required, optional): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.is_required);
    page.line("");
    if optional.is_empty() || required.is_empty() {
        let total = if required.is_empty() { ", total=False" } else { "" };
        page.line(&format!("class {}(TypedDict{total}):", def.name));
        page.docs("    ", &docs);
        separated(page, members.iter(), side, def.docs.is_empty());
        return;
    }
    // `NotRequired` came with Python 3.11.
    page.line(&format!("class _{}Required(TypedDict):", def.name));
    page.docs("    ", &[vec![format!("What `{}` must have.", def.name)]]);
    separated(page, required.into_iter(), side, false);
    page.line("");
    page.line("");
    page.line(&format!("class {}(_{}Required, total=False):", def.name, def.name));
    page.docs("    ", &docs);
    separated(page, optional.into_iter(), side, def.docs.is_empty());
}

/// Members with an empty line before each, but for the first under a heading.
fn separated<'a>(page: &mut Page, members: impl Iterator<Item = &'a Member>, side: Side, is_first: bool) {
    for (place, item) in members.enumerate() {
        if place > 0 || !is_first {
            page.line("");
        }
        member(page, item, side);
    }
}

/// Whether a value goes to the server or comes from it.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Taken,
    Given,
}

fn member(page: &mut Page, member: &Member, side: Side) {
    page.line(&format!("    {}: {}", member.name, shape(&member.shape, side, "")));
    page.docs("    ", &[paragraph(&member.docs, 10)]);
}

/// The type of a value; types of the document stand behind `prefix`.
fn shape(shape: &Shape, side: Side, prefix: &str) -> String {
    let inner = |of: &Shape| self::shape(of, side, prefix);
    match shape {
        Shape::Any if side == Side::Taken => "object".to_owned(),
        Shape::Any => format!("{prefix}JsonValue"),
        Shape::Null => "None".to_owned(),
        Shape::Text => "str".to_owned(),
        Shape::Integer => "int".to_owned(),
        Shape::Number => "float".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        // bool is an int, and so is every 0 and 1 that a program computes.
        Shape::Flag => "int".to_owned(),
        Shape::Object if side == Side::Taken => "Mapping[str, object]".to_owned(),
        Shape::Object => format!("{prefix}JsonObject"),
        Shape::Map(of) if side == Side::Taken => format!("Mapping[str, {}]", inner(of)),
        Shape::Map(of) => format!("Dict[str, {}]", inner(of)),
        Shape::List(of) if side == Side::Taken => format!("Sequence[{}]", inner(of)),
        Shape::List(of) => format!("List[{}]", inner(of)),
        Shape::Named(name) => format!("{prefix}{name}"),
        Shape::Union(branches) => union(branches, side, prefix),
        Shape::Constant(_) => union(std::slice::from_ref(shape), side, prefix),
    }
}

/// One of these; all constants stand together.
fn union(branches: &[Shape], side: Side, prefix: &str) -> String {
    let mut constants = Vec::new();
    let mut others = Vec::new();
    for branch in branches {
        match branch {
            Shape::Constant(value) => constants.push(value.to_string()),
            other => others.push(shape(other, side, prefix)),
        }
    }
    let literal = (!constants.is_empty()).then(|| format!("Literal[{}]", constants.join(", ")));
    literal.into_iter().chain(others).collect::<Vec<_>>().join(" | ")
}

fn faults(model: &Model) -> String {
    let mut page = Page::default();
    page.line("\"\"\"A class for each fault of the server.\"\"\"\n");
    page.line("from __future__ import annotations\n");
    page.line("from typing import Dict, Type\n");
    page.line("from .errors import FaultError\n");
    page.line("__all__ = [");
    page.line("    \"FAULTS\",");
    for fault in &model.faults {
        page.line(&format!("    \"{}\",", class(fault)));
    }
    page.line("]");
    for fault in &model.faults {
        page.line(&format!("\n\nclass {}(FaultError):", class(fault)));
        page.docs("    ", &[paragraph(&format!("Fault {}: {}", fault.number, fault.message), 10)]);
    }
    page.line("\n\nFAULTS: Dict[int, Type[FaultError]] = {");
    for fault in &model.faults {
        page.line(&format!("    {}: {},", fault.number, class(fault)));
    }
    page.line("}");
    page.line("\"\"\"The class of each fault, by its number.\"\"\"");
    page.0
}

fn class(fault: &Fault) -> String {
    format!("{}Error", fault.name)
}

fn client(model: &Model) -> String {
    let mut page = Page::default();
    let resources: Vec<_> = model.groups.iter().filter(|group| !group.name.is_empty()).collect();
    for group in &resources {
        page.line(&format!("\n\nclass {}:", methods_class(group)));
        page.docs("    ", &[paragraph(&format!("The methods `{}.…` of a `Client`.", group.name), 4)]);
        page.line("\n    def __init__(self, transport: Transport) -> None:");
        page.line("        self._transport = transport");
        group.methods.iter().for_each(|item| method(&mut page, item));
    }
    page.line("\n\nclass Client:");
    page.docs("    ", &CLIENT_DOCS.map(|text| paragraph(text, 4)));
    page.line(CLIENT_START);
    for group in &resources {
        let (field, class) = (snake(&group.name), methods_class(group));
        page.line(&format!("        self.{field} = {class}(self._transport)"));
        page.line(&format!("        \"\"\"The methods `{}.…`.\"\"\"", group.name));
    }
    page.line(CLIENT_END);
    for group in model.groups.iter().filter(|group| group.name.is_empty()) {
        group.methods.iter().for_each(|item| method(&mut page, item));
    }
    let typing = import(&page, &["Dict", "Iterator", "List", "Mapping", "Sequence"]);
    format!("\"\"\"The client.\"\"\"\n\n{FUTURE}\nimport ssl\n{typing}{CLIENT_IMPORTS}{}", page.0)
}

/// The import of those names of `typing` that the page has.
fn import(page: &Page, names: &[&str]) -> String {
    let has = |name: &str| page.0.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == name);
    let used: Vec<_> = names.iter().copied().filter(|name| has(name)).collect();
    format!("from typing import {}\n", used.join(", "))
}

const FUTURE: &str = "from __future__ import annotations\n";

const CLIENT_IMPORTS: &str = "
from . import types
from ._transport import Cancellation, Transport, present
from .faults import FAULTS
";

const CLIENT_DOCS: [&str; 4] = [
    "A server, as one user of it sees it.",
    "It logs in with the first call, again when the session has expired, and ends its session in `close`, which a \
     `with` statement calls. Threads may share it.",
    "Every method takes a `timeout` in seconds, for the whole call, in place of the client's; and a `cancellation`, by \
     which another thread can break it off.",
    "Give `retries` to have a publish with an `idempotency_key` repeated up to so many times when its answer was \
     lost; nothing else is ever repeated. `tls` is for servers whose certificate the system does not know.",
];

const CLIENT_START: &str = "
    def __init__(
        self,
        url: str,
        username: str,
        api_key: str,
        *,
        timeout: float = 30.0,
        retries: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._transport = Transport(url, username, api_key, timeout, retries, tls, FAULTS)";

const CLIENT_END: &str = "
    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        \"\"\"Ends the session and closes the connections.

        The client may be used again: the next call logs in anew.
        \"\"\"
        self._transport.close()

    def call(
        self,
        path: str,
        args: Sequence[object] = (),
        *,
        timeout: float | None = None,
        cancellation: Cancellation | None = None,
    ) -> types.JsonValue:
        \"\"\"Calls a method by its path, such as one that is newer than this package.

        Args:
            path: The method, such as `webhook.list`.
            args: Its arguments in their order.
        \"\"\"
        params: Dict[str, object] = {\"path\": path, \"args\": list(args)}
        return self._transport.call(\"call\", params, timeout, cancellation)";

fn methods_class(group: &Group) -> String {
    format!("{}Methods", pascal(&group.name))
}

fn method(page: &mut Page, method: &Method) {
    let result = shape(&method.result, Side::Given, TYPES);
    let name = word(method.verb());
    signature(page, method, &name, &result);
    page.docs("        ", &docs(method, &method.docs));
    let mut sent: Vec<_> =
        method.required.iter().map(|param| format!("{:?}: {}", param.name, word(&param.name))).collect();
    sent.extend(method.flag.iter().map(|flag| format!("{flag:?}: True")));
    let given = |is_in_options: bool| {
        let optional = method.optional.iter().filter(move |optional| optional.is_in_options == is_in_options);
        let pairs = optional.map(|optional| format!("{:?}: {}", optional.member.name, word(&optional.member.name)));
        let pairs: Vec<_> = pairs.collect();
        let line = format!("present({{{}}})", pairs.join(", "));
        if line.len() <= WIDTH - 30 {
            line
        } else {
            format!("present(\n                {{\n{}                }}\n            )", lines(&pairs))
        }
    };
    if method.optional.iter().any(|optional| !optional.is_in_options) {
        sent.push(format!("**{}", given(false)));
    }
    if method.has_bag() {
        sent.push(format!("\"options\": {}", given(true)));
    }
    let line = format!("        params: Dict[str, object] = {{{}}}", sent.join(", "));
    if line.len() <= WIDTH {
        page.line(&line);
    } else {
        page.line("        params: Dict[str, object] = {");
        sent.iter().for_each(|item| page.line(&format!("            {item},")));
        page.line("        }");
    }
    let (call, arguments) = ("self._transport.call", format!("{:?}, params, timeout, cancellation", method.name));
    let line = format!("        result: {result} = {call}({arguments})");
    if line.len() <= WIDTH {
        page.line(&line);
    } else {
        page.line(&format!("        result: {result} = {call}(\n            {arguments}\n        )"));
    }
    page.line("        return result");
    if let Some(paging) = &method.paging {
        list_all(page, method, paging);
    }
}

/// A member of an object on a line of its own, each.
fn lines(pairs: &[String]) -> String {
    pairs.iter().map(|pair| format!("                    {pair},\n")).collect()
}

fn signature(page: &mut Page, method: &Method, name: &str, result: &str) {
    page.line("");
    page.line(&format!("    def {name}("));
    page.line("        self,");
    for param in &method.required {
        page.line(&format!("        {}: {},", word(&param.name), shape(&param.shape, Side::Taken, TYPES)));
    }
    page.line("        *,");
    for optional in &method.optional {
        page.line(&format!("        {}: {} = None,", word(&optional.member.name), or_none(&optional.member.shape)));
    }
    page.line("        timeout: float | None = None,");
    page.line("        cancellation: Cancellation | None = None,");
    page.line(&format!("    ) -> {result}:"));
}

/// The type of what may be left out, which `None` says.
fn or_none(shape: &Shape) -> String {
    let kind = self::shape(shape, Side::Taken, TYPES);
    let is_nullable = matches!(shape, Shape::Union(branches) if branches.contains(&Shape::Null));
    // Any object may be None, but this says that it may be left out.
    if is_nullable { kind } else { format!("{kind} | None") }
}

fn docs(method: &Method, says: &[String]) -> Vec<Vec<String>> {
    let mut docs: Vec<_> = says.iter().map(|text| paragraph(text, 12)).collect();
    let optional = method.optional.iter().map(|optional| &optional.member);
    let entries = method.required.iter().chain(optional).map(|param| (word(&param.name), param.docs.clone()));
    docs.push(section("Args", &entries.collect::<Vec<_>>(), 8));
    let faults = method.faults.iter().map(|fault| (class(fault), format!("Fault {}.", fault.number)));
    docs.push(section("Raises", &faults.collect::<Vec<_>>(), 8));
    docs
}

fn list_all(page: &mut Page, method: &Method, paging: &Paging) {
    let name = snake(method.verb());
    let item = shape(&paging.item, Side::Given, TYPES);
    signature(page, method, &format!("{name}_all"), &format!("Iterator[{item}]"));
    let says = format!(
        "All that `{name}` would list, one after the other. It asks for the next page, of `limit` items or 100, when \
         the last one has been read; `timeout` is for each page."
    );
    page.docs("        ", &docs(method, &[says]));
    page.line("        count = 100 if limit is None else limit");
    page.line("        while True:");
    page.line(&format!("            page = self.{name}("));
    for param in &method.required {
        page.line(&format!("                {},", word(&param.name)));
    }
    for optional in &method.optional {
        let name = word(&optional.member.name);
        let value = if name == "limit" { "count" } else { &name };
        page.line(&format!("                {name}={value},"));
    }
    page.line("                timeout=timeout,");
    page.line("                cancellation=cancellation,");
    page.line("            )");
    page.line("            yield from page");
    page.line("            if not page:");
    page.line("                return");
    page.line(&format!("            {} = page[-1][{:?}]", paging.cursor, paging.key));
}

/// A name of the wire as a parameter or a method.
fn word(name: &str) -> String {
    let name = snake(name);
    if TAKEN_WORDS.contains(&name.as_str()) { format!("{name}_") } else { name }
}
