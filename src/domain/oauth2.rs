//! How deliveries get a token of OAuth 2.0: client credentials (RFC 6749 §4.4).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::form_urlencoded;

use super::fault::Violation;
use super::target::TargetUrl;

/// The longest client id, secret, scope and audience, in characters.
pub const OAUTH2_CHARS_MAX: usize = 1_000;

/// Where a client says who it is (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthStyle {
    /// In the Authorization header, as HTTP Basic.
    #[default]
    Basic,
    /// In the body, beside what else it asks.
    Body,
}

impl AuthStyle {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Basic, Self::Body];

    /// Its name on the wire and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Body => "body",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|style| style.name() == name)
    }
}

/// What is known of a client, as its owner says it.
pub struct Grant<'a> {
    /// Where tokens are asked for.
    pub token_url: &'a str,
    /// Who asks.
    pub client_id: &'a str,
    /// How that is shown to be true.
    pub client_secret: &'a str,
    /// What the token is to be good for, words with blanks between them.
    pub scope: Option<&'a str>,
    /// For whom, which some servers want to know.
    pub audience: Option<&'a str>,
    /// Where it says who it is.
    pub auth_style: AuthStyle,
}

/// A client of a token server. Its secret can't be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct OAuth2(Arc<Client>);

#[derive(PartialEq, Eq)]
struct Client {
    token_url: TargetUrl,
    client_id: String,
    client_secret: String,
    scope: Option<String>,
    audience: Option<String>,
    auth_style: AuthStyle,
}

impl OAuth2 {
    /// Accepts what a webhook's URL may be, and up to [`OAUTH2_CHARS_MAX`] characters of each other
    /// text, without control characters; id and secret have one at least.
    pub fn try_new(grant: &Grant<'_>) -> Result<Self, Violation> {
        Self::with_url(grant, TargetUrl::try_new)
    }

    /// The same for what was accepted when less was refused.
    pub fn stored(grant: &Grant<'_>) -> Result<Self, Violation> {
        Self::with_url(grant, TargetUrl::stored)
    }

    fn with_url(grant: &Grant<'_>, read: fn(&str) -> Result<TargetUrl, Violation>) -> Result<Self, Violation> {
        let Grant { token_url, client_id, client_secret, scope, audience, auth_style } = *grant;
        for (field, text) in [
            ("oauth2.client_id", Some(client_id)),
            ("oauth2.client_secret", Some(client_secret)),
            ("oauth2.scope", scope),
            ("oauth2.audience", audience),
        ] {
            let Some(text) = text else { continue };
            if text.chars().count() > OAUTH2_CHARS_MAX {
                return Err(Violation::new(field, format!("is longer than {OAUTH2_CHARS_MAX} characters.")));
            }
            if text.chars().any(char::is_control) {
                return Err(Violation::new(field, "has a control character in it."));
            }
            if text.is_empty() {
                return Err(Violation::new(field, "is empty; give one, or leave out what need not be said."));
            }
        }
        let token_url = read(token_url).map_err(|violation| Violation { field: "oauth2.token_url", ..violation })?;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(Self(Arc::new(Client {
            token_url,
            client_id: client_id.to_owned(),
            client_secret: client_secret.to_owned(),
            scope: owned(scope),
            audience: owned(audience),
            auth_style,
        })))
    }

    /// Where tokens are asked for.
    pub fn token_url(&self) -> &TargetUrl {
        &self.0.token_url
    }

    /// Who asks.
    pub fn client_id(&self) -> &str {
        &self.0.client_id
    }

    /// The secret itself, for the store and the token server.
    pub fn expose_secret(&self) -> &str {
        &self.0.client_secret
    }

    /// What the token is to be good for.
    pub fn scope(&self) -> Option<&str> {
        self.0.scope.as_deref()
    }

    /// For whom it is to be.
    pub fn audience(&self) -> Option<&str> {
        self.0.audience.as_deref()
    }

    /// Where the client says who it is.
    pub fn auth_style(&self) -> AuthStyle {
        self.0.auth_style
    }

    /// The value of the Authorization header with which a token is asked for, marked as sensitive;
    /// `None` if the body says who asks.
    pub fn header(&self) -> Option<http::HeaderValue> {
        if self.0.auth_style == AuthStyle::Body {
            return None;
        }
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(&self.0.client_id), encoded(&self.0.client_secret));
        let text = format!("Basic {}", STANDARD.encode(pair));
        let mut value = http::HeaderValue::from_str(&text).expect("base64 is visible ASCII");
        value.set_sensitive(true);
        Some(value)
    }

    /// The body with which a token is asked for, of `application/x-www-form-urlencoded`.
    pub fn body(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let own = &self.0;
        let optional = [("scope", &own.scope), ("audience", &own.audience)];
        for (name, text) in optional.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?))) {
            form.append_pair(name, text);
        }
        if own.auth_style == AuthStyle::Body {
            form.append_pair("client_id", &own.client_id).append_pair("client_secret", &own.client_secret);
        }
        form.finish()
    }

    /// How long all of it is, in bytes.
    pub fn weight(&self) -> usize {
        let own = &self.0;
        let optional = [&own.scope, &own.audience].into_iter().flatten().map(String::len).sum::<usize>();
        own.token_url.as_str().len() + own.client_id.len() + own.client_secret.len() + optional
    }
}

impl fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth2").field("client_id", &self.0.client_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: Grant<'_> = Grant {
        token_url: "https://id.example.com/token",
        client_id: "shop:1",
        client_secret: "s3cret & word",
        scope: Some("hooks write"),
        audience: None,
        auth_style: AuthStyle::Basic,
    };

    #[test]
    fn a_client_says_who_it_is_in_one_place() {
        let basic = OAuth2::try_new(&GRANT).unwrap();
        let header = basic.header().unwrap();
        assert!(header.is_sensitive());
        // "shop%3A1:s3cret+%26+word"
        assert_eq!(header, "Basic c2hvcCUzQTE6czNjcmV0KyUyNit3b3Jk");
        assert_eq!(basic.body(), "grant_type=client_credentials&scope=hooks+write");
        let body = OAuth2::try_new(&Grant { auth_style: AuthStyle::Body, audience: Some("a"), ..GRANT }).unwrap();
        assert_eq!(body.header(), None);
        assert_eq!(
            body.body(),
            "grant_type=client_credentials&scope=hooks+write&audience=a&client_id=shop%3A1&client_secret=s3cret+%26+word"
        );
        assert!(!format!("{basic:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_wrong_names_its_member_and_repeats_no_secret() {
        let long = "x".repeat(OAUTH2_CHARS_MAX + 1);
        for (grant, field) in [
            (Grant { token_url: "ftp://example.com", ..GRANT }, "oauth2.token_url"),
            (Grant { token_url: "https://a:b@example.com", ..GRANT }, "oauth2.token_url"),
            (Grant { client_id: "", ..GRANT }, "oauth2.client_id"),
            (Grant { client_secret: "very\nsecret", ..GRANT }, "oauth2.client_secret"),
            (Grant { scope: Some(&long), ..GRANT }, "oauth2.scope"),
            (Grant { audience: Some(""), ..GRANT }, "oauth2.audience"),
        ] {
            let violation = OAuth2::try_new(&grant).unwrap_err();
            assert_eq!(violation.field, field);
            assert!(!violation.problem.contains("secret"), "{}", violation.problem);
        }
    }
}
