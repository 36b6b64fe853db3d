//! A place in the log, opaque to whoever holds it.
//!
//! Every cursor that is handed out is safe to follow the log from: no event before it can still appear.

use std::{fmt, str::FromStr};

use crate::StoreError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub(super) Place);

/// Where a row stands, in the order of each database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Sqlite { seq: i64 },
    Postgres { xid: i64, seq: i64 },
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Sqlite { seq } => write!(f, "s{seq}"),
            Place::Postgres { xid, seq } => write!(f, "p{xid}.{seq}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        parse(text).map(Self).ok_or_else(|| StoreError::Cursor {
            text: text.chars().take(64).collect(),
        })
    }
}

fn parse(text: &str) -> Option<Place> {
    if let Some(seq) = text.strip_prefix('s') {
        return Some(Place::Sqlite { seq: number(seq)? });
    }
    let (xid, seq) = text.strip_prefix('p')?.split_once('.')?;
    Some(Place::Postgres {
        xid: number(xid)?,
        seq: number(seq)?,
    })
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_nonsense_is_refused() {
        for good in ["s0", "s42", "p12.34", "p9223372036854775807.0"] {
            assert_eq!(good.parse::<Cursor>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "s",
            "42",
            "s-1",
            "s+1",
            "p1",
            "p1.",
            "p.1",
            "p1.2.3",
            "x1",
            "s 1",
            "s9223372036854775808",
            "s１",
        ] {
            assert!(matches!(bad.parse::<Cursor>(), Err(StoreError::Cursor { .. })), "{bad}");
        }
    }
}
