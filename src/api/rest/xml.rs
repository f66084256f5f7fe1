//! Bodies in XML: flat ones to read, rows to write. A body that is no flat list
//! of elements is refused, as is one that declares a document type: nothing is
//! ever expanded or fetched.

use quick_xml::Reader;
use quick_xml::Writer;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, BytesText, Event};
use serde_json::{Map, Value};

/// The media type of what is written.
pub const MEDIA: &str = "application/xml; charset=utf-8";
const DECLARATION: &str = r#"<?xml version="1.0" encoding="utf-8"?>"#;
/// The most elements in a body.
const ELEMENTS_MAX: usize = 100;

/// Reads `<Root><Name>text</Name>…</Root>` as an object of texts. Fails with
/// what is wrong with it.
pub fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader::from_str(text.trim());
    let mut members = Map::new();
    let (mut depth, mut name, mut value) = (0, String::new(), String::new());
    let mut is_over = false;
    loop {
        let event = reader.read_event().map_err(|cause| cause.to_string())?;
        match event {
            Event::DocType(_) => return Err("it declares a document type".to_owned()),
            Event::Start(_) | Event::Empty(_) if is_over => return Err("something follows its root".to_owned()),
            Event::Start(start) => {
                depth += 1;
                match depth {
                    1 => {}
                    2 => (name, value) = (new_name(&start, &members)?, String::new()),
                    _ => return Err(format!("{name} has elements in it; it must be a text")),
                }
            }
            Event::Empty(empty) if depth == 1 => {
                // How .NET writes null.
                let is_nil = empty.attributes().flatten().any(|attribute| {
                    attribute.key.local_name().as_ref() == "nil" && matches!(attribute.value.as_ref(), "true" | "1")
                });
                let value = if is_nil { Value::Null } else { Value::String(String::new()) };
                members.insert(new_name(&empty, &members)?, value);
            }
            Event::Empty(_) if depth == 0 => is_over = true,
            Event::Empty(_) => return Err(format!("{name} has elements in it; it must be a text")),
            Event::End(_) => {
                if depth == 2 {
                    members.insert(std::mem::take(&mut name), Value::String(std::mem::take(&mut value)));
                }
                depth -= 1;
                is_over = depth == 0;
            }
            Event::Text(text) if depth == 2 => value += &text.xml10_content(),
            Event::CData(text) if depth == 2 => value += &text.xml10_content(),
            Event::Text(text) if !text.trim().is_empty() => {
                return Err("a text stands between its elements".to_owned());
            }
            Event::GeneralRef(reference) if depth == 2 => {
                let character = reference.resolve_char_ref().map_err(|cause| cause.to_string())?;
                let entity = reference.xml10_content();
                match (character, resolve_predefined_entity(&entity)) {
                    (Some(character), _) => value.push(character),
                    (None, Some(text)) => value += text,
                    (None, None) => return Err(format!("it has an unknown entity, &{entity};")),
                }
            }
            Event::GeneralRef(_) => return Err("an entity stands between its elements".to_owned()),
            Event::Eof if is_over => return Ok(Value::Object(members)),
            Event::Eof => return Err("it ends too soon".to_owned()),
            Event::Text(_) | Event::CData(_) | Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
        }
    }
}

/// The name of an element, which has to be the first of that name.
fn new_name(element: &BytesStart<'_>, members: &Map<String, Value>) -> Result<String, String> {
    let name = element.local_name().as_ref().to_owned();
    if members.len() >= ELEMENTS_MAX {
        Err(format!("it has more than {ELEMENTS_MAX} elements"))
    } else if members.contains_key(&name) {
        Err(format!("it has {name} twice"))
    } else {
        Ok(name)
    }
}

/// Writes rows as `<ArrayOfItem><Item>…</Item>…</ArrayOfItem>`, and a single
/// one as `<Item>…</Item>`.
pub fn write(item: &str, value: &Value) -> Vec<u8> {
    match value {
        Value::Array(rows) => {
            let rows = rows.iter().flat_map(|row| self::row(item, row));
            list_begin(item).into_bytes().into_iter().chain(rows).chain(list_end(item).into_bytes()).collect()
        }
        row => [DECLARATION.as_bytes(), &self::row(item, row)].concat(),
    }
}

