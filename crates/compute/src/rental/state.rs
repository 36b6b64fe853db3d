//! How a rental goes on, as pure rules: what was seen or answered goes in, the changed rental and what is worth telling
//! come out.
//!
//! Three things are kept apart: that a machine is there, that it is not, and that nobody knows. Only complete listings by
//! somebody who was let in say that one is gone, several in a row; whatever else happens leaves it as it was.

use super::{
    body::{Paying, Seen, Why},
    price,
    record::{Record, after, between},
};
use crate::market::{Created, Destroyed, Machine, MachineState, MarketFault};
use forebay_domain::money::UsdRate;
use forebay_store::rentals::{Desired, RentalState};
use jiff::Timestamp;
use std::time::Duration;

/// Complete listings in a row that say that a machine is gone.
pub(crate) const MISSES: u32 = 3;
/// Two listings nearer to one another than this may be one.
pub(crate) const MISS_APART: Duration = Duration::from_secs(10);
/// Whoever wrote down that a machine is to be, and has asked nobody for so long, is dead.
const INTENT_MAX: Duration = Duration::from_mins(2);
/// The same of whoever asks.
pub(crate) const ASKING_MAX: Duration = Duration::from_mins(2);
/// A machine that nobody has seen for so long after it was asked for was not made.
const FIND_OUT_MIN: Duration = Duration::from_mins(5);
/// Waits between two requests to end it, while it is accepted and not gone, and while it fails.
const END_AGAIN: Duration = Duration::from_secs(30);
const END_AGAIN_MAX: Duration = Duration::from_mins(5);
const END_RETRY: Duration = Duration::from_secs(5);
const END_RETRY_MAX: Duration = Duration::from_mins(1);
/// Failures in a row after which somebody is told.
pub(crate) const END_ALARM: u32 = 3;
/// A provider's last bill is asked for so long after the end, for so many times.
const BILL_AFTER: [Duration; 3] = [
    Duration::from_mins(10),
    Duration::from_hours(6),
    Duration::from_hours(36),
];

/// What one look at the provider showed of one rental.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sight<'a> {
    /// Nothing: nobody was let in, or the list is not complete.
    Blind,
    /// It is not in a list from which new machines may be missing for so long.
    Absent {
        lag: Duration,
    },
    Present(&'a Machine),
}

/// What is worth telling.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fact {
    /// Nobody knows whether it was made.
    Ambiguous,
    /// It was, and is ours.
    Found,
    /// Its end begins.
    Ending,
    EndFails,
    Ended,
    /// Its provider now names another price.
    PriceDrift {
        from: UsdRate,
        to: UsdRate,
    },
}

/// What is left to be done for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Todo {
    Nothing,
    /// Its provider is to be asked to end it.
    End,
    /// What is set aside is to be let go: it never was.
    Release,
    /// Prepaid time that it has is to be posted.
    Pay,
    /// What it came to is to be posted.
    Settle,
    /// Its provider is to be asked what it has charged.
    Bill,
    /// Nothing more: the row can be closed.
    Close,
}

/// Its provider is about to be asked.
pub(crate) fn asking(record: &mut Record, now: Timestamp) {
    record.row.state = RentalState::Creating;
    record.body.asked_at = Some(now);
}

/// A limit said no, so nobody is asked.
pub(crate) fn refused_by_limit(record: &mut Record, now: Timestamp) {
    if record.row.state == RentalState::Intended {
        never_was(record, Why::RefusedByLimit, now);
        record.row.open = false;
    }
}

/// Its provider has answered, or nobody knows.
pub(crate) fn answered(record: &mut Record, answer: &Created, now: Timestamp) -> Vec<Fact> {
    match (record.row.state, answer) {
        // A look at the provider was quicker than its answer. Who asked is told that there is none, so there shall be none.
        (RentalState::Up, Created::Refused(why) | Created::Ambiguous { why, id: Some(_) }) => {
            record.body.fault = Some(why.to_string());
            end(record, Why::MadeInError, now).into_iter().collect()
        }
        // What was given up meanwhile stays so: nobody looks after it any more, and if it is there it ends as nobody's.
        (RentalState::Up | RentalState::Destroying | RentalState::Gone | RentalState::Refused, _) => Vec::new(),
        (_, Created::Confirmed { id }) => {
            record.row.machine = Some(id.clone());
            is_up(record, now)
        }
        (_, Created::Refused(why)) => {
            record.body.fault = Some(why.to_string());
            never_was(record, Why::RefusedByProvider, now);
            Vec::new()
        }
        (_, Created::Ambiguous { why, id }) => {
            record.row.state = RentalState::FindingOut;
            record.body.fault = Some(why.to_string());
            let mut facts = vec![Fact::Ambiguous];
            if let Some(id) = id {
                // It said that it failed and that this is it. Who asked is told that there is none, so there shall be none.
                record.row.machine = Some(id.clone());
                facts.extend(end(record, Why::MadeInError, now));
            }
            facts
        }
    }
}

