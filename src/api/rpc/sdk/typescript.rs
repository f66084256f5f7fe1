//! Prints TypeScript.

use super::model::{Fault, Group, Member, Method, Model, Paging, Shape, TypeDef, TypeKind, Use};
use super::words::{JOINT, camel, listed, pascal, wrap};

/// How wide comments may be.
const WIDTH: usize = 100;
/// Where the client finds the types of the document.
const TYPES: &str = "types.";
/// Those of `json.ts`.
const JSON_TYPES: [&str; 3] = ["JsonObject", "JsonObjectInput", "JsonValue"];
/// Above each printed file.
const HEADER: &str = "// Made by `tallyhook sdk` from the server's own description; changes belong there.\n";

/// The files that depend on the document.
pub fn files(model: &Model) -> Vec<(String, String)> {
    let file = |name: &str, text: String| (format!("src/{name}.ts"), format!("{HEADER}\n{text}"));
    vec![file("client", client(model)), file("faults", faults(model)), file("types", types(model))]
}

/// A text that grows.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// True if the page has this word.
    fn uses(&self, word: &str) -> bool {
        self.0.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|found| found == word)
    }

    /// A comment of several paragraphs; nothing, if all are empty.
    fn docs(&mut self, indent: &str, paragraphs: &[String]) {
        let width = WIDTH - indent.len() - 3;
        let mut lines: Vec<String> = Vec::new();
        for paragraph in paragraphs.iter().filter(|paragraph| !paragraph.trim().is_empty()) {
            if !lines.is_empty() && !paragraph.starts_with('@') {
                lines.push(String::new());
            }
            lines.extend(wrap(&paragraph.replace("*/", "*\u{200b}/"), width));
        }
        match lines.as_slice() {
            [] => {}
            [line] if line.chars().count() + 4 <= width => self.line(&format!("{indent}/** {line} */")),
            lines => {
                self.line(&format!("{indent}/**"));
                for line in lines {
                    self.line(format!("{indent} * {line}").trim_end());
                }
                self.line(&format!("{indent} */"));
            }
        }
    }
}

fn types(model: &Model) -> String {
    let mut page = Page::default();
    for def in &model.types {
        page.line("");
        type_def(&mut page, def);
    }
    for method in model.groups.iter().flat_map(|group| &group.methods).filter(|method| !method.optional.is_empty()) {
        page.line("");
        page.docs("", &[format!("What may be said besides in `{}`.", method.name)]);
        page.line(&format!("export interface {}Options extends CallOptions {{", method.type_name()));
        for optional in &method.optional {
            member(&mut page, &optional.member, Side::Taken);
        }
        page.line("}");
    }
    let options = page.uses("CallOptions").then_some("import type { CallOptions } from \"./transport.js\";\n");
    format!("{}{}{}", options.unwrap_or_default(), json_import(&page), page.0)
}

/// The import of those types of JSON that the page names.
fn json_import(page: &Page) -> String {
    let used: Vec<_> = JSON_TYPES.into_iter().filter(|name| page.uses(name)).collect();
    if used.is_empty() {
        return String::new();
    }
    format!("import type {{ {} }} from \"./json.js\";\n", used.join(", "))
}

fn type_def(page: &mut Page, def: &TypeDef) {
    page.docs("", std::slice::from_ref(&def.docs));
    match &def.kind {
        TypeKind::Enumeration(values) => {
            let values: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
            let line = format!("export type {} = {};", def.name, values.join(" | "));
            let broken = format!("  {};", values.join(" | "));
            if line.len() <= WIDTH {
                page.line(&line);
            } else if broken.len() <= WIDTH {
                page.line(&format!("export type {} =\n{broken}", def.name));
            } else {
                page.line(&format!("export type {} =\n  | {};", def.name, values.join("\n  | ")));
            }
        }
        TypeKind::Object(members) => {
            page.line(&format!("export interface {} {{", def.name));
            for item in members {
                member(page, item, if def.uses == Use::Taken { Side::Taken } else { Side::Given });
            }
            page.line("}");
        }
    }
}

/// Whether a value goes to the server or comes from it.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Taken,
    Given,
}

fn member(page: &mut Page, member: &Member, side: Side) {
    page.docs("  ", std::slice::from_ref(&member.docs));
    let kind = shape(&member.shape, side, "");
    if member.is_required {
        page.line(&format!("  {}: {kind};", member.name));
    } else {
        page.line(&format!("  {}?: {kind} | undefined;", member.name));
    }
}

