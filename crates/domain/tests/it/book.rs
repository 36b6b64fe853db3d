//! The book against a plain ledger, with random interleavings.

use crate::model::{Became, MINUTE_MS, Model, Op, PAYERS, RENEWED_UNTIL_MS, Step, payer, purses, rules, steps};
use forebay_domain::{
    id::{HoldId, TraceId},
    ledger::{
        Ask, Book, Changes, Enforcement, Facts, Head, HoldRecord, Keyed, NewHold, Outcome, Post, Purpose, PurposeKind,
        Purse, Reason, Refunded, Refusal, Request, Txn, Window,
    },
    money::{Usd, UsdRate},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

const START_MS: i64 = 1_800_000_000_000;

/// What a database keeps.
#[derive(Default)]
struct Shelf {
    heads: HashMap<Purse, Head>,
    posted: BTreeMap<(Purse, i64), Usd>,
    refunded: Vec<Refunded>,
    holds: HashMap<HoldId, HoldRecord>,
    keyed: HashMap<String, Keyed>,
    txns: Vec<Txn>,
}

impl Shelf {
    fn facts(&self, now_ms: i64) -> Facts {
        let mut facts = Facts {
            now_ms,
            heads: self.heads.clone(),
            holds: self.holds.clone(),
            keyed: self.keyed.clone(),
            ..Facts::default()
        };
        for purse in purses() {
            let counts = rules().into_iter().filter(|rule| rule.counts_for(&purse));
            let windows: Vec<_> = counts.map(|rule| rule.window).collect();
            for window in &windows {
                let begin = facts.begin_ms(&purse.tenant, window.minutes);
                let before = self.posted.range((purse.clone(), i64::MIN)..=(purse.clone(), begin));
                let before = before.last().map_or(Usd::ZERO, |(_, sum)| *sum);
                let of = |refund: &&Refunded| refund.purse == purse && refund.original_at_ms > begin;
                let given_back: Usd = self.refunded.iter().filter(of).map(|refund| refund.amount).sum();
                let outside = before.saturating_add(given_back);
                facts.outside.insert((purse.clone(), window.minutes), outside);
            }
            facts.windows.insert(purse, windows);
        }
        for hold in self.holds.values() {
            facts.posts.insert(hold.id.clone(), self.posts(hold));
        }
        facts
    }

    fn posts(&self, hold: &HoldRecord) -> Vec<Post> {
        let mut left: BTreeMap<i64, Usd> = BTreeMap::new();
        for txn in self.txns.iter().filter(|txn| txn.hold.as_ref() == Some(&hold.id)) {
            let sum = left.entry(txn.at_ms).or_default();
            *sum = sum.saturating_add(txn.posted.max(Usd::ZERO));
        }
        let tenant = &hold.payer.purses()[0];
        for refund in self
            .refunded
            .iter()
            .filter(|refund| refund.hold == hold.id && refund.purse == *tenant)
        {
            let sum = left.entry(refund.original_at_ms).or_default();
            *sum = sum.saturating_sub(refund.amount);
        }
        left.into_iter()
            .rev()
            .map(|(at_ms, left)| Post { at_ms, left })
            .collect()
    }

    fn keep(&mut self, changes: Changes) {
        self.heads.extend(changes.heads);
        for (purse, head) in changes.posted {
            self.posted.insert((purse, head.last_at_ms), head.posted);
        }
        self.refunded.extend(changes.refunded);
        self.holds
            .extend(changes.holds.into_iter().map(|hold| (hold.id.clone(), hold)));
        for txn in &changes.txns {
            if let Some(key) = &txn.key {
                let keyed = Keyed {
                    hold: txn.hold.clone(),
                    held: txn.held,
                    rate: txn.rate,
                    posted: txn.posted,
                };
                assert_eq!(self.keyed.insert(key.clone(), keyed), None, "once is once");
            }
        }
        self.txns.extend(changes.txns);
    }
}

fn trace() -> TraceId {
    TraceId::from_bytes([7; 16]).unwrap()
}

fn request(op: &Op, ids: &[HoldId], fresh: &HoldId, now_ms: i64) -> Request {
    let id = |hold: &usize| ids[*hold].clone();
    match op {
        Op::Hold { who, ask, key, minutes } => Request::Hold(Box::new(NewHold {
            id: fresh.clone(),
            payer: payer(*who),
            purpose: Purpose {
                kind: PurposeKind::Model,
                name: "m".to_owned(),
            },
            ask: *ask,
            trace: trace(),
            key: key.map(|key| key.to_string()),
            lapses_at_ms: now_ms + minutes * MINUTE_MS,
            needs_limit: false,
        })),
        Op::Renew { hold, ask } => Request::Renew {
            hold: id(hold),
            ask: *ask,
            lapses_at_ms: RENEWED_UNTIL_MS,
        },
        Op::Accrue { hold, total } => Request::Accrue {
            hold: id(hold),
            total: *total,
        },
        Op::Settle { hold, actual } => Request::Settle {
            hold: id(hold),
            actual: *actual,
            estimated: false,
        },
        Op::Void { hold } => Request::Void { hold: id(hold) },
        Op::Refund { hold, amount, key } => Request::Refund {
            hold: id(hold),
            amount: *amount,
            key: key.to_string(),
        },
        Op::Adjust { hold, difference, key } => Request::Adjust {
            hold: id(hold),
            difference: *difference,
            key: key.to_string(),
        },
    }
}

fn became(op: &Op, outcome: &Result<Outcome, Refusal>) -> Became {
    match (op, outcome) {
        (_, Err(Refusal::Limit(_))) => Became::Refused,
        (_, Err(_)) => Became::Conflict,
        (Op::Hold { .. } | Op::Renew { .. }, Ok(outcome)) => Became::Held {
            is_repeat: outcome.is_repeat,
        },
        (_, Ok(outcome)) => Became::Done {
            posted: outcome.posted,
            is_repeat: outcome.is_repeat,
        },
    }
}

fn check(shelf: &Shelf, model: &Model) {
    for txn in &shelf.txns {
        let sum: i64 = txn.entries.iter().map(|entry| entry.amount.micros()).sum();
        assert_eq!(sum, 0, "{txn:?}");
    }
    let facts = shelf.facts(model.now_ms);
    for who in 0..PAYERS {
        for standing in facts.standings(&payer(who)) {
            let (purse, minutes) = (&standing.purse, standing.window.minutes);
            assert_eq!(standing.posted, model.posted(purse, minutes), "{purse} {minutes}");
            assert_eq!(standing.held, model.held(purse), "{purse}");
            assert_eq!(standing.burn, model.burn(purse), "{purse}");
        }
    }
    model.check_limits();
}

/// Whether anything is posted beyond its hold.
#[derive(Clone, Copy, PartialEq)]
enum Manners {
    Any,
    Modest,
}

fn run(steps: &[Step], jumps: &[i64], manners: Manners) {
    let (mut shelf, mut model, mut ids) = (Shelf::default(), Model::new(START_MS), Vec::new());
    for (number, step) in steps.iter().enumerate() {
        let jump = jumps.get(number).copied().unwrap_or_default();
        model.now_ms += step.by_ms + jump;
        let mut book = Book::new(shelf.facts(model.now_ms));
        for hold in model.overdue() {
            let id: &HoldId = &ids[hold];
            book.decide(&Request::Lapse { hold: id.clone() }).unwrap();
            model.lapse(hold);
        }
        shelf.keep(book.close());
        check(&shelf, &model);

        let mut book = Book::new(shelf.facts(model.now_ms));
        let before = model.holds();
        for op in step.ops.iter().filter_map(|op| op.named(before)) {
            let op = if manners == Manners::Modest {
                model.modest(&op)
            } else {
                op
            };
            let fresh = HoldId::try_from(format!("h{}", model.holds())).unwrap();
            let outcome = book.decide(&request(&op, &ids, &fresh, model.now_ms));
            assert_eq!(became(&op, &outcome), model.apply(&op), "{op:?}");
            if model.holds() > ids.len() {
                ids.push(fresh);
            }
        }
        shelf.keep(book.close());
        check(&shelf, &model);
    }
    if manners == Manners::Modest {
        model.check_modesty();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_it_is_a_plain_ledger_within_its_limits(steps in steps(14)) {
        run(&steps, &[], Manners::Any);
    }

    #[test]
    fn where_nothing_comes_to_more_than_its_hold_no_limit_is_ever_passed(
        steps in steps(14),
        jumps in prop::collection::vec(-20 * MINUTE_MS..20 * MINUTE_MS, 14),
    ) {
        run(&steps, &jumps, Manners::Modest);
    }

    #[test]
    fn a_clock_that_jumps_back_makes_no_room(
        steps in steps(10),
        jumps in prop::collection::vec(-20 * MINUTE_MS..20 * MINUTE_MS, 10),
    ) {
        run(&steps, &jumps, Manners::Any);
    }
}

/// What runs at a rate of its own, and what limits say to more, less and dearer of it.
#[test]
fn what_runs_is_judged_by_what_it_may_yet_spend() {
    let cents = |cents: i64| Usd::from_micros(cents * 10_000);
    let at = |amount: i64, hourly: i64| Ask {
        amount: cents(amount),
        rate: UsdRate::per_hour(cents(hourly)),
    };
    // Of one tenant alone: $1 in an hour, and 50 cents in five minutes for its key.
    let (who, now_ms) = (3, START_MS);
    let mut shelf = Shelf::default();
    let id = |id: &str| HoldId::try_from(id.to_owned()).unwrap();
    let hold = |ask| Op::Hold {
        who,
        ask,
        key: None,
        minutes: 600,
    };
    let renew = |ask| Request::Renew {
        hold: id("machine"),
        ask,
        lapses_at_ms: RENEWED_UNTIL_MS,
    };
    let mut book = Book::new(shelf.facts(now_ms));
    let machine = request(&hold(at(20, 90)), &[], &id("machine"), now_ms);
    book.decide(&machine).unwrap();
    book.decide(&request(&hold(at(25, 0)), &[], &id("chat"), now_ms))
        .unwrap();
    // Dearer than an hour of its limit: it may not begin, and goes on where it runs.
    let refused = book.decide(&request(&hold(at(1, 20)), &[], &id("other"), now_ms));
    assert!(matches!(refused, Err(Refusal::Limit(overrun)) if overrun.reason == Reason::Rate));
    let dearer = book.decide(&renew(at(25, 120))).unwrap();
    assert_eq!(dearer.beyond, None);
    assert_eq!(dearer.hold.unwrap().rate, UsdRate::per_hour(cents(120)));
    let refused = book.decide(&renew(at(26, 120)));
    assert!(matches!(refused, Err(Refusal::Limit(overrun)) if overrun.reason == Reason::Amount));
    shelf.keep(book.close());

    // Lowered below what is set aside: less is let in, and it is said where that does not fit either.
    let mut facts = shelf.facts(now_ms);
    let tenant = payer(who).purses().remove(0);
    let lowered = Window::new(60, cents(40), Enforcement::Hard).unwrap();
    facts.windows.insert(tenant, vec![lowered]);
    let mut book = Book::new(facts);
    let less = book.decide(&renew(at(20, 120))).unwrap();
    assert_eq!(less.beyond.unwrap().standing.window, lowered);
    assert_eq!(less.hold.unwrap().amount, cents(20), "and it is less all the same");
    assert_eq!(book.decide(&renew(at(15, 120))).unwrap().beyond, None);
}
