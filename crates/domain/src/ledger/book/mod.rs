//! Decides what becomes of some requests, one after the other, out of what is known.
//!
//! Pure: the facts go in, and what is to be written comes out. Both databases and the tests are the same to it.

mod changes;
mod facts;
mod spent;

pub use changes::{Changes, Refunded, Txn, TxnKind};
pub use facts::{Facts, Head, Keyed, Post};

use super::{
    Account, Ask, HoldRecord, HoldState, Movement, NewHold, Outcome, Posting, Purse, Refusal, Request, Standing, admit,
};
use crate::{
    id::{HoldId, TraceId},
    money::{Usd, UsdRate},
};
use facts::Subject;
use std::collections::BTreeSet;

/// The ledger, as far as some requests are about it.
pub struct Book {
    facts: Facts,
    txns: Vec<Txn>,
    refunded: Vec<Refunded>,
    touched: BTreeSet<Purse>,
    posted: BTreeSet<Purse>,
    holds: BTreeSet<HoldId>,
}

/// A transaction that has yet to get its time and its entries.
struct Draft {
    kind: TxnKind,
    movement: Movement,
    estimated: bool,
    above_hold: bool,
    lapsed: bool,
    key: Option<String>,
}

impl Draft {
    fn of(kind: TxnKind, movement: Movement) -> Self {
        Self {
            kind,
            movement,
            estimated: false,
            above_hold: false,
            lapsed: false,
            key: None,
        }
    }
}

