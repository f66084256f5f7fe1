//! Posts for webhooks, with the token of OAuth 2.0 that theirs may want.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use http::header::AUTHORIZATION;

use super::client::{Client, PostRequest, PostResult};
use super::token::Token;
use super::tokens::Tokens;
use crate::domain::oauth2::OAuth2;
use crate::domain::policy::Timeouts;
use crate::domain::time::Clock;
use crate::domain::webhook::Webhook;

/// Posts with a client.
pub struct Poster {
    client: Arc<Client>,
    tokens: Tokens,
}

impl Poster {
    /// One that posts, and fetches tokens, with that client.
    pub fn new(client: Arc<Client>, clock: Clock) -> Self {
        Self { tokens: Tokens::new(Arc::clone(&client), clock), client }
    }

    /// Posts once, as [`Client::post`] does, and says with which token. Without one, if the webhook
    /// wants one, nothing is sent. A kept token that the receiver answers with 401 is fetched anew,
    /// and the request goes out once more. All of it takes no longer than `timeouts.total`.
    pub async fn post(&self, webhook: &Webhook, request: PostRequest<'_>) -> (PostResult, Option<Token>) {
        match &webhook.spec.oauth2 {
            None => (self.client.post(request).await, None),
            // Few have one, and what it takes is not to make every request's task longer.
            Some(by) => Box::pin(self.post_with_token(webhook, by, request)).await,
        }
    }

    async fn post_with_token(
        &self,
        webhook: &Webhook,
        by: &OAuth2,
        request: PostRequest<'_>,
    ) -> (PostResult, Option<Token>) {
        let (started, timeouts) = (Instant::now(), request.timeouts);
        let left = || Timeouts { total: timeouts.total.saturating_sub(started.elapsed()), ..timeouts };
        let send = async |token: &Token| {
            let mut request = PostRequest { timeouts: left(), ..request.clone() };
            request.headers.insert(AUTHORIZATION, token.header());
            request.credentials = request.credentials.with(Some(token));
            self.client.post(request).await
        };
        let (token, is_new) = match self.tokens.token(webhook, by, timeouts).await {
            (Ok(token), is_new) => (token, is_new),
            (Err(error), _) => {
                return (PostResult { duration: started.elapsed(), ..PostResult::unsent(error) }, None);
            }
        };
        let (mut result, mut sent) = (send(&token).await, token);
        if result.status == Some(StatusCode::UNAUTHORIZED.as_u16()) && !is_new {
            self.tokens.forget(webhook, &sent);
            if let (Ok(token), _) = self.tokens.token(webhook, by, left()).await {
                (result, sent) = (send(&token).await, token);
            }
        }
        (PostResult { duration: started.elapsed(), ..result }, Some(sent))
    }
}