/// Somebody wants it gone, for that reason.
pub(crate) fn end(record: &mut Record, why: Why, now: Timestamp) -> Option<Fact> {
    if record.row.desired == Desired::Gone || !record.row.state.is_live() {
        return None;
    }
    record.row.desired = Desired::Gone;
    record.body.why = Some(why);
    record.body.ending.since = Some(now);
    match record.row.state {
        RentalState::Intended => never_was(record, why, now),
        RentalState::Up => record.row.state = RentalState::Destroying,
        RentalState::Creating
        | RentalState::FindingOut
        | RentalState::Destroying
        | RentalState::Refused
        | RentalState::Gone => {}
    }
    Some(Fact::Ending)
}

/// Its provider was looked at.
pub(crate) fn look(record: &mut Record, sight: Sight<'_>, now: Timestamp) -> Vec<Fact> {
    let mut facts = match (record.row.state, sight) {
        (RentalState::Refused | RentalState::Gone, _) => return Vec::new(),
        (RentalState::Intended, _) => {
            if between(record.row.created_at, now) >= INTENT_MAX {
                never_was(record, Why::NeverAsked, now);
            }
            return Vec::new();
        }
        (_, Sight::Present(machine)) => present(record, machine, now),
        (_, Sight::Absent { lag }) => absent(record, lag, now),
        (_, Sight::Blind) => Vec::new(),
    };
    let asked = record.body.asked_at.unwrap_or(record.row.created_at);
    if record.row.state == RentalState::Creating && between(asked, now) >= ASKING_MAX {
        record.row.state = RentalState::FindingOut;
        facts.push(Fact::Ambiguous);
    }
    facts
}

/// How long somebody waits for a machine that does nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until it runs.
    pub boot: Duration,
    /// Once what it ran has ended by itself: so long its log can be read.
    pub exited: Duration,
}

/// Whether it has had its time.
pub(crate) fn is_due(record: &Record, now: Timestamp, patience: Patience) -> Option<Why> {
    if record.row.desired == Desired::Gone || !record.row.state.is_live() {
        return None;
    }
    let asked = record.body.asked_at?;
    let last_used = record.body.used_at.unwrap_or(asked);
    let is_idle = record.body.idle.is_some_and(|idle| between(last_used, now) >= idle);
    let is_stuck = record.row.state == RentalState::Up && !record.body.has_run && between(asked, now) >= patience.boot;
    let exited = record.body.exited_since;
    let is_over = exited.is_some_and(|since| between(since, now) >= patience.exited);
    if now >= record.body.ends_by {
        Some(Why::Lifetime)
    } else if is_over {
        Some(Why::Exited)
    } else if is_idle {
        Some(Why::Idle)
    } else if is_stuck {
        Some(Why::NeverStarted)
    } else {
        None
    }
}

/// Its provider was asked to end it.
pub(crate) fn ended(record: &mut Record, answer: &Result<Destroyed, MarketFault>, now: Timestamp) -> Vec<Fact> {
    if record.row.state != RentalState::Destroying {
        return Vec::new();
    }
    let ending = &mut record.body.ending;
    ending.asked = ending.asked.saturating_add(1);
    match answer {
        Ok(Destroyed::Gone) => gone(record, now),
        Ok(Destroyed::Accepted) => {
            ending.failures = 0;
            let wait = doubled(END_AGAIN, ending.asked - 1, END_AGAIN_MAX);
            ending.next_at = Some(after(now, wait));
            Vec::new()
        }
        Err(fault) => {
            ending.failures = ending.failures.saturating_add(1);
            let wait = doubled(END_RETRY, ending.failures - 1, END_RETRY_MAX);
            ending.next_at = Some(after(now, wait));
            record.body.fault = Some(fault.to_string());
            let is_alarming = record.body.ending.failures >= END_ALARM;
            is_alarming.then_some(Fact::EndFails).into_iter().collect()
        }
    }
}

/// Its provider was asked for this one alone, and says that it does not exist. That ends one that is to end; of any other
/// only listings are believed.
pub(crate) fn unknown_to_provider(record: &mut Record, now: Timestamp) -> Vec<Fact> {
    match record.row.state {
        RentalState::Destroying if record.body.ending.asked > 0 => gone(record, now),
        _ => Vec::new(),
    }
}

/// The process that it ran in is gone, and it with that.
pub(crate) fn gateway_ended(record: &mut Record, now: Timestamp) -> Vec<Fact> {
    if !record.row.state.is_live() {
        return Vec::new();
    }
    record.body.why.get_or_insert(Why::GatewayEnded);
    if record.is_there() {
        return gone(record, now);
    }
    never_was(record, Why::GatewayEnded, now);
    Vec::new()
}

