//! The one loop driver: observe → decide → act, on a timer and on a nudge.
//!
//! **Loops take no input.** A [`Nudge`] says only "look now", never what to look at, and so it can be lost, doubled or
//! coalesced without harm. Whatever a loop needs to know it observes afresh in each pass. This buys three things:
//! a pass is idempotent, so that it can be killed at any line and the next one repairs the rest; what a restart finds
//! and what a nudge finds are the same thing, so that there is no second path that is exercised only after a crash; and
//! the hard part, [`Loop::decide`], is a pure function that plain values test.
//!
//! The driver refuses to queue work, to run two passes at once, and to let a pass run for ever.

use crate::{Entropy, Stop, Tasks};
use forebay_domain::{Code, Failure};
use futures_util::FutureExt;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{sync::Notify, time};
use tracing::{Instrument, debug, debug_span, info, warn};

/// A pass that takes longer is given up; the next one begins afresh.
const PASS_MAX: Duration = Duration::from_mins(5);
/// The wait after the first failed pass, unless the period is shorter; it doubles with each further one.
const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_mins(1);
/// A loop that looks often notices soon that the fault is gone: it waits at most so many periods.
const BACK_OFF_PERIODS_MAX: u32 = 8;

/// Something that keeps the world as it should be.
pub trait Loop: Send + 'static {
    /// What one look at the world shows.
    type Seen: Send;
    /// One thing to do about it.
    type Action: Send;

    fn name(&self) -> &'static str;

    /// Looks at the world. Everything that `decide` needs is in what this returns.
    fn observe(&mut self) -> impl Future<Output = Result<Self::Seen, Failure>> + Send;

    /// What is to be done. Pure: no clock, no randomness, no I/O.
    fn decide(&self, seen: &Self::Seen) -> Vec<Self::Action>;

    /// Does one thing. It may be done twice, since a pass that broke off is repeated.
    fn act(&mut self, action: Self::Action) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Asks a loop to look now. Never blocks; any number of nudges before the next pass are one.
#[derive(Debug, Clone, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn nudge(&self) {
        self.0.notify_one();
    }

    async fn nudged(&self) {
        self.0.notified().await;
    }

    /// Forgets what came before: the pass that begins now sees whatever those nudges were about.
    fn forget(&self) {
        self.0.notified().now_or_never();
    }
}

/// Runs a loop until draining begins: a pass at once, then one each `period` and one after each nudge.
///
/// A failed pass is tried again after a wait that grows and is jittered; nudges do not shorten that wait. A fault is
/// logged once when it begins and once when it is over, not on every pass. Draining lets the action that is under way
/// finish, and begins no other.
pub fn drive(tasks: &Tasks, work: impl Loop, period: Duration, nudge: Nudge) {
    // The randomness here decides nothing but when a failed pass is repeated, so nobody needs to choose it.
    drive_with(tasks, work, period, nudge, Entropy::system());
}

fn drive_with(tasks: &Tasks, mut work: impl Loop, period: Duration, nudge: Nudge, entropy: Entropy) {
    tasks.spawn(work.name(), move |stop| async move {
        let mut failures_in_a_row = 0;
        while !stop.is_draining() {
            nudge.forget();
            // In a box, since a pass is seldom under way, and takes tens of kilobytes where it works with the database.
            let outcome = Box::pin(pass(&mut work, &stop)).await;
            failures_in_a_row = tell(work.name(), &outcome, failures_in_a_row);
            if failures_in_a_row > 0 {
                tokio::select! {
                    () = time::sleep(back_off(failures_in_a_row, period, &entropy)) => {}
                    () = stop.draining() => {}
                }
            } else {
                tokio::select! {
                    () = time::sleep(period) => {}
                    () = nudge.nudged() => {}
                    () = stop.draining() => {}
                }
            }
        }
    });
}

/// Why a pass failed: its first failure, and how many of its actions failed.
struct Broken {
    first: Box<Failure>,
    failed_actions: usize,
}

