//! One inner call: the same door as for everybody, and what came of it.

use super::{NAME, Own, pace::Pace, relay::Relay, report::Ended};
use crate::{
    call::{CallContext, Client, Outcome},
    catalogue::{Call, Catalogue},
};
use forebay_domain::{Code, Failure, Principal, port::Via};
use serde_json::value::RawValue;
use std::{pin::pin, time::Duration};
use tokio_util::sync::{CancellationToken, DropGuard};

/// On whose behalf inner calls are made, and for whom.
pub(super) struct Inner<'a> {
    catalogue: Catalogue,
    principal: &'a Principal,
    via: Via,
    cancel: CancellationToken,
    pub(super) client: Client,
    /// Whatever drops the whole takes the inner calls back, those too that somebody else finishes for us.
    _ended: DropGuard,
}

impl<'a> Inner<'a> {
    pub(super) fn new(catalogue: Catalogue, principal: &'a Principal, context: CallContext) -> Self {
        let cancel = context.cancel.child_token();
        Self {
            catalogue,
            principal,
            via: context.via,
            _ended: cancel.clone().drop_guard(),
            cancel,
            client: context.client,
        }
    }

    /// Calls a tool, and tells the client on the way.
    pub(super) async fn call(&self, pace: &Pace, tool: &str, arguments: &RawValue) -> Ended {
        if Own::named(tool).is_some() {
            return Ended::Failed(nested(tool));
        }
        let call = Call::of(tool, arguments);
        let result = match Relay::to(&self.client) {
            None => {
                let context = self.context(self.client.clone());
                self.catalogue.call(self.principal, call, context).await
            }
            Some(mut relay) => {
                let context = self.context(relay.client());
                let call = pin!(self.catalogue.call(self.principal, call, context));
                relay.carry(call, |inner| pace.within(tool, inner)).await
            }
        };
        ended(tool, result)
    }

    fn context(&self, client: Client) -> CallContext {
        CallContext {
            via: self.via,
            cancel: self.cancel.clone(),
            // Each tool has its own limit, and the whole has one of its own.
            deadline: None,
            client,
            retry: None,
            cost: None,
        }
    }

    /// Ends when the time of the whole is over. The time in which a person thinks about a question is not its own.
    pub(super) async fn time_over(&self, limit: Duration) {
        loop {
            tokio::time::sleep(limit).await;
            if !self.client.is_being_asked() {
                return;
            }
        }
    }
}

fn ended(tool: &str, result: Result<Outcome, Failure>) -> Ended {
    match result {
        Ok(Outcome::Complete(complete)) if complete.is_error => Ended::ToolError(complete.raw),
        Ok(Outcome::Complete(complete)) => Ended::Ok(complete.raw),
        Ok(Outcome::InputRequired(_)) => {
            let message = format!("`{tool}` asks for input before it goes on, which a call among others cannot give.");
            Ended::Failed(Failure::new(Code::ClientSilent, message).hint("Call it directly."))
        }
        Ok(Outcome::Refused(error)) => Ended::Failed(error.into()),
        Ok(Outcome::Cancelled) => Ended::Failed(Failure::new(Code::Cancelled, "The call was taken back.")),
        Err(failure) => Ended::Failed(failure),
    }
}

fn nested(tool: &str) -> Failure {
    let message = format!("`{tool}` belongs to the server `{NAME}`, whose tools cannot be called by one another.");
    Failure::new(Code::InvalidArguments, message).hint("Call it directly, or put its calls into this one.")
}
