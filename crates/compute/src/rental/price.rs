//! What a machine costs, where its provider says another price than was agreed on: told, never accepted, and counted where
//! it is more. Pure.

use super::{
    body::{Paying, Priced, Seen},
    record::Record,
    state::Fact,
};
use crate::market::Machine;
use jiff::Timestamp;

/// What a stopped machine costs is less, and no news; that one costs more than was agreed is told once for each price.
pub(super) fn drift(record: &Record, machine: &Machine) -> Option<Fact> {
    let agreed = record.body.rate();
    let told = record.body.seen.as_ref().and_then(Seen::rate);
    let now = machine.rate?;
    (now > agreed && told != Some(now)).then_some(Fact::PriceDrift { from: agreed, to: now })
}

/// What its provider says that it costs counts, where that is more than was agreed on: limits hold against what is paid,
/// and not against what was promised. When the price rose nobody knows, so it did with the last look that showed the old one.
pub(super) fn count(record: &mut Record, machine: &Machine, now: Timestamp) {
    let (agreed, burn) = (record.body.rate(), record.body.burn());
    let rate = machine.rate.map_or(burn, |rate| rate.max(agreed));
    let Some(asked) = record
        .body
        .asked_at
        .filter(|_| rate != burn && record.body.paying == Paying::Accrues)
    else {
        return;
    };
    let last_seen = record.body.seen.as_ref().map_or(asked, |seen| seen.at);
    let last_priced = record.body.money.priced.map_or(asked, |priced| priced.since);
    let since = if rate > burn { last_seen.max(last_priced) } else { now };
    record.body.money.priced = Some(Priced {
        since,
        nanos_per_hour: rate.nanos_per_hour(),
        before: record.accrued(since),
    });
}

#[cfg(test)]
mod tests {
    use super::super::record::after;
    use crate::{
        market::Created,
        rental::{
            state::{self, Sight},
            state_tests::{machine, record, start},
        },
    };
    use forebay_domain::money::{Usd, UsdRate};
    use proptest::prelude::*;
    use std::time::Duration;

    fn cents(hourly: i64) -> UsdRate {
        UsdRate::per_hour(Usd::from_micros(hourly * 10_000))
    }

    proptest! {
        /// Between two looks it costs at the higher of what they showed, and never less than was agreed on; what nobody
        /// looked at, or said no price of, costs on as before.
        #[test]
        fn it_costs_what_was_seen_and_never_less_than_was_agreed(
            looks in prop::collection::vec((1_u16..4_000, prop::option::weighted(0.8, 20_i64..90), any::<bool>()), 1..40),
        ) {
            let mut record = record();
            state::asking(&mut record, start());
            state::answered(&mut record, &Created::Confirmed { id: machine().id }, start());
            let agreed = record.body.rate();
            let (mut now, mut seen_at, mut price) = (start(), start(), agreed);
            let (mut exact, mut changes) = (Usd::ZERO, 0);
            for (seconds, said, is_blind) in looks {
                now = after(now, Duration::from_secs(seconds.into()));
                if is_blind {
                    state::look(&mut record, Sight::Blind, now);
                    continue;
                }
                let mut machine = machine();
                machine.rate = said.map(cents);
                state::look(&mut record, Sight::Present(&machine), now);
                let next = machine.rate.map_or(price, |rate| rate.max(agreed));
                changes += i64::from(next != price);
                let passed = Duration::try_from(now.duration_since(seen_at)).unwrap();
                exact = exact.saturating_add(price.max(next).cost_of(passed));
                (price, seen_at) = (next, now);
                prop_assert_eq!(record.body.burn(), price);
                prop_assert_eq!(record.body.rate(), agreed, "nothing is accepted");
                let beyond = record.accrued(now).micros() - exact.micros();
                // The reference rounds up at each look; what is counted at each change of the price.
                prop_assert!((-40..=changes + 1).contains(&beyond), "{} for {exact}", record.accrued(now));
            }
        }
    }
}
