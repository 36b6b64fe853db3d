//! What becomes of a hold once something is known of what was spent: it draws on it, ends it, or is corrected.

use super::{Book, Draft, Refunded, TxnKind, negative, repeat};
use crate::{
    ledger::{HoldRecord, HoldState, Movement, Outcome, Refusal},
    money::{Usd, UsdRate},
};

impl Book {
    pub(super) fn accrue(&mut self, record: HoldRecord, total: Usd) -> Result<Outcome, Refusal> {
        let amount = total.saturating_sub(record.posted);
        if record.state != HoldState::Open || amount <= Usd::ZERO {
            return Ok(repeat(record));
        }
        let held = record.amount.min(amount);
        let above_hold = amount > held;
        let rate = record.rate;
        let record = HoldRecord {
            amount: record.amount.saturating_sub(held),
            posted: total,
            ..record
        };
        let draft = Draft {
            above_hold,
            ..Draft::of(TxnKind::Accrue, Movement::Accrue { held, amount })
        };
        self.move_hold(&record, rate, draft)?;
        Ok(Outcome {
            hold: Some(record),
            posted: amount,
            above_hold,
            ..Outcome::default()
        })
    }

    /// A hold that lapsed may still be settled: what was posted of it was a guess.
    pub(super) fn settle(&mut self, record: HoldRecord, actual: Usd, estimated: bool) -> Result<Outcome, Refusal> {
        match record.state {
            HoldState::Settled | HoldState::Voided => Ok(repeat(record)),
            HoldState::Open | HoldState::Lapsed => {
                let draft = Draft {
                    estimated,
                    ..Draft::of(TxnKind::Settle, Movement::Post { amount: Usd::ZERO })
                };
                self.end(record, HoldState::Settled, actual, draft)
            }
        }
    }

    /// What had accrued stays posted.
    pub(super) fn void(&mut self, record: HoldRecord) -> Result<Outcome, Refusal> {
        let actual = match record.state {
            HoldState::Settled | HoldState::Voided => return Ok(repeat(record)),
            HoldState::Open => record.posted,
            HoldState::Lapsed => Usd::ZERO,
        };
        let draft = Draft::of(TxnKind::Void, Movement::Void { held: record.amount });
        self.end(record, HoldState::Voided, actual, draft)
    }

    /// Posts all of it, since it may all have been spent. What goes on is for whoever looks after it to end.
    pub(super) fn lapse(&mut self, record: HoldRecord) -> Result<Outcome, Refusal> {
        let is_due = record.lapses_at_ms <= self.facts.now_ms && record.rate == UsdRate::ZERO;
        if record.state != HoldState::Open || !is_due {
            return Ok(repeat(record));
        }
        let actual = record.posted.saturating_add(record.amount);
        let draft = Draft {
            estimated: true,
            lapsed: true,
            ..Draft::of(TxnKind::Settle, Movement::Post { amount: Usd::ZERO })
        };
        self.end(record, HoldState::Lapsed, actual, draft)
    }

    /// Nothing stays set aside, and what is posted becomes what it came to.
    fn end(&mut self, record: HoldRecord, state: HoldState, actual: Usd, mut draft: Draft) -> Result<Outcome, Refusal> {
        let (held, rate) = (record.amount, record.rate);
        let mut left = actual.saturating_sub(record.posted);
        if left.is_negative() {
            left = negative(self.take_off(&record, negative(left)));
        }
        draft.above_hold = left > held;
        if draft.kind == TxnKind::Settle || left != Usd::ZERO {
            draft.movement = Movement::Settle { held, actual: left };
        }
        let record = HoldRecord {
            state,
            amount: Usd::ZERO,
            rate: UsdRate::ZERO,
            posted: record.posted.saturating_add(left),
            ..record
        };
        let above_hold = draft.above_hold;
        self.move_hold(&record, rate, draft)?;
        Ok(Outcome {
            hold: Some(record),
            posted: left,
            above_hold,
            ..Outcome::default()
        })
    }

    /// Changes what was posted, beside the hold itself: below zero at the times at which it was posted, above at once.
    pub(super) fn correct(
        &mut self,
        record: HoldRecord,
        kind: TxnKind,
        difference: Usd,
        key: Option<String>,
    ) -> Result<Outcome, Refusal> {
        if let Some(earlier) = key.as_ref().and_then(|key| self.facts.keyed.get(key)) {
            let posted = earlier.posted;
            return Ok(Outcome {
                posted,
                ..repeat(record)
            });
        }
        let mut difference = difference;
        if difference.is_negative() {
            difference = negative(self.take_off(&record, negative(difference)));
        }
        let movement = match kind {
            TxnKind::Adjust => Movement::Adjust { difference },
            _ => Movement::Refund {
                amount: negative(difference),
            },
        };
        let draft = Draft {
            key,
            ..Draft::of(kind, movement)
        };
        self.move_hold(&record, record.rate, draft)?;
        Ok(Outcome {
            hold: Some(record),
            posted: difference,
            ..Outcome::default()
        })
    }

    /// Takes so much off what a hold has posted, the newest of it first, and gives how much that was.
    fn take_off(&mut self, record: &HoldRecord, amount: Usd) -> Usd {
        let parts = self.facts.take_off(&record.id, amount);
        for post in &parts {
            for purse in record.payer.purses() {
                self.facts.leave_windows(&purse, *post);
                self.refunded.push(Refunded {
                    purse,
                    hold: record.id.clone(),
                    original_at_ms: post.at_ms,
                    amount: post.left,
                });
            }
        }
        parts.iter().map(|post| post.left).sum()
    }
}
