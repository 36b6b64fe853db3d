//! The MCP front: raw HTTP in, raw HTTP out, both eras on one endpoint.
//!
//! It reads the envelope once, decides the era, checks the headers and hands the request to its method. Who asks was
//! settled at the door; what they may do is the catalogue's to say.

mod begun;
pub(crate) mod duplex;
mod follow;
mod joining;
mod later;
mod method;
pub(crate) mod news;
mod offered;
mod pair;
mod param_headers;
mod parked;
mod plain;
mod post;
mod running;
mod served;
pub(crate) mod state;
pub(crate) mod stream;
mod subscribe;
mod told;
mod turn;

pub(crate) use self::{
    later::{EXTENSION, with_support},
    served::ask_all,
};

use self::{news::Newsroom, parked::Parked, state::StateKeys};
use crate::{
    catalogue::Catalogue,
    envelope::{Id, Notification},
    era::Version,
    flight::Flights,
    index::Scope,
    params::Params,
    reply::Reply,
    rpc::{self, Answered, Dialect},
    session::Sessions,
    tasks::Later,
};
use bytes::Bytes;
use forebay_domain::{
    Code, Failure, Principal,
    id::{KeyId, TraceId},
};
use forebay_runtime::{Entropy, Tasks};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// Messages in one batch at most.
pub(crate) const BATCH_MAX: usize = 100;

/// The header by which a client comes back to a stream.
const LAST_EVENT_ID: &str = "last-event-id";

/// One request as the door lets it in.
pub struct HttpIn<'a> {
    pub headers: &'a HeaderMap,
    pub body: Bytes,
    pub principal: Principal,
    pub trace: TraceId,
    /// The part of the catalogue that the request's path names.
    pub scope: Scope,
}

/// Who we are, for clients to show.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    pub name: String,
    pub title: String,
    pub version: String,
    /// For the model that uses us.
    pub instructions: String,
}

impl ServerInfo {
    pub(crate) fn to_json(&self) -> String {
        json!({"name": self.name, "title": self.title, "version": self.version}).to_string()
    }
}

/// Counts one more request of a caller against its limit, or says that there is none left.
pub type Charge = Arc<dyn Fn(&Principal) -> Result<(), Failure> + Send + Sync>;

/// What a front stands on.
pub struct FrontParts {
    pub catalogue: Catalogue,
    pub sessions: Sessions,
    pub server: ServerInfo,
    /// Owns what outlives a connection. Streams without a call end when it drains.
    pub tasks: Tasks,
    pub entropy: Entropy,
    /// Signs what clients carry between two rounds.
    pub states: StateKeys,
    /// Whoever hands a body or a message in has counted one request for it; those of a batch are counted by this.
    pub charge: Charge,
}

/// The MCP front. Cheap to clone; all clones are one front.
#[derive(Clone)]
pub struct Front(Arc<Inner>);

struct Inner {
    catalogue: Catalogue,
    sessions: Sessions,
    flights: Flights,
    parked: Parked,
    newsroom: Newsroom,
    server: ServerInfo,
    /// The `_meta` of every modern result.
    signature: String,
    tasks: Tasks,
    entropy: Entropy,
    states: StateKeys,
    charge: Charge,
    /// Empty where there are no tasks.
    later: OnceLock<Later>,
    numbers: AtomicU64,
}

