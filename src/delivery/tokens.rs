//! Tokens of OAuth 2.0 for webhooks that have them: fetched by client credentials (RFC 6749 §4.4)
//! with the client of deliveries, and kept in memory until shortly before they expire.
//!
//! However many deliveries of a webhook want one, it is fetched once, and all share what comes of
//! it, a failure too. They wait as they would for their receiver; nobody else does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::answers::Answers;
use super::blot::Credentials;
use super::client::{Client, Fetched, PostRequest};
use super::token::{TOKEN_BYTES_MAX, Token};
use crate::domain::delivery::{AttemptError, ErrorClass};
use crate::domain::id::WebhookId;
use crate::domain::oauth2::OAuth2;
use crate::domain::policy::Timeouts;
use crate::domain::time::{Clock, Timestamp};
use crate::domain::webhook::Webhook;
use crate::render::spelling::Spelling;

/// Webhooks whose tokens are kept: the one that was used longest ago gives way.
const KEPT_MAX: usize = 4_096;
/// The longest answer of a token server that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1_024;
/// All of these answers at once, in bytes.
const ANSWERS_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// How long a token counts whose server does not say so.
const LIFE_DEFAULT: Duration = Duration::from_secs(300);
/// How long one is kept at the most, whatever its server says.
const LIFE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// So long before its end it is fetched anew, or a tenth of its life before, if that is shorter.
const MARGIN_MAX: Duration = Duration::from_secs(30);

type Answer = Result<Token, AttemptError>;

/// A token that is wanted, fetched or not.
type Wanted = Arc<OnceCell<Answer>>;

/// What is kept for a webhook.
struct Slot {
    /// By whom it is fetched; another definition wants another token.
    client: OAuth2,
    wanted: Wanted,
    used: u64,
}

#[derive(Default)]
struct Kept {
    slots: HashMap<WebhookId, Slot>,
    uses: u64,
}

/// The tokens of webhooks.
pub struct Tokens {
    client: Arc<Client>,
    clock: Clock,
    answers: Arc<Answers>,
    kept: Mutex<Kept>,
}

/// What an answer of a token server says (RFC 6749 §5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: String,
    expires_in: Option<Value>,
}

/// What one says that grants nothing (RFC 6749 §5.2).
#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl Tokens {
    /// None yet; they are fetched with that client.
    pub fn new(client: Arc<Client>, clock: Clock) -> Self {
        Self { client, clock, answers: Arc::new(Answers::new(ANSWERS_BYTES_MAX)), kept: Mutex::default() }
    }

    /// The token of a webhook that wants one from `by`, and whether it was fetched just now. Fails
    /// with an error of the class [`ErrorClass::Token`].
    pub async fn token(&self, webhook: &Webhook, by: &OAuth2, timeouts: Timeouts) -> (Answer, bool) {
        let wanted = self.wanted(webhook.webhook_id, by);
        let mut is_new = false;
        let fetch = async || {
            is_new = true;
            self.fetch(webhook, by, timeouts).await
        };
        let answer = wanted.get_or_init(fetch).await.clone();
        (answer, is_new)
    }

    /// Has a token fetched anew that a receiver has refused, unless another one has come since.
    pub fn forget(&self, webhook: &Webhook, refused: &Token) {
        let mut kept = self.kept();
        let Some(slot) = kept.slots.get_mut(&webhook.webhook_id) else { return };
        if matches!(slot.wanted.get(), Some(Ok(token)) if token.header() == refused.header()) {
            slot.wanted = Wanted::default();
        }
    }

    /// What is being fetched, or counts; something new to be fetched if there is no such.
    fn wanted(&self, id: WebhookId, by: &OAuth2) -> Wanted {
        let now = self.clock.now();
        let mut kept = self.kept();
        kept.uses += 1;
        let used = kept.uses;
        if let Some(slot) = kept.slots.get_mut(&id) {
            slot.used = used;
            let counts = match slot.wanted.get() {
                None => true,
                Some(Ok(token)) => token.until() > now,
                Some(Err(_)) => false,
            };
            if slot.client != *by || !counts {
                (slot.client, slot.wanted) = (by.clone(), Wanted::default());
            }
            return Arc::clone(&slot.wanted);
        }
        if kept.slots.len() >= KEPT_MAX {
            let oldest = kept.slots.iter().min_by_key(|(_, slot)| slot.used).map(|(id, _)| *id);
            oldest.and_then(|oldest| kept.slots.remove(&oldest));
        }
        let wanted = Wanted::default();
        kept.slots.insert(id, Slot { client: by.clone(), wanted: Arc::clone(&wanted), used });
        wanted
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().expect("nothing panics while it holds the tokens")
    }

    async fn fetch(&self, webhook: &Webhook, by: &OAuth2, timeouts: Timeouts) -> Answer {
        let asked_at = self.clock.now();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tallyhook/", env!("CARGO_PKG_VERSION"))));
        if let Some(header) = by.header() {
            headers.insert(AUTHORIZATION, header);
        }
        let request = PostRequest {
            merchant: webhook.merchant_id,
            url: by.token_url().url(),
            identity: None,
            headers,
            spelling: Spelling::default(),
            body: by.body().into(),
            timeouts,
            credentials: Credentials::of(webhook),
        };
        let room = self.answers.begin(webhook.merchant_id);
        let fetched = self.client.fetch(request, room, ANSWER_BYTES_MAX).await;
        read(fetched.map_err(|error| failed(&error.detail))?, asked_at)
    }
}

