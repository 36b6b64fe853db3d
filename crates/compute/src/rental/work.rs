//! What is left to be done for one rental, whoever finds it so: ask for its end, let go or post its money, ask for the
//! last bill. All of it may be done twice.

use super::{
    Rentals,
    body::{Paying, Payment},
    create::hold_key,
    record::Record,
    state::{self, Todo, next_bill, todo},
    types::{Done, ask},
};
use crate::market::{ChargeQuery, MarketFault};
use forebay_domain::{
    ErrorKind,
    event::{Intent, Surface},
    id::HoldId,
    money::{Usd, UsdRate},
    port::BoxFuture,
};
use forebay_store::ledger::Settlement;

/// Most things that are done for one rental in one go.
const TODO_MAX: u32 = 6;

impl Rentals {
    /// Does it, until nothing is left to be done now.
    pub(super) fn work_on(&self, record: Record) -> BoxFuture<'_, Done<Record>> {
        Box::pin(self.work_off_todos(record))
    }

    async fn work_off_todos(&self, record: Record) -> Done<Record> {
        let mut record = record;
        for _ in 0..TODO_MAX {
            let before = record.version;
            record = match todo(&record, self.now()) {
                Todo::Nothing => return Ok(record),
                Todo::End => self.end_machine(record).await?,
                Todo::Release => self.release(record).await?,
                Todo::Pay => self.pay(record).await?,
                Todo::Settle => self.settle(record).await?,
                Todo::Bill => self.bill(record).await?,
                Todo::Close => self.close(record).await?,
            };
            if record.version == before {
                return Ok(record);
            }
        }
        Ok(record)
    }

    async fn end_machine(&self, record: Record) -> Done<Record> {
        let Some(machine) = record.machine.clone() else {
            return Ok(record);
        };
        if record.body.ending.asked == 0 {
            self.audit_end(&record).await?;
        }
        let answer = match self.market(record.provider) {
            Some(market) => market.destroy(&machine).await,
            None => Err(MarketFault::LockedOut("it is no longer configured".to_owned())),
        };
        self.0.metrics.destroyed(record.provider, &answer);
        let now = self.now();
        self.change(record, |record| state::ended(record, &answer, now)).await
    }

    /// What is about to be destroyed is on record before, whoever wanted it.
    async fn audit_end(&self, record: &Record) -> Done<()> {
        let why = record.body.why.map_or("asked", super::Why::as_str);
        let intent = Intent {
            surface: Surface::System,
            trace: record.trace(),
            actor: None,
            action: "gpu:destroy".to_owned(),
            reason: Some(format!(
                "machine {} of tenant {}: {why}",
                record.id, record.owner.tenant
            )),
        };
        Ok(self.0.events.audit(intent.at(self.now())).await?)
    }

    /// Nothing was rented. A process that died before it could write down what it had set aside did so under the
    /// rental's name: asked again, the ledger says which hold that is, or sets aside what is let go at once.
    async fn release(&self, record: Record) -> Done<Record> {
        let is_free = record.body.rate() == UsdRate::ZERO;
        let was_refused = record.body.why == Some(super::Why::RefusedByLimit);
        let hold = match &record.body.money.hold {
            Some(hold) => Some(hold.clone()),
            None if is_free || was_refused => None,
            None => self.forgotten_hold(&record).await?,
        };
        if let Some(hold) = hold {
            let voided = self.0.ledger.void(&hold).await?;
            if voided.is_repeat {
                // It had lapsed while nobody looked, and was posted for safety's sake.
                let all = record.body.money.first_hold;
                self.0.ledger.refund(&hold, all, "never_made").await?;
            }
        }
        self.close(record).await
    }

    async fn forgotten_hold(&self, record: &Record) -> Done<Option<HoldId>> {
        let rate = match record.body.paying {
            Paying::Accrues => record.body.rate(),
            Paying::Prepaid => UsdRate::ZERO,
        };
        match self.hold(record, ask(record.body.money.first_hold, rate)).await {
            Ok(hold) => Ok(Some(hold.id)),
            // It does not fit, so it was never set aside.
            Err(failure) if failure.kind() == ErrorKind::OverBudget => Ok(None),
            // It was, and has ended: let go, or posted in full since nobody looked for too long.
            Err(failure) if failure.kind() == ErrorKind::Conflict => {
                let key = hold_key(record);
                Ok(self.0.ledger.hold_under(&record.owner.tenant, &key).await?)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Prepaid time is spent once the machine is there.
    async fn pay(&self, record: Record) -> Done<Record> {
        let Some(hold) = record.body.money.hold.clone() else {
            return Ok(record);
        };
        let amount = record.body.money.first_hold;
        self.post(&hold, amount).await?;
        self.change(record, |record| {
            if record.body.money.hold.take().is_some() {
                record.body.money.payments.push(Payment {
                    hold: hold.clone(),
                    amount,
                });
            }
            Vec::new()
        })
        .await
    }

    pub(super) async fn post(&self, hold: &HoldId, actual: Usd) -> Done<()> {
        let settlement = Settlement {
            actual,
            estimated: false,
        };
        self.0.ledger.settle(hold, settlement).await?;
        Ok(())
    }

    async fn settle(&self, record: Record) -> Done<Record> {
        let total = record.accrued(self.now());
        if let Some(hold) = &record.body.money.hold {
            self.post(hold, total).await?;
        }
        self.change(record, |record| {
            record.body.money.is_settled = true;
            record.body.money.posted = total;
            Vec::new()
        })
        .await
    }

    /// What the provider itself has charged is what it came to. Where it says nothing, it is asked again, and in the end
    /// our own figure stands.
    async fn bill(&self, record: Record) -> Done<Record> {
        let (Some(machine), Some(ended_at)) = (record.machine.clone(), record.body.ended_at) else {
            return self.close(record).await;
        };
        let query = ChargeQuery {
            id: machine,
            label: record.label.clone(),
            since: record.body.asked_at.unwrap_or(record.created_at),
            until: ended_at,
            paid_before: Some(match record.body.paying {
                Paying::Prepaid => record.paid(),
                Paying::Accrues => record.spent(),
            }),
            is_last: next_bill(ended_at, record.body.money.bills + 1).is_none(),
        };
        let charged = match self.market(record.provider) {
            Some(market) => market.charged(&query).await.unwrap_or_default(),
            None => None,
        };
        let mut corrected = Usd::ZERO;
        if let Some(charged) = charged {
            corrected = self.correct(&record, charged).await?;
        }
        let bills = record.body.money.bills;
        self.change(record, |record| {
            let money = &mut record.body.money;
            if money.bills == bills {
                money.adjusted = money.adjusted.saturating_add(corrected);
                money.bills += 1;
                money.bill_at = next_bill(ended_at, money.bills);
            }
            Vec::new()
        })
        .await
    }

    /// Posts the difference to what was posted. Prepaid time that is given back is taken off when it was paid, the last
    /// first; anything else counts from now on. What the ledger says that it did counts: a process that died after a bill may
    /// find another one.
    async fn correct(&self, record: &Record, charged: Usd) -> Done<Usd> {
        let difference = charged.saturating_sub(record.spent());
        let round = record.body.money.bills;
        match record.body.paying {
            Paying::Prepaid if difference.is_negative() => {
                let mut left = Usd::ZERO.saturating_sub(difference);
                let mut applied = Usd::ZERO;
                for payment in record.body.money.payments.iter().rev() {
                    let part = left.min(payment.amount);
                    if part > Usd::ZERO {
                        let key = format!("refund:{round}");
                        // Less, where an earlier round has given back of it.
                        let done = self.0.ledger.refund(&payment.hold, part, &key).await?;
                        applied = applied.saturating_add(done.amount);
                        left = left.saturating_add(done.amount);
                    }
                }
                Ok(applied)
            }
            Paying::Prepaid | Paying::Accrues if difference == Usd::ZERO => Ok(Usd::ZERO),
            Paying::Prepaid | Paying::Accrues => {
                let paid = record.body.money.payments.last().map(|payment| &payment.hold);
                let Some(hold) = record.body.money.hold.as_ref().or(paid) else {
                    return Ok(Usd::ZERO);
                };
                let done = self.0.ledger.adjust(hold, difference, &format!("bill:{round}")).await?;
                Ok(done.amount)
            }
        }
    }

    async fn close(&self, record: Record) -> Done<Record> {
        self.change(record, |record| {
            record.row.open = false;
            Vec::new()
        })
        .await
    }
}