/// The type of a value; types of the document stand behind `prefix`.
fn shape(shape: &Shape, side: Side, prefix: &str) -> String {
    match shape {
        Shape::Any if side == Side::Taken => "unknown".to_owned(),
        Shape::Any => "JsonValue".to_owned(),
        Shape::Null => "null".to_owned(),
        Shape::Text => "string".to_owned(),
        Shape::Integer | Shape::Number => "number".to_owned(),
        Shape::Boolean => "boolean".to_owned(),
        Shape::Flag => "0 | 1 | boolean".to_owned(),
        Shape::Object if side == Side::Taken => "JsonObjectInput".to_owned(),
        Shape::Object => "JsonObject".to_owned(),
        Shape::Map(of) => format!("Readonly<Record<string, {}>>", self::shape(of, side, prefix)),
        Shape::List(of) => {
            let item = self::shape(of, side, prefix);
            let item = if item.contains(" | ") { format!("({item})") } else { item };
            if side == Side::Taken { format!("readonly {item}[]") } else { format!("{item}[]") }
        }
        Shape::Named(name) => format!("{prefix}{name}"),
        Shape::Union(branches) => {
            let branches: Vec<_> = branches.iter().map(|branch| self::shape(branch, side, prefix)).collect();
            branches.join(" | ")
        }
        Shape::Constant(value) => value.to_string(),
    }
}

fn faults(model: &Model) -> String {
    let mut page = Page::default();
    page.line("import { FaultError } from \"./errors.js\";");
    for fault in &model.faults {
        page.line("");
        page.docs("", &[format!("Fault {}: {}", fault.number, fault.message)]);
        page.line(&format!("export class {} extends FaultError {{", class(fault)));
        page.line(&format!("  override readonly name: string = {:?};", class(fault)));
        page.line("}");
    }
    page.line("");
    page.docs("", &["The class of each fault, by its number.".to_owned()]);
    page.line("export const FAULTS: ReadonlyMap<number, typeof FaultError> = new Map<number, typeof FaultError>([");
    for fault in &model.faults {
        page.line(&format!("  [{}, {}],", fault.number, class(fault)));
    }
    page.line("]);");
    page.0
}

fn class(fault: &Fault) -> String {
    format!("{}Error", fault.name)
}

fn client(model: &Model) -> String {
    let mut page = Page::default();
    page.line("import { FAULTS } from \"./faults.js\";");
    let subscribing: Vec<_> = model.groups.iter().filter(|group| group.subscription.is_some()).collect();
    if !subscribing.is_empty() {
        page.line("import {");
        for group in &subscribing {
            let name = pascal(&group.name);
            page.line(&format!("  type {name}News,\n  type {name}SubscribeOptions,\n  follow{name},"));
        }
        page.line("} from \"./subscriptions.js\";");
    }
    page.line("import { type CallOptions, type ClientOptions, Transport } from \"./transport.js\";");
    page.line("import type * as types from \"./types.js\";");
    page.line("");
    let example = [
        "A server, as one user of it sees it. It logs in with the first call, again when the session has expired, \
         and ends its session in `close`.",
        "Integers beyond 2^53 in messages lose their last digits, as everywhere in JavaScript; ids and numbers of the \
         server stay far below.",
    ];
    page.docs("", &example.map(str::to_owned));
    page.line("export class Client {");
    page.line("  readonly #transport: Transport;");
    let resources: Vec<_> = model.groups.iter().filter(|group| !group.name.is_empty()).collect();
    for group in &resources {
        page.docs("  ", &[format!("The methods `{}.…`.", group.name)]);
        page.line(&format!("  readonly {}: {};", camel(&group.name), methods_class(group)));
    }
    page.line("");
    page.line("  constructor(options: ClientOptions) {");
    page.line("    this.#transport = new Transport(options, FAULTS);");
    for group in &resources {
        let (field, class) = (camel(&group.name), methods_class(group));
        page.line(&format!("    this.{field} = new {class}(this.#transport);"));
    }
    page.line("  }");
    page.line("");
    page.docs("  ", &["Ends the session. The client may be used again: the next call logs in anew.".to_owned()]);
    page.line("  close(options: CallOptions = {}): Promise<void> {");
    page.line("    return this.#transport.close(options);");
    page.line("  }");
    page.line(CALL);
    for group in model.groups.iter().filter(|group| group.name.is_empty()) {
        group.methods.iter().for_each(|item| method(&mut page, item));
    }
    page.line("}");
    for group in resources {
        page.line("");
        page.docs("", &[format!("The methods `{}.…` of a {{@link Client}}.", group.name)]);
        page.line(&format!("export class {} {{", methods_class(group)));
        page.line("  readonly #transport: Transport;");
        page.line("");
        page.docs("  ", &["@internal".to_owned()]);
        page.line("  constructor(transport: Transport) {");
        page.line("    this.#transport = transport;");
        page.line("  }");
        group.methods.iter().for_each(|item| method(&mut page, item));
        if let Some(summary) = &group.subscription {
            subscribe(&mut page, &pascal(&group.name), summary);
        }
        page.line("}");
    }
    format!("{}{}", json_import(&page), page.0)
}

const CALL: &str = "
  /**
   * Calls a method by its path, such as one that is newer than this package.
   * @param path - The method, such as `webhook.list`.
   * @param args - Its arguments in their order.
   */
  call(path: string, args: readonly unknown[] = [], options: CallOptions = {}): Promise<JsonValue> {
    return this.#transport.call(\"call\", { path, args }, options);
  }";

fn methods_class(group: &Group) -> String {
    format!("{}Methods", pascal(&group.name))
}

