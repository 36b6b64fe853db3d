//! Everything about a request but the request itself.

use super::state::State;
use crate::{
    call::{CallContext, Client, Retry},
    index::Scope,
    rpc::Dialect,
    session::Session,
};
use forebay_domain::{Principal, event::Surface, id::TraceId, port::Via};
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub(crate) struct Turn {
    pub(crate) dialect: Dialect,
    pub(crate) scope: Scope,
    pub(crate) principal: Principal,
    pub(crate) trace: TraceId,
    pub(crate) cancel: CancellationToken,
    pub(crate) client: Client,
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) again: Option<Again>,
}

/// What a client brings along that comes back with answers (2026-07-28).
#[derive(Debug, Clone)]
pub(crate) struct Again {
    pub(crate) responses: Option<Box<RawValue>>,
    pub(crate) state: Option<State>,
}

impl Turn {
    pub(crate) fn context(&self, retry: Option<Retry>) -> CallContext {
        CallContext {
            via: Via {
                surface: Surface::Mcp,
                trace: self.trace,
                in_task: false,
            },
            cancel: self.cancel.clone(),
            deadline: None,
            client: self.client.clone(),
            retry,
            cost: None,
        }
    }

    /// What the source is to know of earlier rounds.
    pub(crate) fn retry(&self) -> Option<Retry> {
        let again = self.again.as_ref()?;
        let request_state = match &again.state {
            Some(State::Source(state)) => Some(state.clone()),
            Some(State::Parked(_)) | None => None,
        };
        Some(Retry {
            input_responses: again.responses.clone(),
            request_state,
        })
    }
}
