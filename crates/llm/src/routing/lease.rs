//! One request's place at one backend.

use crate::{
    routing::{
        gate::Gate,
        live::{Change, Live},
    },
    settings::Model,
};
use forebay_domain::route::Taken;
use std::{sync::Arc, time::Duration};
use tracing::{info, warn};

/// How a request ended at a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The answer came whole, or the request was refused for a fault of its own.
    Ok,
    /// No connection, no answer in time, an error of its own, or an answer that broke off.
    Failed,
    /// It rejected the gateway's credentials.
    Rejected,
    /// It takes no more for now, and perhaps said for how long.
    Rests(Option<Duration>),
    /// Nobody waits for the answer any more.
    GivenUp,
}

/// Counts as a request under way until it ends or is dropped. Dropped without an end it was given up.
#[derive(Debug)]
pub(crate) struct Lease {
    model: Arc<Model>,
    /// The position of the backend.
    index: usize,
    live: Arc<Live>,
    gate: Arc<Gate>,
    taken: Taken,
    since: Duration,
    is_open: bool,
}

/// Whether the time to the first byte tells of the backend, or of how long the whole answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// A stream begins with its first token.
    Latency,
    /// An answer in one piece begins when it is complete.
    Nothing,
}

impl Lease {
    pub(super) fn new(model: &Arc<Model>, index: usize, taken: Taken, since: Duration) -> Self {
        let routes = model.live_side();
        Self {
            model: model.clone(),
            index,
            live: routes.lives[index].clone(),
            gate: routes.gate.clone(),
            taken,
            since,
            is_open: true,
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// A successful answer has begun.
    pub(crate) fn began(&self, telling: Telling) {
        let now = self.gate.now();
        let latency = (telling == Telling::Latency).then(|| now.saturating_sub(self.since));
        self.tell(self.live.began(self.taken, latency, now));
    }

    /// The request is over as far as this backend goes. Only the first end counts.
    pub(crate) fn end(&mut self, end: End) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        self.tell(self.live.ended(self.taken, end, self.gate.now()));
        self.gate.grant();
    }

    fn tell(&self, change: Change) {
        let (model, backend) = (&self.model.name, self.index);
        match change {
            Change::None => {}
            Change::PutOut => warn!(gen_ai.request.model = %model, backend, "backend is out of use for a while"),
            Change::BackIn => info!(gen_ai.request.model = %model, backend, "backend is in use again"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(End::GivenUp);
    }
}
