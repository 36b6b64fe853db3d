//! Messages of a session's streams, so that a client which lost its connection can ask for what it missed, at this
//! replica or another, before or after a restart.
//!
//! Each stream's messages are numbered from 1 without gaps by whoever writes them. A session keeps its newest messages up
//! to [`SESSION_EVENTS_MAX`] and [`SESSION_BYTES_MAX`], whatever its streams are, and those that are only passing after all
//! others; what is asked for and no longer there shows as such. A little more than that may be there: making room costs
//! a look at all of them, and is not done for each message. Writing is an ordinary unit: a message that is written before it is sent can never be lost, and
//! whoever cannot wait for that sends first.

use forebay_domain::id::SessionId;
use jiff::Timestamp;
use sqlx::Row;

use crate::{
    StoreError,
    db::Db,
    mcp::sessions::SessionHash,
    row::within,
    sql::{Both, Tx, on_both, row_on_both},
};

/// Most messages that one session keeps.
pub const SESSION_EVENTS_MAX: u32 = 1000;

/// Most bytes of messages that one session keeps.
pub const SESSION_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What there may be beyond both before room is made.
const SLACK_EVENTS: u32 = SESSION_EVENTS_MAX / 8;
const SLACK_BYTES: usize = SESSION_BYTES_MAX / 8;

/// Largest message that is kept, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Longest name of a stream, in bytes.
pub const STREAM_NAME_BYTES_MAX: usize = 128;

/// Messages that one statement writes or removes at most.
const BATCH_EVENTS_MAX: usize = 64;
const SWEEP_EVENTS_MAX: usize = 500;

/// What is let go first where there is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// Of use until the next one comes: a report of progress.
    Passing,
    Lasting,
}

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its place in the stream, from 1.
    pub seq: u64,
    pub message: Vec<u8>,
    pub worth: Worth,
}

/// What came after some place of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// In their order.
    pub events: Vec<StreamEvent>,
    /// Whether the first of them is the one that was to come next. Where it is not, messages in between are gone.
    pub whole: bool,
}

/// What became of messages that were to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Append {
    Kept,
    /// The session is not there, or not any more.
    NoSession,
}

/// The streams of a store. Cheap to clone.
#[derive(Clone)]
pub struct McpStreams(Db);

const SESSION: &str = "SELECT COUNT(*) FROM mcp_session WHERE id_hash = $1";
/// Whoever writes to a session's streams waits for others who do, and keeps the session from going away meanwhile.
const SESSION_LOCKED: &str = "SELECT id_hash FROM mcp_session WHERE id_hash = $1 FOR NO KEY UPDATE";
const INSERT: &str =
    "INSERT INTO mcp_stream_event (session_hash, stream, seq, message, bytes, passing, created_at_ms) ";
const SIZE: &str =
    "SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM mcp_stream_event WHERE session_hash = $1";
const TRIM: &str = "DELETE FROM mcp_stream_event WHERE session_hash = $1 AND (stream, seq) IN \
     (SELECT stream, seq FROM (SELECT stream, seq, ROW_NUMBER() OVER newest AS place, SUM(bytes) OVER newest AS total \
     FROM mcp_stream_event WHERE session_hash = $1 WINDOW newest AS (ORDER BY passing, created_at_ms DESC, seq DESC, stream \
     ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) AS ranked WHERE place > $2 OR total > $3)";
const AFTER: &str = "SELECT seq, message, passing FROM mcp_stream_event \
     WHERE session_hash = $1 AND stream = $2 AND seq > $3 ORDER BY seq LIMIT $4";
const DROP_STREAM: &str = "DELETE FROM mcp_stream_event WHERE session_hash = $1 AND stream = $2";
const SWEEP: &str = "DELETE FROM mcp_stream_event WHERE (session_hash, stream, seq) IN \
     (SELECT session_hash, stream, seq FROM mcp_stream_event WHERE created_at_ms < $1 ORDER BY created_at_ms LIMIT $2)";

impl McpStreams {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    /// Keeps messages of one stream. One whose number is there already is the same message written again, and stays.
    pub async fn append(
        &self,
        session: &SessionId,
        stream: &str,
        events: Vec<StreamEvent>,
        at: Timestamp,
    ) -> Result<Append, StoreError> {
        within("the name of a stream", stream.len(), STREAM_NAME_BYTES_MAX)?;
        for event in &events {
            within("a message of a stream", event.message.len(), MESSAGE_BYTES_MAX)?;
        }
        let batch = Batch {
            session: SessionHash::of(session),
            stream: stream.to_owned(),
            events,
            at_ms: at.as_millisecond(),
        };
        self.0.write(batch, |tx, batch| Box::pin(append(tx, batch))).await
    }

