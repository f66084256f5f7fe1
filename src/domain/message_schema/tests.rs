use super::*;

fn problem(schema: &str) -> String {
    let violation = SchemaText::try_new(schema).unwrap_err();
    assert_eq!(violation.field, "message_schema");
    violation.problem
}

fn compile(schema: &str) -> MessageSchema {
    let text = SchemaText::try_new(schema).unwrap_or_else(|violation| panic!("{schema}: {}", violation.problem));
    MessageSchema::compile(&text).unwrap()
}

fn mismatch(schema: &str, message: &str) -> Option<(String, String)> {
    let wrong = compile(schema).mismatch(&Message::try_new(message).unwrap());
    wrong.map(|wrong| (wrong.path, wrong.problem))
}

const ORDER: &str = r##"{
    "type": "object",
    "required": ["order_id"],
    "properties": {
        "order_id": {"type": "integer"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "strange name": {"type": "string", "pattern": "^a+$"}
    },
    "$defs": {"line": {"type": "object", "properties": {"sku": {"type": "string"}}}}
}"##;

#[test]
fn a_mismatch_says_where_and_what_and_shows_no_value() {
    assert_eq!(mismatch(ORDER, r#"{"order_id": 7, "lines": [{"sku": "a"}], "more": null}"#), None);
    let told = |message: &str| mismatch(ORDER, message).unwrap();
    assert_eq!(told("{}"), ("message".into(), "\"order_id\" is a required property.".into()));
    let (path, problem) = told(r#"{"order_id": 7, "lines": [{}, {"sku": 5550123}]}"#);
    assert_eq!((path.as_str(), problem.as_str()), ("message.lines[1].sku", "the value is not of type \"string\"."));
    let (path, problem) = told(r#"{"order_id": 7, "strange name": "s3cret"}"#);
    assert_eq!(path, "message[\"strange name\"]");
    assert!(problem.contains("^a+$") && !problem.contains("s3cret"), "{problem}");
    let long = format!("{{{}}}", (0..1_000).map(|n| format!("\"member{n}\": 1")).collect::<Vec<_>>().join(", "));
    let (_, problem) = mismatch(r#"{"additionalProperties": false}"#, &long).unwrap();
    assert!(problem.chars().count() <= PROBLEM_CHARS_MAX + 2, "{problem}");
}

#[test]
fn drafts_are_told_apart() {
    let exclusive = |draft: &str, rule: &str| {
        format!(r#"{{"$schema": "{draft}", "properties": {{"n": {{"maximum": 5, {rule}}}}}}}"#)
    };
    let fourth = exclusive("http://json-schema.org/draft-04/schema#", r#""exclusiveMaximum": true"#);
    assert!(mismatch(&fourth, r#"{"n": 5}"#).is_some() && mismatch(&fourth, r#"{"n": 4}"#).is_none());
    let newest = r#"{"properties": {"n": {"exclusiveMaximum": 5}}}"#;
    assert!(mismatch(newest, r#"{"n": 5}"#).is_some());
    let seventh = r##"{"$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.com/order",
        "definitions": {"n": {"type": "integer"}}, "properties": {"n": {"$ref": "#/definitions/n"}}}"##;
    assert!(mismatch(seventh, r#"{"n": "x"}"#).is_some() && mismatch(seventh, r#"{"n": 4}"#).is_none());
}

#[test]
fn what_is_no_schema_is_refused() {
    assert!(problem("[]").contains("must be an object"));
    assert_eq!(problem(r#"{"type": "objekt"}"#), "is no JSON Schema at /type: the keyword does not take this value.");
    for pattern in ["(", "(?=a)b", r"(a)\\1", r"\\p{L}{50}"] {
        let told = problem(&format!(r#"{{"pattern": "{pattern}"}}"#));
        assert!(told.contains("at /pattern: the pattern is none, needs backtracking"), "{pattern}: {told}");
    }
    assert!(problem(r#"{"$schema": "https://example.com/own"}"#).contains("is no JSON Schema"));
    assert!(problem(&format!("{{\"description\": \"{}\"}}", "x".repeat(SCHEMA_BYTES_MAX))).contains("32768"));
    SchemaText::try_new("true").unwrap();
}

#[test]
fn references_stay_inside_and_come_to_an_end() {
    for outside in ["https://example.com/schema", "file:///etc/passwd", "#line", "other.json#/a"] {
        let told = problem(&format!(r#"{{"$ref": "{outside}"}}"#));
        assert!(told.contains("references start with # and lead to places within it"), "{told}");
    }
    assert!(problem(r##"{"$ref": "#"}"##).contains("leads back to itself"));
    assert!(problem(r##"{"$ref": "#/$defs/nowhere"}"##).contains("nothing at that place"));
    let circle = r##"{"$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"items": {"$ref": "#/$defs/a"}}}}"##;
    assert!(problem(circle).contains("leads back to itself"));
    for keyword in ["$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor", "unevaluatedItems"] {
        assert!(problem(&format!("{{\"{keyword}\": \"#x\"}}")).contains(keyword), "{keyword}");
    }
    assert!(problem(r#"{"properties": {"a": {"$id": "https://example.com/a"}}}"#).contains("below its root"));
    // The library would decode what names a circle.
    let hidden = r##"{"$ref": "#/$defs/%61", "$defs": {"%61": true, "a": {"allOf": [{"$ref": "#/$defs/%61"}]}}}"##;
    assert!(problem(hidden).contains("with a %"));
    // Draft 4 has another word for it.
    let moved = r##"{"$schema": "http://json-schema.org/draft-04/schema#", "allOf": [{"id": "http://x/y"}]}"##;
    assert!(problem(moved).contains("has an id below its root"));
}

/// Data and names that only look like keywords.
#[test]
fn data_may_hold_what_it_likes() {
    for schema in [
        r#"{"properties": {"$ref": {"type": "string"}, "$id": {"type": "integer"}, "unevaluatedItems": true}}"#,
        r#"{"examples": [{"$ref": "http://foo"}], "default": {"$id": "x", "id": "y"}, "const": {"$ref": "x"}}"#,
        r#"{"enum": [{"$anchor": "a"}], "properties": {"id": {"const": "$dynamicRef"}}}"#,
    ] {
        compile(schema);
    }
}

/// Thirty levels that each refer to the next twice would be a billion.
#[test]
fn references_do_not_multiply_without_bound() {
    let level =
        |n: usize| format!(r##""l{n}": {{"allOf": [{{"$ref": "#/$defs/l{0}"}}, {{"$ref": "#/$defs/l{0}"}}]}}"##, n + 1);
    let levels: Vec<_> = (0..30).map(level).collect();
    let schema =
        format!(r##"{{"$ref": "#/$defs/l0", "$defs": {{{}, "l30": {{"type": "object"}}}}}}"##, levels.join(", "));
    let told = problem(&schema);
    assert!(told.contains("more than 2000 parts") || told.contains("levels deep"), "{told}");
}

#[test]
fn depth_is_bounded_references_followed() {
    let nested =
        |levels: usize, inner: &str| (0..levels).fold(inner.to_owned(), |schema, _| format!(r#"{{"not": {schema}}}"#));
    compile(&nested(60, "true"));
    assert!(problem(&nested(65, "true")).contains("more than 64 levels"));
    // Joined by references, each piece is within the bound.
    let piece = |n: usize, inner: String| format!(r#""d{n}": {}"#, nested(20, &inner));
    let pieces: Vec<_> = (0..4)
        .map(|n| piece(n, if n < 3 { format!(r##"{{"$ref": "#/$defs/d{}"}}"##, n + 1) } else { "true".into() }))
        .collect();
    let schema = format!(r##"{{"$ref": "#/$defs/d0", "$defs": {{{}}}}}"##, pieces.join(", "));
    assert!(problem(&schema).contains("more than 64 levels"), "{}", problem(&schema));
    // Also where a later piece was surveyed first, from higher up.
    let backwards: Vec<_> = pieces.iter().rev().cloned().collect();
    let schema = format!(r##"{{"$defs": {{{}}}, "$ref": "#/$defs/d0"}}"##, backwards.join(", "));
    assert!(problem(&schema).contains("more than 64 levels"), "{}", problem(&schema));
}

#[test]
fn patterns_are_counted() {
    let patterns = |count: usize| {
        let all: Vec<_> = (0..count).map(|n| format!(r#"{{"pattern": "a{n}"}}"#)).collect();
        format!(r#"{{"allOf": [{}]}}"#, all.join(", "))
    };
    compile(&patterns(64));
    assert!(problem(&patterns(65)).contains("more than 64 patterns"));
    let named: Vec<_> = (0..65).map(|n| format!(r#""a{n}": true"#)).collect();
    assert!(problem(&format!(r#"{{"patternProperties": {{{}}}}}"#, named.join(", "))).contains("patterns"));
}

/// Where a library's error would hold those of every alternative of every item.
#[test]
fn what_is_large_is_judged_without_a_place() {
    let branches = vec![r#"{"items": {"type": "string"}}"#; 100].join(", ");
    let schema = format!(r#"{{"properties": {{"a": {{"anyOf": [{branches}]}}}}}}"#);
    let message = |items: usize| format!(r#"{{"a": [{}]}}"#, vec!["1"; items].join(","));
    let (path, problem) = mismatch(&schema, &message(20_000)).unwrap();
    assert_eq!((path.as_str(), problem.contains("too large to say where")), ("message", true), "{problem}");
    assert_eq!(mismatch(&schema, &message(3)).unwrap().0, "message.a");
    let (_, problem) = mismatch(&schema, &message(5_000_000)).unwrap();
    assert!(problem.contains("too large to be checked"), "{problem}");
    assert_eq!(mismatch("true", &message(20_000)), None);
}

#[test]
fn a_message_that_cannot_be_read_says_why() {
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(200), "]".repeat(200));
    for (message, why) in [
        (deep.as_str(), "recursion limit"),
        (r#"{"c": 1e400}"#, "number out of range"),
        (r#"{"c": "\ud800"}"#, "end of hex escape"),
    ] {
        let (path, problem) = mismatch("true", message).unwrap();
        assert_eq!(path, "message");
        assert!(
            problem.starts_with("can't be checked against its topic's schema: ") && problem.contains(why),
            "{problem}"
        );
    }
}
