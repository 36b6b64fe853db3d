//! What is sent again under its name: it is told of the task that there is, or, where that failed in passing, has it tried
//! again.

use forebay_domain::{
    id::{KeyId, ProjectId, TaskId, WorkerId},
    task::{Event, Stage, State},
};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};

use super::{
    SubmitError, Submitted,
    insert::inline,
    moves::{self, Records},
    new::NewRow,
    rows::stage,
    unfinished::Tally,
};
use crate::{
    StoreError,
    row::known,
    sql::{Tx, on_both},
};

const EARLIER: &str = "SELECT id, stage, request_hash FROM task WHERE tenant = $1 AND COALESCE(project, '') = $2 \
    AND (key_id IS NULL) = $3 AND subject = $4 AND idempotency_key = $5";
/// Whoever sends it again answers for it: it runs as who they are by now, where they want it, and tells how they want it told.
const RENEW: &str = "UPDATE task SET key_id = $2, principal = $3, trace = $4, wanted_by = $5, wanted_until_ms = $6, \
    input = $7 WHERE id = $1";
const DROP_INPUT: &str = "DELETE FROM task_input WHERE task = $1";
const PUT_INPUT: &str = "INSERT INTO task_input (task, input) VALUES ($1, $2)";

/// The task that a name stands for.
pub(super) struct Earlier {
    id: TaskId,
    state: State,
    /// It was submitted with the same that comes now.
    is_same: bool,
}

/// What there is under the name of a submission.
pub(super) async fn find(tx: &mut Tx, row: &NewRow) -> Result<Option<Earlier>, StoreError> {
    let owner = &row.task.owner;
    let found: Option<(String, String, Vec<u8>)> = on_both!(tx, |tx| sqlx::query_as(EARLIER)
        .bind(owner.tenant.as_str())
        .bind(owner.project.as_ref().map_or("", ProjectId::as_str))
        .bind(owner.key.is_none())
        .bind(owner.subject.as_str())
        .bind(row.task.idempotency_key.as_deref())
        .fetch_optional(&mut **tx)
        .await)?;
    let Some((id, at, hash)) = found else { return Ok(None) };
    let at: Stage = stage(&at)?;
    Ok(Some(Earlier {
        id: known("task", TaskId::try_from(id))?,
        state: at.state(),
        is_same: row.hash.is_some_and(|own| own.as_slice() == hash),
    }))
}

/// What becomes of each submission, by its own identifier. The lanes of all of them are locked.
pub(super) async fn repeat(
    tx: &mut Tx,
    now_ms: i64,
    rows: &[(&NewRow, &Earlier)],
    tally: &mut Tally,
) -> Result<HashMap<TaskId, Result<Submitted, SubmitError>>, StoreError> {
    let may_be = |earlier: &Earlier| earlier.is_same && matches!(earlier.state, State::Failed | State::Dead);
    let ids: BTreeSet<&TaskId> = rows
        .iter()
        .filter(|(_, earlier)| may_be(earlier))
        .map(|(_, earlier)| &earlier.id)
        .collect();
    let mut records = moves::load(tx, &ids).await?;
    let mut became = HashMap::new();
    let mut renewed = Vec::new();
    for (row, earlier) in rows {
        let one = if earlier.is_same {
            let submitted = sent_again(row, earlier, &mut records, now_ms);
            if !submitted.is_repeat {
                renewed.push((&earlier.id, *row));
            }
            Ok(submitted)
        } else {
            Err(SubmitError::Reused)
        };
        became.insert(row.id.clone(), one);
    }
    moves::write(tx, &records, tally).await?;
    for (id, row) in renewed {
        renew(tx, id, row).await?;
    }
    Ok(became)
}

fn sent_again(row: &NewRow, earlier: &Earlier, records: &mut Records, now_ms: i64) -> Submitted {
    let event = Event::Repeat {
        run_at_ms: row.task.run_at.map(Timestamp::as_millisecond),
    };
    let record = records.get_mut(&earlier.id);
    let revived = record.map(|record| record.happen(&event, now_ms).map_err(|_| record.state()));
    let (state, is_repeat) = match revived {
        Some(Ok(state)) => (state, false),
        Some(Err(state)) => (state, true),
        None => (earlier.state, true),
    };
    Submitted {
        id: earlier.id.clone(),
        state,
        is_repeat,
    }
}

async fn renew(tx: &mut Tx, id: &TaskId, row: &NewRow) -> Result<(), StoreError> {
    let (task, inline) = (&row.task, inline(row));
    let wanted = task.wanted_by.as_ref();
    on_both!(&mut *tx, |tx| sqlx::query(RENEW)
        .bind(id.as_str())
        .bind(task.owner.key.as_ref().map(KeyId::as_str))
        .bind(task.owner.snapshot.as_str())
        .bind(task.trace.to_string())
        .bind(wanted.map(|(worker, _)| WorkerId::as_str(worker)))
        .bind(wanted.map(|(_, until)| until.as_millisecond()))
        .bind(inline)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    on_both!(&mut *tx, |tx| sqlx::query(DROP_INPUT)
        .bind(id.as_str())
        .execute(&mut **tx)
        .await
        .map(drop))?;
    if inline.is_none() {
        on_both!(&mut *tx, |tx| sqlx::query(PUT_INPUT)
            .bind(id.as_str())
            .bind(row.input.as_str())
            .execute(&mut **tx)
            .await
            .map(drop))?;
    }
    Ok(())
}
