//! The heartbeat: says that this process is at its tasks, and hears which of them it has lost or is to cancel.

use crate::pool::Inner;
use forebay_runtime::Stop;
use forebay_store::StoreError;
use std::sync::Arc;
use tokio::time::timeout;
use tracing::{info, warn};

/// So many beats fall into one lease: two may fail before anything is lost.
const BEATS_A_LEASE: u32 = 3;

/// Beats until draining has begun and nothing runs here any more.
pub(crate) async fn keep_beating(inner: Arc<Inner>, stop: Stop) {
    let mut is_faulty = false;
    loop {
        let lease = inner.config.load().lease();
        tokio::select! {
            () = tokio::time::sleep(lease / BEATS_A_LEASE) => {}
            () = inner.beat.notified() => {}
            () = inner.done(&stop) => return,
        }
        // A beat that takes longer than the next one is due is none.
        let fault = match timeout(lease / BEATS_A_LEASE, beat(&inner)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the database takes too long".to_owned()),
        };
        match &fault {
            Some(error) if !is_faulty => warn!(error, "leases of tasks cannot be renewed"),
            None if is_faulty => info!("leases of tasks are renewed again"),
            Some(_) | None => {}
        }
        is_faulty = fault.is_some();
        inner.running.give_up_overdue(inner.clock.monotonic());
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
    Ok(())
}
