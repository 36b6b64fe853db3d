//! Keeps one child running, for as long as its owner wants it: starts it again whenever it ends, with back-off.
//!
//! It never gives up, and says through a channel how things stand. It knows nothing of what the child is for: whoever
//! does attends to each run of it, and the run is over when either has had enough.

use super::{
    command::{Command, Launcher},
    fault::{Exit, StartFault},
    logs::Logs,
    process::{Child, Io},
    restart::Restart,
};
use crate::{Entropy, Stop};
use jiff::Timestamp;
use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

/// A program that ends closes its streams a moment before its end is known, and whoever attends to it sees that first.
const SETTLES_IN: Duration = Duration::from_millis(250);

/// How a supervised child stands.
#[derive(Debug, Clone)]
pub enum State {
    Starting,
    Running {
        since: Timestamp,
        process: u32,
    },
    /// It ended, and is started again.
    Backoff {
        until: Timestamp,
        /// How many times in a row it ended before it was healthy.
        ends_in_a_row: u32,
        trouble: Trouble,
    },
    /// Its owner stopped it, or the process ends.
    Stopped,
}

/// Why a supervised child does not run.
#[derive(Debug, Clone)]
pub enum Trouble {
    NotStarted(Arc<StartFault>),
    Exited(Exit),
    /// Whoever attended to it had enough of it, and it was ended.
    LetGo,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(fault) => write!(f, "{fault}"),
            Self::Exited(exit) => write!(f, "it ended with {exit}"),
            Self::LetGo => write!(f, "it did not behave and was ended"),
        }
    }
}

/// One run of a child, handed to whoever attends to it.
#[derive(Debug)]
pub struct Running {
    pub process: u32,
    pub io: Io,
    /// Draining begins when the child is to end: then finish what is under way, and return.
    pub stop: Stop,
}

/// A child that is kept running. Dropping this stops it.
#[derive(Debug)]
pub struct Supervisor {
    state: watch::Receiver<State>,
    logs: Logs,
    retry: Arc<Notify>,
    stopping: CancellationToken,
    _stops_when_dropped: DropGuard,
}

impl Supervisor {
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Tells of every change of state; two quick ones may be one.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// What all runs wrote to standard error, the last lines of it.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Does not wait any longer for the next start, if that is what it does.
    pub fn retry_now(&self) {
        self.retry.notify_waiters();
    }

    /// Stops the child as draining does, and completes when it is gone.
    pub async fn stop(&self) {
        self.stopping.cancel();
        let mut state = self.state.clone();
        let _told = state.wait_for(|state| matches!(state, State::Stopped)).await;
    }
}

/// Keeps a child running until draining begins or the owner lets go of the [`Supervisor`].
///
/// `attend` is called once for each run, with its streams. The run is over when the child ends, and then what `attend`
/// returned is dropped; or when that completes, and then the child is ended. Either way another run follows.
pub fn supervise<F, Fut>(
    launcher: &Launcher,
    entropy: Entropy,
    command: Command,
    restart: Restart,
    attend: F,
) -> Supervisor
where
    F: FnMut(Running) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (tell, state) = watch::channel(State::Starting);
    let stopping = CancellationToken::new();
    let (logs, retry) = (Logs::new(), Arc::new(Notify::new()));
    let keeper = Keeper {
        launcher: launcher.clone(),
        entropy,
        command,
        restart,
        attend,
        tell: Teller(tell),
        logs: logs.clone(),
        retry: retry.clone(),
    };
    let stopped = stopping.clone();
    launcher
        .tasks
        .spawn("supervisor", move |stop| keeper.keep(stop, stopped));
    Supervisor {
        state,
        logs,
        retry,
        _stops_when_dropped: stopping.clone().drop_guard(),
        stopping,
    }
}

/// Whatever ends the keeper, be it a panic of whoever attends, the last thing it tells is that it stopped.
struct Teller(watch::Sender<State>);

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.send_replace(State::Stopped);
    }
}

struct Keeper<F> {
    launcher: Launcher,
    entropy: Entropy,
    command: Command,
    restart: Restart,
    attend: F,
    tell: Teller,
    logs: Logs,
    retry: Arc<Notify>,
}

