//! For whoever runs tasks: which they get, that they are at it, and how it ended.

use forebay_domain::{
    id::{TaskId, WorkerId},
    task::{BODY_BYTES_MAX, Ended, Event, LEASE_MAX_MS, Refusal, State},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{collections::HashSet, time::Duration};
use tracing::warn;

use super::{
    Body, Claim, Claimed, Queue, Scope, TaskError,
    moves::{Step, Stepped},
    new::millis,
    odd,
    writer::{Became, Request},
};
use crate::{
    StoreError,
    row::{known, within},
    sql::{Tx, on_both},
};

/// Tasks that are found at once of those that were left behind.
const LEFT_MAX: i64 = 4_096;
const OF_WORKER: &str =
    "SELECT id, fence FROM task WHERE stage = 'running' AND wake_at_ms IS NOT NULL AND worker = $1 LIMIT $2";

/// What somebody hears who says that they are still at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    pub id: TaskId,
    /// Somebody else may have it by now: the run is in vain.
    pub still_mine: bool,
    pub cancel_wanted: bool,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Pending or scheduled where it is tried again.
    pub state: State,
    /// It was settled before, and nothing was changed.
    pub is_repeat: bool,
}

impl Queue {
    /// Hands out what somebody could run now, the most urgent first. They have to be heard of before the lease ends.
    pub async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>, StoreError> {
        let until = self.db.clock().monotonic() + longest(claim.lease);
        match self.moved(Request::Claim(claim)).await? {
            Became::Claimed(claimed) => {
                self.leases
                    .renew(claimed.iter().map(|one| (&one.task.id, one.fence)), until);
                Ok(claimed)
            }
            Became::Submitted(_) | Became::Stepped(_) => Err(odd()),
        }
    }

    /// Says that the runs of these tasks and fences go on, and hears which of them should not.
    pub async fn heartbeat(&self, held: &[(TaskId, i64)], lease: Duration) -> Result<Vec<Beat>, StoreError> {
        let (lease_ms, until) = (millis(lease), self.db.clock().monotonic() + longest(lease));
        let steps = held.iter().map(|(id, fence)| {
            let event = Event::Beat {
                fence: *fence,
                lease_ms,
            };
            self.step(Scope::All, id.clone(), event)
        });
        let mut beats = Vec::with_capacity(held.len());
        for ((id, _), stepped) in held.iter().zip(futures_util::future::join_all(steps).await) {
            let cancel_wanted = match stepped {
                Ok(Stepped::Done { cancel_wanted, .. }) => Some(cancel_wanted),
                Ok(Stepped::Refused(_) | Stepped::Unknown) => None,
                Err(error) if error.is_unavailable() => return Err(error),
                // Its row cannot be read: that is not the fate of the others.
                Err(error) => {
                    warn!(task.id = %id, cause = error.chain(), "the lease of a task cannot be renewed");
                    None
                }
            };
            beats.push(Beat {
                id: id.clone(),
                still_mine: cancel_wanted.is_some(),
                cancel_wanted: cancel_wanted.unwrap_or(false),
            });
        }
        let mine = held.iter().zip(&beats).filter(|(_, beat)| beat.still_mine);
        self.leases.renew(mine.map(|((id, fence), _)| (id, *fence)), until);
        Ok(beats)
    }

    /// Says how a run ended. Whoever has lost the task is refused with [`Refusal::Stale`], and nothing is changed.
    pub async fn settle(&self, id: &TaskId, fence: i64, ended: Ended) -> Result<Settled, TaskError> {
        let is_error = match &ended {
            Ended::Done(output) => {
                within("the output of a task", output.len(), BODY_BYTES_MAX)?;
                serde_json::from_slice::<&RawValue>(output)
                    .map_err(|_| StoreError::corrupt("an output that is no JSON"))?;
                says_error(output)
            }
            Ended::Failed { .. } | Ended::Cancelled | Ended::GivenBack | Ended::Unbegun => false,
        };
        let event = Event::Settle {
            fence,
            ended,
            jitter: self.jitter(),
        };
        let step = Step {
            id: id.clone(),
            scope: Scope::All,
            event,
            is_error,
        };
        let stepped = self.stepped(step).await?;
        self.leases.end(id, fence);
        match stepped {
            Stepped::Done { state, .. } => Ok(Settled {
                state,
                is_repeat: false,
            }),
            Stepped::Refused(Refusal::Settled) => {
                let task = self
                    .get(&Scope::All, id, Body::Output)
                    .await?
                    .ok_or(TaskError::Unknown)?;
                Ok(Settled {
                    state: task.state,
                    is_repeat: true,
                })
            }
            Stepped::Refused(refusal) => Err(refusal.into()),
            Stepped::Unknown => Err(TaskError::Unknown),
        }
    }

    /// What runs in this worker's name, with its fence, and is none of what it holds: it was claimed, and the answer was
    /// lost. Ask while no claim is under way, and settle it as never begun.
    pub async fn left_behind(&self, worker: &WorkerId, held: &[TaskId]) -> Result<Vec<(TaskId, i64)>, StoreError> {
        // Written, not read: on SQLite it comes after whatever still waits to be written, a claim that was given up too.
        let rows: Vec<(String, i64)> = self
            .db
            .write(worker.clone(), |tx, worker| Box::pin(of_worker(tx, worker)))
            .await?;
        let held: HashSet<&TaskId> = held.iter().collect();
        let mut left = Vec::new();
        for (id, fence) in rows {
            let id = known("task", TaskId::try_from(id))?;
            if !held.contains(&id) {
                left.push((id, fence));
            }
        }
        Ok(left)
    }
}

async fn of_worker(tx: &mut Tx, worker: &WorkerId) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(on_both!(tx, |tx| sqlx::query_as(OF_WORKER)
        .bind(worker.as_str())
        .bind(LEFT_MAX)
        .fetch_all(&mut **tx)
        .await)?)
}

/// No lease is longer.
fn longest(lease: Duration) -> Duration {
    lease.min(Duration::from_millis(LEASE_MAX_MS.unsigned_abs()))
}

/// Whether an output is the result of a tool that says that it is an error.
fn says_error(output: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Told {
        #[serde(rename = "isError", default)]
        is_error: bool,
    }
    serde_json::from_slice::<Told>(output).is_ok_and(|told| told.is_error)
}
