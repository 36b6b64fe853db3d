//! The calls that are under way, so that a cancellation, a closed session or a revoked key can reach them.

use crate::{envelope::Id, session::Owner};
use forebay_domain::{
    Code, Failure,
    id::{KeyId, SessionId},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex},
};
use tokio_util::sync::CancellationToken;

/// Calls under way at once, over all clients.
const FLIGHTS_MAX: usize = 8192;
/// Calls of one principal under way at once, over all its sessions and connections.
const PER_PRINCIPAL_MAX: usize = 512;

#[derive(Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    next: u64,
    flights: HashMap<u64, Flight>,
    /// How many flights each principal has that has any.
    owners: HashMap<Owner, usize>,
}

/// One call under way.
pub(crate) struct Flight {
    pub(crate) session: Option<SessionId>,
    pub(crate) owner: Owner,
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
        let refused = |message: String| {
            let failure = Failure::new(Code::Overloaded, message);
            Err(failure.hint("Try again in a moment."))
        };
        if table.flights.len() >= FLIGHTS_MAX {
            return refused(format!("{FLIGHTS_MAX} calls are under way already."));
        }
        let own = table.owners.entry(flight.owner.clone()).or_default();
        if *own >= PER_PRINCIPAL_MAX {
            return refused(format!("{PER_PRINCIPAL_MAX} calls of this key are under way already."));
        }
        *own += 1;
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
        self.cancel_where(|flight| flight.owner.key() == Some(key));
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
        let mut table = self.flights.lock();
        let Some(flight) = table.flights.remove(&self.number) else {
            return;
        };
        if let Entry::Occupied(mut own) = table.owners.entry(flight.owner) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::{
        Principal, Role,
        id::{SubjectId, TenantId},
    };

    fn flight(key: &str) -> Flight {
        let principal = Principal {
            tenant: TenantId::try_from("t").unwrap(),
            project: None,
            subject: SubjectId::try_from("s").unwrap(),
            key: Some(KeyId::try_from(key).unwrap()),
            session: None,
            role: Role::User,
            grants: Vec::new(),
            shown: Vec::new(),
            good_until: None,
        };
        Flight {
            session: None,
            owner: Owner::from(&principal),
            id: Id::parse("1").unwrap(),
            cancel: CancellationToken::new(),
        }
    }

    #[test]
    fn no_principal_takes_the_places_of_all() {
        let flights = Flights::default();
        let mut landings: Vec<_> = (0..PER_PRINCIPAL_MAX)
            .map(|_| flights.take_off(flight("a")).unwrap())
            .collect();
        assert_eq!(flights.take_off(flight("a")).err().unwrap().code, Code::Overloaded);
        assert!(flights.take_off(flight("b")).is_ok(), "others have their own");
        landings.pop();
        assert!(flights.take_off(flight("a")).is_ok(), "one that has landed makes room");
        drop(landings);
        assert!(flights.lock().owners.is_empty(), "nothing is kept of who has no call");
    }
}
