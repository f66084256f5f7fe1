//! Keeps credentials out of the log of answers. Some receivers show in their
//! answer what they were sent, and whoever may read the log need not know what
//! its owner sends along.
//!
//! What a receiver has scrambled can't be told: found is what it repeats as it
//! came, or with the escapes of JSON, URLs or HTML.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr_iter, memchr3, memmem};

use super::token::Token;
use crate::domain::headers::REDACTED;
use crate::domain::signing::Signer;
use crate::domain::webhook::Webhook;
use crate::render::log::is_credential_name;

/// The shortest text that is looked for, in bytes, where it is known to be a
/// credential; a shorter one stands anywhere by chance.
const CREDENTIAL_BYTES_MIN: usize = 4;
/// The same where it may be one.
const OTHER_BYTES_MIN: usize = 8;
/// How much of a credential is told from chance at the end of a text, which
/// may have been cut off, in bytes.
const BEGINNING_BYTES_MIN: usize = 6;
/// In a text of so many bytes plain ways are the quickest, however ill it may be meant.
const PLAIN_BYTES_MAX: usize = 512;
/// Text times credentials up to which looking for one after the other is
/// quicker than preparing to look for all at once, in bytes.
const ONE_BY_ONE_BYTES_MAX: usize = 16 * 1024;
/// How long a text may become, or stay, by what stands in place of credentials, in bytes.
const GROWN_BYTES_MAX: usize = 1024;
/// Headers whose values say what is sent, and never who sends it.
const NO_CREDENTIALS: &[&str] = &["accept", "accept-charset", "accept-language", "content-type", "user-agent"];

/// What is sent along for a webhook, or signs, and is nobody else's business.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    webhook: &'a Webhook,
    /// Of OAuth 2.0.
    token: Option<&'a Token>,
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.webhook.webhook_id).finish()
    }
}

impl<'a> Credentials<'a> {
    /// Those of a webhook.
    pub fn of(webhook: &'a Webhook) -> Self {
        Self { webhook, token: None }
    }

    /// And this token.
    pub fn with(self, token: Option<&'a Token>) -> Self {
        Self { token, ..self }
    }

    /// Replaces each credential in a text by `[redacted]`. Takes time in
    /// proportion to the text and to what is looked for; no long text grows longer.
    pub fn blot(self, text: &mut Vec<u8>) {
        if text.len() < CREDENTIAL_BYTES_MIN {
            return;
        }
        let wanted = self.wanted();
        let mut found = find(&wanted, text);
        if let Some(plain) = Unescaped::of(text) {
            found.extend(find(&wanted, &plain.bytes).into_iter().map(|range| plain.place(range)));
        }
        if found.is_empty() {
            return;
        }
        found.sort_unstable_by_key(|range| range.start);
        let (mut blotted, mut end) = (Vec::with_capacity(text.len()), None);
        for range in found {
            // What touches the one before goes with it.
            if end.is_none_or(|end| range.start > end) {
                blotted.extend_from_slice(&text[end.unwrap_or(0)..range.start]);
                blotted.extend_from_slice(REDACTED.as_bytes());
            }
            end = end.max(Some(range.end));
        }
        blotted.extend_from_slice(&text[end.unwrap_or(0)..]);
        blotted.truncate(text.len().max(GROWN_BYTES_MAX));
        *text = blotted;
    }

    /// The same for a text in UTF-8.
    pub fn blot_text(self, text: &mut String) {
        let mut bytes = std::mem::take(text).into_bytes();
        self.blot(&mut bytes);
        *text = String::from_utf8(bytes).unwrap_or_else(|cause| String::from_utf8_lossy(cause.as_bytes()).into_owned());
    }

