//! The ledger over a real database against a plain one, with random interleavings.

#[path = "../../../../domain/tests/it/model.rs"]
mod model;

use super::{Timed, is_balanced};
use crate::{at, trace};
use forebay_domain::{
    id::HoldId,
    ledger::{BudgetRule, MINUTES_MAX, Purpose, PurposeKind, Window},
    money::Usd,
};
use forebay_runtime::Clock;
use forebay_store::{
    Ledger,
    ledger::{HoldError, HoldRequest, Settlement},
};
use forebay_testkit::db::TestDb;
use futures_util::future::join_all;
use model::{Became, MINUTE_MS, Model, Op, PAYERS, RENEWED_UNTIL_MS, Step, payer, rules, steps};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::{collections::HashMap, time::Duration};

const CASES: u8 = 5;
const CASES_OF_TWO: u8 = 3;
const CASES_OF_YEARS: u8 = 2;
/// What is minutes in the other cases is months, and what is an hour goes beyond every window.
const STRETCHED: i64 = 30_000;

async fn apply(ledger: &Ledger, op: &Op, ids: &[HoldId], now_ms: i64) -> (Became, Option<HoldId>) {
    let held = |outcome: Result<forebay_store::ledger::Hold, HoldError>| match outcome {
        Ok(hold) if hold.is_repeat => (Became::Held { is_repeat: true }, None),
        Ok(hold) => (Became::Held { is_repeat: false }, Some(hold.id)),
        Err(HoldError::Refused(_)) => (Became::Refused, None),
        Err(HoldError::Conflict) => (Became::Conflict, None),
        Err(error) => unreachable!("{error}"),
    };
    let done = |posted: Usd, is_repeat| (Became::Done { posted, is_repeat }, None);
    match op {
        Op::Hold { who, ask, key, minutes } => held(
            ledger
                .hold(HoldRequest {
                    payer: payer(*who),
                    purpose: Purpose {
                        kind: PurposeKind::Model,
                        name: "m".to_owned(),
                    },
                    ask: *ask,
                    trace: trace(1),
                    idempotency_key: key.map(|key| key.to_string()),
                    lapses_at: at(now_ms + minutes * MINUTE_MS),
                    needs_limit: false,
                })
                .await,
        ),
        Op::Renew { hold, ask } => {
            let (became, _) = held(ledger.renew(&ids[*hold], *ask, at(RENEWED_UNTIL_MS)).await);
            (became, None)
        }
        Op::Accrue { hold, total } => {
            let posted = ledger.accrue(&ids[*hold], *total).await.unwrap();
            done(posted, posted == Usd::ZERO)
        }
        Op::Settle { hold, actual } => {
            let settlement = Settlement {
                actual: *actual,
                estimated: false,
            };
            let settled = ledger.settle(&ids[*hold], settlement).await.unwrap();
            done(Usd::ZERO, settled.is_repeat)
        }
        Op::Void { hold } => {
            let applied = ledger.void(&ids[*hold]).await.unwrap();
            done(applied.amount, applied.is_repeat)
        }
        Op::Refund { hold, amount, key } => {
            let applied = ledger.refund(&ids[*hold], *amount, &key.to_string()).await.unwrap();
            done(applied.amount, applied.is_repeat)
        }
        Op::Adjust { hold, difference, key } => {
            let applied = ledger.adjust(&ids[*hold], *difference, &key.to_string()).await.unwrap();
            done(applied.amount, applied.is_repeat)
        }
    }
}

/// A settlement does not say what was posted.
fn comparable(op: &Op, became: Became) -> Became {
    match (op, became) {
        (Op::Settle { .. }, Became::Done { is_repeat, .. }) => Became::Done {
            posted: Usd::ZERO,
            is_repeat,
        },
        (_, became) => became,
    }
}

async fn check(timed: &Timed, model: &Model) {
    for who in 0..PAYERS {
        for standing in timed.ledger().standings(&payer(who)).await.unwrap() {
            let purse = &standing.purse;
            assert_eq!(standing.posted, model.posted(purse, standing.window.minutes), "{purse}");
            assert_eq!(
                (standing.held, standing.burn),
                (model.held(purse), model.burn(purse)),
                "{purse}"
            );
        }
    }
    model.check_limits();
}

/// The same limits over the longest windows, and shorter ones beside them.
fn long_rules() -> Vec<BudgetRule> {
    let stretched = |rule: BudgetRule| {
        let minutes = rule.window.minutes.saturating_mul(3_000).min(MINUTES_MAX);
        let window = Window::new(minutes, rule.window.limit, rule.window.enforcement).unwrap();
        BudgetRule { window, ..rule }
    };
    rules().into_iter().map(stretched).collect()
}

