//! The name of a request, by which its lines in the log are found.

use std::fmt;
use std::net::IpAddr;

use super::trace::TraceParent;

/// The longest that is taken from a caller, in bytes.
const BYTES_MAX: usize = 64;
/// Hexadecimal digits of one that is made here.
const DIGITS: usize = 16;

/// What a request is called: by whoever sent it, or else by this server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    bytes: [u8; BYTES_MAX],
    len: u8,
}

impl RequestId {
    /// One that a caller has given. `None` if it is empty, longer than 64 bytes, or has other
    /// characters than letters, digits and `-_.:/+=@`: the log is read by people and programs.
    pub fn try_new(text: &[u8]) -> Option<Self> {
        let is_sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
        if text.is_empty() || text.len() > BYTES_MAX || !text.iter().all(is_sane) {
            return None;
        }
        let mut bytes = [0; BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Some(Self { bytes, len: u8::try_from(text.len()).ok()? })
    }

    /// A new one, of sixteen hexadecimal digits.
    pub fn generate() -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let (mut bytes, number) = ([0; BYTES_MAX], fastrand::u64(..));
        for (place, digit) in bytes[..DIGITS].iter_mut().enumerate() {
            *digit = HEX[(number >> (4 * place)) as usize & 15];
        }
        Self { bytes, len: DIGITS as u8 }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("it is ASCII")
    }
}

/// Who has sent a request, and what that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Who is at the other end of the connection, or whom a trusted proxy there names.
    pub peer: IpAddr,
    /// What the request is called.
    pub request_id: RequestId,
    /// Of which trace it is a part, if whoever sent it says so.
    pub trace: Option<TraceParent>,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_ones_are_taken_and_others_are_not() {
        for text in
            ["a", "Root=1-67891233-abcdef012345678912345678", "c0ffee00-0000-4000-8000-000000000000", &"x".repeat(64)]
        {
            assert_eq!(RequestId::try_new(text.as_bytes()).unwrap().as_str(), text);
        }
        for text in ["", "a b", "a\n", "a\u{e9}", "a\"", "a\u{1b}[31m", &"x".repeat(65)] {
            assert_eq!(RequestId::try_new(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn new_ones_are_sane_and_differ() {
        let (one, other) = (RequestId::generate(), RequestId::generate());
        assert_eq!(RequestId::try_new(one.as_str().as_bytes()), Some(one));
        assert!(one != other && one.as_str().len() == DIGITS, "{one} {other}");
    }
}
