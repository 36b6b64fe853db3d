//! The heartbeat: says that this process is at its tasks, and hears which of them it has lost, is to cancel, or runs for
//! somebody who may do nothing any more.

use crate::{pool::Inner, who};
use forebay_domain::task::TaskError;
use forebay_runtime::{Clock, Stop};
use forebay_store::StoreError;
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// So many beats fall into one lease: two may fail before anything is lost.
const BEATS_A_LEASE: u32 = 3;
/// How often somebody looks at the clocks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A wall clock that is off by more since the last look was set.
const JUMP_MS: u64 = 1_000;

/// Beats until draining has begun and nothing runs here any more.
pub(crate) async fn keep_beating(inner: Arc<Inner>, stop: Stop) {
    loop {
        let lease = inner.config.load().lease();
        tokio::select! {
            () = sleep(lease / BEATS_A_LEASE) => {}
            () = inner.beat.notified() => {}
            () = inner.done(&stop) => return,
        }
        // A beat that takes longer than the next one is due is none.
        match timeout(lease / BEATS_A_LEASE, beat(&inner)).await {
            Ok(Ok(())) => inner.faults.passed("beat"),
            Ok(Err(error)) => inner.faults.met("beat", &error),
            Err(_) => inner.faults.met("beat", &"it takes too long"),
        }
    }
}

async fn beat(inner: &Inner) -> Result<(), StoreError> {
    let leases = inner.running.leases();
    if leases.is_empty() {
        return Ok(());
    }
    let lease = inner.config.load().lease();
    // From before the question: the store counts from when it hears it.
    let until = inner.clock.monotonic() + lease;
    let beats = inner.queue.heartbeat(&leases, lease).await?;
    for (held, beat) in leases.iter().zip(beats) {
        if !beat.still_mine {
            inner.running.lost(held);
            continue;
        }
        inner.running.renewed(held, until);
        if beat.cancel_wanted {
            inner.running.cancel(held);
        }
    }
    look_at_keys(inner).await
}

/// A key that was revoked or has expired ends what runs for it.
async fn look_at_keys(inner: &Inner) -> Result<(), StoreError> {
    let keys: Vec<_> = inner.running.keys().into_iter().collect();
    let found = inner.keys.find_all(&keys).await?;
    let now = inner.clock.now();
    for key in keys {
        let stored = found.iter().find(|stored| stored.id == key);
        if let Err(failure) = who::usable(stored, now) {
            inner.running.bar(&key, &TaskError::from(&failure));
        }
    }
    Ok(())
}

/// Gives up what is overdue, also while a beat gets no answer, and has one made at once where somebody has set the clock:
/// leases are told by it. Until draining has begun and nothing runs here any more.
pub(crate) async fn keep_time(inner: Arc<Inner>, stop: Stop) {
    let mut before_ms = offset_ms(&inner.clock);
    loop {
        let now = inner.clock.monotonic();
        inner.running.give_up_overdue(now);
        let left = inner.running.next_overdue().map(|until| until.saturating_sub(now));
        tokio::select! {
            () = sleep(left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY))) => {}
            () = inner.done(&stop) => return,
        }
        let now_ms = offset_ms(&inner.clock);
        if now_ms.abs_diff(before_ms) > JUMP_MS {
            before_ms = now_ms;
            inner.beat.notify_one();
        }
    }
}

/// What lies between the two clocks.
fn offset_ms(clock: &Clock) -> i64 {
    let monotonic_ms = i64::try_from(clock.monotonic().as_millis()).unwrap_or(i64::MAX);
    clock.now().as_millisecond().saturating_sub(monotonic_ms)
}
