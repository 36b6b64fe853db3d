//! The client towards upstream MCP servers, over raw messages: every protocol version, over stdio, Streamable HTTP and
//! HTTP+SSE.
//!
//! It loses nothing: results, errors, notifications and the questions of a server are handed on as the bytes that came.
//! It reads the envelope, and of the content only what it needs to give each message to whom it concerns. It trusts an
//! upstream with nothing: every message is checked and bounded, everything that waits is bounded, and what arrives
//! unasked is counted and dropped. It refuses to carry a caller's credential, by having no way to take one.

mod body;
mod core;
mod eras;
mod fault;
mod framing;
mod heard;
mod http;
mod link;
mod listen;
pub mod oauth;
mod open;
mod pipe;
mod settings;
mod sse;
mod streamable;
mod wire;

pub use self::core::Counts;
pub use fault::ClientFault;
pub use heard::{Heard, Listener, mailbox};
pub(crate) use listen::ACKNOWLEDGED;
pub use listen::Subscription;
pub use settings::{Credential, Hello, Hooks, HttpTarget, Limits, Mode, Parts, Target, Tenancy};

use self::core::{Core, Farewell, Gone, Kind, UnderWay};
use crate::{call::Emission, era::Version};
use eras::Peer;
use link::{Asking, Link, Speaking};
use open::Opened;
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::sync::mpsc;

/// One pipe to, or one session with, an upstream. Clones share it; it ends with the last of them.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    link: Link,
    core: Arc<Core>,
    hello: Arc<Hello>,
    peer: Peer,
}

/// See [`Connection::ear`].
pub(crate) struct Ear(UnderWay);

impl Ear {
    /// For [`Hooks::token`].
    pub(crate) fn token(&self) -> u64 {
        self.0.id
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.end(Gone::Closed);
    }
}

impl Connection {
    /// Opens a connection, and finds out what the upstream speaks.
    pub async fn open(to: Target, hello: Hello, parts: Parts) -> Result<Self, ClientFault> {
        let Opened { link, core, peer } = open::open(to, &hello, parts).await?;
        Ok(Self(Arc::new(Inner {
            link,
            core,
            hello: Arc::new(hello),
            peer,
        })))
    }

    pub fn version(&self) -> Version {
        self.0.peer.version
    }

    /// The raw `ServerCapabilities`.
    pub fn capabilities(&self) -> &RawValue {
        &self.0.peer.capabilities
    }

    /// The raw `Implementation` by which the upstream introduced itself.
    pub fn server_info(&self) -> Option<&RawValue> {
        self.0.peer.server_info.as_deref()
    }

    pub fn instructions(&self) -> Option<&str> {
        self.0.peer.instructions.as_deref()
    }

    /// One request: its raw `result`. `params` is the raw object as the caller has it; of its `_meta`, what belongs to
    /// one hop is replaced by our own.
    pub async fn request(
        &self,
        method: &str,
        params: Option<&RawValue>,
        hooks: Hooks,
    ) -> Result<Box<RawValue>, ClientFault> {
        let asking = Asking {
            speaking: self.speaking(),
            method,
            params,
            hooks: &hooks,
        };
        self.0.link.ask(&self.0.core, &self.0.hello, asking).await
    }

    /// Hears what the upstream says of a call that goes on after its answer, for as long as this is held.
    pub(crate) fn ear(&self, emissions: mpsc::Sender<Emission>) -> Ear {
        let core = &self.0.core;
        Ear(core.begin(core.next_id(), Some(emissions), Kind::Ear, Farewell::Silent))
    }

    pub async fn notify(&self, method: &str, params: Option<&RawValue>) -> Result<(), ClientFault> {
        self.0.link.notify(&self.0.core, self.speaking(), method, params).await
    }

    /// Subscribes to changes, for as long as the subscription is kept: what comes goes to the listener. An upstream of
    /// the older era is not asked, since it tells without.
    pub fn listen(&self, filter: &RawValue) -> Subscription {
        listen::start(&self.0.link, &self.0.core, &self.0.hello, self.speaking(), filter)
    }

    pub fn is_open(&self) -> bool {
        self.0.core.is_open()
    }

    /// Completes when the connection has ended, for whatever reason.
    pub async fn closed(&self) {
        self.0.core.ended.cancelled().await;
    }

    /// Ends it: a session is given back, a pipe's ends are dropped.
    pub async fn close(&self) {
        self.0.link.close(&self.0.core).await;
    }

    /// What the upstream did that it should not have.
    pub fn counts(&self) -> Counts {
        self.0.core.counts()
    }

    fn speaking(&self) -> Speaking {
        if self.version().is_modern() {
            Speaking::Modern(self.version())
        } else {
            Speaking::Legacy
        }
    }
}
