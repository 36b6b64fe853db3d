//! What can go wrong with somebody else's database, without the values that it was asked with.
//!
//! PostgreSQL quotes values in many of its messages, and those values are questions of users. So a message is passed on
//! where it speaks of the statement alone, and else its state stands for it.

use std::{fmt, sync::Arc, time::Duration};

use crate::StoreError;

/// What a caller may act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignFault {
    /// It cannot be reached, or does not let us in.
    Away(&'static str),
    TimedOut,
    /// The statement is no query, or asks for what is not there or not allowed.
    Refused(String),
    /// What was said about it cannot be right.
    Unusable(&'static str),
}

impl fmt::Display for ForeignFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(what) => write!(f, "cannot be used right now: {what}"),
            Self::TimedOut => f.write_str("took too long to answer"),
            Self::Refused(what) => write!(f, "refused the statement: {what}"),
            Self::Unusable(what) => write!(f, "cannot be used: {what}"),
        }
    }
}

pub(super) fn unusable(name: &str, what: &'static str) -> StoreError {
    StoreError::Foreign {
        name: name.to_owned(),
        fault: ForeignFault::Unusable(what),
        source: None,
    }
}

pub(super) fn timed_out(name: &str) -> StoreError {
    StoreError::Foreign {
        name: name.to_owned(),
        fault: ForeignFault::TimedOut,
        source: None,
    }
}

pub(super) fn refused(name: &str, what: &str) -> StoreError {
    StoreError::Foreign {
        name: name.to_owned(),
        fault: ForeignFault::Refused(what.to_owned()),
        source: None,
    }
}

/// No connection could be made at all.
pub(super) fn unreached(name: &str, error: std::io::Error) -> StoreError {
    let what = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nobody listens there",
        _ => "it cannot be reached",
    };
    StoreError::Foreign {
        name: name.to_owned(),
        fault: ForeignFault::Away(what),
        source: Some(Arc::new(sqlx::Error::Io(error))),
    }
}

pub(super) fn of(name: &str, error: sqlx::Error) -> StoreError {
    let fault = match &error {
        sqlx::Error::Database(error) => {
            let state = error.code().unwrap_or_default().into_owned();
            return StoreError::Foreign {
                name: name.to_owned(),
                fault: of_state(&state, error.message()),
                // It would carry the message into the log.
                source: None,
            };
        }
        sqlx::Error::PoolTimedOut => ForeignFault::Away("no connection could be had in time"),
        sqlx::Error::PoolClosed => ForeignFault::Away("it was closed"),
        sqlx::Error::Tls(_) => ForeignFault::Away("no encrypted connection could be made"),
        sqlx::Error::Io(_) | sqlx::Error::BeginFailed | sqlx::Error::WorkerCrashed => {
            ForeignFault::Away("the connection broke")
        }
        sqlx::Error::Protocol(_) => ForeignFault::Away("it does not speak PostgreSQL's protocol"),
        sqlx::Error::Configuration(_) => ForeignFault::Unusable("its address cannot be used"),
        _ => ForeignFault::Refused("its answer cannot be read".to_owned()),
    };
    StoreError::Foreign {
        name: name.to_owned(),
        fault,
        source: Some(Arc::new(error)),
    }
}

fn of_state(state: &str, message: &str) -> ForeignFault {
    match state {
        "57014" => return ForeignFault::TimedOut,
        "55P03" => return ForeignFault::Away("a row stayed locked for too long"),
        "25006" => return ForeignFault::Refused("only reading is allowed".to_owned()),
        _ => {}
    }
    let what = match state.get(..2).unwrap_or_default() {
        "08" => "the connection broke",
        "28" => "it does not accept the user or password",
        "3D" => "there is no database of that name",
        "53" => "it is out of resources",
        "55" | "57" => "it accepts no connections",
        // These speak of the statement: of its grammar, its names, and who may use them.
        "42" => return ForeignFault::Refused(message.chars().take(MESSAGE_CHARS_MAX).collect()),
        "22" => return ForeignFault::Refused(format!("a value does not fit (SQLSTATE {state})")),
        _ => return ForeignFault::Refused(format!("SQLSTATE {state}")),
    };
    ForeignFault::Away(what)
}

/// Longest message that is passed on.
const MESSAGE_CHARS_MAX: usize = 300;

/// When to come back to one that is away.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_may_quote_a_value_are_not_passed_on() {
        let secret = "invalid input syntax for type integer: \"what is my salary\"";
        for state in ["22P02", "23505", "P0001", "XX000", "21000", "57P01", "28P01", "57014"] {
            let fault = of_state(state, secret).to_string();
            assert!(!fault.contains("salary"), "{state}: {fault}");
        }
        let fault = of_state("42P01", "relation \"docs\" does not exist").to_string();
        assert_eq!(fault, "refused the statement: relation \"docs\" does not exist");
    }
}
