//! What a key or a token holds open ends with it: requests under way are answered, streams are cut.
//!
//! A key ends at once when it is revoked; keys and tokens that were given an end do at that time.

use axum::{body::Body, response::Response};
use forebay_domain::{Code, Failure, Principal, id::KeyId};
use forebay_runtime::Clock;
use futures_util::{FutureExt, StreamExt};
use std::future::{Future, pending};
use tokio::sync::broadcast::{self, error::RecvError};

/// Revocations that a slow stream may leave unread. Past that it can no longer know, and is cut to be safe.
const UNREAD_MAX: usize = 1_024;

/// Tells everything that is under way which key was revoked.
pub(super) struct Revoked(broadcast::Sender<KeyId>);

impl Default for Revoked {
    fn default() -> Self {
        Self(broadcast::Sender::new(UNREAD_MAX))
    }
}

impl Revoked {
    pub(super) fn tell(&self, key: &KeyId) {
        // Nobody listening means that nothing is open.
        let _ = self.0.send(key.clone());
    }

    /// Completes when `key` is revoked, from now on. A principal without a key has nothing to wait for.
    fn wait(&self, key: Option<KeyId>) -> impl Future<Output = ()> + Send + 'static {
        let mut told = self.0.subscribe();
        async move {
            let Some(key) = key else {
                return pending().await;
            };
            loop {
                match told.recv().await {
                    Ok(revoked) if revoked != key => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => return pending().await,
                }
            }
        }
    }
}

/// Why a caller may go on no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Revoked,
    KeyExpired,
    TokenExpired,
}

impl Ended {
    pub(super) fn failure(self) -> Failure {
        let (code, message, hint) = match self {
            Self::Revoked => (
                Code::RevokedKey,
                "The API key was revoked while the request was under way.",
                "Ask an administrator for a new one.",
            ),
            Self::KeyExpired => (
                Code::ExpiredKey,
                "The API key expired while the request was under way.",
                "Ask an administrator for a new one.",
            ),
            Self::TokenExpired => (
                Code::ExpiredToken,
                "The token expired while the request was under way.",
                "Get a new token from the issuer.",
            ),
        };
        Failure::new(code, message).hint(hint)
    }
}

/// Completes when what proved this principal is good no longer: revoked from now on, or past its end.
pub(super) fn wait(
    revoked: &Revoked,
    clock: &Clock,
    principal: &Principal,
) -> impl Future<Output = Ended> + Send + 'static {
    let (revocation, clock, until) = (revoked.wait(principal.key.clone()), clock.clone(), principal.good_until);
    let expired = match principal.key {
        Some(_) => Ended::KeyExpired,
        None => Ended::TokenExpired,
    };
    async move {
        let expiry = async {
            match until {
                Some(until) => clock.reaches(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = revocation => Ended::Revoked,
            () = expiry => expired,
        }
    }
}

/// Cuts a streamed body when `end` completes. A body of known size is already made and goes out whole.
pub(super) fn cut(response: Response, end: impl Future<Output = Ended> + Send + 'static) -> Response {
    if http_body::Body::size_hint(response.body()).exact().is_some() {
        return response;
    }
    let end = Box::pin(end.map(|_| ()));
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(end)))
}
