//! What an upstream says, and whom it concerns: the answer to a request, a question to our side, progress, a change.

use super::{
    super::{
        ACKNOWLEDGED, ClientFault, Tenancy,
        heard::says_change,
        wire::{self, Arrived, Unreadable},
    },
    Core, Kind, Via, empty,
};
use crate::{
    call::{Emission, Question, RpcError},
    envelope::Id,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How long a question may wait for its answer.
const QUESTION_WAIT_MAX: Duration = Duration::from_hours(1);
/// A progress or log message beyond this is dropped.
const EMISSION_BYTES_MAX: usize = 1 << 20;

const METHOD_NOT_FOUND: i64 = -32601;
const SERVER_BUSY: i64 = -32000;

impl Core {
    /// Reads what came, and gives each message to whom it concerns.
    pub(in crate::client) fn take(self: &Arc<Self>, bytes: &[u8], via: Via) {
        wire::read(bytes, |arrived| match arrived {
            Ok(Arrived::Answer { id, outcome }) => self.take_answer(id, outcome, via),
            Ok(Arrived::Request { id, method, params }) => self.take_question(id, method, params, via),
            Ok(Arrived::Notification { method, params }) => self.take_notification(method, params, via),
            Err(unreadable) => self.take_junk(&unreadable, via),
        });
    }

    fn take_answer(&self, id: Option<u64>, outcome: Result<Box<RawValue>, RpcError>, via: Via) {
        // An error without an id, alone on the answer to a request, can only mean that request.
        let id = match (id, via) {
            (None, Via::Of(request)) if outcome.is_err() => Some(request),
            (id, _) => id,
        };
        self.settle(id, outcome.map_err(ClientFault::Refused));
    }

    fn take_junk(&self, unreadable: &Unreadable, via: Via) {
        Self::count(&self.counters.junk, unreadable.why);
        let alone = match via {
            Via::Shared => None,
            Via::Of(request) => Some(request),
        };
        let id = unreadable
            .id
            .filter(|id| self.table().waiting.contains_key(id))
            .or(alone);
        if id.is_some() {
            self.fail(id, ClientFault::Protocol(unreadable.why.to_owned()));
        }
    }

    fn take_notification(&self, method: String, params: Option<Box<RawValue>>, via: Via) {
        let params = params.unwrap_or_else(empty);
        match method.as_str() {
            "notifications/progress" => match self.asker_of(&params, via) {
                Some(emissions) => self.emit(&emissions, Emission::Progress(params)),
                None => self.count_dropped(),
            },
            "notifications/message" => match self.asker(via) {
                Some(emissions) => self.emit(&emissions, Emission::Log(params)),
                None => self.listener.put(Emission::Log(params)),
            },
            "notifications/cancelled" => self.take_cancellation(&params),
            // How tasks of the upstream stand is asked for, and their names mean nothing to whoever called.
            "notifications/tasks" | "notifications/tasks/status" => {}
            ACKNOWLEDGED => self.listener.put(Emission::Notification { method, params }),
            changed if says_change(changed) => self.listener.put(Emission::Notification { method, params }),
            _ => match self.asker(via) {
                Some(emissions) => self.emit(&emissions, Emission::Notification { method, params }),
                None => self.listener.put(Emission::Notification { method, params }),
            },
        }
    }

    /// In the older versions an upstream takes back its own question; in the modern one it ends a subscription.
    fn take_cancellation(&self, params: &RawValue) {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow, rename = "requestId")]
            request_id: Option<&'a RawValue>,
        }
        let named: Option<Named<'_>> = serde_json::from_str(params.get()).ok();
        let Some(raw) = named.and_then(|named| named.request_id) else {
            return;
        };
        if self.is_modern() {
            let id = raw.get().parse().ok();
            self.fail(id, ClientFault::broken("the upstream ended it"));
        } else if let Some(id) = Id::parse(raw.get())
            && let Some(cancel) = self.table().asked.remove(&id)
        {
            cancel.cancel();
        }
    }

    fn take_question(self: &Arc<Self>, id: Id, method: String, params: Option<Box<RawValue>>, via: Via) {
        if self.is_modern() {
            // No request goes this way any more, and no answer would be allowed.
            return Self::count(&self.counters.strange, "a request of an upstream");
        }
        if method == "ping" {
            return self.post(wire::answer(&id, &Ok(empty())));
        }
        let Ok(permit) = self.questions.clone().try_acquire_owned() else {
            return self.post(wire::answer(
                &id,
                &Err(error(SERVER_BUSY, "Too many questions wait already.")),
            ));
        };
        let unknown = error(METHOD_NOT_FOUND, &format!("Nobody here answers `{method}`."));
        let (reply, answer) = oneshot::channel();
        let question = Emission::Question(Question { method, params, reply });
        match self.asker(via) {
            Some(emissions) => self.emit(&emissions, question),
            None => self.listener.put(question),
        }
        let cancel = CancellationToken::new();
        self.table().asked.insert(id.clone(), cancel.clone());
        let core = self.clone();
        self.tasks.spawn("mcp-question", move |_stop| async move {
            let outcome = tokio::select! {
                biased;
                () = core.ended.cancelled() => None,
                () = cancel.cancelled() => None,
                answered = answer => Some(answered.unwrap_or(Err(unknown))),
                () = tokio::time::sleep(QUESTION_WAIT_MAX) => Some(Err(unknown)),
            };
            core.table().asked.remove(&id);
            if let Some(outcome) = outcome {
                // The connection may end in this moment; then nobody waits for the answer either.
                let _unsent = core.out.send(wire::answer(&id, &outcome)).await;
            }
            drop(permit);
        });
    }

    /// Whose progress this is: the request whose id the token is.
    fn asker_of(&self, params: &RawValue, via: Via) -> Option<mpsc::Sender<Emission>> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(rename = "progressToken")]
            token: u64,
        }
        let named: Option<Named> = serde_json::from_str(params.get()).ok();
        let id = match (named, via) {
            (Some(named), _) => named.token,
            (None, Via::Of(request)) => request,
            (None, Via::Shared) => return None,
        };
        self.table().waiting.get(&id)?.emissions.clone()
    }

    /// Who hears what came this way.
    fn asker(&self, via: Via) -> Option<mpsc::Sender<Emission>> {
        let table = self.table();
        match (via, self.tenancy) {
            (Via::Of(id), _) => table.waiting.get(&id)?.emissions.clone(),
            (Via::Shared, Tenancy::OneCaller) => {
                let calls = table
                    .waiting
                    .iter()
                    .filter(|(_, waiting)| waiting.kind != Kind::Standing);
                calls
                    .filter_map(|(id, waiting)| Some((id, waiting.emissions.as_ref()?)))
                    .max_by_key(|(id, _)| **id)
                    .map(|(_, emissions)| emissions.clone())
            }
            // Not even where one call alone is under way: it may be meant for one that was given up a moment ago.
            (Via::Shared, Tenancy::ManyCallers) => None,
        }
    }

    fn emit(&self, emissions: &mpsc::Sender<Emission>, emission: Emission) {
        let too_long = match &emission {
            Emission::Progress(params) | Emission::Log(params) | Emission::Notification { params, .. } => {
                params.get().len() > EMISSION_BYTES_MAX
            }
            Emission::Question(_) | Emission::Hangup => false,
        };
        // A question that finds no room is dropped like the rest: its sender learns that nobody answers.
        if too_long || emissions.try_send(emission).is_err() {
            self.count_dropped();
        }
    }
}

fn error(code: i64, message: &str) -> RpcError {
    RpcError {
        code,
        message: message.to_owned(),
        data: None,
    }
}
