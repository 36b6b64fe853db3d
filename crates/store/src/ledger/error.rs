//! Why the ledger said no, and what it cannot do.

use forebay_domain::{
    Code, Failure,
    ledger::{Overrun, Reason, Refusal, RequestFault},
};
use serde_json::json;

use super::budgets::BUDGETS_MAX;
use crate::StoreError;

/// Why nothing was set aside.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// A hard limit says no.
    #[error("{0}")]
    Refused(Box<Overrun>),
    /// A limit is needed for this, and none counts for the payer.
    #[error("no spending limit counts for this")]
    NoLimit,
    /// The hold has ended, or its idempotency key was used for something else.
    #[error("the hold has ended, or its idempotency key was used for something else")]
    Conflict,
    /// Nobody can ask for that.
    #[error("{0}")]
    Invalid(RequestFault),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the ledger cannot do, whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFault {
    #[error("the ledger knows no such hold")]
    UnknownHold,
    #[error("{0}")]
    Invalid(RequestFault),
    #[error("a tenant has at most {} budgets that are set at run time", BUDGETS_MAX)]
    Full,
    #[error("the sum is beyond all counting")]
    TooMuch,
    #[error("a budget of a {0} names it, and one of a tenant has no other name than the tenant's")]
    Name(&'static str),
}

impl From<HoldError> for Failure {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Refused(overrun) => refusal(&overrun),
            HoldError::NoLimit => Failure::new(
                Code::NoSpendingLimit,
                "This spends money for as long as it runs, and no spending limit counts for it.",
            )
            .hint("Set a hard limit first: under `budgets` in the configuration, or with `forebay budget set`."),
            HoldError::Conflict => Failure::new(
                Code::Conflict,
                "The hold has ended, or its key was used for something else.",
            )
            .hint("Begin anew, with a new idempotency key."),
            HoldError::Invalid(fault) => {
                Failure::new(Code::InvalidRequest, format!("This cannot be paid for: {fault}."))
                    .hint("Correct the amount, the name or the key.")
            }
            HoldError::Store(error) => error.into(),
        }
    }
}

/// How a refusal reads, for people and for programs.
pub fn refusal(overrun: &Overrun) -> Failure {
    let standing = &overrun.standing;
    let hint = match overrun.reason {
        Reason::Amount => "Wait until the window has moved on, end what runs, or have the limit raised.",
        Reason::Rate => "Choose something cheaper, end what runs, or have the limit raised.",
    };
    Failure::new(Code::SpendingLimitExceeded, sentence(&overrun.to_string()))
        .hint(hint)
        .details(json!({
            "scope": standing.purse.scope,
            "id": standing.purse.id,
            "window_minutes": standing.window.minutes,
            "limit_usd": standing.window.limit,
            "posted_usd": standing.posted,
            "held_usd": standing.held,
            "requested_usd": overrun.requested(),
            "reason": overrun.reason,
        }))
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooMuch => LedgerFault::TooMuch.into(),
            // Only what is asked by name of a hold is refused for anything else.
            _ => LedgerFault::UnknownHold.into(),
        }
    }
}

pub(super) fn is_unknown_hold(error: &StoreError) -> bool {
    matches!(error, StoreError::Ledger(LedgerFault::UnknownHold))
}
