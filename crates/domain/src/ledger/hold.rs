//! What is set aside, for whom and for what.

use super::Payer;
use crate::{
    id::{HoldId, TraceId},
    money::{Usd, UsdRate},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What money is spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurposeKind {
    Model,
    Tool,
    Machine,
}

impl PurposeKind {
    pub const ALL: [Self; 3] = [Self::Model, Self::Tool, Self::Machine];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Tool => "tool",
            Self::Machine => "machine",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for PurposeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What money is spent on, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Purpose {
    pub kind: PurposeKind,
    pub name: String,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// How far a hold has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldState {
    /// It counts.
    Open,
    /// It came to something, and that was posted.
    Settled,
    /// Nothing was spent, or nothing beyond what had accrued.
    Voided,
    /// Nobody said what became of it in time, so all of it was posted.
    Lapsed,
}

impl HoldState {
    pub const ALL: [Self; 4] = [Self::Open, Self::Settled, Self::Voided, Self::Lapsed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Settled => "settled",
            Self::Voided => "voided",
            Self::Lapsed => "lapsed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A hold as it stands. Times are milliseconds since 1970, as the ledger counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRecord {
    pub id: HoldId,
    pub state: HoldState,
    pub payer: Payer,
    pub purpose: Purpose,
    pub trace: TraceId,
    /// What is still set aside.
    pub amount: Usd,
    /// What it costs for as long as it runs.
    pub rate: UsdRate,
    /// What was posted of it so far.
    pub posted: Usd,
    pub started_at_ms: i64,
    pub lapses_at_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_states_have_their_names() {
        for kind in PurposeKind::ALL {
            assert_eq!(PurposeKind::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for state in HoldState::ALL {
            assert_eq!(HoldState::parse(state.as_str()), Some(state));
        }
        assert_eq!(HoldState::parse("gone"), None);
    }
}
