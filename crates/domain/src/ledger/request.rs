//! What can be asked of the ledger, and what it answers.

use super::{Ask, HoldRecord, HoldState, Overrun, Payer, Purpose};
use crate::{
    id::{HoldId, TraceId},
    money::{Usd, UsdRate},
};

/// Longest name of a purpose.
pub const PURPOSE_BYTES_MAX: usize = 256;

/// Longest idempotency key, as long as Stripe's.
pub const KEY_BYTES_MAX: usize = 255;

/// What somebody wants to set aside.
#[derive(Debug, Clone)]
pub struct NewHold {
    pub id: HoldId,
    pub payer: Payer,
    pub purpose: Purpose,
    pub ask: Ask,
    pub trace: TraceId,
    /// The same key of the same tenant is the same hold.
    pub key: Option<String>,
    pub lapses_at_ms: i64,
    /// Refused where no hard limit counts.
    pub needs_limit: bool,
}

/// What was spent without a hold.
#[derive(Debug, Clone)]
pub struct Posting {
    pub payer: Payer,
    pub purpose: Purpose,
    pub amount: Usd,
    pub trace: TraceId,
    pub estimated: bool,
}

/// One thing that the ledger is asked to do.
#[derive(Debug, Clone)]
pub enum Request {
    Hold(Box<NewHold>),
    /// Sets aside so much from now on, whatever of the hold is left, for what runs already: limits judge how much that is,
    /// and not at which rate it goes. Less than before is never refused.
    Renew {
        hold: HoldId,
        ask: Ask,
        lapses_at_ms: i64,
    },
    /// What has accrued since the start.
    Accrue {
        hold: HoldId,
        total: Usd,
    },
    /// What it came to since the start.
    Settle {
        hold: HoldId,
        actual: Usd,
        estimated: bool,
    },
    Void {
        hold: HoldId,
    },
    /// Nobody said in time what became of it.
    Lapse {
        hold: HoldId,
    },
    Refund {
        hold: HoldId,
        amount: Usd,
        key: String,
    },
    Adjust {
        hold: HoldId,
        difference: Usd,
        key: String,
    },
    /// Posts it once, however often the same id comes.
    Post {
        id: String,
        posting: Box<Posting>,
    },
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The hold, after it.
    pub hold: Option<HoldRecord>,
    /// What was posted by it; below zero where something was taken off.
    pub posted: Usd,
    /// More than was set aside.
    pub above_hold: bool,
    /// It was done before, or is too late to be done, and has changed nothing.
    pub is_repeat: bool,
    /// The soft limits that it goes beyond.
    pub warnings: Vec<Overrun>,
    /// The hard limit that it goes beyond all the same: less is set aside than before, and that is never refused.
    pub beyond: Option<Box<Overrun>>,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Limit(Box<Overrun>),
    /// A limit is needed, and none counts.
    NoLimit,
    /// The hold has ended, or its key was used for something else.
    Conflict,
    UnknownHold,
    /// The sum is beyond all counting.
    TooMuch,
}

/// What nobody can ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    #[error("an amount is below zero, or beyond all counting")]
    Amount,
    #[error("the name of what is paid for has 1 to {PURPOSE_BYTES_MAX} bytes and no control characters")]
    Purpose,
    #[error("an idempotency key has 1 to {KEY_BYTES_MAX} bytes and no control characters")]
    Key,
}

impl Request {
    /// Refuses what would disturb others that are decided with it.
    pub fn check(&self) -> Result<(), RequestFault> {
        match self {
            Self::Hold(new) => {
                is_amount(new.ask.amount)?;
                is_rate(new.ask.rate)?;
                is_text(&new.purpose.name, PURPOSE_BYTES_MAX, RequestFault::Purpose)?;
                new.key.as_deref().map_or(Ok(()), is_key)
            }
            Self::Renew { ask, .. } => {
                is_amount(ask.amount)?;
                is_rate(ask.rate)
            }
            Self::Accrue { total: amount, .. } | Self::Settle { actual: amount, .. } => is_amount(*amount),
            Self::Void { .. } | Self::Lapse { .. } => Ok(()),
            Self::Refund { amount, key, .. } => {
                is_amount(*amount)?;
                is_key(key)
            }
            Self::Adjust { difference, key, .. } => {
                is_amount(Usd::from_micros(difference.micros().saturating_abs()))?;
                is_key(key)
            }
            Self::Post { posting, id } => {
                is_key(id)?;
                is_amount(posting.amount)?;
                is_text(&posting.purpose.name, PURPOSE_BYTES_MAX, RequestFault::Purpose)
            }
        }
    }