    /// What is looked for, as bytes.
    fn wanted(self) -> Vec<Cow<'a, [u8]>> {
        let mut wanted = Vec::new();
        let mut want = |text: Cow<'a, [u8]>, bytes_min: usize| {
            if text.len() >= bytes_min {
                wanted.push(text);
            }
        };
        let Webhook { spec, old_secrets, .. } = self.webhook;
        for (name, value) in spec.extra_headers.list() {
            if NO_CREDENTIALS.contains(&name.as_str()) {
                continue;
            }
            let bytes_min = if is_credential_name(name.as_str()) { CREDENTIAL_BYTES_MIN } else { OTHER_BYTES_MIN };
            want(value.as_bytes().into(), bytes_min);
            parts(value.as_bytes(), &mut want);
        }
        if let Some(basic) = &spec.basic_auth {
            parts(basic.header().as_bytes(), &mut |part, bytes_min| want(part.into_owned().into(), bytes_min));
        }
        if let Some(own) = &spec.oauth2 {
            want(own.expose_secret().as_bytes().into(), CREDENTIAL_BYTES_MIN);
            if let Some(header) = own.header() {
                parts(header.as_bytes(), &mut |part, bytes_min| want(part.into_owned().into(), bytes_min));
            }
        }
        if let Some(token) = self.token {
            want(token.expose().as_bytes().into(), CREDENTIAL_BYTES_MIN);
        }
        // A private key stays here, so nobody can repeat it.
        let old = old_secrets.iter().filter_map(|old| match &old.signer {
            Signer::Hmac(secret) => Some(secret),
            Signer::Ed25519(_) => None,
        });
        for secret in std::iter::once(&spec.secret_key).chain(old) {
            let text = secret.expose();
            want(text.as_bytes().into(), CREDENTIAL_BYTES_MIN);
            if let Some(key) = text.strip_prefix("whsec_") {
                want(key.as_bytes().into(), CREDENTIAL_BYTES_MIN);
            }
        }
        wanted
    }
}

/// The parts of a header's value that may be credentials alone: the token
/// behind `Bearer`, the value of a cookie, and what a user name and a password
/// in base64 are.
fn parts<'a>(value: &'a [u8], want: &mut impl FnMut(Cow<'a, [u8]>, usize)) {
    for part in value.split(|byte| matches!(byte, b' ' | b',' | b';')) {
        want(part.into(), OTHER_BYTES_MIN);
        let place = |wanted: u8, text: &[u8]| text.iter().position(|byte| *byte == wanted);
        if let Some(at) = place(b'=', part) {
            let own = &part[at + 1..];
            let own = own.strip_prefix(b"\"").and_then(|own| own.strip_suffix(b"\"")).unwrap_or(own);
            want(own.into(), OTHER_BYTES_MIN);
        }
        if let Ok(pair) = STANDARD.decode(part)
            && let Some(at) = place(b':', &pair)
        {
            want(pair[at + 1..].to_vec().into(), CREDENTIAL_BYTES_MIN);
            want(pair.into(), OTHER_BYTES_MIN);
        }
    }
}

