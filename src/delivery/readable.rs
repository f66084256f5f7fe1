//! Bodies of answers as text for the log: uncompressed, and in UTF-8.
//!
//! Receivers are told that nothing but `identity` is understood, and what an
//! answer says changes nothing; but some compress whatever is asked, and many
//! answer in the encoding of their page of errors.

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

/// What windows-1252 has in place of the control characters 0x80 to 0x9f;
/// where it has nothing, they stay (WHATWG Encoding). Whoever says Latin-1
/// means this.
const WINDOWS_1252: &[char; 32] = &[
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The same body in UTF-8 without compression, up to so many bytes; `None` if
/// it is that already, or can't be read. One that was cut off is read as far
/// as it goes.
pub fn readable(headers: &HeaderMap, body: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let plain = uncompressed(headers, body, bytes_max);
    let text = text(headers, plain.as_deref().unwrap_or(body), bytes_max);
    text.map(String::into_bytes).or(plain)
}

fn uncompressed(headers: &HeaderMap, body: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let encoding = headers.get(CONTENT_ENCODING)?.to_str().ok()?.trim().to_ascii_lowercase();
    let plain = match &*encoding {
        "gzip" | "x-gzip" => as_far_as_it_goes(MultiGzDecoder::new(body), bytes_max),
        // It should be zlib (RFC 9110 §8.4.1.2), and often is not.
        "deflate" => Some(as_far_as_it_goes(ZlibDecoder::new(body), bytes_max))
            .filter(|plain| !plain.is_empty())
            .unwrap_or_else(|| as_far_as_it_goes(DeflateDecoder::new(body), bytes_max)),
        _ => return None,
    };
    (!plain.is_empty()).then_some(plain)
}

fn as_far_as_it_goes(reader: impl Read, bytes_max: usize) -> Vec<u8> {
    let mut plain = Vec::new();
    // What came before an error has been read all the same.
    let _ = reader.take(bytes_max as u64).read_to_end(&mut plain);
    plain
}

/// As a text, if it is in one of the encodings that are not UTF-8 and often met.
fn text(headers: &HeaderMap, body: &[u8], bytes_max: usize) -> Option<String> {
    let mut text = match body {
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => match &*charset(headers)? {
            "iso-8859-1" | "iso8859-1" | "latin1" | "windows-1252" | "cp1252" => {
                body.iter().map(|byte| latin(*byte)).collect()
            }
            "utf-16le" => utf16(body, u16::from_le_bytes),
            "utf-16" | "utf-16be" => utf16(body, u16::from_be_bytes),
            _ => return None,
        },
    };
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    Some(text)
}

fn charset(headers: &HeaderMap) -> Option<String> {
    let mut parameters = headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').skip(1);
    let charset = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })?;
    Some(charset.trim().trim_matches(['"', '\'']).to_ascii_lowercase())
}

fn latin(byte: u8) -> char {
    match byte {
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

fn utf16(bytes: &[u8], read: impl Fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| read([pair[0], pair[1]]));
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const MAX: usize = 1_000;

    fn read(encoding: &str, content_type: &str, body: &[u8]) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        readable(&headers, body, MAX).map(|body| String::from_utf8(body).unwrap())
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_compressed_is_uncompressed() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(b"hello").unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
        raw.write_all(b"hello").unwrap();
        let (zlib, raw) = (zlib.finish().unwrap(), raw.finish().unwrap());
        for (encoding, body) in
            [("gzip", &gzip(b"hello")), ("X-GZip", &gzip(b"hello")), ("deflate", &zlib), ("deflate", &raw)]
        {
            assert_eq!(read(encoding, "text/plain", body).as_deref(), Some("hello"), "{encoding}");
        }
        let two = [gzip(b"hello"), gzip(b", world")].concat();
        assert_eq!(read("gzip", "text/plain", &two).as_deref(), Some("hello, world"));
    }

    #[test]
    fn it_is_bounded_and_goes_as_far_as_it_can() {
        let bomb = gzip(&vec![b'a'; 10_000_000]);
        assert_eq!(read("gzip", "text/plain", &bomb).unwrap().len(), MAX);
        assert!(read("gzip", "text/plain", &bomb[..bomb.len() / 2]).unwrap().starts_with("aaa"));
        for (encoding, body) in [("gzip", &b"plain"[..]), ("br", b"plain"), ("identity", b"plain"), ("gzip", b"")] {
            assert_eq!(read(encoding, "text/plain", body), None, "{encoding}");
        }
    }

    #[test]
    fn other_charsets_become_utf_8() {
        for (content_type, body, expected) in [
            ("text/html; charset=ISO-8859-1", &b"caf\xe9 \x80"[..], Some("café €")),
            ("text/html;a=b; Charset=\"latin1\"", b"\xe9", Some("é")),
            ("text/html; charset=utf-16", b"\xff\xfea\0", Some("a")),
            ("text/html", b"\xfe\xff\0a\xd8\x3d\xde\0\xd8", Some("a😀")),
            ("text/html; charset=utf-16le", b"a\0\0\xd8", Some("a\u{fffd}")),
            ("text/html", b"\xef\xbb\xbfa", Some("a")),
            ("text/html; charset=utf-8", b"\xc3\xa9", None),
            ("text/html; charset=koi8-r", b"\xc3", None),
            ("text/html", b"\xe9", None),
        ] {
            assert_eq!(read("identity", content_type, body).as_deref(), expected, "{content_type}");
        }
        let both = gzip(b"caf\xe9");
        assert_eq!(read("gzip", "text/html; charset=iso-8859-1", &both).as_deref(), Some("café"));
        // Each becomes two bytes.
        let long = read("identity", "text/html; charset=iso-8859-1", &[0xe9; MAX]).unwrap();
        assert_eq!(long.len(), MAX);
    }
}
