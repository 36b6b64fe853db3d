//! Makes one row of a flood of equal anonymous facts.
//!
//! Whoever hammers a closed door, or one that is open to all (`GET /health`), costs the log a row a flush, not a row a
//! knock. Nothing that names an actor is ever merged, nor anything that was charged for, nor audit.

use forebay_domain::{
    Event,
    event::{Class, Surface},
};
use std::collections::HashMap;

/// What has to be equal; the outcome as the row tells it.
#[derive(PartialEq, Eq, Hash)]
struct Knock {
    surface: Surface,
    action: String,
    outcome: &'static str,
    reason: Option<String>,
}

/// The first of each kind stands for all of them, with its time and its trace: counts and bytes add up, and the longest
/// duration stays, so that one slow answer among many quick ones still shows.
pub(super) fn coalesce(events: Vec<Event>) -> Vec<Event> {
    let mut kept: Vec<Event> = Vec::with_capacity(events.len());
    let mut first: HashMap<Knock, usize> = HashMap::new();
    for event in events {
        if event.actor.is_some() || event.usage.is_some() || event.cost.is_some() || event.class != Class::Activity {
            kept.push(event);
            continue;
        }
        let knock = Knock {
            surface: event.surface,
            action: event.action.clone(),
            outcome: event.outcome.as_str(),
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
        Code,
        event::{Actor, Outcome, Usage},
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
            cost: None,
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
    fn only_equal_anonymous_facts_are_merged() {
        check(
            &["- a key", "- b key", "- a key", "- a rate", "- a key"],
            &[("- a key", 3), ("- b key", 1), ("- a rate", 1)],
        );
        check(&["u a key", "u a key"], &[("u a key", 1), ("u a key", 1)]);
        check(&["u a ok", "u a ok"], &[("u a ok", 1), ("u a ok", 1)]);
        check(
            &["- a ok", "- a ok", "- b ok", "- a key", "- a ok"],
            &[("- a ok", 3), ("- b ok", 1), ("- a key", 1)],
        );
        check(&[], &[]);
    }

    #[test]
    fn what_has_a_price_or_is_audit_stays_apart() {
        let used = Event {
            usage: Some(Usage::default()),
            ..event("- a ok")
        };
        let audit = Event {
            class: Class::Audit,
            ..event("- a ok")
        };
        for apart in [used, audit] {
            assert_eq!(coalesce(vec![apart.clone(), apart]).len(), 2);
        }
    }

    #[test]
    fn the_first_stands_for_all_and_the_slowest_shows() {
        let slow = Event {
            trace: TraceId::from_bytes([2; 16]).unwrap(),
            duration_us: 90,
            ..event("- a ok")
        };
        let rows = coalesce(vec![event("- a ok"), slow, event("- a ok")]);
        assert_eq!((rows.len(), rows[0].duration_us), (1, 90));
        assert_eq!(rows[0].trace, event("- a ok").trace);
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