    /// At most `limit` messages of a stream after number `seq`; 0 is its beginning.
    pub async fn after(&self, session: &SessionId, stream: &str, seq: u64, limit: u32) -> Result<Replay, StoreError> {
        let session = SessionHash::of(session);
        let rows: Vec<EventRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(AFTER)
                    .bind(session.bytes())
                    .bind(stream)
                    .bind(number(seq))
                    .bind(i64::from(limit.min(SESSION_EVENTS_MAX)))
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        let events = rows
            .into_iter()
            .map(StreamEvent::try_from)
            .collect::<Result<Vec<_>, _>>()?;
        let next = seq.saturating_add(1);
        let whole = events.first().is_none_or(|first| first.seq == next);
        Ok(Replay { events, whole })
    }

    /// Forgets a stream that is done with, and says how many messages that were.
    pub async fn drop_stream(&self, session: &SessionId, stream: &str) -> Result<u64, StoreError> {
        let input = (SessionHash::of(session), stream.to_owned());
        self.0
            .write(input, |tx, (session, stream)| {
                Box::pin(async move {
                    let gone = on_both!(tx, |tx| sqlx::query(DROP_STREAM)
                        .bind(session.bytes())
                        .bind(stream)
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?;
                    Ok(gone)
                })
            })
            .await
    }

    /// Forgets every message older than `before`, and says how many that were.
    pub async fn sweep(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut swept = 0;
        loop {
            let gone = self
                .0
                .write(before.as_millisecond(), |tx, before_ms| Box::pin(sweep(tx, *before_ms)))
                .await?;
            swept += gone;
            if usize::try_from(gone).unwrap_or(usize::MAX) < SWEEP_EVENTS_MAX {
                return Ok(swept);
            }
        }
    }
}

/// Messages of one stream.
struct Batch {
    session: SessionHash,
    stream: String,
    events: Vec<StreamEvent>,
    at_ms: i64,
}

async fn append(tx: &mut Tx, batch: &Batch) -> Result<Append, StoreError> {
    if !has_session(tx, batch.session).await? {
        return Ok(Append::NoSession);
    }
    for part in batch.events.chunks(BATCH_EVENTS_MAX) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::QueryBuilder::new(INSERT);
            query.push_values(part, |mut row, event| {
                row.push_bind(batch.session.bytes())
                    .push_bind(batch.stream.as_str())
                    .push_bind(number(event.seq))
                    .push_bind(event.message.as_slice())
                    .push_bind(length(event.message.len()))
                    .push_bind(event.worth == Worth::Passing)
                    .push_bind(batch.at_ms);
            });
            query.push(" ON CONFLICT (session_hash, stream, seq) DO NOTHING");
            query.build().persistent(false).execute(&mut **tx).await.map(drop)
        })?;
    }
    make_room(tx, batch.session).await?;
    Ok(Append::Kept)
}

async fn make_room(tx: &mut Tx, session: SessionHash) -> Result<(), StoreError> {
    let (count, bytes): (i64, i64) = on_both!(&mut *tx, |tx| sqlx::query_as(SIZE)
        .bind(session.bytes())
        .fetch_one(&mut **tx)
        .await)?;
    let fits = count <= i64::from(SESSION_EVENTS_MAX + SLACK_EVENTS);
    if fits && bytes <= length(SESSION_BYTES_MAX + SLACK_BYTES) {
        return Ok(());
    }
    on_both!(tx, |tx| sqlx::query(TRIM)
        .bind(session.bytes())
        .bind(i64::from(SESSION_EVENTS_MAX))
        .bind(length(SESSION_BYTES_MAX))
        .execute(&mut **tx)
        .await
        .map(drop))?;
    Ok(())
}

async fn has_session(tx: &mut Tx, session: SessionHash) -> Result<bool, StoreError> {
    match tx {
        Both::Sqlite(tx) => {
            let (count,): (i64,) = sqlx::query_as(SESSION)
                .bind(session.bytes())
                .fetch_one(&mut **tx)
                .await?;
            Ok(count == 1)
        }
        Both::Postgres(tx) => {
            let row = sqlx::query(SESSION_LOCKED)
                .bind(session.bytes())
                .fetch_optional(&mut **tx)
                .await?;
            Ok(row.is_some())
        }
    }
}

async fn sweep(tx: &mut Tx, before_ms: i64) -> Result<u64, StoreError> {
    let gone = on_both!(tx, |tx| sqlx::query(SWEEP)
        .bind(before_ms)
        .bind(length(SWEEP_EVENTS_MAX))
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(gone)
}

fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A row of `mcp_stream_event`, not yet believed.
struct EventRow {
    seq: i64,
    message: Vec<u8>,
    passing: bool,
}

row_on_both!(EventRow, |row| Ok(Self {
    seq: row.try_get("seq")?,
    message: row.try_get("message")?,
    passing: row.try_get("passing")?,
}));

impl TryFrom<EventRow> for StreamEvent {
    type Error = StoreError;
    fn try_from(row: EventRow) -> Result<Self, StoreError> {
        let seq = u64::try_from(row.seq).map_err(|_| StoreError::corrupt("the place of a message"))?;
        Ok(Self {
            seq,
            message: row.message,
            worth: if row.passing { Worth::Passing } else { Worth::Lasting },
        })
    }
}
