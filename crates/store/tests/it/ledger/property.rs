//! The ledger over a real database against a plain one, with random interleavings.

#[path = "../../../../domain/tests/it/model.rs"]
mod model;

use super::{Timed, is_balanced};
use crate::{at, trace};
use forebay_domain::{
    id::HoldId,
    ledger::{Purpose, PurposeKind},
    money::Usd,
};
use forebay_runtime::Clock;
use forebay_store::{
    Ledger,
    ledger::{HoldError, HoldRequest, Settlement},
};
use forebay_testkit::db::TestDb;
use futures_util::future::join_all;
use model::{Became, MINUTE_MS, Model, Op, RENEWED_UNTIL_MS, Step, payer, rules, steps};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::time::Duration;

const CASES: u8 = 5;
const CASES_OF_TWO: u8 = 3;

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
    for who in 0..4 {
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

async fn run(db: &TestDb, steps: &[Step]) {
    let timed = Timed::open(db).await;
    let ledger = timed.ledger();
    ledger.configure(rules());
    let (mut model, mut ids) = (Model::new(super::START_MS), Vec::new());
    for step in steps {
        timed.advance(Duration::from_millis(step.by_ms.unsigned_abs()));
        model.now_ms += step.by_ms;
        ledger.lapse().await.unwrap();
        for hold in model.overdue() {
            model.lapse(hold);
        }
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
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[case; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    steps(14).new_tree(&mut runner).unwrap().current()
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
            run(&db, &steps).await;
        }
    }
}
