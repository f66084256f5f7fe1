//! A token of OAuth 2.0, as it is sent along (RFC 6750).

use http::HeaderValue;

use crate::domain::time::Timestamp;

/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1_024;
/// What stands before it in the header.
const SCHEME: &str = "Bearer ";

/// A token. It can't be printed by accident.
#[derive(Clone)]
pub struct Token {
    header: HeaderValue,
    until: Timestamp,
}

impl Token {
    /// One that is used until then. `None` if it is empty, longer than [`TOKEN_BYTES_MAX`], or has
    /// characters that no token has.
    pub fn try_new(text: &str, until: Timestamp) -> Option<Self> {
        let is_token = (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let mut header = HeaderValue::try_from(format!("{SCHEME}{text}")).ok().filter(|_| is_token)?;
        header.set_sensitive(true);
        Some(Self { header, until })
    }

    /// The value of the Authorization header; marked as sensitive.
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The token itself, which no log is to show.
    pub fn expose(&self) -> &str {
        let text = self.header.to_str().expect("it is visible ASCII");
        text.strip_prefix(SCHEME).expect("it was put there")
    }

    /// Until when it is used.
    pub fn until(&self) -> Timestamp {
        self.until
    }
}