fn method(page: &mut Page, method: &Method) {
    page.line("");
    let name = camel(method.verb());
    let mut docs = method.docs.clone();
    docs.extend(method.required.iter().map(|param| format!("@param {} - {}", camel(&param.name), param.docs)));
    docs.extend(throws(method));
    page.docs("  ", &docs);
    let result = shape(&method.result, Side::Given, TYPES);
    signature(page, method, &name, &format!("Promise<{result}>"));
    let mut sent: Vec<_> = method.required.iter().map(sent).collect();
    sent.extend(method.flag.iter().map(|flag| format!("{flag}: true")));
    let told = if method.optional.is_empty() {
        "options"
    } else {
        page.line("    const { signal, timeoutMs, ...given } = options;");
        sent.push(if method.has_bag() { "options: given".to_owned() } else { "...given".to_owned() });
        "{ signal, timeoutMs }"
    };
    let arguments = [format!("{:?}", method.name), object(&sent), told.to_owned()];
    let line = format!("    return this.#transport.call({});", arguments.join(", "));
    if line.len() <= WIDTH {
        page.line(&line);
    } else {
        page.line("    return this.#transport.call(");
        arguments.iter().for_each(|argument| page.line(&format!("      {argument},")));
        page.line("    );");
    }
    page.line("  }");
    if let Some(paging) = &method.paging {
        list_all(page, method, paging);
    }
}

fn list_all(page: &mut Page, method: &Method, paging: &Paging) {
    let (name, item) = (camel(method.verb()), shape(&paging.item, Side::Given, TYPES));
    page.line("");
    let says = format!(
        "All that `{name}` would list, one after the other: it asks for the next page, of `limit` items or 100, when \
         the last one has been read."
    );
    let mut docs = vec![says];
    docs.extend(method.required.iter().map(|param| format!("@param {} - {}", camel(&param.name), param.docs)));
    docs.extend(throws(method));
    page.docs("  ", &docs);
    let (cursor, key) = (&paging.cursor, &paging.key);
    signature(page, method, &format!("async *{name}All"), &format!("AsyncGenerator<{item}, void, undefined>"));
    page.line("    const limit = options.limit ?? 100;");
    page.line(&format!("    let {cursor} = options.{cursor};"));
    page.line("    for (;;) {");
    let arguments: Vec<_> = method.required.iter().map(|param| camel(&param.name)).collect();
    let given = format!("{{ ...options, limit, {cursor} }}");
    let arguments = arguments.into_iter().chain([given]).collect::<Vec<_>>().join(", ");
    page.line(&format!("      const page = await this.{name}({arguments});"));
    page.line("      yield* page;");
    page.line("      const last = page.at(-1);");
    page.line("      if (last === undefined) return;");
    page.line(&format!("      {cursor} = last.{key};"));
    page.line("    }");
    page.line("  }");
}

/// The rest is in the template `subscriptions.ts`.
fn subscribe(page: &mut Page, name: &str, summary: &str) {
    page.line("");
    // What it returns is the package's business here.
    let summary = summary.split("; returns").next().unwrap_or(summary).trim_end_matches('.');
    let says = "A connection that is lost is made again, and goes on after the last number. It ends with the loop \
                over it, with `signal`, or with the fault by which the server ends it.";
    page.docs("  ", &[format!("{summary}, over a WebSocket."), says.to_owned()]);
    let iterator = format!("AsyncGenerator<{name}News, void, undefined>");
    page.line(&format!("  subscribe(options: {name}SubscribeOptions = {{}}): {iterator} {{"));
    page.line(&format!("    return follow{name}(this.#transport, options);"));
    page.line("  }");
}

/// What stands before the body, on a line or several.
fn signature(page: &mut Page, method: &Method, name: &str, result: &str) {
    let required = method.required.iter();
    let mut params: Vec<_> =
        required.map(|param| format!("{}: {}", camel(&param.name), shape(&param.shape, Side::Taken, TYPES))).collect();
    let options = match method.optional.as_slice() {
        [] => "CallOptions".to_owned(),
        [..] => format!("types.{}Options", method.type_name()),
    };
    params.push(format!("options: {options} = {{}}"));
    let line = format!("  {name}({}): {result} {{", params.join(", "));
    if line.len() <= WIDTH {
        page.line(&line);
        return;
    }
    page.line(&format!("  {name}("));
    params.iter().for_each(|param| page.line(&format!("    {param},")));
    page.line(&format!("  ): {result} {{"));
}

fn sent(param: &Member) -> String {
    let value = camel(&param.name);
    if value == param.name { value } else { format!("{}: {value}", param.name) }
}

fn object(members: &[String]) -> String {
    match members {
        [] => "{}".to_owned(),
        [all] if all == "...given" => "given".to_owned(),
        members => format!("{{ {} }}", members.join(", ")),
    }
}

fn throws(method: &Method) -> Option<String> {
    let faults: Vec<_> =
        method.faults.iter().map(|fault| format!("{}{JOINT}({})", class(fault), fault.number)).collect();
    (!faults.is_empty()).then(|| format!("@throws {}.", listed(&faults)))
}
