//! Makes one row of a flood of equal anonymous refusals.
//!
//! Whoever hammers a closed door costs the log a row a flush, not a row a knock. Nothing that names an actor, and nothing
//! that was let in, is ever merged.

use forebay_domain::{
    Code, Event,
    event::{Outcome, Surface},
};
use std::collections::HashMap;

#[derive(PartialEq, Eq, Hash)]
struct Knock {
    surface: Surface,
    action: String,
    code: Code,
    reason: Option<String>,
}

/// The first of each kind of refusal stands for all of them: counts and bytes add up, the longest duration stays.
pub(super) fn coalesce(events: Vec<Event>) -> Vec<Event> {
    let mut kept: Vec<Event> = Vec::with_capacity(events.len());
    let mut first: HashMap<Knock, usize> = HashMap::new();
    for event in events {
        let (Outcome::Failed(code), None) = (event.outcome, &event.actor) else {
            kept.push(event);
            continue;
        };
        let knock = Knock {
            surface: event.surface,
            action: event.action.clone(),
            code,
            reason: event.reason.clone(),
        };
        let next = kept.len();
        let place = *first.entry(knock).or_insert(next);
        if place == next {
            kept.push(event);
            continue;
        }
        let row = &mut kept[place];
        row.count = row.count.saturating_add(event.count);
        row.bytes_in = row.bytes_in.saturating_add(event.bytes_in);
        row.bytes_out = row.bytes_out.saturating_add(event.bytes_out);
        row.duration_us = row.duration_us.max(event.duration_us);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::{
        event::{Actor, Class},
        id::{SubjectId, TenantId, TraceId},
    };
    use jiff::Timestamp;

    /// `who action outcome`, one a word group: `-` is nobody.
    fn event(text: &str) -> Event {
        let mut words = text.split(' ');
        let who = words.next().unwrap();
        let action = words.next().unwrap().to_owned();
        let outcome = match words.next().unwrap() {
            "ok" => Outcome::Ok,
            "key" => Outcome::Failed(Code::InvalidKey),
            _ => Outcome::Failed(Code::RateLimited),
        };
        Event {
            at: Timestamp::UNIX_EPOCH,
            class: Class::Activity,
            surface: Surface::Api,
            trace: TraceId::from_bytes([1; 16]).unwrap(),
            actor: (who != "-").then(|| Actor {
                tenant: TenantId::try_from("t").unwrap(),
                project: None,
                subject: SubjectId::try_from(who).unwrap(),
                key: None,
                session: None,
            }),
            action,
            outcome,
            reason: None,
            duration_us: 7,
            bytes_in: 10,
            bytes_out: 20,
            usage: None,
            count: 1,
        }
    }

    fn check(events: &[&str], expected: &[(&str, u32)]) {
        let rows = coalesce(events.iter().map(|text| event(text)).collect());
        let expected: Vec<Event> = expected
            .iter()
            .map(|(text, count)| Event {
                count: *count,
                bytes_in: 10 * u64::from(*count),
                bytes_out: 20 * u64::from(*count),
                ..event(text)
            })
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn only_equal_anonymous_refusals_are_merged() {
        check(
            &["- a key", "- b key", "- a key", "- a rate", "- a key"],
            &[("- a key", 3), ("- b key", 1), ("- a rate", 1)],
        );
        check(&["u a key", "u a key"], &[("u a key", 1), ("u a key", 1)]);
        check(&["- a ok", "- a ok"], &[("- a ok", 1), ("- a ok", 1)]);
        check(&[], &[]);
    }

    #[test]
    fn counts_never_overflow() {
        let full = Event {
            count: u32::MAX,
            ..event("- a key")
        };
        assert_eq!(coalesce(vec![full, event("- a key")])[0].count, u32::MAX);
    }
}