impl Front {
    /// Makes the front, and starts its two tasks: one carries news of the catalogue to whoever listens, the other writes
    /// down what sessions and streams are to keep beyond this process.
    pub fn new(parts: FrontParts) -> Self {
        let signature = format!(r#"{{"io.modelcontextprotocol/serverInfo":{}}}"#, parts.server.to_json());
        let changes = parts.catalogue.changes();
        let front = Self(Arc::new(Inner {
            catalogue: parts.catalogue,
            sessions: parts.sessions,
            flights: Flights::default(),
            parked: Parked::default(),
            newsroom: Newsroom::default(),
            server: parts.server,
            signature,
            tasks: parts.tasks,
            entropy: parts.entropy,
            states: parts.states,
            charge: parts.charge,
            later: OnceLock::new(),
            numbers: AtomicU64::new(0),
        }));
        let carrier = front.clone();
        front
            .tasks()
            .spawn("mcp news", move |stop| carrier.carry_news(changes, stop));
        let shelf = front.sessions().shelf().clone();
        front.tasks().spawn("mcp session writer", |stop| shelf.write_down(stop));
        front
    }

    /// From now on tools may run as tasks, and clients hear of that. The first one counts.
    pub fn work_later(&self, later: Later) {
        // Whoever comes second is not needed.
        let _ = self.0.later.set(later);
    }

    /// Refuses a path that names no server.
    fn admit(&self, scope: &Scope) -> Result<(), Failure> {
        let index = self.catalogue().index();
        crate::catalogue::view(&index, scope).map(|_| ())
    }

    /// Ends everything that a key has open or under way here; to be called when it is revoked. What the store has of its
    /// sessions is for the caller to remove.
    pub fn close_key(&self, key: &KeyId) {
        self.sessions().close_key(key);
        self.flights().cancel_key(key);
    }

    /// What signs the states that clients carry between two rounds.
    pub fn state_keys(&self) -> &StateKeys {
        &self.0.states
    }

    /// Calls that wait for their clients to come back with answers.
    pub fn parked_calls(&self) -> usize {
        self.parked().count()
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(crate) fn flights(&self) -> &Flights {
        &self.0.flights
    }

    pub(crate) fn parked(&self) -> &Parked {
        &self.0.parked
    }

    pub(crate) fn later(&self) -> Option<&Later> {
        self.0.later.get()
    }

    pub(crate) fn newsroom(&self) -> &Newsroom {
        &self.0.newsroom
    }

    pub(crate) fn states(&self) -> &StateKeys {
        &self.0.states
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    pub(crate) fn entropy(&self) -> &Entropy {
        &self.0.entropy
    }

    pub(crate) fn server(&self) -> &ServerInfo {
        &self.0.server
    }

    pub(crate) fn signature(&self) -> &str {
        &self.0.signature
    }

    /// What is asked for each request of a batch. The first one has been counted with what brought it.
    pub(crate) fn charge(&self, principal: &Principal) -> impl FnMut() -> Result<(), Failure> + Send + use<> {
        let (charge, principal) = (self.0.charge.clone(), principal.clone());
        let mut is_counted = true;
        move || {
            if std::mem::take(&mut is_counted) {
                Ok(())
            } else {
                charge(&principal)
            }
        }
    }

    /// A number that nothing else in this process has.
    pub(crate) fn next_number(&self) -> u64 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Completes when the gateway drains.
    pub(crate) async fn stopping(&self) {
        self.tasks().stop().draining().await;
    }
}

/// The request that a notification takes back.
pub(crate) fn taken_back(notification: &Notification) -> Option<Id> {
    if notification.method != "notifications/cancelled" {
        return None;
    }
    let params = Params::read(notification.params.as_ref()).ok()?;
    Id::parse(params.request_id?.get())
}

/// An answer to a request that never was: an error without a dialect of its own.
fn refuse(id: Option<&Id>, failure: &Failure, status: Option<StatusCode>) -> Reply {
    let answered = rpc::failed(id, failure, Dialect::Streamable(Version::LEGACY_NEWEST));
    Answered {
        status: status.unwrap_or(answered.status),
        ..answered
    }
    .reply()
}

fn not_allowed(method: &str) -> Reply {
    let message = format!("{method} is not part of protocol version 2026-07-28.");
    let failure = Failure::new(Code::MethodNotAllowed, message).hint("Send POST.");
    refuse(None, &failure, None).with("allow", "POST")
}