/// How one run ended.
enum Run {
    Over {
        trouble: Trouble,
        ran_for: Duration,
    },
    /// It was to end, and it did.
    Stopped,
}

impl<F, Fut> Keeper<F>
where
    F: FnMut(Running) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    async fn keep(mut self, stop: Stop, stopped: CancellationToken) {
        let mut ends_in_a_row = 0;
        let mut quitting = pin!(quitting(stop, stopped));
        loop {
            self.tell.0.send_replace(State::Starting);
            let Run::Over { trouble, ran_for } = self.run(quitting.as_mut()).await else {
                break;
            };
            ends_in_a_row = self.restart.ends_in_a_row(ends_in_a_row, ran_for);
            if !self.back_off(ends_in_a_row, trouble, quitting.as_mut()).await {
                break;
            }
        }
        info!(child.name = self.command.name, "supervised child stopped");
    }

    /// Starts the child and stays with it until it is over. (A start has a bound of its own.)
    async fn run(&mut self, mut quitting: Pin<&mut impl Future<Output = ()>>) -> Run {
        let started = tokio::select! {
            biased;
            () = &mut quitting => return Run::Stopped,
            started = self.launcher.start_into(&self.command, self.logs.clone()) => started,
        };
        let mut child = match started {
            Ok(child) => child,
            Err(fault) => {
                return Run::Over {
                    trouble: Trouble::NotStarted(Arc::new(fault)),
                    ran_for: Duration::ZERO,
                };
            }
        };
        let process = child.process();
        let (since, begun) = (self.launcher.clock.now(), self.launcher.clock.monotonic());
        self.tell.0.send_replace(State::Running { since, process });
        info!(
            child.name = self.command.name,
            child.process = process,
            "supervised child runs"
        );
        match self.attended(&mut child, quitting).await {
            Some(trouble) => Run::Over {
                trouble,
                ran_for: self.launcher.clock.monotonic().saturating_sub(begun),
            },
            None => Run::Stopped,
        }
    }

    /// Nothing where it was stopped.
    async fn attended(&mut self, child: &mut Child, quitting: Pin<&mut impl Future<Output = ()>>) -> Option<Trouble> {
        let io = child.take_io().expect("nobody else had this child");
        let ours = Stop::new();
        let mut attending = Box::pin((self.attend)(Running {
            process: child.process(),
            io,
            stop: ours.clone(),
        }));
        let trouble = tokio::select! {
            biased;
            exit = child.exited() => Some(Trouble::Exited(exit)),
            () = &mut attending => Some(match timeout(SETTLES_IN, child.exited()).await {
                Ok(exit) => Trouble::Exited(exit),
                Err(_) => Trouble::LetGo,
            }),
            () = quitting => {
                ours.drain();
                tokio::select! {
                    _ = timeout(self.restart.linger, &mut attending) => {}
                    _ = child.exited() => {}
                }
                None
            }
        };
        ours.end();
        // Its streams go with it, which a well-behaved program takes as a farewell.
        drop(attending);
        child.kill(self.restart.patience).await;
        trouble
    }

    /// Waits for the next start. False where it was stopped meanwhile.
    async fn back_off(
        &mut self,
        ends_in_a_row: u32,
        trouble: Trouble,
        quitting: Pin<&mut impl Future<Output = ()>>,
    ) -> bool {
        let wait = self.restart.wait(ends_in_a_row, &self.entropy);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        warn!(child.name = self.command.name, child.trouble = %trouble, ends_in_a_row, wait_ms, "supervised child is down");
        // Who sees that it waits can end the wait.
        let mut retried = pin!(self.retry.notified());
        retried.as_mut().enable();
        self.tell.0.send_replace(State::Backoff {
            until: self.launcher.clock.now() + wait,
            ends_in_a_row,
            trouble,
        });
        tokio::select! {
            biased;
            () = quitting => false,
            () = sleep(wait) => true,
            () = retried => true,
        }
    }
}

/// Completes when the child is to end, for whatever reason.
async fn quitting(stop: Stop, stopped: CancellationToken) {
    tokio::select! {
        () = stop.draining() => {}
        () = stopped.cancelled() => {}
    }
}
