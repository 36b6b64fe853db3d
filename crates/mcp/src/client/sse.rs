//! HTTP+SSE, the transport of 2024-11-05: one stream for everything that the server says, and an address to post to.
//!
//! The server names that address itself, so it has to have the same origin: anything else would carry our credential
//! to a host that nobody configured. The stream cannot be taken up again: when it ends, so does the connection.

use super::{
    ClientFault,
    body::{Cut, Events, Form, form},
    core::{Answer, Core, Gone, UnderWay, Via},
    http::{Caller, Refusal, message_headers, stream_headers, version_header},
    streamable::message_in,
};
use crate::era::{self, Version};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use http::Method;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::mpsc;
use url::Url;

/// Messages on their way at once beside requests.
const POSTS_MAX: usize = 16;
/// How long a post may take to end once its answer has come.
const DRAIN_WAIT: Duration = Duration::from_secs(1);
/// The longest address that a server may name.
const ENDPOINT_BYTES_MAX: usize = 8 << 10;

pub(super) struct SsePair {
    caller: Caller,
    endpoint: Url,
    core: Arc<Core>,
    version: OnceLock<Version>,
}

impl SsePair {
    /// Opens the stream, and waits for the address. The caller bounds the wait.
    pub(super) async fn open(caller: Caller, core: Arc<Core>) -> Result<Arc<Self>, ClientFault> {
        let response = caller
            .send(Method::GET, &caller.url, stream_headers(), Bytes::new())
            .await?;
        if !response.status().is_success() {
            return Err(Refusal::read(response).await.into_fault());
        }
        if form(response.headers()) != Form::Events {
            return Err(ClientFault::Protocol("it opened no stream of events".to_owned()));
        }
        let mut events = Events::of(response, core.limits.message_bytes_max);
        let endpoint = loop {
            let Some(Ok(event)) = events.next().await else {
                return Err(ClientFault::Protocol(
                    "its stream named no address to post to".to_owned(),
                ));
            };
            if event.event.as_deref() == Some("endpoint") {
                break endpoint(&caller.url, event.data.as_deref().unwrap_or_default())?;
            }
        };
        let reading = core.clone();
        core.tasks.spawn("mcp-sse-read", |_stop| async move {
            tokio::select! {
                biased;
                () = reading.ended.cancelled() => {}
                why = read(events, &reading) => reading.end(why),
            }
        });
        Ok(Arc::new(Self {
            caller,
            endpoint,
            core,
            version: OnceLock::new(),
        }))
    }

    pub(super) fn settle_version(&self, version: Version) {
        // A connection is opened once.
        let _settled = self.version.set(version);
    }

    pub(super) async fn post(&self, message: Bytes) -> Result<(), ClientFault> {
        let mut headers = message_headers();
        if let Some(version) = self.version.get() {
            headers.insert(era::PROTOCOL_VERSION, version_header(*version));
        }
        let response = self.caller.send(Method::POST, &self.endpoint, headers, message).await?;
        if response.status().is_success() {
            Ok(())
        } else if response.status() == http::StatusCode::NOT_FOUND {
            self.core.end(Gone::SessionExpired);
            Err(ClientFault::SessionExpired)
        } else {
            Err(Refusal::read(response).await.into_fault())
        }
    }

    /// The answer comes on the stream, perhaps before the post is acknowledged. Then the post is left to end by itself:
    /// cut off, it would cost its connection, and some servers take that for a client that went away.
    pub(super) async fn exchange(self: &Arc<Self>, under_way: &mut UnderWay, message: Bytes) -> Answer {
        let pair = self.clone();
        let mut post = async move { pair.post(message).await }.boxed();
        tokio::select! {
            biased;
            answer = &mut under_way.answer => {
                self.core.tasks.spawn("mcp-drain", |_stop| async move {
                    // What does not end is closed.
                    let _late = tokio::time::timeout(DRAIN_WAIT, post).await;
                });
                return answer.unwrap_or_else(|_| Err(self.core.gone()));
            }
            posted = &mut post => posted?,
        }
        (&mut under_way.answer).await.unwrap_or_else(|_| Err(self.core.gone()))
    }

    /// Posts what wants no answer.
    pub(super) async fn post_all(self: Arc<Self>, mut messages: mpsc::Receiver<Bytes>) {
        let mut posts = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(_unheard) = posts.next() => {}
                message = messages.recv(), if posts.len() < POSTS_MAX => match message {
                    Some(message) => posts.push(self.post(message)),
                    None => return,
                },
            }
        }
    }
}

async fn read(mut events: Events, core: &Arc<Core>) -> Gone {
    loop {
        match events.next().await {
            Some(Ok(event)) => {
                if let Some(data) = message_in(&event) {
                    core.take(data, Via::Shared);
                }
            }
            Some(Err(Cut::TooLarge)) => return Gone::TooLarge,
            Some(Err(Cut::Broken)) | None => return Gone::Broken("its stream ended".to_owned()),
        }
    }
}

fn endpoint(base: &Url, named: &str) -> Result<Url, ClientFault> {
    if named.is_empty() || named.len() > ENDPOINT_BYTES_MAX {
        return Err(ClientFault::Protocol(
            "its stream named no address to post to".to_owned(),
        ));
    }
    let endpoint = base
        .join(named.trim())
        .map_err(|_| ClientFault::Protocol("the address to post to that it named is none".to_owned()))?;
    if endpoint.origin() == base.origin() {
        Ok(endpoint)
    } else {
        Err(ClientFault::Protocol(
            "the address to post to that it named is on another host".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(named: &str, expected: Option<&str>) {
        let base = Url::parse("http://127.0.0.1:8000/a/sse?k=1").unwrap();
        let found = endpoint(&base, named).ok();
        assert_eq!(found.as_ref().map(Url::as_str), expected, "{named}");
    }

    #[test]
    fn messages_are_posted_to_the_origin_of_the_stream_and_nowhere_else() {
        check("/messages?s=1", Some("http://127.0.0.1:8000/messages?s=1"));
        check("messages", Some("http://127.0.0.1:8000/a/messages"));
        check("?sessionId=2", Some("http://127.0.0.1:8000/a/sse?sessionId=2"));
        check("http://127.0.0.1:8000/m", Some("http://127.0.0.1:8000/m"));
        check("http://127.0.0.1:8001/m", None);
        check("https://127.0.0.1:8000/m", None);
        check("http://evil.example/m", None);
        check("//evil.example/m", None);
        check("http://127.0.0.1:8000@evil.example/m", None);
        check("", None);
        check("http://[", None);
    }
}