async fn pass(work: &mut impl Loop, stop: &Stop) -> Result<(), Broken> {
    let span = debug_span!("loop.pass", loop.name = work.name());
    let whole = async {
        let seen = work.observe().await.map_err(|failure| Broken {
            first: Box::new(failure),
            failed_actions: 0,
        })?;
        let actions = work.decide(&seen);
        drop(seen);
        act_on(work, actions, stop).await
    };
    time::timeout(PASS_MAX, whole.instrument(span))
        .await
        .unwrap_or_else(|_| {
            let message = format!("a pass took longer than {} s and was given up", PASS_MAX.as_secs());
            Err(Broken {
                first: Box::new(Failure::new(Code::InternalError, message)),
                failed_actions: 0,
            })
        })
}

/// Does all of it: one action that fails does not keep the others waiting.
async fn act_on<L: Loop>(work: &mut L, actions: Vec<L::Action>, stop: &Stop) -> Result<(), Broken> {
    let mut broken: Option<Broken> = None;
    for action in actions {
        if stop.is_draining() {
            break;
        }
        if let Err(failure) = work.act(action).await {
            let earlier = broken.get_or_insert(Broken {
                first: Box::new(failure),
                failed_actions: 0,
            });
            earlier.failed_actions += 1;
        }
    }
    broken.map_or(Ok(()), Err)
}

/// Logs the beginning of a fault, and its end. Returns how many passes failed in a row.
fn tell(name: &'static str, outcome: &Result<(), Broken>, failures_in_a_row: u32) -> u32 {
    match outcome {
        Ok(()) => {
            if failures_in_a_row > 0 {
                info!(loop.name = name, failures_in_a_row, "loop works again");
            }
            0
        }
        Err(Broken { first, failed_actions }) => {
            let (error, code) = (first.chain(), first.code.as_str());
            if failures_in_a_row == 0 {
                warn!(loop.name = name, error.code = code, error, failed_actions, "loop pass failed");
            } else {
                debug!(loop.name = name, error.code = code, error, failed_actions, "loop pass failed again");
            }
            failures_in_a_row.saturating_add(1)
        }
    }
}

/// Between half of the doubling wait and the whole of it, so that replicas that failed together do not return together.
fn back_off(failures_in_a_row: u32, period: Duration, entropy: &Entropy) -> Duration {
    let whole = longest_back_off(failures_in_a_row, period);
    let half = whole / 2;
    let half_us = u64::try_from(half.as_micros()).expect("half a minute is a small number of microseconds");
    half + Duration::from_micros(entropy.below(half_us + 1))
}

