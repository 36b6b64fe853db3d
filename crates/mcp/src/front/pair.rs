//! The older HTTP transport (HTTP+SSE of 2024-11-05): one stream of events that tells first where to post to.
//!
//! Here stands only what goes over the stream. Who may post to it, and how it is found, is settled where routes are.

use super::{Front, stream::keep_alive};
use crate::{
    front::duplex::DuplexHandle,
    index::Scope,
    reply::{KEEP_ALIVE, Reply, event},
};
use bytes::Bytes;
use forebay_domain::{Failure, Principal, id::TraceId};
use futures_util::{StreamExt, stream};

impl Front {
    /// Opens a connection whose client hears events and posts to `endpoint`. Dropping the reply's stream ends it.
    pub fn pair(
        &self,
        endpoint: &str,
        principal: Principal,
        scope: Scope,
        trace: TraceId,
    ) -> Result<(DuplexHandle, Reply), Failure> {
        let (handle, messages) = self.connect(principal, scope, trace)?;
        let opening = Bytes::from(format!("event: endpoint\ndata: {endpoint}\n\n"));
        let state = (Some(opening), Box::pin(messages), keep_alive());
        let events = stream::unfold(state, |(mut opening, mut messages, mut keep_alive)| async move {
            if let Some(opening) = opening.take() {
                return Some((opening, (None, messages, keep_alive)));
            }
            let next = tokio::select! {
                biased;
                message = messages.next() => event(&message?),
                _ = keep_alive.tick() => KEEP_ALIVE,
            };
            Some((next, (None, messages, keep_alive)))
        });
        Ok((handle, Reply::events(events)))
    }
}
