//! A message as XML, as the format 3dcart has it: members become
//! elements under their keys, in the order in which they were published, and
//! what is in a list `<Item>`; null and what is empty are empty elements.

mod names;

use std::fmt;
use std::io;

use quick_xml::Writer;
use quick_xml::escape::escape;
use quick_xml::events::{BytesDecl, BytesText, Event};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use self::names::{is_name, is_name_start};

/// How deep elements lie within each other. A message may be as deep as it is
/// long, and each level is read once more; what lies deeper stands as JSON.
const DEPTH_MAX: usize = 32;

type Xml = Writer<Bounded>;

/// Takes so many bytes, and no more.
struct Bounded {
    bytes: Vec<u8>,
    max: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if more.len() > self.max - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `<ArrayOfOrder><Order>…</Order></ArrayOfOrder>`, of a message whose topic's
/// resource is `order`. `message` is the text of a JSON object. `None` if it
/// would be longer than `bytes_max`.
pub fn document(resource: &str, message: &str, bytes_max: usize) -> Option<Vec<u8>> {
    let resource = pascal_case(resource);
    let mut xml = Writer::new(Bounded { bytes: Vec::new(), max: bytes_max });
    let write = |xml: &mut Xml| {
        xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("utf-8"), None)))?;
        let root = xml.create_element(element_name(&format!("ArrayOf{resource}")));
        root.write_inner_content(|xml| write_value(xml, &element_name(&resource), message, DEPTH_MAX)).map(drop)
    };
    match write(&mut xml) {
        Ok(()) => Some(xml.into_inner().bytes),
        Err(cause) if cause.kind() == io::ErrorKind::FileTooLarge => None,
        Err(cause) => unreachable!("a message is JSON: {cause}"),
    }
}

/// Writes a value, given as its JSON text, as an element of that name, with
/// elements in it as deep as `depth`.
fn write_value(xml: &mut Xml, name: &str, json: &str, depth: usize) -> io::Result<()> {
    let element = |xml: &mut Xml, is_empty: bool, write: &dyn Fn(&mut Xml) -> io::Result<()>| {
        let element = xml.create_element(name);
        if is_empty { element.write_empty().map(drop) } else { element.write_inner_content(write).map(drop) }
    };
    let write_text = |xml: &mut Xml, text: &str| {
        // A reader takes a bare carriage return for a line feed.
        let escaped = escape(text).replace('\r', "&#13;");
        element(xml, text.is_empty(), &|xml| xml.write_event(Event::Text(BytesText::from_escaped(escaped.as_str()))))
    };
    match json.as_bytes()[0] {
        b'{' | b'[' if depth == 0 => write_text(xml, &without_alien(json)),
        b'{' => {
            let Members(members) = serde_json::from_str(json)?;
            element(xml, members.is_empty(), &|xml| {
                let mut members = members.iter();
                members.try_for_each(|(Text(key), value)| write_value(xml, &element_name(key), value.get(), depth - 1))
            })
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(json)?;
            element(xml, items.is_empty(), &|xml| {
                items.iter().try_for_each(|item| write_value(xml, "Item", item.get(), depth - 1))
            })
        }
        b'"' => {
            let Text(text) = serde_json::from_str(json)?;
            write_text(xml, &without_alien(&text))
        }
        b'n' => write_text(xml, ""),
        // Booleans, and numbers as they were written.
        _ => write_text(xml, json),
    }
}

/// `product_media` as `ProductMedia`.
fn pascal_case(resource: &str) -> String {
    let mut name = String::with_capacity(resource.len());
    for word in resource.split(['_', '.', '-']) {
        // A topic's words are ASCII.
        let (first, rest) = word.split_at(word.len().min(1));
        name += &first.to_ascii_uppercase();
        name += rest;
    }
    name
}

/// A key as the name of an element: characters that such a name can't hold
/// are written `_xHHHH_`, or `_xHHHHHHHH_` beyond U+FFFF, as is an underscore
/// that would read as one of these. `XmlConvert.DecodeName` of .NET undoes it.
fn element_name(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    for (at, c) in key.char_indices() {
        let is_allowed = if at == 0 { is_name_start(c) } else { is_name(c) };
        if is_allowed && !(c == '_' && reads_as_escape(&key[at..])) {
            name.push(c);
        } else if c <= '\u{ffff}' {
            name += &format!("_x{:04X}_", u32::from(c));
        } else {
            name += &format!("_x{:08X}_", u32::from(c));
        }
    }
    // An element has a name, also where the key is empty.
    if name.is_empty() { "_".to_owned() } else { name }
}

/// True of text that begins like `_x0020_` or `_x0001F98A_`.
fn reads_as_escape(text: &str) -> bool {
    let rest = text.strip_prefix("_x").or_else(|| text.strip_prefix("_X"));
    let hex = rest.and_then(|rest| rest.split_once('_')).map(|(hex, _)| hex);
    hex.is_some_and(|hex| matches!(hex.len(), 4 | 8) && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn without_alien(text: &str) -> String {
    text.replace(|c| !is_xml(c), "\u{fffd}")
}

/// What a document may hold at all (XML 1.0 §2.2).
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The members of an object, in their order.
struct Members<'a>(Vec<(Text, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(Text, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    members.push((serde_json::from_str(key.get()).map_err(A::Error::custom)?, value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(InOrder).map(Members)
    }
}