/// What is left to be done.
pub(crate) fn todo(record: &Record, now: Timestamp) -> Todo {
    let money = &record.body.money;
    let prepaid = record.body.paying == Paying::Prepaid;
    match record.row.state {
        _ if !record.row.open => Todo::Nothing,
        RentalState::Refused => Todo::Release,
        RentalState::Up | RentalState::Destroying | RentalState::Gone if prepaid && money.hold.is_some() => Todo::Pay,
        RentalState::Destroying if record.body.ending.next_at.is_none_or(|at| at <= now) => Todo::End,
        RentalState::Intended
        | RentalState::Creating
        | RentalState::FindingOut
        | RentalState::Up
        | RentalState::Destroying => Todo::Nothing,
        RentalState::Gone if money.hold.is_some() && !money.is_settled => Todo::Settle,
        RentalState::Gone if money.hold.is_none() && money.payments.is_empty() => Todo::Close,
        RentalState::Gone => match money.bill_at {
            None => Todo::Close,
            Some(at) if at <= now => Todo::Bill,
            Some(_) => Todo::Nothing,
        },
    }
}

/// When its provider is asked for its bill next, after so many times; never again after the last.
pub(crate) fn next_bill(ended_at: Timestamp, bills: u32) -> Option<Timestamp> {
    let wait = BILL_AFTER.get(usize::try_from(bills).ok()?)?;
    Some(after(ended_at, *wait))
}

fn is_up(record: &mut Record, now: Timestamp) -> Vec<Fact> {
    record.row.state = match record.row.desired {
        Desired::Up => RentalState::Up,
        Desired::Gone => RentalState::Destroying,
    };
    record.body.misses = 0;
    record.body.absent_since = None;
    record.body.used_at.get_or_insert(now);
    Vec::new()
}

fn never_was(record: &mut Record, why: Why, now: Timestamp) {
    record.row.state = RentalState::Refused;
    record.row.token_hash = None;
    record.body.why.get_or_insert(why);
    record.body.ended_at = Some(now);
}

fn gone(record: &mut Record, now: Timestamp) -> Vec<Fact> {
    // It costs until somebody saw that it was not there, and not until that was believed.
    let ended_at = record.body.absent_since.unwrap_or(now);
    record.row.state = RentalState::Gone;
    record.row.token_hash = None;
    record.body.ended_at = Some(ended_at);
    record.body.why.get_or_insert(Why::Vanished);
    record.body.money.bill_at = next_bill(ended_at, 0);
    vec![Fact::Ended]
}

fn present(record: &mut Record, machine: &Machine, now: Timestamp) -> Vec<Fact> {
    let mut facts = Vec::new();
    if !record.is_there() {
        if record.row.state == RentalState::FindingOut {
            facts.push(Fact::Found);
            // What was in doubt is so no more.
            if record.row.desired == Desired::Up {
                record.body.fault = None;
            }
        }
        record.row.machine = Some(machine.id.clone());
        facts.extend(is_up(record, now));
    }
    record.body.misses = 0;
    record.body.absent_since = None;
    facts.extend(price::drift(record, machine));
    price::count(record, machine, now);
    let has_exited = machine.state == MachineState::Exited;
    record.body.has_run |= machine.state == MachineState::Running || has_exited;
    // One that is started again is no longer over.
    record.body.exited_since = has_exited.then_some(record.body.exited_since.unwrap_or(now));
    record.body.seen = Some(Seen {
        at: now,
        state: machine.state,
        status: machine.status.clone(),
        nanos_per_hour: machine.rate.map(UsdRate::nanos_per_hour),
        paid: machine.paid,
        started_at: machine.started_at,
        ends_at: machine.ends_at,
        endpoints: machine.endpoints.clone(),
    });
    if machine.state == MachineState::Ended {
        facts.extend(gone(record, now));
    }
    facts
}

fn absent(record: &mut Record, lag: Duration, now: Timestamp) -> Vec<Fact> {
    let asked = record.body.asked_at.unwrap_or(record.row.created_at);
    let is_new = between(asked, now) < lag;
    let is_same = record.body.missed_at.is_some_and(|at| between(at, now) < MISS_APART);
    if is_new || is_same {
        return Vec::new();
    }
    record.body.missed_at = Some(now);
    record.body.absent_since.get_or_insert(now);
    record.body.misses = record.body.misses.saturating_add(1);
    if record.body.misses < MISSES {
        return Vec::new();
    }
    match record.row.state {
        RentalState::Up | RentalState::Destroying => gone(record, now),
        RentalState::FindingOut if between(asked, now) >= FIND_OUT_MIN => {
            never_was(record, Why::NeverMade, now);
            Vec::new()
        }
        RentalState::FindingOut
        | RentalState::Creating
        | RentalState::Intended
        | RentalState::Refused
        | RentalState::Gone => Vec::new(),
    }
}

fn doubled(first: Duration, times: u32, max: Duration) -> Duration {
    first.saturating_mul(1 << times.min(10)).min(max)
}
