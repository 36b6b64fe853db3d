//! Calls that wait for their client to come back with answers (2026-07-28).
//!
//! A caretaker task drives such a call meanwhile, so that what else it does goes on. Whoever brings the right state gets
//! the call; nobody else does. One that is not fetched in time is dropped, which cancels it.

use super::{
    Front,
    running::Running,
    state::{About, STATE_TTL, State},
};
use crate::{
    index::Scope,
    rpc::{Answered, Dialect, answered, failed, object},
    session::Owner,
};
use forebay_domain::{Code, Failure};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::oneshot;

/// Calls of one principal that wait at most; the oldest one makes room.
const PARKED_PER_PRINCIPAL_MAX: usize = 32;
/// Calls that wait at most, over all principals.
const PARKED_MAX: usize = 1024;
/// Random bytes of the number under which a call waits.
const NUMBER_BYTES: usize = 16;

/// Whose a call is and what it is about: only the same request of the same caller takes it up again.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(crate) owner: Owner,
    pub(crate) scope: Scope,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) dialect: Dialect,
}

impl Ticket {
    pub(crate) fn about(&self) -> About<'_> {
        About {
            owner: &self.owner,
            scope: &self.scope,
            method: &self.method,
            target: &self.target,
        }
    }
}

#[derive(Clone, Default)]
pub(crate) struct Parked(Arc<Mutex<HashMap<String, Place>>>);

struct Place {
    owner: Owner,
    order: u64,
    /// Dropping it tells the caretaker that nobody will come.
    fetch: oneshot::Sender<oneshot::Sender<Running>>,
}

impl Parked {
    fn admit(&self, number: String, owner: Owner) -> Result<oneshot::Receiver<oneshot::Sender<Running>>, Failure> {
        let mut places = self.lock();
        let theirs = || places.iter().filter(|(_, place)| place.owner == owner);
        if theirs().count() >= PARKED_PER_PRINCIPAL_MAX {
            let oldest = theirs()
                .min_by_key(|(_, place)| place.order)
                .map(|(number, _)| number.clone());
            oldest.and_then(|oldest| places.remove(&oldest));
        }
        if places.len() >= PARKED_MAX {
            let message = format!("{PARKED_MAX} calls wait for answers of their clients already.");
            return Err(Failure::new(Code::Overloaded, message).hint("Try again in a moment."));
        }
        let (fetch, fetched) = oneshot::channel();
        let order = places.values().map(|place| place.order + 1).max().unwrap_or_default();
        places.insert(number, Place { owner, order, fetch });
        Ok(fetched)
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn forget(&self, number: &str) {
        self.lock().remove(number);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.0.lock().expect("nobody panics while holding the parked calls")
    }
}

impl Front {
    /// Leaves a call with a caretaker, and answers with what it asks.
    pub(crate) fn park(&self, running: Running, ticket: &Ticket) -> Answered {
        let number = hex::encode(self.entropy().bytes::<NUMBER_BYTES>());
        let fetched = match self.parked().admit(number.clone(), ticket.owner.clone()) {
            Ok(fetched) => fetched,
            Err(failure) => return failed(Some(running.id()), &failure, ticket.dialect),
        };
        let state = self.states().sign(State::Parked(number.clone()), ticket.about());
        let state = serde_json::Value::from(state).to_string();
        let result = object(&[
            ("resultType", "\"input_required\""),
            ("_meta", self.signature()),
            ("inputRequests", &running.questions()),
            ("requestState", &state),
        ]);
        let answer = answered(running.id(), &Ok(result), ticket.dialect);
        self.take_care(running, number, fetched);
        answer
    }

    fn take_care(&self, mut running: Running, number: String, fetched: oneshot::Receiver<oneshot::Sender<Running>>) {
        let parked = self.parked().clone();
        self.tasks().spawn("mcp parked call", |stop| async move {
            let patience = tokio::time::sleep(STATE_TTL);
            tokio::pin!(patience, fetched);
            let mut ended = false;
            loop {
                tokio::select! {
                    biased;
                    somebody = &mut fetched => {
                        if let Ok(somebody) = somebody {
                            // Whoever fetched it may be gone already; then it is dropped, as with any other request.
                            let _gone = somebody.send(running);
                        }
                        return;
                    }
                    () = running.tend(), if !ended => {
                        ended = true;
                        if running.was_cancelled() {
                            break;
                        }
                    }
                    () = &mut patience => break,
                    () = stop.draining() => break,
                }
            }
            parked.forget(&number);
        });
    }

    /// The call that waits under this number, if it still does.
    pub(crate) async fn fetch(&self, number: &str) -> Result<Running, Failure> {
        let gone = || {
            Failure::new(
                Code::InvalidRequestState,
                "The call that asked is not waiting any more.",
            )
            .hint("Begin again without `requestState`.")
        };
        let place = self.parked().lock().remove(number).ok_or_else(gone)?;
        let (give, given) = oneshot::channel();
        place.fetch.send(give).map_err(|_| gone())?;
        given.await.map_err(|_| gone())
    }
}
