//! One upstream as a source of the catalogue: what is known of it, and what it offers.
//!
//! What an upstream last offered stays listed while it is away, so that a dead one never takes a list down; calls to it
//! then say so. The loop that keeps it known is in [`super::keep`], the way of one request in [`super::serve`].

use super::{
    held::Withheld,
    pins::Pins,
    pool::{Opener, Pool},
    serve::Shares,
    settings::{Place, Settings},
    watches::Watches,
};
use crate::{
    call::{CallContext, Outcome},
    catalogue::WeakCatalogue,
    source::{Naming, Offer, Source, Tool, Wanted, Watched},
};
use arc_swap::ArcSwap;
use forebay_domain::{Code, Failure, Principal, port::BoxFuture, quarantine::Why};
use forebay_runtime::{Clock, Entropy};
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How an upstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not answered yet since the gateway started or the upstream was configured.
    Connecting,
    Ready,
    /// It was there, or should be, and is not.
    Unavailable,
    /// It is configured, and not to be used.
    Disabled,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Unavailable => "unavailable",
            Self::Disabled => "disabled",
        }
    }
}

/// What is known of an upstream beside its offer.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) state: State,
    pub(super) since: Timestamp,
    pub(super) version: Option<&'static str>,
    pub(super) modern: bool,
    pub(super) logs: bool,
    pub(super) server_info: Option<Box<RawValue>>,
    pub(super) listed_at: Option<Timestamp>,
    pub(super) trouble: Option<String>,
    pub(super) warnings: Vec<String>,
    pub(super) held: Arc<Withheld>,
}

/// An offer, and its tools by name.
#[derive(Default)]
pub(super) struct Offered {
    pub(super) offer: Arc<Offer>,
    pub(super) tools: HashMap<String, Arc<Tool>>,
}

impl From<Offer> for Offered {
    fn from(offer: Offer) -> Self {
        let tools = offer.tools.iter().map(|tool| (tool.name.clone(), tool.clone()));
        Self {
            tools: tools.collect(),
            offer: Arc::new(offer),
        }
    }
}

pub(super) struct Upstream {
    pub(super) settings: Settings,
    pub(super) pool: Pool,
    pub(super) offered: ArcSwap<Offered>,
    condition: Mutex<Condition>,
    pub(super) watches: Arc<Watches>,
    pub(super) relist: Notify,
    /// A caller's connection shows something else than the gateway's own: the latter is old.
    pub(super) renew: Notify,
    /// A call made it doubtful that the upstream is there, or still the same.
    pub(super) doubts: Notify,
    /// Grows whenever connections have to be vetted again.
    pub(super) epoch: AtomicU64,
    pub(super) shares: Shares,
    /// Fires when the upstream is taken away.
    pub(super) gone: CancellationToken,
    pub(super) pins: Pins,
    pub(super) catalogue: WeakCatalogue,
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
}

/// What an upstream stands on, beside its settings.
pub(super) struct Ground {
    pub(super) opener: Opener,
    pub(super) pins: Pins,
    pub(super) catalogue: WeakCatalogue,
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
}

impl Upstream {
    pub(super) fn new(settings: Settings, ground: Ground) -> Self {
        let condition = Condition {
            state: if settings.config.enabled {
                State::Connecting
            } else {
                State::Disabled
            },
            since: ground.clock.now(),
            version: None,
            modern: false,
            logs: false,
            server_info: None,
            listed_at: None,
            trouble: None,
            warnings: Vec::new(),
            held: Arc::default(),
        };
        Self {
            pool: Pool::new(settings.clone(), ground.opener),
            settings,
            offered: ArcSwap::default(),
            condition: Mutex::new(condition),
            watches: Arc::default(),
            relist: Notify::new(),
            renew: Notify::new(),
            doubts: Notify::new(),
            epoch: AtomicU64::new(1),
            shares: Shares::default(),
            gone: CancellationToken::new(),
            pins: ground.pins,
            catalogue: ground.catalogue,
            clock: ground.clock,
            entropy: ground.entropy,
        }
    }

    pub(super) fn condition(&self) -> Condition {
        self.lock().clone()
    }

    /// Lists it again soon: somebody decided about a definition, or wants to see what is new.
    pub(super) fn refresh(&self) {
        self.relist.notify_one();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().expect("nobody panics while holding a condition")
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        self.settings.place.to_string()
    }

    pub(super) fn is_child(&self) -> bool {
        matches!(self.settings.place, Place::Child(_))
    }

    pub(super) fn held_because(&self, name: &str, why: &Why) -> Failure {
        let what = match why {
            Why::FirstSeen => "was never approved",
            Why::Changed => "has changed since it was approved",
            Why::Flagged(_) => "carries something hidden or suspicious",
            Why::TooMany => "is one of too many",
        };
        let message = format!("The definition of `{name}` of `{}` {what}, so it is held.", self.name());
        let hint = format!(
            "`forebay upstream approve {}` shows the difference and lets it pass.",
            self.name()
        );
        Failure::new(Code::ToolHeld, message).hint(hint)
    }
}

impl Source for Upstream {
    fn name(&self) -> &str {
        self.settings.name.as_str()
    }

    fn naming(&self) -> Naming {
        Naming::Prefixed
    }

    fn offer(&self) -> Arc<Offer> {
        self.offered.load().offer.clone()
    }

    fn is_trusted(&self, _tool: &str) -> bool {
        self.settings.config.trusted_output
    }

    fn vouches(&self, _tool: &str) -> bool {
        self.settings.config.trusted_hints
    }

    fn withheld(&self, tool: &str) -> Option<Failure> {
        let held = self.lock().held.clone();
        let (name, why) = held.tool(tool)?;
        Some(self.held_because(name, why))
    }

    fn serve<'a>(
        &'a self,
        principal: &'a Principal,
        wanted: Wanted<'a>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(self.relay(principal, wanted, context))
    }

    fn watch<'a>(&'a self, uri: &'a str, watched: Watched) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(std::future::ready(self.watches.set(self.name(), uri, watched)))
    }

    fn in_force<'a>(&'a self, uri: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if self.lock().state == State::Ready {
                self.watches.agreed(uri).await;
            }
        })
    }
}
