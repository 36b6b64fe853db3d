//! The calls that are under way, so that a cancellation, a closed session or a revoked key can reach them.

use crate::envelope::Id;
use forebay_domain::{
    Code, Failure,
    id::{KeyId, SessionId},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio_util::sync::CancellationToken;

/// Calls under way at once, over all clients.
const FLIGHTS_MAX: usize = 8192;

#[derive(Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    next: u64,
    flights: HashMap<u64, Flight>,
}

/// One call under way.
pub(crate) struct Flight {
    pub(crate) session: Option<SessionId>,
    pub(crate) key: Option<KeyId>,
    pub(crate) id: Id,
    pub(crate) cancel: CancellationToken,
}

/// Takes its call off the list when dropped.
pub(crate) struct Landing {
    flights: Flights,
    number: u64,
}

impl Flights {
    pub(crate) fn take_off(&self, flight: Flight) -> Result<Landing, Failure> {
        let mut table = self.lock();
        if table.flights.len() >= FLIGHTS_MAX {
            let message = format!("{FLIGHTS_MAX} calls are under way already.");
            return Err(Failure::new(Code::Overloaded, message).hint("Try again in a moment."));
        }
        table.next += 1;
        let number = table.next;
        table.flights.insert(number, flight);
        Ok(Landing {
            flights: self.clone(),
            number,
        })
    }

    /// Cancels the call of that id, if it belongs to that session.
    pub(crate) fn cancel(&self, session: &SessionId, id: &Id) {
        self.cancel_where(|flight| flight.session.as_ref() == Some(session) && flight.id == *id);
    }

    pub(crate) fn cancel_key(&self, key: &KeyId) {
        self.cancel_where(|flight| flight.key.as_ref() == Some(key));
    }

    fn cancel_where(&self, chosen: impl Fn(&Flight) -> bool) {
        for flight in self.lock().flights.values().filter(|flight| chosen(flight)) {
            flight.cancel.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().expect("nobody panics while holding the list of calls")
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.lock().flights.remove(&self.number);
    }
}
