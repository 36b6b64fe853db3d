//! The end of a process: the first SIGTERM or SIGINT drains, the second ends.
//!
//! Draining has a bound. A task that blocks its thread cannot be ended at all; it is left behind after a moment, since
//! the process is about to go. Nothing here exits: `main` returns.

use crate::Tasks;
use futures_util::{Stream, StreamExt, stream};
use std::{future::pending, task::Poll, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};
use tracing::{info, warn};

/// How long ended tasks may take to let go.
const END_MAX: Duration = Duration::from_secs(2);

/// How the process came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All work was finished.
    Drained,
    /// Some work was still under way after the patience was used up, and was dropped.
    TimedOut,
    /// A second signal came while work was under way, and it was dropped.
    SecondSignal,
}

/// What asks a process to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Interrupt,
}

/// Waits for a signal (or for draining that somebody else began), then shuts down and says how that went.
/// Handlers are in place from the first poll on; before that a signal ends the process in its default way.
pub async fn run(tasks: &Tasks, patience: Duration) -> Ending {
    run_on(signals(), tasks, patience).await
}

/// The same with signals from elsewhere. That these run dry is no signal.
pub async fn run_on(signals: impl Stream<Item = Signal> + Unpin, tasks: &Tasks, patience: Duration) -> Ending {
    let mut signals = signals;
    tokio::select! {
        signal = next(&mut signals) => info!(?signal, patience_s = patience.as_secs(), "draining; a second signal ends at once"),
        () = tasks.stop().draining() => info!(patience_s = patience.as_secs(), "draining"),
    }
    tasks.stop().drain();
    let ending = tokio::select! {
        biased;
        () = tasks.finished() => Ending::Drained,
        _ = next(&mut signals) => Ending::SecondSignal,
        () = time::sleep(patience) => Ending::TimedOut,
    };
    tasks.stop().end();
    if time::timeout(END_MAX, tasks.finished()).await.is_err() {
        warn!("a task blocks its thread and is left behind");
    }
    match ending {
        Ending::Drained => info!("drained"),
        Ending::TimedOut => warn!("work was still under way after the patience was used up, and was dropped"),
        Ending::SecondSignal => warn!("a second signal came, work under way was dropped"),
    }
    ending
}

async fn next(signals: &mut (impl Stream<Item = Signal> + Unpin)) -> Signal {
    match signals.next().await {
        Some(signal) => signal,
        None => pending().await,
    }
}

/// What asks this process to go. Handlers are in place once this returns, so that a signal during a long start is kept.
pub fn signals() -> impl Stream<Item = Signal> + Unpin {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM may be handled, and tokio drives signals");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT may be handled, and tokio drives signals");
    stream::poll_fn(move |context| {
        if terminate.poll_recv(context).is_ready() {
            Poll::Ready(Some(Signal::Terminate))
        } else if interrupt.poll_recv(context).is_ready() {
            Poll::Ready(Some(Signal::Interrupt))
        } else {
            Poll::Pending
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::{empty, iter, once};
    use tokio::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A task that needs so long to finish once it is asked to.
    fn needs(tasks: &Tasks, time_to_finish: Duration) {
        tasks.spawn("needs_time", move |stop| async move {
            stop.draining().await;
            time::sleep(time_to_finish).await;
        });
    }

    fn after(wait: Duration, signal: Signal) -> impl Stream<Item = Signal> {
        once(async move {
            time::sleep(wait).await;
            signal
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_signal_drains() {
        let tasks = Tasks::new();
        needs(&tasks, Duration::from_secs(5));
        let begun = Instant::now();
        assert_eq!(
            run_on(iter([Signal::Terminate]), &tasks, PATIENCE).await,
            Ending::Drained
        );
        assert_eq!(begun.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_signal_ends() {
        let tasks = Tasks::new();
        needs(&tasks, Duration::from_secs(20));
        let begun = Instant::now();
        let signals = Box::pin(iter([Signal::Interrupt]).chain(after(Duration::from_secs(3), Signal::Interrupt)));
        assert_eq!(run_on(signals, &tasks, PATIENCE).await, Ending::SecondSignal);
        assert_eq!(begun.elapsed().as_secs(), 3);
        assert!(tasks.stop().is_ending());
    }

    #[tokio::test(start_paused = true)]
    async fn patience_is_bounded() {
        let tasks = Tasks::new();
        needs(&tasks, Duration::from_hours(1));
        let begun = Instant::now();
        assert_eq!(
            run_on(iter([Signal::Terminate]), &tasks, PATIENCE).await,
            Ending::TimedOut
        );
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_signal_it_waits_for_somebody_to_drain() {
        let tasks = Tasks::new();
        needs(&tasks, Duration::ZERO);
        let stop = tasks.stop().clone();
        let (ending, ()) = tokio::join!(run_on(empty(), &tasks, PATIENCE), async {
            time::sleep(Duration::from_secs(9)).await;
            assert!(!stop.is_draining());
            stop.drain();
        });
        assert_eq!(ending, Ending::Drained);
    }
}
