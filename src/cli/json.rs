//! JSON for people's eyes.

/// Lays out valid JSON over lines. Keys stay in their order and numbers as
/// they were written, which reading it into values would not promise. What
/// a terminal might take for a command is escaped.
pub fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut rest = json.trim();
    while let Some(c) = rest.chars().next() {
        let after = rest[c.len_utf8()..].trim_start();
        match c {
            '"' => {
                let (string, tail) = rest.split_at(string_len(rest));
                string.chars().for_each(|c| push_safe(&mut out, c));
                rest = tail.trim_start();
                continue;
            }
            '{' | '[' => {
                out.push(c);
                // An empty one stays on its line.
                if !after.starts_with(['}', ']']) {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                if !out.ends_with(['{', '[']) {
                    depth = depth.saturating_sub(1);
                    new_line(&mut out, depth);
                }
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => push_safe(&mut out, other),
        }
        rest = after;
    }
    out
}

/// How many bytes the string at the start of `text` takes, quotes included.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

/// Text on one line, in which a terminal finds no command.
pub fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_safe(&mut out, c));
    out
}

/// JSON on one line, as it is but for what a terminal would find in it.
pub fn on_a_line(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Between its parts: in a text they are escaped.
            '\n' | '\r' | '\t' => out.push(' '),
            c => push_safe(&mut out, c),
        }
    }
    out
}

/// Escapes as JSON does, which itself escapes C0 alone.
fn push_safe(out: &mut String, c: char) {
    if c.is_control() || is_hidden(c) {
        // Beyond U+FFFF in two halves, as JSON has it.
        c.encode_utf16(&mut [0; 2]).iter().for_each(|half| out.push_str(&format!("\\u{half:04x}")));
    } else {
        out.push(c);
    }
}

/// True of characters that show nothing, or change how others are shown: those
/// of Unicode's class Cf, those of its property Default_Ignorable_Code_Point,
/// what begins a line, noncharacters, and the blank of Braille.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fdd0}'..='\u{fdef}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_of_the_same_json() {
        let json = "{\n \"a\" : \"\u{9b}31m\u{202e}\\n\"\r\n}";
        let line = on_a_line(json);
        assert_eq!(line, "{  \"a\" : \"\\u009b31m\\u202e\\n\"  }");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&line), read(json));
    }

    #[test]
    fn keeps_order_and_numbers_and_lays_out() {
        let json = r#"{"b":1.0,"a" : [1e3, {}, [ ],"x, {y}: \"z\" \\"],"c":{"d":null}}"#;
        let expected = r#"{
  "b": 1.0,
  "a": [
    1e3,
    {},
    [],
    "x, {y}: \"z\" \\"
  ],
  "c": {
    "d": null
  }
}"#;
        assert_eq!(pretty(json), expected);
        assert_eq!(pretty(" true "), "true");
        assert_eq!(pretty("\"[\""), "\"[\"");
        assert_eq!(pretty("[\"[\"]"), "[\n  \"[\"\n]");
    }

    #[test]
    fn terminals_get_no_commands() {
        assert_eq!(pretty("\"a\u{9b}31m ü\""), "\"a\\u009b31m ü\"");
        assert_eq!(safe("\u{1b}[2J\u{7f}"), "\\u001b[2J\\u007f");
    }

    #[test]
    fn what_hides_is_shown_and_what_does_not_stays() {
        for hidden in [
            '\u{ad}',
            '\u{200b}',
            '\u{200d}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{feff}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{fffe}',
            '\u{e0041}',
            '\u{1d173}',
            '\u{10ffff}',
        ] {
            let json = format!("\"a{hidden}b\"");
            for shown in [pretty(&json), on_a_line(&json)] {
                assert!(shown.is_ascii(), "{shown}");
                assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), format!("a{hidden}b"));
            }
        }
        let plain = "Zürich, 東京, Ελλάδα, עברית, 1\u{a0}000 €, 🙂";
        assert_eq!(safe(plain), plain);
    }
}
