//! The built-in server `compose`: many calls in one, one call after another, and finding a tool among thousands.
//!
//! It calls tools as everybody does, through `Catalogue::call` with the caller's own principal: grants, limits, times and
//! records are each inner call's own. It refuses to call itself, so there is one level and no more.

mod batch;
mod chain;
mod definition;
mod inner;
mod pace;
mod pointer;
mod reference;
mod relay;
mod report;
mod search;

use crate::{
    call::{CallContext, Outcome},
    catalogue::{Catalogue, WeakCatalogue},
    source::{Hints, Naming, Offer, Source, Tool, Wanted},
    tools::{Definition, Schema},
};
use forebay_domain::{Code, Failure, Principal, port::BoxFuture};
use inner::Inner;
use search::Search;
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};

/// The name of the server.
pub const NAME: &str = "compose";

/// The one of its tools that every list shows to whoever may use it, however few tools are shown otherwise: it finds the
/// others.
pub const SEARCH_TOOLS: &str = "search_tools";

/// How long a batch or a chain may take as a whole, where its caller sets no limit.
const TIME_LIMIT: Duration = Duration::from_mins(10);

/// What is left of the time to hand over what there is by then.
const GRACE: Duration = Duration::from_secs(5);

/// What policies hear of these tools. They do nothing by themselves: each inner call is held against the policy under
/// its own name and with its own effects, so a key that may destroy nothing destroys nothing this way either, and keeps
/// the use of them for the rest. (A turn judges more than that policy by the name of a call, so in turns they are not to
/// be had: see [`crate::port`].) What clients are told, in the annotations, is what may happen in all.
const POLICY_HINTS: Hints = Hints {
    read_only: true,
    destructive: false,
    idempotent: false,
    open_world: false,
};

/// The tools of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Batch,
    Chain,
    Search,
}

/// The names of these tools.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    Own::ALL.into_iter().map(Own::name)
}

impl Own {
    const ALL: [Self; 3] = [Self::Batch, Self::Chain, Self::Search];

    fn name(self) -> &'static str {
        match self {
            Self::Batch => "call_batch",
            Self::Chain => "call_chain",
            Self::Search => SEARCH_TOOLS,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.name() == name)
    }

    fn definition(self) -> Definition {
        match self {
            Self::Batch => definition::batch(),
            Self::Chain => definition::chain(),
            Self::Search => definition::search(),
        }
    }

    /// The definition as the protocol writes it.
    fn to_raw(self) -> Box<RawValue> {
        match self {
            Self::Batch | Self::Chain => definition::as_risky_as_what_it_calls(&self.definition()),
            Self::Search => self.definition().to_raw(),
        }
    }

    fn time_limit(self) -> Duration {
        match self {
            Self::Batch | Self::Chain => TIME_LIMIT + GRACE,
            Self::Search => Duration::from_mins(1),
        }
    }
}

/// Whether the tool of this name calls other tools.
pub(crate) fn calls_others(name: &str) -> bool {
    match Own::named(name) {
        Some(Own::Batch | Own::Chain) => true,
        Some(Own::Search) | None => false,
    }
}

/// Whether this is the name of one of its tools.
pub(crate) fn is_own(name: &str) -> bool {
    Own::named(name).is_some()
}

/// The server, which knows the catalogue that it is part of.
pub(crate) struct Compose {
    catalogue: WeakCatalogue,
    offer: Arc<Offer>,
    schemas: [Schema; Own::ALL.len()],
    search: Search,
}

impl Compose {
    pub(crate) fn new(catalogue: WeakCatalogue) -> Result<Self, Failure> {
        let tool = |own: Own| {
            Arc::new(Tool {
                name: own.name().to_owned(),
                raw: own.to_raw(),
                hints: POLICY_HINTS,
                headers: Vec::new(),
                time_limit: own.time_limit(),
            })
        };
        let schema = |own: Own| Schema::of(&own.definition());
        Ok(Self {
            catalogue,
            offer: Arc::new(Offer {
                tools: Own::ALL.map(tool).into(),
                ..Offer::default()
            }),
            schemas: [schema(Own::Batch)?, schema(Own::Chain)?, schema(Own::Search)?],
            search: Search::default(),
        })
    }

    async fn call(
        &self,
        principal: &Principal,
        name: &str,
        arguments: &RawValue,
        context: CallContext,
    ) -> Result<Outcome, Failure> {
        let gone = || Failure::new(Code::UnknownTool, "This tool has just been taken away.");
        let own = Own::named(name).ok_or_else(gone)?;
        let catalogue: Catalogue = self.catalogue.upgrade().ok_or_else(gone)?;
        let read = self.schemas[own as usize].read(arguments)?;
        match own {
            Own::Batch => {
                let limit = limit(&context);
                let inner = Inner::new(catalogue, principal, context);
                let at_once = read["concurrency"].as_u64();
                Box::pin(batch::run(&inner, (arguments, at_once), limit)).await
            }
            Own::Chain => {
                let limit = limit(&context);
                let inner = Inner::new(catalogue, principal, context);
                Box::pin(chain::run(&inner, arguments, limit)).await
            }
            Own::Search => self.search.run(&catalogue, principal, read).await,
        }
    }
}

/// The time for the inner calls: a little less than for the whole, so that what is there by then can be handed over.
fn limit(context: &CallContext) -> Duration {
    let whole = context.deadline.unwrap_or(TIME_LIMIT + GRACE);
    whole.saturating_sub(GRACE.min(whole / 10))
}

/// Calls and steps as they were written, so that tools get their arguments as they came.
fn parsed<'a, T: serde::Deserialize<'a>>(arguments: &'a RawValue) -> Result<T, Failure> {
    serde_json::from_str(arguments.get())
        .map_err(|_| Failure::new(Code::InvalidArguments, "No name may stand twice in one object."))
}

impl Source for Compose {
    fn name(&self) -> &str {
        NAME
    }

    fn naming(&self) -> Naming {
        Naming::Bare
    }

    fn offer(&self) -> Arc<Offer> {
        self.offer.clone()
    }

    fn vouches(&self, _tool: &str) -> bool {
        true
    }

    fn serve<'a>(
        &'a self,
        principal: &'a Principal,
        wanted: Wanted<'a>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(async move {
            match wanted {
                Wanted::Tool { name, arguments, .. } => self.call(principal, name, arguments, context).await,
                Wanted::Resource { .. } | Wanted::Prompt { .. } | Wanted::Completion { .. } => Err(Failure::new(
                    Code::UnknownMethod,
                    "The server `compose` has no such thing.",
                )),
            }
        })
    }
}