/// Gives how much was forgotten on the way.
async fn run(db: &TestDb, steps: &[Step], rules: Vec<BudgetRule>) -> u64 {
    let timed = Timed::open(db).await;
    let ledger = timed.ledger();
    ledger.configure(rules.clone());
    let (mut model, mut ids, mut forgotten) = (Model::limited(super::START_MS, rules), Vec::new(), 0);
    for step in steps {
        timed.advance(Duration::from_millis(step.by_ms.unsigned_abs()));
        model.now_ms += step.by_ms;
        ledger.lapse().await.unwrap();
        for hold in model.overdue() {
            model.lapse(hold);
        }
        check(&timed, &model).await;
        forgotten += ledger.prune().await.unwrap();
        check(&timed, &model).await;
        let before = model.holds();
        let ops: Vec<Op> = step.ops.iter().filter_map(|op| op.named(before)).collect();
        // They are asked for in this order, and share commits.
        let applied = join_all(ops.iter().map(|op| apply(&ledger, op, &ids, model.now_ms))).await;
        for (op, (became, id)) in ops.iter().zip(applied) {
            assert_eq!(became, comparable(op, model.apply(op)), "{op:?}");
            ids.extend(id);
        }
        check(&timed, &model).await;
    }
    is_balanced(db).await;
    timed.close().await;
    forgotten
}

/// Two ledgers on one database take turns, and nothing is posted beyond its hold: no limit is ever passed.
async fn take_turns(db: &TestDb, steps: &[Step]) {
    let clock = Clock::manual(at(super::START_MS));
    let both = [Timed::open_at(db, clock.clone()).await, Timed::open_at(db, clock).await];
    let ledgers = both.each_ref().map(Timed::ledger);
    for ledger in &ledgers {
        ledger.configure(rules());
    }
    let (mut model, mut ids, mut turn) = (Model::new(super::START_MS), Vec::new(), 0);
    for step in steps {
        both[0].advance(Duration::from_millis(step.by_ms.unsigned_abs()));
        model.now_ms += step.by_ms;
        ledgers[0].lapse().await.unwrap();
        for hold in model.overdue() {
            model.lapse(hold);
        }
        let before = model.holds();
        for op in step.ops.iter().filter_map(|op| op.named(before)) {
            let op = model.modest(&op);
            let (became, id) = apply(&ledgers[turn % 2], &op, &ids, model.now_ms).await;
            assert_eq!(became, comparable(&op, model.apply(&op)), "{op:?}");
            ids.extend(id);
            turn += 1;
        }
        for one in &both {
            check(one, &model).await;
        }
    }
    model.check_modesty();
    is_balanced(db).await;
    for one in both {
        one.close().await;
    }
}

fn steps_of(case: u8) -> Vec<Step> {
    steps(14).new_tree(&mut runner(case)).unwrap().current()
}

/// Over several years.
fn long_steps_of(case: u8) -> Vec<Step> {
    let mut runner = runner(case);
    loop {
        let mut steps = steps(26).new_tree(&mut runner).unwrap().current();
        if steps.len() > 15 {
            for step in &mut steps {
                step.by_ms *= STRETCHED;
            }
            return steps;
        }
    }
}

fn runner(case: u8) -> TestRunner {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[case; 32]);
    TestRunner::new_with_rng(Config::default(), rng)
}

#[tokio::test]
async fn two_that_take_turns_are_one_ledger_whose_limits_are_never_passed() {
    for case in 0..CASES_OF_TWO {
        for db in TestDb::both().await {
            take_turns(&db, &steps_of(100 + case)).await;
        }
    }
}

#[tokio::test]
async fn whatever_happens_it_is_a_plain_ledger_within_its_limits() {
    for case in 0..CASES {
        let steps = steps_of(case);
        for db in TestDb::both().await {
            assert_eq!(run(&db, &steps, rules()).await, 0, "{}: nothing is old", db.name());
        }
    }
}

#[tokio::test]
async fn over_the_years_what_no_window_can_need_is_forgotten_and_nothing_else() {
    let mut forgotten = HashMap::new();
    for case in 0..CASES_OF_YEARS {
        let steps = long_steps_of(50 + case);
        for db in TestDb::both().await {
            *forgotten.entry(db.name()).or_insert(0) += run(&db, &steps, long_rules()).await;
        }
    }
    assert!(forgotten.values().all(|count| *count > 10), "{forgotten:?}");
}
