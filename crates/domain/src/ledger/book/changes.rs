//! What was decided: rows to be written, all of them or none.

use super::{Head, Keyed};
use crate::{
    id::{HoldId, TraceId},
    ledger::{Entry, HoldRecord, Payer, Purpose, Purse},
    money::{Usd, UsdRate},
};

/// What a transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TxnKind {
    Hold,
    Rehold,
    Settle,
    Void,
    Accrue,
    Refund,
    Adjust,
    Post,
}

impl TxnKind {
    pub const ALL: [Self; 8] = [
        Self::Hold,
        Self::Rehold,
        Self::Settle,
        Self::Void,
        Self::Accrue,
        Self::Refund,
        Self::Adjust,
        Self::Post,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Rehold => "rehold",
            Self::Settle => "settle",
            Self::Void => "void",
            Self::Accrue => "accrue",
            Self::Refund => "refund",
            Self::Adjust => "adjust",
            Self::Post => "post",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One transaction of the ledger; never changed, never removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    pub at_ms: i64,
    pub kind: TxnKind,
    pub hold: Option<HoldId>,
    pub payer: Payer,
    pub purpose: Purpose,
    pub trace: TraceId,
    /// By how much what is set aside changes.
    pub held: Usd,
    /// By how much what is posted changes.
    pub posted: Usd,
    /// The rate of the hold after it.
    pub rate: UsdRate,
    /// The amount is not what a vendor or an engine said.
    pub estimated: bool,
    /// More than was set aside.
    pub above_hold: bool,
    /// Nobody said in time what became of the hold.
    pub lapsed: bool,
    pub key: Option<String>,
    pub entries: Vec<Entry>,
}

impl Txn {
    pub(super) fn keyed(&self) -> Option<(String, Keyed)> {
        let keyed = Keyed {
            hold: self.hold.clone(),
            held: self.held,
            rate: self.rate,
            posted: self.posted,
        };
        Some((self.key.clone()?, keyed))
    }
}

/// What a window no longer counts at the time at which it was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refunded {
    pub purse: Purse,
    pub hold: HoldId,
    pub original_at_ms: i64,
    pub amount: Usd,
}

/// All that some requests changed.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub txns: Vec<Txn>,
    /// In the order of the purses.
    pub heads: Vec<(Purse, Head)>,
    /// The purses to which something was posted, among those.
    pub posted: Vec<(Purse, Head)>,
    pub refunded: Vec<Refunded>,
    pub holds: Vec<HoldRecord>,
}