impl Book {
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            txns: Vec::new(),
            refunded: Vec::new(),
            touched: BTreeSet::new(),
            posted: BTreeSet::new(),
            holds: BTreeSet::new(),
        }
    }

    /// Does one thing, or says why not and changes nothing.
    pub fn decide(&mut self, request: &Request) -> Result<Outcome, Refusal> {
        match request {
            Request::Hold(new) => self.hold(new, request.key()),
            Request::Renew {
                hold,
                ask,
                lapses_at_ms,
            } => self.renew(self.record(hold)?, *ask, *lapses_at_ms),
            Request::Accrue { hold, total } => self.accrue(self.record(hold)?, *total),
            Request::Settle {
                hold,
                actual,
                estimated,
            } => self.settle(self.record(hold)?, *actual, *estimated),
            Request::Void { hold } => self.void(self.record(hold)?),
            Request::Lapse { hold } => self.lapse(self.record(hold)?),
            Request::Refund { hold, amount, .. } => {
                self.correct(self.record(hold)?, TxnKind::Refund, negative(*amount), request.key())
            }
            Request::Adjust { hold, difference, .. } => {
                self.correct(self.record(hold)?, TxnKind::Adjust, *difference, request.key())
            }
            Request::Post { posting, .. } => self.post(posting, request.key()),
        }
    }

    /// What is to be written.
    pub fn close(self) -> Changes {
        let Self { facts, .. } = &self;
        let heads = |purses: &BTreeSet<Purse>| purses.iter().map(|purse| (purse.clone(), facts.head(purse))).collect();
        Changes {
            heads: heads(&self.touched),
            posted: heads(&self.posted),
            holds: self
                .holds
                .iter()
                .filter_map(|id| facts.holds.get(id).cloned())
                .collect(),
            txns: self.txns,
            refunded: self.refunded,
        }
    }

    fn record(&self, hold: &HoldId) -> Result<HoldRecord, Refusal> {
        self.facts.holds.get(hold).cloned().ok_or(Refusal::UnknownHold)
    }

    fn hold(&mut self, new: &NewHold, key: Option<String>) -> Result<Outcome, Refusal> {
        if let Some(earlier) = key.as_ref().and_then(|key| self.facts.keyed.get(key)) {
            return self.held_before(new, earlier);
        }
        let standings = self.facts.standings(&new.payer);
        if new.needs_limit && !standings.iter().any(Standing::bounds) {
            return Err(Refusal::NoLimit);
        }
        let admission = admit(&standings, new.ask).map_err(|overrun| Refusal::Limit(Box::new(overrun)))?;
        let amount = new.ask.amount;
        let record = HoldRecord {
            id: new.id.clone(),
            state: HoldState::Open,
            payer: new.payer.clone(),
            purpose: new.purpose.clone(),
            trace: new.trace,
            amount,
            rate: new.ask.rate,
            posted: Usd::ZERO,
            started_at_ms: self.facts.at_ms(&new.payer.tenant),
            lapses_at_ms: new.lapses_at_ms,
        };
        let draft = Draft {
            key,
            ..Draft::of(TxnKind::Hold, Movement::Hold { amount })
        };
        self.move_hold(&record, UsdRate::ZERO, draft)?;
        Ok(Outcome {
            hold: Some(record),
            warnings: admission.warnings,
            ..Outcome::default()
        })
    }

    /// The hold of the same key, if it was for the same and still counts. Whoever retries may have a new session.
    fn held_before(&self, new: &NewHold, earlier: &Keyed) -> Result<Outcome, Refusal> {
        let record = self.record(earlier.hold.as_ref().ok_or(Refusal::Conflict)?)?;
        let (one, other) = (&record.payer, &new.payer);
        let is_same = (&one.project, &one.key, &one.subject) == (&other.project, &other.key, &other.subject)
            && record.purpose == new.purpose
            && (earlier.held, earlier.rate) == (new.ask.amount, new.ask.rate);
        if !is_same || record.state != HoldState::Open {
            return Err(Refusal::Conflict);
        }
        Ok(Outcome {
            hold: Some(record),
            is_repeat: true,
            ..Outcome::default()
        })
    }

    fn renew(&mut self, record: HoldRecord, ask: Ask, lapses_at_ms: i64) -> Result<Outcome, Refusal> {
        if record.state != HoldState::Open {
            return Err(Refusal::Conflict);
        }
        let (before, before_rate) = (record.amount, record.rate);
        let mut standings = self.facts.standings(&record.payer);
        for standing in &mut standings {
            standing.held = standing.held.saturating_sub(before);
            standing.burn = standing.burn.saturating_sub(before_rate);
        }
        // It runs, and costs what it costs, whatever a limit says to that: what counts is what may yet be spent.
        let next = Ask {
            rate: UsdRate::ZERO,
            ..ask
        };
        let (warnings, beyond) = match admit(&standings, next) {
            Ok(admission) => (admission.warnings, None),
            Err(overrun) if ask.amount <= before => (Vec::new(), Some(Box::new(overrun))),
            Err(overrun) => return Err(Refusal::Limit(Box::new(overrun))),
        };
        let record = HoldRecord {
            amount: ask.amount,
            rate: ask.rate,
            lapses_at_ms,
            ..record
        };
        let after = ask.amount;
        self.move_hold(
            &record,
            before_rate,
            Draft::of(TxnKind::Rehold, Movement::Rehold { before, after }),
        )?;
        Ok(Outcome {
            hold: Some(record),
            warnings,
            beyond,
            ..Outcome::default()
        })
    }

    fn post(&mut self, posting: &Posting, key: Option<String>) -> Result<Outcome, Refusal> {
        if key.as_ref().is_some_and(|key| self.facts.keyed.contains_key(key)) {
            return Ok(Outcome {
                is_repeat: true,
                ..Outcome::default()
            });
        }
        let subject = Subject {
            payer: &posting.payer,
            purpose: &posting.purpose,
        };
        let amount = posting.amount;
        let draft = Draft {
            estimated: posting.estimated,
            key,
            ..Draft::of(TxnKind::Post, Movement::Post { amount })
        };
        self.write(subject, None, posting.trace, (UsdRate::ZERO, UsdRate::ZERO), draft)?;
        Ok(Outcome {
            posted: amount,
            ..Outcome::default()
        })
    }

    /// Writes a transaction of a hold, and the hold as it is after it.
    fn move_hold(&mut self, record: &HoldRecord, rate_before: UsdRate, draft: Draft) -> Result<(), Refusal> {
        let subject = Subject {
            payer: &record.payer,
            purpose: &record.purpose,
        };
        let rates = (rate_before, record.rate);
        self.write(subject, Some(&record.id), record.trace, rates, draft)?;
        self.facts.holds.insert(record.id.clone(), record.clone());
        self.holds.insert(record.id.clone());
        Ok(())
    }

    fn write(
        &mut self,
        of: Subject<'_>,
        of_hold: Option<&HoldId>,
        trace: TraceId,
        (rate_before, rate): (UsdRate, UsdRate),
        draft: Draft,
    ) -> Result<(), Refusal> {
        let at_ms = self.facts.at_ms(&of.payer.tenant);
        let entries = draft.movement.entries();
        let sum = |counts: fn(Account) -> bool| {
            let amounts = entries.iter().filter(|entry| counts(entry.account));
            amounts.map(|entry| entry.amount).sum::<Usd>()
        };
        let (held, posted) = (sum(|account| account == Account::Hold), sum(Account::is_posted));
        let purses = of.payer.purses();
        let mut after = Vec::with_capacity(purses.len());
        for purse in &purses {
            let mut state = self.facts.head(purse);
            state.held = state.held.checked_add(held).ok_or(Refusal::TooMuch)?;
            state.burn = state.burn.saturating_sub(rate_before).saturating_add(rate);
            // What is taken off again is taken off at its own time, and stands elsewhere.
            if posted > Usd::ZERO {
                state.posted = state.posted.checked_add(posted).ok_or(Refusal::TooMuch)?;
            }
            state.last_at_ms = at_ms;
            after.push(state);
        }
        for (purse, state) in purses.into_iter().zip(after) {
            if posted > Usd::ZERO {
                self.posted.insert(purse.clone());
            }
            self.facts.heads.insert(purse.clone(), state);
            self.touched.insert(purse);
        }
        if let Some(hold) = of_hold.filter(|_| posted > Usd::ZERO) {
            let post = Post { at_ms, left: posted };
            self.facts.posts.entry(hold.clone()).or_default().insert(0, post);
        }
        let txn = Txn {
            at_ms,
            kind: draft.kind,
            hold: of_hold.cloned(),
            payer: of.payer.clone(),
            purpose: of.purpose.clone(),
            trace,
            held,
            posted,
            rate,
            estimated: draft.estimated,
            above_hold: draft.above_hold,
            lapsed: draft.lapsed,
            key: draft.key,
            entries,
        };
        self.facts.keyed.extend(txn.keyed());
        self.txns.push(txn);
        Ok(())
    }
}

fn negative(amount: Usd) -> Usd {
    Usd::ZERO.saturating_sub(amount)
}

fn repeat(record: HoldRecord) -> Outcome {
    Outcome {
        hold: Some(record),
        is_repeat: true,
        ..Outcome::default()
    }
}