/// What stands before the rows of a list.
pub fn list_begin(item: &str) -> String {
    format!("{DECLARATION}<ArrayOf{item}>")
}

/// What stands behind them.
pub fn list_end(item: &str) -> String {
    format!("</ArrayOf{item}>")
}

/// Writes a row of a list.
pub fn row(item: &str, row: &Value) -> Vec<u8> {
    let mut xml = Writer::new(Vec::new());
    write_row(&mut xml, item, row).expect("memory takes every byte");
    xml.into_inner()
}

fn write_row(xml: &mut Writer<Vec<u8>>, item: &str, row: &Value) -> std::io::Result<()> {
    let members = row.as_object();
    xml.create_element(item).write_inner_content(|xml| {
        members.into_iter().flatten().try_for_each(|(name, value)| {
            let text = match value {
                Value::String(text) => text.chars().map(|c| if is_xml(c) { c } else { '\u{fffd}' }).collect(),
                other => other.to_string(),
            };
            xml.create_element(name.as_str()).write_text_content(BytesText::new(&text)).map(drop)
        })
    })?;
    Ok(())
}

/// True of what XML 1.0 can hold (§2.2).
fn is_xml(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flat_bodies_are_read() {
        let body = r#"<?xml version="1.0"?><!-- x --><WebhookPOST xmlns:i="http://www.w3.org/2001/XMLSchema-instance">
            <Name>a &amp; b &#65;<![CDATA[<c>]]></Name><Url/><Enabled>true</Enabled></WebhookPOST> "#;
        assert_eq!(read(body), Ok(json!({"Name": "a & b A<c>", "Url": "", "Enabled": "true"})));
        assert_eq!(read("<A/>"), Ok(json!({})));
        let nil =
            r#"<A xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><Id i:nil="true"/><Name i:nil="false"/></A>"#;
        assert_eq!(read(nil), Ok(json!({"Id": null, "Name": ""})));
    }

    #[test]
    fn the_rest_is_refused() {
        let elements: String = (0..101).map(|n| format!("<B{n}>1</B{n}>")).collect();
        let many = format!("<A>{elements}</A>");
        for (body, problem) in [
            ("", "ends too soon"),
            ("x", "between its elements"),
            ("<A><B>1</B>", "ends too soon"),
            ("<A><B>1</A></B>", "expected"),
            ("<A><B><C>1</C></B></A>", "B has elements in it"),
            ("<A><B><C/></B></A>", "B has elements in it"),
            ("<A/><B/>", "something follows its root"),
            ("<A><B>1</B><B/></A>", "it has B twice"),
            ("<A>text</A>", "between its elements"),
            (r#"<!DOCTYPE a [<!ENTITY x "y">]><A><B>&x;</B></A>"#, "declares a document type"),
            (r#"<!DOCTYPE a SYSTEM "file:///etc/passwd"><A/>"#, "declares a document type"),
            ("<A><B>&x;</B></A>", "unknown entity, &x;"),
            (&many, "more than 100 elements"),
        ] {
            let told = read(body).unwrap_err();
            assert!(told.contains(problem), "{body}: {told}");
        }
    }

    #[test]
    fn rows_are_written() {
        let rows = json!([{"Id": 1, "Name": "<a> & \u{1}", "Enabled": true}]);
        let text = String::from_utf8(write("Webhook", &rows)).unwrap();
        let expected = "<?xml version=\"1.0\" encoding=\"utf-8\"?><ArrayOfWebhook><Webhook><Id>1</Id>\
            <Name>&lt;a&gt; &amp; \u{fffd}</Name><Enabled>true</Enabled></Webhook></ArrayOfWebhook>";
        assert_eq!(text, expected);
        assert_eq!(
            read(str::from_utf8(&write("Webhook", &rows[0])).unwrap()),
            Ok(json!({"Id": "1", "Name": "<a> & \u{fffd}", "Enabled": "true"}))
        );
    }
}