/// A string, in which halves of a surrogate pair that stand alone, which JSON
/// allows, are replaced.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lossy;
        impl Visitor<'_> for Lossy {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<String, E> {
                Ok(String::from_utf8_lossy(bytes).into_owned())
            }
        }
        deserializer.deserialize_bytes(Lossy).map(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fuzz;

    fn written(resource: &str, message: &str) -> String {
        let text = String::from_utf8(document(resource, message, usize::MAX).unwrap()).unwrap();
        text.strip_prefix(r#"<?xml version="1.0" encoding="utf-8"?>"#).unwrap().to_owned()
    }

    fn order(message: &str) -> String {
        let text = written("order", message);
        text.strip_prefix("<ArrayOfOrder>").and_then(|text| text.strip_suffix("</ArrayOfOrder>")).unwrap().to_owned()
    }

    #[test]
    fn members_become_elements() {
        let message = r#"{"OrderID": 7, "Total": 1.00, "Paid": true, "Note": null, "To": {"City": "Köln & Bonn"},
            "Items": [{"Sku": "a<b"}, "x", []], "OrderID": 1e400}"#;
        let expected = "<Order><OrderID>7</OrderID><Total>1.00</Total><Paid>true</Paid><Note/>\
            <To><City>Köln &amp; Bonn</City></To><Items><Item><Sku>a&lt;b</Sku></Item><Item>x</Item><Item/></Items>\
            <OrderID>1e400</OrderID></Order>";
        assert_eq!(order(message), expected);
        assert_eq!(order("{}"), "<Order/>");
    }

    #[test]
    fn the_resource_names_the_root() {
        for (resource, root, element) in [
            ("product_media", "ArrayOfProductMedia", "ProductMedia"),
            ("a.bC-d", "ArrayOfABCD", "ABCD"),
            ("3d", "ArrayOf3d", "_x0033_d"),
            ("_", "ArrayOf", "_"),
        ] {
            assert_eq!(written(resource, "{}"), format!("<{root}><{element}/></{root}>"));
        }
    }

    #[test]
    fn keys_that_are_no_names_are_escaped() {
        for (key, name) in [
            ("a b", "a_x0020_b"),
            ("1st", "_x0031_st"),
            ("a:b", "a_x003A_b"),
            ("größe", "größe"),
            ("_x0020_", "_x005F_x0020_"),
            ("_X0020_", "_x005F_X0020_"),
            ("_x0001f98a_", "_x005F_x0001f98a_"),
            ("_x20_", "_x20_"),
            ("_x12345_", "_x12345_"),
            // Letters of newer Unicode, and what lies beyond U+FFFF, are in no name that all readers take.
            ("ĳ", "_x0133_"),
            ("aꭰ", "a_xAB70_"),
            ("\u{1f98a}", "_x0001F98A_"),
            ("a\u{20000}b", "a_x00020000_b"),
            ("", "_"),
            ("\\u0000", "_x0000_"),
            ("\\ud800", "_xFFFD__xFFFD__xFFFD_"),
        ] {
            assert_eq!(order(&format!(r#"{{"{key}":1}}"#)), format!("<Order><{name}>1</{name}></Order>"));
        }
    }

    #[test]
    fn text_holds_what_xml_can() {
        let text = |json: &str| order(&format!(r#"{{"a":"{json}"}}"#));
        assert_eq!(text(r"1\r\n2\t"), "<Order><a>1&#13;\n2\t</a></Order>");
        assert_eq!(text(r"\u0000\uffff\ud800"), format!("<Order><a>{}</a></Order>", "\u{fffd}".repeat(5)));
        assert_eq!(text("]]>"), "<Order><a>]]&gt;</a></Order>");
    }

    #[test]
    fn what_lies_deep_stands_as_json() {
        let nested = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        let items = |levels: usize| "<Item>".repeat(levels - 1) + "<Item/>" + &"</Item>".repeat(levels - 1);
        // The object is one level, and each list another.
        let lists = DEPTH_MAX - 1;
        assert_eq!(order(&nested(lists)), format!("<Order><a>{}</a></Order>", items(lists - 1)));
        let deeper = order(&nested(lists + 1));
        assert!(deeper.contains("<Item>[]</Item>"), "{deeper}");
        assert!(order(&nested(500_000)).contains(&format!("<Item>{}", "[".repeat(500_000 - lists))));
    }

    /// Every message gives a document that a reader takes.
    #[test]
    fn fuzz_xml() {
        const WORDS: &[&str] =
            &["{\"a\":", "}", "[", "]", "\"", "\":\"", ",", "\\u0000", "\\ud800", "null", "1.0", "&", "<a>", "_x0020_"];
        fuzz::texts(WORDS, |text| {
            // What is no message makes one as a text in it.
            let message = match serde_json::from_str::<&RawValue>(text) {
                Ok(raw) if raw.get().starts_with('{') => raw.get().to_owned(),
                _ => serde_json::json!({ text: [text] }).to_string(),
            };
            let document = document("order", &message, usize::MAX).unwrap();
            let mut reader = quick_xml::Reader::from_reader(document.as_slice());
            reader.config_mut().check_end_names = true;
            while reader.read_event().unwrap() != Event::Eof {}
        });
    }
}
