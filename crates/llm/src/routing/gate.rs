//! The queue in front of a model whose backends all have as many requests as they may have.
//!
//! Whoever is more urgent goes first, and among equals whoever came first; waiting makes urgent
//! ([`forebay_domain::route::rank`]). The queue is bounded in length and time. Who waits is woken by a place that was
//! left, and looks by itself now and then, since a backend can also come back by the passing of time.

use crate::{
    routing::{lease::Lease, place::Wish},
    settings::Model,
};
use forebay_domain::{
    model::Priority,
    route::{Pick, rank},
};
use forebay_runtime::{Clock, Entropy};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// How often who waits looks by itself.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// One for each model. It outlives the configuration that names it.
pub(crate) struct Gate {
    clock: Clock,
    entropy: Entropy,
    /// Held for moments only, never across an await. Whoever holds it may lock a backend's state, never the other way.
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: BTreeMap<Ticket, Waiting>,
    next: u64,
    refused: u64,
    /// When somebody who waits looked by himself last.
    looked_at: Duration,
}

/// The rank, then the order of arrival.
type Ticket = (i128, u64);

struct Waiting {
    model: Arc<Model>,
    wish: Wish,
    since: Duration,
    call: oneshot::Sender<Result<Lease, Pick>>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// None is fit to be asked, and the request said to give up then.
    AllOut,
    /// The request was at every one.
    AllTried,
    /// So many wait already; whoever waits longest has waited so long.
    QueueFull {
        longest: Duration,
    },
    WaitedTooLong(Duration),
}

/// How the queue is, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Depth {
    pub(crate) waiting: usize,
    pub(crate) refused: u64,
}

impl Gate {
    pub(crate) fn new(clock: &Clock, entropy: &Entropy) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            entropy: entropy.clone(),
            queue: Mutex::default(),
        })
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn entropy(&self) -> &Entropy {
        &self.entropy
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nobody panics with the queue")
    }

    pub(crate) fn depth(&self) -> Depth {
        let queue = self.queue();
        Depth {
            waiting: queue.waiting.len(),
            refused: queue.refused,
        }
    }

    /// A place at one of the model's backends, at once or after a wait. Dropping the future leaves the queue.
    pub(crate) async fn enter(
        &self,
        model: &Arc<Model>,
        wish: Wish,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Lease, Refusal> {
        let waiter = {
            if !model.has_limits() {
                return self.place(model, wish).map_err(Refusal::without_wait);
            }
            let mut queue = self.queue();
            // Whoever waits goes first, whoever comes.
            if queue.waiting.is_empty() {
                match self.place(model, wish) {
                    Err(Pick::AllFull) => {}
                    placed => return placed.map_err(Refusal::without_wait),
                }
            }
            self.line_up(&mut queue, model, wish, priority)?
        };
        self.grant();
        waiter.wait(model.queue_wait, deadline).await
    }

    fn place(&self, model: &Arc<Model>, wish: Wish) -> Result<Lease, Pick> {
        model.place(wish, self.now(), &self.entropy)
    }

    fn line_up(
        &self,
        queue: &mut Queue,
        model: &Arc<Model>,
        wish: Wish,
        priority: Priority,
    ) -> Result<Waiter<'_>, Refusal> {
        let now = self.now();
        if queue.waiting.len() >= model.queue_max {
            queue.refused += 1;
            let since = queue.waiting.values().map(|waiting| waiting.since).min();
            return Err(Refusal::QueueFull {
                longest: now.saturating_sub(since.unwrap_or(now)),
            });
        }
        let (call, answer) = oneshot::channel();
        let ticket = (rank(now, priority), queue.next);
        queue.next += 1;
        let waiting = Waiting {
            model: model.clone(),
            wish,
            since: now,
            call,
        };
        queue.waiting.insert(ticket, waiting);
        Ok(Waiter {
            gate: self,
            ticket,
            answer,
        })
    }

    /// One of those who wait looks for all of them, so that many do not look often.
    fn look(&self) {
        let now = self.now();
        let mut queue = self.queue();
        let is_due = now.saturating_sub(queue.looked_at) >= LOOK_EVERY;
        if is_due {
            queue.looked_at = now;
            drop(queue);
            self.grant();
        }
    }

    /// Calls up whoever has a place now.
    pub(crate) fn grant(&self) {
        while let Some((waiting, placed)) = self.next_placed() {
            // Who has gone meanwhile leaves the place, and that calls up the next.
            let _ = waiting.call.send(placed);
        }
    }

    /// The first in the queue for whom there is a decision. A lease must not be dropped in here: that locks the queue.
    fn next_placed(&self) -> Option<(Waiting, Result<Lease, Pick>)> {
        let mut queue = self.queue();
        // Where there is no place for a request that may go anywhere, there is none for any other to the same model.
        let mut full: Option<&Arc<Model>> = None;
        let (ticket, placed) = queue.waiting.iter().find_map(|(ticket, waiting)| {
            if full.is_some_and(|full| Arc::ptr_eq(full, &waiting.model)) {
                return None;
            }
            match self.place(&waiting.model, waiting.wish) {
                Err(Pick::AllFull) => {
                    if waiting.wish.tried.is_empty() {
                        full = Some(&waiting.model);
                    }
                    None
                }
                placed => Some((*ticket, placed)),
            }
        })?;
        let waiting = queue.waiting.remove(&ticket);
        Some((waiting.expect("it was found a moment ago, under the same lock"), placed))
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Refusal {
    fn without_wait(pick: Pick) -> Self {
        match pick {
            Pick::AllTried => Self::AllTried,
            // Without limits nothing is ever full: others were out on trial a moment ago.
            Pick::AllOut | Pick::AllFull | Pick::Take(_) => Self::AllOut,
        }
    }
}

/// A ticket in the hand of who waits. Dropping it leaves the queue.
struct Waiter<'g> {
    gate: &'g Gate,
    ticket: Ticket,
    answer: oneshot::Receiver<Result<Lease, Pick>>,
}

impl Waiter<'_> {
    async fn wait(mut self, at_most: Duration, deadline: Instant) -> Result<Lease, Refusal> {
        let begun = Instant::now();
        let until = (begun + at_most).min(deadline);
        loop {
            let look = (Instant::now() + LOOK_EVERY).min(until);
            match tokio::time::timeout_at(look, &mut self.answer).await {
                Ok(Ok(placed)) => return placed.map_err(Refusal::without_wait),
                // Nobody drops a call unanswered but by leaving the queue, which only this one does for itself.
                Ok(Err(_)) => return Err(Refusal::WaitedTooLong(begun.elapsed())),
                Err(_) if Instant::now() >= until => return Err(Refusal::WaitedTooLong(begun.elapsed())),
                Err(_) => self.gate.look(),
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.gate.queue().waiting.remove(&self.ticket);
    }
}
