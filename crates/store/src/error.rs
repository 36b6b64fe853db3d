//! What can go wrong with the database, as far as a caller can act on it.
//!
//! The texts never hold a statement's values: neither keys nor what a request carried.

use forebay_domain::{Code, Failure};
use sqlx::migrate::MigrateError;
use std::{sync::Arc, time::Duration};

use crate::{
    foreign::{self, ForeignFault},
    ledger::LedgerFault,
};

/// How long a caller should wait before it asks an unavailable database again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// It is `Clone`, because one failed commit is the answer to every unit of its group.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Gone, full, locked, read-only or too slow: trying again later may help.
    #[error("the database cannot be used right now: {what}")]
    Unavailable {
        what: &'static str,
        #[source]
        source: Option<Arc<sqlx::Error>>,
    },
    /// Nothing can be written until somebody makes room. It can still be read.
    #[error("the disk of the database is full")]
    Full(#[source] Arc<sqlx::Error>),
    /// Lost against other transactions, more often than is retried.
    #[error("too many transactions wanted the same rows at once")]
    Contended(#[source] Arc<sqlx::Error>),
    /// The row is there already.
    #[error("the database already has such a row")]
    Conflict(#[source] Arc<sqlx::Error>),
    /// The database holds something that was never written by us, or its file is damaged.
    #[error("the database holds something unreadable: {what}")]
    Corrupt {
        what: String,
        #[source]
        source: Option<Arc<sqlx::Error>>,
    },
    /// The tables were made by a newer version.
    #[error("the database is at version {found} of its tables, newer than version {known} that this program knows")]
    Newer { found: i64, known: i64 },
    #[error("the tables of the database could not be brought up to date")]
    Migration(#[source] Arc<MigrateError>),
    #[error("the store's URL cannot be used: {what}")]
    Url { what: String },
    #[error("cannot prepare the database file {path}")]
    File {
        path: String,
        #[source]
        source: Arc<std::io::Error>,
    },
    #[error("`{text}` is not a cursor of this list")]
    Cursor { text: String },
    #[error("no key `{0}`")]
    UnknownKey(String),
    /// What was to be stored is past its bound.
    #[error("{what} has {bytes} bytes; at most {bytes_max} are kept")]
    TooLarge {
        what: &'static str,
        bytes: usize,
        bytes_max: usize,
    },
    /// Somebody else's database, which is read from, and not ours.
    #[error("{name} {fault}")]
    Foreign {
        name: String,
        fault: ForeignFault,
        #[source]
        source: Option<Arc<sqlx::Error>>,
    },
    /// What the ledger cannot do, whoever asks.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    /// The database refused a statement of ours: a bug.
    #[error("the database refused a statement")]
    Refused(#[source] Arc<sqlx::Error>),
}

impl StoreError {
    pub(crate) fn unavailable(what: &'static str) -> Self {
        Self::Unavailable { what, source: None }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt {
            what: what.into(),
            source: None,
        }
    }

    /// The error with all its causes, for the log.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }

    /// Whether this says that nobody can reach the database, and not only that one statement found it too slow or too
    /// busy.
    pub(crate) fn is_disconnection(&self) -> bool {
        let Self::Unavailable {
            source: Some(source), ..
        } = self
        else {
            return false;
        };
        match &**source {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(error) => is_disconnecting(&error.code().unwrap_or_default()),
            _ => false,
        }
    }

    /// Whether trying again later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Full(_) | Self::Contended(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let source = Arc::new(error);
        let unavailable = |what| Self::Unavailable {
            what,
            source: Some(source.clone()),
        };
        match &*source {
            sqlx::Error::Database(error) if error.is_unique_violation() => Self::Conflict(source),
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default();
                match code.parse::<u32>() {
                    // PostgreSQL's codes have five characters, SQLite's are small numbers.
                    Ok(number) if code.len() < 5 => from_sqlite(number, source.clone()),
                    _ => from_postgres(&code, source.clone()),
                }
            }
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::BeginFailed => unavailable("the connection broke"),
            // What comes over a connection that was cut in mid-message.
            sqlx::Error::Protocol(_) => unavailable("the connection was disturbed"),
            sqlx::Error::PoolTimedOut => unavailable("no connection became free in time"),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => unavailable("it was closed"),
            sqlx::Error::ColumnDecode { index, .. } => Self::Corrupt {
                what: format!("column {index}"),
                source: Some(source),
            },
            sqlx::Error::Configuration(error) => Self::Url {
                what: error.to_string(),
            },
            _ => Self::Refused(source),
        }
    }
}

/// PostgreSQL's states of a connection that broke, was refused or was ended; SQLite's of a file that cannot be read.
fn is_disconnecting(code: &str) -> bool {
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => matches!(number & 0xff, 10 | 14),
        _ => ["08", "28", "3D", "55000", "57P"]
            .iter()
            .any(|class| code.starts_with(class)),
    }
}

/// The index of SQLite's write-ahead log cannot grow, for want of room: `SQLITE_IOERR_SHMSIZE`.
const SQLITE_NO_ROOM_FOR_INDEX: u32 = 0x130a;

/// By SQLite's primary result codes (the low byte of the extended ones).
fn from_sqlite(code: u32, error: Arc<sqlx::Error>) -> StoreError {
    let what = match code & 0xff {
        _ if code == SQLITE_NO_ROOM_FOR_INDEX => return StoreError::Full(error),
        5 | 6 => "it is locked by another process",
        7 => "it is out of memory",
        8 => "it is read-only",
        9 => "it was interrupted",
        10 => "the disk reported an error",
        13 => return StoreError::Full(error),
        14 => "its file cannot be opened",
        3 | 23 => "its file may not be used by this user",
        11 | 26 => {
            return StoreError::Corrupt {
                what: "the file is damaged, or no SQLite database".to_owned(),
                source: Some(error),
            };
        }
        _ => return StoreError::Refused(error),
    };
    StoreError::Unavailable {
        what,
        source: Some(error),
    }
}

/// By PostgreSQL's SQLSTATE, mostly by its class.
fn from_postgres(state: &str, error: Arc<sqlx::Error>) -> StoreError {
    let what = match state {
        "40001" | "40P01" => return StoreError::Contended(error),
        "57014" => "a statement took too long",
        "55P03" => "a row stayed locked for too long",
        "25006" => "it is read-only",
        "53100" => return StoreError::Full(error),
        "25P03" => "a transaction was idle for too long",
        "42501" => "its user may not do this",
        "55000" => "it accepts no connections",
        _ => match state.get(..2).unwrap_or_default() {
            "08" => "the connection broke",
            "28" => "it does not accept the user or password",
            "3D" => "there is no database of that name",
            "53" => "it is out of resources",
            "57" => "it is shutting down or starting up",
            "58" => "its machine reported an error",
            "XX" => {
                return StoreError::Corrupt {
                    what: format!("PostgreSQL reports {state}"),
                    source: Some(error),
                };
            }
            _ => return StoreError::Refused(error),
        },
    };
    StoreError::Unavailable {
        what,
        source: Some(error),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (code, hint) = advice(&error);
        let failure = Failure::new(code, sentence(&error)).hint(hint);
        let failure = match (&error, code) {
            (_, Code::StoreUnavailable | Code::StoreFull) => failure.retry_after(RETRY_AFTER),
            (
                StoreError::Foreign {
                    fault: ForeignFault::Away(_),
                    ..
                },
                _,
            ) => failure.retry_after(foreign::RETRY_AFTER),
            _ => failure,
        };
        failure.caused_by(error)
    }
}

/// What kind of failure it is, and what whoever meets it can do.
fn advice(error: &StoreError) -> (Code, &'static str) {
    match error {
        StoreError::Unavailable { .. } | StoreError::Contended(_) => {
            (Code::StoreUnavailable, "Try again in a few seconds.")
        }
        StoreError::Full(_) => (
            Code::StoreFull,
            "Nothing was done. Somebody has to make room on the database's disk; then try again.",
        ),
        StoreError::Conflict(_) => (Code::Conflict, "Look at what is there, or choose another name."),
        StoreError::Newer { .. } => (
            Code::InvalidConfig,
            "Run the newer version of forebay, or point `store.url` at another database.",
        ),
        StoreError::Url { .. } => (
            Code::InvalidConfig,
            "Set `store.url` to `sqlite:///path/to/forebay.db` or `postgres://user@host/database`.",
        ),
        StoreError::File { .. } => (
            Code::InvalidConfig,
            "Choose a folder that this user may write to, with `--data` or `store.url`.",
        ),
        StoreError::Cursor { .. } => (
            Code::InvalidRequest,
            "Leave the cursor out to begin anew, or send one back as it was given.",
        ),
        StoreError::TooLarge { .. } => (Code::BodyTooLarge, "Send less of it."),
        StoreError::Foreign { fault, .. } => advice_of_foreign(fault),
        StoreError::Ledger(fault) => advice_of_ledger(fault),
        StoreError::UnknownKey(_) => (Code::UnknownKey, "List the keys to see which there are."),
        StoreError::Corrupt { .. } | StoreError::Migration(_) | StoreError::Refused(_) => INTERNAL,
    }
}

const INTERNAL: (Code, &str) = (
    Code::InternalError,
    "The log has the particulars; `forebay audit verify` checks the audit trail.",
);

fn advice_of_foreign(fault: &ForeignFault) -> (Code, &'static str) {
    match fault {
        ForeignFault::Away(_) => (
            Code::UpstreamFailed,
            "Try again later, or check its host, port, database, user and password.",
        ),
        ForeignFault::TimedOut => (
            Code::UpstreamTimedOut,
            "Make the query faster (an index, fewer rows), or allow it more time.",
        ),
        ForeignFault::Refused(_) => (
            Code::UpstreamFailed,
            "Check the query, and what its user may read; it is one SELECT.",
        ),
        ForeignFault::Unusable(_) => (Code::InvalidConfig, "Correct what was said about the database."),
    }
}

fn advice_of_ledger(fault: &LedgerFault) -> (Code, &'static str) {
    match fault {
        LedgerFault::Invalid(_) | LedgerFault::Name(_) => (Code::InvalidRequest, "Correct the amount or the name."),
        LedgerFault::Full => (
            Code::Conflict,
            "Remove some first, or set one for each key or project instead of many.",
        ),
        LedgerFault::UnknownHold | LedgerFault::TooMuch => INTERNAL,
    }
}

/// The error's own text as a sentence.
fn sentence(error: &StoreError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(error: StoreError) -> (Code, String) {
        let failure = Failure::from(error);
        assert!(failure.hint.is_some());
        (failure.code, failure.message)
    }

    #[test]
    fn sqlite_codes_that_mean_later_are_unavailable() {
        for code in [5, 261, 6, 8, 1032, 10, 266, 3338, 13, 4874, 14] {
            let error = from_sqlite(code, Arc::new(sqlx::Error::RowNotFound));
            assert!(error.is_unavailable(), "{code}");
            let full = if [13, 4874].contains(&code) {
                Code::StoreFull
            } else {
                Code::StoreUnavailable
            };
            assert_eq!(failure(error).0, full, "{code}");
        }
        for code in [11, 26] {
            let error = from_sqlite(code, Arc::new(sqlx::Error::RowNotFound));
            assert!(matches!(error, StoreError::Corrupt { .. }), "{code}");
        }
        let error = from_sqlite(1, Arc::new(sqlx::Error::RowNotFound));
        assert_eq!(failure(error).0, Code::InternalError);
    }

    #[test]
    fn postgres_states_that_mean_later_are_unavailable() {
        for state in [
            "40001", "40P01", "57014", "57P01", "57P03", "53300", "53100", "08006", "25006", "28P01", "3D000", "55000",
            "55P03",
        ] {
            let error = from_postgres(state, Arc::new(sqlx::Error::RowNotFound));
            assert!(error.is_unavailable(), "{state}");
            assert_eq!(matches!(error, StoreError::Full(_)), state == "53100", "{state}");
        }
        assert!(!from_postgres("42601", Arc::new(sqlx::Error::RowNotFound)).is_unavailable());
    }

    #[test]
    fn a_slow_statement_is_no_broken_connection() {
        for code in ["08006", "57P01", "57P03", "3D000", "28P01", "55000", "10", "266", "14"] {
            assert!(is_disconnecting(code), "{code}");
        }
        for code in ["57014", "55P03", "53300", "40001", "5", "9", "13"] {
            assert!(!is_disconnecting(code), "{code}");
        }
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(StoreError::from(sqlx::Error::Io(broken)).is_disconnection());
        assert!(!StoreError::from(sqlx::Error::PoolTimedOut).is_disconnection());
        assert!(!StoreError::unavailable("it did not answer in time").is_disconnection());
    }

    #[test]
    fn each_failure_reads_as_a_sentence() {
        let (code, message) = failure(StoreError::Newer { found: 9, known: 1 });
        assert_eq!(code, Code::InvalidConfig);
        assert_eq!(
            message,
            "The database is at version 9 of its tables, newer than version 1 that this program knows."
        );
        let (code, message) = failure(StoreError::Cursor { text: "x".to_owned() });
        assert_eq!(
            (code, message.as_str()),
            (Code::InvalidRequest, "`x` is not a cursor of this list.")
        );
    }
}
