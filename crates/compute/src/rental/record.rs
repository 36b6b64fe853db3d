//! A rental as it is worked on: its row, and what the row's body says.

use super::body::{Body, Paying};
use crate::market::MachineState;
use forebay_domain::{
    Code, Failure,
    id::TraceId,
    ledger::{Payer, Purpose, PurposeKind},
    money::Usd,
};
use forebay_store::rentals::{RentalState, StoredRental};
use jiff::Timestamp;
use serde_json::value::to_raw_value;
use std::{ops::Deref, time::Duration};

#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub row: StoredRental,
    pub body: Box<Body>,
}

impl Deref for Record {
    type Target = StoredRental;

    fn deref(&self) -> &StoredRental {
        &self.row
    }
}

impl Record {
    pub(crate) fn read(row: StoredRental) -> Result<Self, Failure> {
        let body = serde_json::from_str(row.body.get()).map_err(|fault| {
            Failure::new(Code::InternalError, format!("rental {} cannot be read", row.id)).caused_by(fault)
        })?;
        Ok(Self { row, body })
    }

    /// The row as it is to be written.
    pub(crate) fn to_row(&self) -> Result<StoredRental, Failure> {
        let body = to_raw_value(&self.body)
            .map_err(|fault| Failure::new(Code::InternalError, "a rental cannot be written").caused_by(fault))?;
        Ok(StoredRental {
            body,
            ..self.row.clone()
        })
    }

    pub(crate) fn payer(&self) -> Payer {
        Payer {
            tenant: self.row.owner.tenant.clone(),
            project: self.row.owner.project.clone(),
            key: self.body.key.clone(),
            session: self.body.session.clone(),
            subject: Some(self.row.owner.subject.clone()),
        }
    }

    pub(crate) fn purpose(&self) -> Purpose {
        Purpose {
            kind: PurposeKind::Machine,
            name: self.row.label.clone(),
        }
    }

    pub(crate) fn trace(&self) -> TraceId {
        let made = TraceId::parse(&self.body.trace);
        made.unwrap_or_else(|| TraceId::new(self.row.created_at, [0; 10]))
    }

    /// What has accrued by then: from the moment at which its provider was asked, since nobody knows how soon that was
    /// done. A price that rose counts from the last look that showed another one. Nothing for what is prepaid.
    pub(crate) fn accrued(&self, now: Timestamp) -> Usd {
        match (self.body.paying, self.body.asked_at) {
            (Paying::Accrues, Some(asked)) => {
                let until = self.body.ended_at.unwrap_or(now);
                let (before, since) = match self.body.money.priced {
                    Some(priced) => (priced.before, priced.since),
                    None => (Usd::ZERO, asked),
                };
                before.saturating_add(self.body.burn().cost_of(between(since, until)))
            }
            _ => Usd::ZERO,
        }
    }

    /// What was spent on it, as far as anybody knows.
    pub(crate) fn spent(&self) -> Usd {
        let posted = self.body.money.posted.saturating_add(self.paid());
        posted.saturating_add(self.body.money.adjusted)
    }

    /// What was paid before, whatever was given back.
    pub(crate) fn paid(&self) -> Usd {
        self.body.money.payments.iter().map(|payment| payment.amount).sum()
    }

    /// Whether nothing has changed that is written.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let of = |record: &Self| {
            let row = &record.row;
            (row.machine.clone(), row.state, row.desired, row.open, row.token_hash)
        };
        of(self) == of(other) && self.body == other.body
    }

    /// Whether a machine was surely made, and is not known to be gone.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self.row.state, RentalState::Up | RentalState::Destroying)
    }

    pub(crate) fn machine_state(&self) -> Option<MachineState> {
        self.body.seen.as_ref().map(|seen| seen.state)
    }
}

/// The time from one moment to a later one; nothing where it is not later.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// A moment so much later, or the last that there is.
pub(crate) fn after(moment: Timestamp, time: Duration) -> Timestamp {
    moment.saturating_add(time).unwrap_or(Timestamp::MAX)
}