/// Where any of these is in a text, and where it ends with the beginning of one.
fn find(wanted: &[Cow<'_, [u8]>], text: &[u8]) -> Vec<Range<usize>> {
    let range_of = |one: &[u8], start: usize| start..start + one.len();
    let mut found = Vec::new();
    if text.len() <= PLAIN_BYTES_MAX {
        for one in wanted.iter().filter(|one| one.len() <= text.len()) {
            let starts = memchr_iter(one[0], text).filter(|start| text[*start..].starts_with(one));
            found.extend(starts.map(|start| range_of(one, start)));
        }
    } else if wanted.len() * text.len() <= ONE_BY_ONE_BYTES_MAX {
        for one in wanted {
            found.extend(memmem::find_iter(text, one).map(|start| range_of(one, start)));
        }
    } else {
        // The quickest kind to search takes up to 200 ms to be made of one long header.
        let mut all = AhoCorasick::builder();
        all.match_kind(MatchKind::LeftmostLongest).kind(Some(AhoCorasickKind::ContiguousNFA));
        match all.build(wanted) {
            Ok(all) => found.extend(all.find_iter(text).map(|found| found.range())),
            // It refuses only what is longer than headers and secrets may be.
            Err(_) => found.push(0..text.len()),
        }
    }
    let beginning = wanted.iter().map(|one| begun(one, text)).max().filter(|length| *length >= BEGINNING_BYTES_MIN);
    found.extend(beginning.map(|length| text.len() - length..text.len()));
    found
}

/// How much of the beginning of a credential a text ends with; less than all
/// of it. Takes time in proportion to the credential (Knuth, Morris, Pratt).
fn begun(wanted: &[u8], text: &[u8]) -> usize {
    if text.len() <= PLAIN_BYTES_MAX {
        let lengths = (1..wanted.len().min(text.len() + 1)).rev();
        let is_end = |length: &usize| text[text.len() - length] == wanted[0] && text.ends_with(&wanted[..*length]);
        return lengths.into_iter().find(is_end).unwrap_or(0);
    }
    // How long the longest beginning of it is that each of its beginnings ends with.
    let mut borders = vec![0; wanted.len()];
    let next = |borders: &[usize], mut length: usize, byte: u8| {
        while length > 0 && wanted[length] != byte {
            length = borders[length - 1];
        }
        length + usize::from(wanted[length] == byte)
    };
    for place in 1..wanted.len() {
        borders[place] = next(&borders, borders[place - 1], wanted[place]);
    }
    let end = &text[(text.len() + 1).saturating_sub(wanted.len()).min(text.len())..];
    end.iter().fold(0, |length, byte| next(&borders, length, *byte))
}

/// A text whose escapes have been undone, and where its bytes stood.
struct Unescaped {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    length: usize,
}

impl Unescaped {
    /// `None` of a text without any.
    fn of(text: &[u8]) -> Option<Self> {
        memchr3(b'\\', b'%', b'&', text)?;
        let mut plain = Self { bytes: Vec::with_capacity(text.len()), starts: Vec::new(), length: text.len() };
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            let (c, length) = match byte {
                b'\\' | b'%' | b'&' => unescape(&text[at..]).unwrap_or((Byte(byte), 1)),
                _ => (Byte(byte), 1),
            };
            match c {
                Byte(byte) => plain.bytes.push(byte),
                Char(c) => plain.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
            plain.starts.resize(plain.bytes.len(), at);
            at += length;
        }
        Some(plain)
    }

    fn place(&self, range: Range<usize>) -> Range<usize> {
        let start = |at: usize| self.starts.get(at).copied().unwrap_or(self.length);
        start(range.start)..start(range.end)
    }
}

/// What an escape stands for.
enum Plain {
    Byte(u8),
    Char(char),
}

use Plain::{Byte, Char};

/// What the escape at the beginning of a text stands for, and how long it is.
fn unescape(text: &[u8]) -> Option<(Plain, usize)> {
    let number = |digits: &[u8], radix: u32| u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok();
    let char = |digits: &[u8], radix: u32| number(digits, radix).and_then(char::from_u32).map(Char);
    match text {
        [b'\\', b'u', digits @ ..] => Some((char(digits.get(..4)?, 16)?, 6)),
        [b'\\', b'x', digits @ ..] => Some((char(digits.get(..2)?, 16)?, 4)),
        [b'\\', byte, ..] => Some((Byte(*byte), 2)),
        [b'%', digits @ ..] => Some((Byte(u8::try_from(number(digits.get(..2)?, 16)?).ok()?), 3)),
        [b'&', rest @ ..] => {
            /// Of the longest reference that is read.
            const LENGTH_MAX: usize = 8;
            let end = rest.iter().take(LENGTH_MAX).position(|byte| *byte == b';')?;
            let c = match &rest[..end] {
                [b'#', b'x' | b'X', digits @ ..] => char(digits, 16)?,
                [b'#', digits @ ..] => char(digits, 10)?,
                b"amp" => Char('&'),
                b"lt" => Char('<'),
                b"gt" => Char('>'),
                b"quot" => Char('"'),
                b"apos" => Char('\''),
                _ => return None,
            };
            Some((c, end + 2))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::headers::ExtraHeaders;
    use crate::domain::policy::BasicAuth;
    use crate::domain::secret::SecretKey;
    use crate::domain::webhook::DeliveryMode;
    use crate::render::samples;

    const TOKEN: &str = "Bearer s3cr3t/t0k3n+With==";

    fn webhook(extra_headers: &str) -> Webhook {
        let mut webhook = Webhook::clone(&samples::webhook(1, DeliveryMode::Parallel, 41, 42));
        webhook.spec.extra_headers = ExtraHeaders::try_new(extra_headers).unwrap();
        webhook.spec.secret_key = SecretKey::try_new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        webhook
    }

    fn blotted(webhook: &Webhook, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        Credentials::of(webhook).blot(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_was_sent_is_blotted_out_however_it_is_escaped() {
        let own = webhook(&format!("Authorization: {TOKEN}\nX-Api-Key: k9!z\nCookie: sid=0123456789ab; a=b"));
        for (text, expected) in [
            (r#"{"authorization": "Bearer s3cr3t/t0k3n+With=="}"#, r#"{"authorization": "[redacted]"}"#),
            (r#"{"token": "s3cr3t\/t0k3n+With\u003d\u003d"}"#, r#"{"token": "[redacted]"}"#),
            ("token=s3cr3t%2Ft0k3n%2bWith%3D%3D&a=b", "token=[redacted]&a=b"),
            ("<b>s3cr3t&#47;t0k3n&#x2B;With==</b>", "<b>[redacted]</b>"),
            ("the key k9!z is wrong", "the key [redacted] is wrong"),
            ("no session 0123456789ab", "no session [redacted]"),
            ("signed with MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw.", "signed with [redacted]."),
            ("cut off: Bearer s3cr3t/t0", "cut off: [redacted]"),
            ("Bearer of news: 100 % \\ &amp; so on", "Bearer of news: 100 % \\ &amp; so on"),
            ("", ""),
        ] {
            assert_eq!(blotted(&own, text), expected);
        }
    }

    #[test]
    fn names_and_passwords_in_base64_are_read() {
        let mut own = webhook("");
        own.spec.basic_auth = Some(BasicAuth::try_new("ann", "open sesame").unwrap());
        let header = STANDARD.encode("ann:open sesame");
        for own in [own, webhook(&format!("Authorization: Basic {header}"))] {
            assert_eq!(blotted(&own, "ann says open sesame"), "ann says [redacted]");
            assert!(!blotted(&own, &format!("Basic {header}")).contains(&header));
        }
    }

    #[test]
    fn what_stands_anywhere_by_chance_stays() {
        let own = webhook("X-Shop: 7\nContent-Type: application/json\nUser-Agent: our-shop/1.0");
        let text = "7 of 7, content-type: application/json, our-shop/1.0";
        assert_eq!(blotted(&own, text), text);
    }

    #[test]
    fn a_beginning_is_as_long_as_it_is() {
        for (wanted, text, length) in [
            ("abcabd", "xxabcab", 5),
            ("abcabd", "abcabcab", 5),
            ("abcabd", "abcabd", 0),
            ("aaaa", "aaaaaaaa", 3),
            ("aab", "ab aa", 2),
            ("abc", "", 0),
            ("abcdef", "c", 0),
            ("abcdef", "a", 1),
        ] {
            for before in [String::new(), "-".repeat(PLAIN_BYTES_MAX)] {
                let text = before + text;
                assert_eq!(begun(wanted.as_bytes(), text.as_bytes()), length, "{wanted} in {text}");
            }
        }
    }

    /// As many credentials and as long an answer as there may be.
    #[test]
    fn long_answers_are_searched_at_once_and_grow_no_longer() {
        let header = |n: usize| format!("X-Key-{n}: {}{n:02}", "a".repeat(140));
        let own = webhook(&(0..50).map(header).collect::<Vec<_>>().join("\n"));
        let all = "a".repeat(100_000);
        // It ends as one of them begins.
        assert_eq!(blotted(&own, &all), format!("{}[redacted]", "a".repeat(100_000 - 140)));
        let repeated = format!("{}07 ", "a".repeat(140)).repeat(700);
        assert_eq!(blotted(&own, &repeated), "[redacted] ".repeat(700));
        let short = webhook("X-Api-Key: k9!z");
        let repeated = "k9!z ".repeat(20_000);
        assert_eq!(blotted(&short, &repeated).len(), repeated.len());
    }
}