/// An error of an attempt that has no token.
fn failed(why: &str) -> AttemptError {
    AttemptError { class: ErrorClass::Token, detail: format!("no token from the token server: {why}") }
}

/// The token in an answer; nothing of the answer is in the error but words of the standard.
fn read(fetched: Fetched, asked_at: Timestamp) -> Answer {
    let Fetched { status, body } = fetched;
    if !status.is_success() {
        let mut why = format!("answered {}", status.as_u16());
        if let Some(reason) = status.canonical_reason() {
            why = format!("{why} {reason}");
        }
        if let Some(word) = serde_json::from_slice::<Refused>(&body).ok().and_then(|refused| known(&refused.error)) {
            why = format!("{why} ({word})");
        }
        return Err(failed(&why));
    }
    let granted: Granted =
        serde_json::from_slice(&body).map_err(|_| failed("its answer has no access_token and token_type in JSON"))?;
    if !granted.token_type.eq_ignore_ascii_case("bearer") {
        return Err(failed("its token_type is not Bearer"));
    }
    let seconds = granted.expires_in.and_then(|said| match said {
        Value::Number(seconds) => seconds.as_f64(),
        // Some servers quote it.
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    let said = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let life = said.unwrap_or(LIFE_DEFAULT).min(LIFE_MAX);
    let until = asked_at.after(life - MARGIN_MAX.min(life / 10));
    Token::try_new(&granted.access_token, until)
        .ok_or_else(|| failed(&format!("its access_token is none, or longer than {TOKEN_BYTES_MAX} bytes")))
}

/// The words of RFC 6749 §5.2: whatever else a server says may repeat what it was sent.
fn known(word: &str) -> Option<&'static str> {
    const WORDS: [&str; 6] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    ];
    WORDS.into_iter().find(|known| *known == word)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        read(Fetched { status, body: body.as_bytes().to_vec() }, Timestamp(0))
    }

    #[test]
    fn a_token_counts_until_shortly_before_its_end() {
        for (expires_in, until_s) in
            [("3600", 3_570), ("60", 54), ("10.0", 9), ("\"60\"", 54), ("1e300", 270), ("-5", 270), ("9000000", 86_370)]
        {
            let body = format!(r#"{{"access_token":"abc","token_type":"bearer","expires_in":{expires_in}}}"#);
            let token = answer(200, &body).ok().unwrap();
            assert_eq!((token.until(), token.expose()), (Timestamp(until_s * 1_000), "abc"), "{expires_in}");
            assert!(token.header().is_sensitive());
        }
        let silent = answer(200, r#"{"access_token":"abc","token_type":"Bearer"}"#).ok().unwrap();
        assert_eq!(silent.until(), Timestamp(270_000));
    }

    #[test]
    fn what_is_no_token_is_told_without_what_came() {
        for (status, body, told) in [
            (
                401,
                r#"{"error":"invalid_client","error_description":"s3cret"}"#,
                "answered 401 Unauthorized (invalid_client)",
            ),
            (400, r#"{"error":"s3cret"}"#, "answered 400 Bad Request"),
            (302, "s3cret", "answered 302 Found"),
            (200, "s3cret", "no access_token"),
            (200, r#"{"access_token":"s3cret","token_type":"mac"}"#, "not Bearer"),
            (200, r#"{"access_token":"s3 cret","token_type":"Bearer"}"#, "is none"),
            (200, r#"{"access_token":"","token_type":"Bearer"}"#, "is none"),
        ] {
            let error = answer(status, body).err().unwrap();
            assert_eq!(error.class, ErrorClass::Token);
            assert!(error.detail.ends_with(told) || error.detail.contains(told), "{}", error.detail);
            assert!(!error.detail.contains("s3"), "{}", error.detail);
        }
    }
}
