//! What a revoked key still holds open is closed at once: requests under way are answered, streams are cut.

use axum::{body::Body, response::Response};
use forebay_domain::{Code, Failure, id::KeyId};
use futures_util::StreamExt;
use std::future::Future;
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
    pub(super) fn wait(&self, key: Option<KeyId>) -> impl Future<Output = ()> + Send + 'static {
        let mut told = self.0.subscribe();
        async move {
            let Some(key) = key else {
                return std::future::pending().await;
            };
            loop {
                match told.recv().await {
                    Ok(revoked) if revoked != key => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => return std::future::pending().await,
                }
            }
        }
    }
}

pub(super) fn failure() -> Failure {
    Failure::new(
        Code::RevokedKey,
        "The API key was revoked while the request was under way.",
    )
    .hint("Ask an administrator for a new one.")
}

/// Cuts a streamed body when `revoked` completes. A body of known size is already made and goes out whole.
pub(super) fn cut(response: Response, revoked: impl Future<Output = ()> + Send + 'static) -> Response {
    if http_body::Body::size_hint(response.body()).exact().is_some() {
        return response;
    }
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(revoked))))
}