    /// The hold that it is about, unless it makes one.
    pub fn hold(&self) -> Option<&HoldId> {
        match self {
            Self::Hold(_) | Self::Post { .. } => None,
            Self::Renew { hold, .. }
            | Self::Accrue { hold, .. }
            | Self::Settle { hold, .. }
            | Self::Void { hold }
            | Self::Lapse { hold }
            | Self::Refund { hold, .. }
            | Self::Adjust { hold, .. } => Some(hold),
        }
    }

    /// Who pays, where the request itself says so.
    pub fn payer(&self) -> Option<&Payer> {
        match self {
            Self::Hold(new) => Some(&new.payer),
            Self::Post { posting, .. } => Some(&posting.payer),
            _ => None,
        }
    }

    /// Whether limits have a say.
    pub fn is_judged(&self) -> bool {
        matches!(self, Self::Hold(_) | Self::Renew { .. })
    }

    /// The key under which it is done once, unlike any other of all tenants, requests and holds.
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Hold(new) => new.key.as_ref().map(|key| format!("{} hold {key}", new.payer.tenant)),
            Self::Refund { hold, key, .. } => Some(format!("{hold} refund {key}")),
            Self::Adjust { hold, key, .. } => Some(format!("{hold} adjust {key}")),
            Self::Post { id, posting } => Some(format!("{} post {id}", posting.payer.tenant)),
            _ => None,
        }
    }

    /// How much of what its hold has posted it may have to take off again.
    pub fn takes_off(&self, record: &HoldRecord) -> Usd {
        let too_much = match self {
            Self::Refund { amount, .. } => *amount,
            Self::Adjust { difference, .. } => Usd::ZERO.saturating_sub(*difference),
            Self::Settle { actual, .. } => record.posted.saturating_sub(*actual),
            Self::Void { .. } if record.state == HoldState::Lapsed => record.posted,
            _ => Usd::ZERO,
        };
        too_much.max(Usd::ZERO)
    }
}

fn is_amount(amount: Usd) -> Result<(), RequestFault> {
    let counts = !amount.is_negative() && amount <= Usd::MAX;
    if counts { Ok(()) } else { Err(RequestFault::Amount) }
}

fn is_rate(rate: UsdRate) -> Result<(), RequestFault> {
    let counts = rate >= UsdRate::ZERO && rate <= UsdRate::per_hour(Usd::MAX);
    if counts { Ok(()) } else { Err(RequestFault::Amount) }
}

fn is_key(key: &str) -> Result<(), RequestFault> {
    is_text(key, KEY_BYTES_MAX, RequestFault::Key)
}

fn is_text(text: &str, bytes_max: usize, fault: RequestFault) -> Result<(), RequestFault> {
    let counts = !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control);
    if counts { Ok(()) } else { Err(fault) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(micros: i64) -> Request {
        Request::Settle {
            hold: "h".parse().unwrap(),
            actual: Usd::from_micros(micros),
            estimated: false,
        }
    }

    #[test]
    fn what_nobody_can_ask_is_refused_by_name() {
        assert_eq!(settle(0).check(), Ok(()));
        assert_eq!(settle(-1).check(), Err(RequestFault::Amount));
        assert_eq!(settle(Usd::MAX.micros() + 1).check(), Err(RequestFault::Amount));
        let adjust = |micros, key: &str| Request::Adjust {
            hold: "h".parse().unwrap(),
            difference: Usd::from_micros(micros),
            key: key.to_owned(),
        };
        assert_eq!(adjust(-5, "bill").check(), Ok(()));
        assert_eq!(adjust(i64::MIN, "bill").check(), Err(RequestFault::Amount));
        for key in ["", "a\0b", &"x".repeat(KEY_BYTES_MAX + 1)] {
            assert_eq!(adjust(1, key).check(), Err(RequestFault::Key));
        }
    }

    #[test]
    fn keys_of_different_things_differ() {
        let refund = Request::Refund {
            hold: "h".parse().unwrap(),
            amount: Usd::ZERO,
            key: "k".to_owned(),
        };
        let adjust = Request::Adjust {
            hold: "h".parse().unwrap(),
            difference: Usd::ZERO,
            key: "k".to_owned(),
        };
        assert_ne!(refund.key(), adjust.key());
        assert_eq!(settle(1).key(), None);
    }
}
