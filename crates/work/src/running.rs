//! The tasks that this process holds a lease of, and how long it may believe that.

use forebay_domain::{
    id::KeyId,
    task::{TaskError, TaskId},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Leases that are remembered after they were given up. By the time at which so many more were, they have lapsed.
const GIVEN_UP_MAX: usize = 4_096;

/// One task and the fencing token of its lease.
pub(crate) type Lease = (TaskId, i64);

/// What runs here. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running {
    book: Arc<Mutex<Book>>,
    /// Woken when something has ended.
    ended: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Book {
    held: HashMap<Lease, Held>,
    /// Those that were let go before the store knew how they ended, the last ones.
    given_up: VecDeque<Lease>,
}

#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) task_type: String,
    /// What its owner came with.
    key: Option<KeyId>,
    /// Its owner wants it cancelled.
    pub(crate) cancel: CancellationToken,
    /// The lease is another's, or may be: what goes on here counts for nothing any more.
    pub(crate) lost: CancellationToken,
    pub(crate) barred: Barred,
    /// Until when, on the clock that never goes back, nobody else can have it.
    until: Duration,
}

/// Its owner may do nothing any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Barred {
    why: Arc<OnceLock<TaskError>>,
    told: CancellationToken,
}

impl Barred {
    fn tell(&self, why: &TaskError) {
        // The first reason is as good as any.
        self.why.set(why.clone()).ok();
        self.told.cancel();
    }

    /// Completes once that is so, and says why.
    pub(crate) async fn why(&self) -> TaskError {
        self.told.cancelled().await;
        self.why.get().expect("the reason is there before it is told").clone()
    }
}

impl Running {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nobody panics while holding it")
    }

    /// Takes note of a claimed task; when that is let go, it runs here no more.
    pub(crate) fn begin(&self, lease: Lease, task_type: &str, key: Option<KeyId>, until: Duration) -> Begun {
        let held = Held {
            task_type: task_type.to_owned(),
            key,
            cancel: CancellationToken::new(),
            lost: CancellationToken::new(),
            barred: Barred::default(),
            until,
        };
        self.book().held.insert(lease.clone(), held.clone());
        Begun {
            running: self.clone(),
            lease,
            held,
        }
    }

    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.book().held.keys().cloned().collect()
    }

    pub(crate) fn holds(&self, id: &TaskId) -> bool {
        self.book().held.keys().any(|(held, _)| held == id)
    }

    /// Completes once nothing runs.
    pub(crate) async fn idle(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.book().held.is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// How many of each type run.
    pub(crate) fn by_type(&self) -> BTreeMap<String, usize> {
        let book = self.book();
        book.held.values().fold(BTreeMap::new(), |mut counts, held| {
            *counts.entry(held.task_type.clone()).or_default() += 1;
            counts
        })
    }

    /// The store says that this lease goes on.
    pub(crate) fn renewed(&self, lease: &Lease, until: Duration) {
        if let Some(held) = self.book().held.get_mut(lease) {
            held.until = until;
        }
    }

    pub(crate) fn cancel(&self, lease: &Lease) {
        if let Some(held) = self.book().held.get(lease) {
            held.cancel.cancel();
        }
    }

    pub(crate) fn lost(&self, lease: &Lease) {
        if let Some(held) = self.book().held.get(lease) {
            held.lost.cancel();
        }
    }

    /// Gives up those whose lease may have passed to somebody else by now.
    pub(crate) fn give_up_overdue(&self, now: Duration) {
        for held in self.book().held.values().filter(|held| held.until <= now) {
            held.lost.cancel();
        }
    }

    /// When the next of them is to be given up.
    pub(crate) fn next_overdue(&self) -> Option<Duration> {
        let book = self.book();
        let believed = book.held.values().filter(|held| !held.lost.is_cancelled());
        believed.map(|held| held.until).min()
    }

    /// The keys as whose owners something runs here.
    pub(crate) fn keys(&self) -> BTreeSet<KeyId> {
        self.book().held.values().filter_map(|held| held.key.clone()).collect()
    }

    /// Ends what runs as the owner of this key.
    pub(crate) fn bar(&self, key: &KeyId, why: &TaskError) {
        for held in self.book().held.values().filter(|held| held.key.as_ref() == Some(key)) {
            held.barred.tell(why);
        }
    }

    /// Whether this ran here, and was let go before the store knew how it ended.
    pub(crate) fn has_given_up(&self, lease: &Lease) -> bool {
        self.book().given_up.contains(lease)
    }
}

/// A task that runs here for as long as this is kept.
#[derive(Debug)]
pub(crate) struct Begun {
    running: Running,
    lease: Lease,
    pub(crate) held: Held,
}

impl Begun {
    /// Nobody knows how far it came, and the store still has it as ours.
    pub(crate) fn gives_up(&self) {
        let mut book = self.running.book();
        if book.given_up.len() >= GIVEN_UP_MAX {
            book.given_up.pop_front();
        }
        book.given_up.push_back(self.lease.clone());
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.running.book().held.remove(&self.lease);
        self.running.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_renewed_in_time_is_given_up() {
        let running = Running::default();
        let lease = |name: &str| (TaskId::try_from(name).unwrap(), 1);
        let early = running.begin(lease("a"), "x", None, Duration::from_secs(10));
        let renewed = running.begin(lease("b"), "x", None, Duration::from_secs(10));
        running.renewed(&lease("b"), Duration::from_secs(20));
        assert_eq!(running.next_overdue(), Some(Duration::from_secs(10)));
        running.give_up_overdue(Duration::from_secs(10));
        assert_eq!(
            running.next_overdue(),
            Some(Duration::from_secs(20)),
            "what is lost is no more overdue"
        );
        assert!(early.held.lost.is_cancelled());
        assert!(!renewed.held.lost.is_cancelled());
        assert_eq!(running.by_type(), BTreeMap::from([("x".to_owned(), 2)]));
        early.gives_up();
        drop((early, renewed));
        assert!(running.leases().is_empty());
        assert!(running.has_given_up(&lease("a")) && !running.has_given_up(&lease("b")));
    }

    #[tokio::test]
    async fn whoever_may_nothing_any_more_is_told_why() {
        let running = Running::default();
        let key = |name: &str| Some(KeyId::try_from(name).unwrap());
        let [ann, bob] = ["ann", "bob"].map(|name| {
            let lease = (TaskId::try_from(name).unwrap(), 1);
            running.begin(lease, "x", key(name), Duration::MAX)
        });
        assert_eq!(running.keys().len(), 2);
        let why = TaskError::new("revoked_key", "no", None);
        running.bar(&key("ann").unwrap(), &why);
        assert_eq!(ann.held.barred.why().await, why);
        assert!(ann.held.barred.told.is_cancelled() && !bob.held.barred.told.is_cancelled());
    }
}
