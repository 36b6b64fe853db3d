//! What the store refuses just now, said once: a database that is away is away for all that is done with it.

use std::{
    collections::BTreeSet,
    fmt::Display,
    sync::{Mutex, MutexGuard},
};
use tracing::{info, warn};

/// What was tried last in vain.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<BTreeSet<&'static str>>);

impl Faults {
    /// Something could not be done. The first of all is a warning, and whoever joins it says nothing.
    pub(crate) fn met(&self, what: &'static str, error: &dyn Display) {
        let mut faulty = self.faulty();
        if faulty.is_empty() {
            warn!(what, %error, "the database does not take what is done with tasks; that is tried again");
        }
        faulty.insert(what);
    }

    /// It could be done again, or is not wanted any more.
    pub(crate) fn passed(&self, what: &'static str) {
        let mut faulty = self.faulty();
        if faulty.remove(what) && faulty.is_empty() {
            info!("the database takes everything about tasks again");
        }
    }

    fn faulty(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}
