//! The one loop driver: observe, decide, act.
//!
//! A loop takes no input. It looks at the world, decides by a pure function what is missing, and does that; a timer or a
//! nudge only says *when* to look. So a lost nudge costs time and never correctness, a pass can be killed at any line and
//! the next one repairs the rest, and a retry is nothing but another pass.

use crate::{Entropy, Tasks};
use forebay_domain::Failure;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::sync::watch;
use tracing::{Instrument, info_span, warn};

/// What a loop does. One pass is `observe`, then `decide`, then `act` for each action in turn.
pub trait Loop: Send + 'static {
    type Seen: Send;
    type Action: Send;

    fn name(&self) -> &'static str;
    fn observe(&mut self) -> impl Future<Output = Result<Self::Seen, Failure>> + Send;
    fn decide(&self, seen: &Self::Seen) -> Vec<Self::Action>;
    fn act(&mut self, action: Self::Action) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Asks a loop to look now. Many nudges before it looks are one.
#[derive(Clone, Debug, Default)]
pub struct Nudge(Arc<watch::Sender<()>>);

impl Nudge {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn nudge(&self) {
        self.0.send_replace(());
    }
}

/// Longest wait after failures, as a multiple of the period.
const BACK_OFF_MAX: u32 = 8;

/// Runs the loop every `period`, and at once when nudged, until draining begins.
pub fn drive<L: Loop>(tasks: &Tasks, mut this: L, period: Duration, nudge: Nudge) {
    let name = this.name();
    tasks.spawn(name, move |stop| async move {
        let entropy = Entropy::system();
        let mut nudged = nudge.0.subscribe();
        let mut failures = 0;
        loop {
            match pass(&mut this).instrument(info_span!("pass", loop.name = name)).await {
                Ok(()) if failures > 0 => {
                    tracing::info!(loop.name = name, failures, "the loop works again");
                    failures = 0;
                }
                Ok(()) => {}
                Err(failure) => {
                    // Said when it begins; a fault that lasts is not said again on every pass.
                    if failures == 0 {
                        warn!(loop.name = name, error.code = %failure.code, error = %failure.chain(), "a pass failed");
                    }
                    failures += 1;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait(period, failures, &entropy)) => {}
                Ok(()) = nudged.changed() => {}
                () = stop.draining() => return,
            }
        }
    });
}

async fn pass<L: Loop>(this: &mut L) -> Result<(), Failure> {
    let seen = this.observe().await?;
    for action in this.decide(&seen) {
        this.act(action).await?;
    }
    Ok(())
}

/// The period; after failures twice as long each time, with jitter so that replicas do not knock in step.
fn wait(period: Duration, failures: u32, entropy: &Entropy) -> Duration {
    if failures == 0 {
        return period;
    }
    let longest = period * 2_u32.saturating_pow(failures - 1).min(BACK_OFF_MAX);
    let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis / 2 + entropy.below(millis / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::Code;
    use std::sync::Mutex;
    use tokio::time::Instant;

    /// Counts its passes; fails as long as it is told to.
    struct Counting {
        failures: u32,
        passes: Arc<Mutex<Vec<Duration>>>,
        started: Instant,
    }

    impl Loop for Counting {
        type Seen = u32;
        type Action = ();
        fn name(&self) -> &'static str {
            "counting"
        }
        async fn observe(&mut self) -> Result<u32, Failure> {
            self.passes.lock().unwrap().push(self.started.elapsed());
            match self.failures.checked_sub(1) {
                Some(left) => {
                    self.failures = left;
                    Err(Failure::new(Code::StoreUnavailable, "on purpose"))
                }
                None => Ok(0),
            }
        }
        fn decide(&self, _: &u32) -> Vec<()> {
            Vec::new()
        }
        async fn act(&mut self, (): ()) -> Result<(), Failure> {
            Ok(())
        }
    }

    fn start(failures: u32) -> (Tasks, Nudge, Arc<Mutex<Vec<Duration>>>) {
        let (tasks, nudge, passes) = (Tasks::new(), Nudge::new(), Arc::default());
        let counting = Counting {
            failures,
            passes: Arc::clone(&passes),
            started: Instant::now(),
        };
        drive(&tasks, counting, Duration::from_secs(10), nudge.clone());
        (tasks, nudge, passes)
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_on_time_and_when_nudged() {
        let (tasks, nudge, passes) = start(0);
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(passes.lock().unwrap().len(), 3);
        nudge.nudge();
        nudge.nudge();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(passes.lock().unwrap().len(), 4, "two nudges before it looks are one");
        assert!(tasks.shut_down(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_slow_it_down_and_never_stop_it() {
        let (tasks, _nudge, passes) = start(5);
        tokio::time::sleep(Duration::from_secs(2_000)).await;
        let times = passes.lock().unwrap().clone();
        let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        assert!(gaps.iter().all(|gap| *gap <= Duration::from_secs(80)), "{gaps:?}");
        assert!(gaps[3] >= Duration::from_secs(40), "{gaps:?}");
        assert_eq!(gaps.last(), Some(&Duration::from_secs(10)));
        assert!(tasks.shut_down(Duration::from_secs(1)).await);
    }
}