fn longest_back_off(failures_in_a_row: u32, period: Duration) -> Duration {
    let doublings = failures_in_a_row.saturating_sub(1).min(16);
    BACK_OFF_FIRST
        .min(period)
        .saturating_mul(1 << doublings)
        .min(BACK_OFF_MAX)
        .min(period.saturating_mul(BACK_OFF_PERIODS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::time::Instant;

    /// A world that is a list of things left to do; some of them fail while `broken` is set.
    #[derive(Default)]
    struct World {
        left: Vec<u32>,
        done: Vec<u32>,
        passes_at: Vec<Instant>,
        broken: bool,
        hangs: bool,
    }

    #[derive(Clone, Default)]
    struct Worker(Arc<Mutex<World>>, Arc<Notify>);

    impl Worker {
        fn world(&self) -> std::sync::MutexGuard<'_, World> {
            self.0.lock().unwrap()
        }

        /// Waits until so many passes began.
        async fn passes(&self, count: usize) {
            while self.world().passes_at.len() < count {
                self.1.notified().await;
            }
        }
    }

    impl Loop for Worker {
        type Seen = Vec<u32>;
        type Action = u32;

        fn name(&self) -> &'static str {
            "worker"
        }

        async fn observe(&mut self) -> Result<Vec<u32>, Failure> {
            let hangs = {
                let mut world = self.world();
                world.passes_at.push(Instant::now());
                world.hangs
            };
            self.1.notify_one();
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(self.world().left.clone())
        }

        fn decide(&self, seen: &Vec<u32>) -> Vec<u32> {
            seen.clone()
        }

        async fn act(&mut self, action: u32) -> Result<(), Failure> {
            let mut world = self.world();
            if world.broken && action.is_multiple_of(2) {
                return Err(Failure::new(Code::UpstreamFailed, "even things fail"));
            }
            world.left.retain(|left| *left != action);
            world.done.push(action);
            Ok(())
        }
    }

    const PERIOD: Duration = Duration::from_secs(30);

    fn start(worker: &Worker) -> (Tasks, Nudge) {
        let (tasks, nudge) = (Tasks::new(), Nudge::new());
        drive_with(&tasks, worker.clone(), PERIOD, nudge.clone(), Entropy::seeded(7));
        (tasks, nudge)
    }

    #[tokio::test(start_paused = true)]
    async fn it_runs_at_once_then_each_period_and_on_a_nudge() {
        let worker = Worker::default();
        let (tasks, nudge) = start(&worker);
        worker.passes(2).await;
        let second = worker.world().passes_at[1];
        let waited = second - worker.world().passes_at[0];
        assert_eq!(waited.as_secs(), PERIOD.as_secs());

        worker.world().left.push(1);
        for _ in 0..100 {
            nudge.nudge();
        }
        worker.passes(4).await;
        let passes_at = worker.world().passes_at.clone();
        assert!(
            passes_at[2] - second < PERIOD / 10,
            "a nudge does not wait for the timer"
        );
        assert_eq!(
            (passes_at[3] - passes_at[2]).as_secs(),
            PERIOD.as_secs(),
            "a hundred nudges are one"
        );
        assert_eq!(worker.world().done, [1]);
        assert!(tasks.shut_down(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_pass_does_the_rest_backs_off_and_repairs_itself() {
        let worker = Worker::default();
        worker.world().left.extend([1, 2, 3]);
        worker.world().broken = true;
        let (tasks, nudge) = start(&worker);
        for count in 1..12 {
            nudge.nudge();
            worker.passes(count).await;
        }
        assert_eq!(worker.world().done, [1, 3], "what does not fail is done all the same");
        let passes_at = worker.world().passes_at.clone();
        for (failures, pair) in (1..).zip(passes_at.windows(2)) {
            let (waited, longest) = (pair[1] - pair[0], longest_back_off(failures, PERIOD));
            assert!(waited >= longest / 2, "{failures}: {waited:?}");
            assert!(waited <= longest + Duration::from_millis(2), "{failures}: {waited:?}");
        }

        worker.world().broken = false;
        worker.passes(passes_at.len() + 2).await;
        assert_eq!(worker.world().done, [1, 3, 2]);
        assert!(tasks.shut_down(Duration::from_secs(1)).await);
    }

    #[test]
    fn the_back_off_doubles_up_to_a_bound_that_depends_on_the_period() {
        let seconds = |failures, period| longest_back_off(failures, Duration::from_secs(period)).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(|n| seconds(n, 1)), [1, 2, 4, 8, 8, 8]);
        assert_eq!([1, 6, 7, 8, u32::MAX].map(|n| seconds(n, 3600)), [1, 32, 60, 60, 60]);
        assert_eq!(
            longest_back_off(9, Duration::from_millis(10)),
            Duration::from_millis(80)
        );
        assert_eq!(longest_back_off(9, Duration::MAX), BACK_OFF_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_hangs_is_given_up() {
        let worker = Worker::default();
        worker.world().hangs = true;
        let (tasks, _nudge) = start(&worker);
        worker.passes(1).await;
        worker.world().left.push(5);
        worker.world().hangs = false;
        worker.passes(3).await;
        assert_eq!(worker.world().done, [5]);
        assert!(tasks.shut_down(Duration::from_secs(1)).await);
    }

    /// Its first action asks to drain, so that the second must not run.
    struct DrainsItself(Tasks, Arc<Mutex<u32>>);

    impl Loop for DrainsItself {
        type Seen = ();
        type Action = ();

        fn name(&self) -> &'static str {
            "drains_itself"
        }

        async fn observe(&mut self) -> Result<(), Failure> {
            Ok(())
        }

        fn decide(&self, (): &()) -> Vec<()> {
            vec![(), ()]
        }

        async fn act(&mut self, (): ()) -> Result<(), Failure> {
            self.0.stop().drain();
            time::sleep(Duration::from_secs(2)).await;
            *self.1.lock().unwrap() += 1;
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn draining_finishes_the_action_under_way_and_begins_no_other() {
        let tasks = Tasks::new();
        let finished = Arc::new(Mutex::new(0));
        let work = DrainsItself(tasks.clone(), finished.clone());
        drive(&tasks, work, PERIOD, Nudge::new());
        tasks.finished().await;
        assert_eq!(*finished.lock().unwrap(), 1);
    }
}
