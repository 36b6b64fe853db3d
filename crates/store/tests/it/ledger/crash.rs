//! What was acknowledged survives `kill -9`, and nothing is done twice: movements of money, and requests under a name.

use super::{came_to, hard, is_balanced, once};
use crate::{Opened, at, open, try_open};
use forebay_runtime::Entropy;
use forebay_store::{
    ledger::HoldRequest,
    named::{Begun, GivenAnswer, RequestName},
};
use forebay_testkit::db::TestDb;
use futures_util::future::join_all;
use sqlx::{Connection, PgConnection, SqliteConnection};
use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

const URL_VARIABLE: &str = "FOREBAY_TEST_LEDGER_URL";
const ROUND_VARIABLE: &str = "FOREBAY_TEST_LEDGER_ROUND";
/// On each of two stores.
const KILLS: u64 = 100;
/// Those of one process that spend at once.
const LANES: usize = 4;
/// Lines that a process tells at most before it is killed.
const LINES_MAX: u64 = 60;
/// When requests are said to be sent: none is forgotten, and none is lost.
const SENT_MS: i64 = 1_000;

const HELD: &str = "held ";
const SETTLED: &str = "settled ";
const BEGUN: &str = "begun ";
const ANSWERED: &str = "answered ";

fn named(name: &str) -> HoldRequest {
    HoldRequest {
        idempotency_key: Some(name.to_owned()),
        ..once("0.01")
    }
}

fn request(name: &str) -> RequestName {
    RequestName {
        tenant: "acme".parse().unwrap(),
        principal: "key 00ff".to_owned(),
        route: "POST /api/v1/gpu/instances".to_owned(),
        name: name.to_owned(),
    }
}

fn answer(name: &str) -> GivenAnswer {
    GivenAnswer {
        status: 201,
        body: Some(("text/plain".to_owned(), name.as_bytes().to_vec())),
    }
}

/// What processes said before they were killed.
#[derive(Default)]
struct Told {
    held: HashSet<String>,
    settled: HashSet<String>,
    begun: HashSet<String>,
    answered: HashSet<String>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        for (word, heard) in [
            (HELD, &mut self.held),
            (SETTLED, &mut self.settled),
            (BEGUN, &mut self.begun),
            (ANSWERED, &mut self.answered),
        ] {
            heard.extend(line.split_once(word).map(|(_, name)| name.to_owned()));
        }
    }
}

/// Starts a process and kills it after so many lines, which is in the midst of whatever it does by then.
fn spend_and_die(db: &TestDb, round: u64, lines: u64, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ledger::crash::child_that_spends_until_it_is_killed"])
        .args(["--ignored", "--nocapture"])
        .env(URL_VARIABLE, db.url())
        .env(ROUND_VARIABLE, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut left = lines;
    for line in BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
    {
        told.hear(&line);
        left = left.saturating_sub(1);
        if left == 0 {
            // What the pipe still holds was acknowledged too, and is read to its end.
            child.kill().unwrap();
        }
    }
    let ended = child.wait().unwrap();
    assert_eq!(ended.code(), None, "it was killed, and did not end by itself");
}

/// What became of each named hold: its state, and what was posted of it.
async fn holds(db: &TestDb) -> HashMap<String, (String, i64)> {
    let sql = "SELECT t.once_key, h.state, h.posted FROM ledger_txn AS t JOIN ledger_hold AS h ON h.id = t.hold_id \
         WHERE t.once_key LIKE 'acme hold %'";
    let rows: Vec<(String, String, i64)> = if db.is_postgres() {
        let mut connection = PgConnection::connect(db.url()).await.unwrap();
        sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap()
    } else {
        let mut connection = SqliteConnection::connect(db.url()).await.unwrap();
        sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap()
    };
    let named = |key: String| key.strip_prefix("acme hold ").unwrap().to_owned();
    rows.into_iter()
        .map(|(key, state, posted)| (named(key), (state, posted)))
        .collect()
}

async fn survive(db: TestDb) {
    let (mut told, entropy) = (Told::default(), Entropy::system());
    open(&db).await.close().await;
    for round in 0..KILLS {
        spend_and_die(&db, round, 1 + entropy.below(LINES_MAX), &mut told);
    }
    let name = db.name();
    println_counts(name, &told);
    assert!(told.settled.len() > 200 && told.answered.len() > 100, "{name}");

    let found = holds(&db).await;
    for held in &told.held {
        assert!(found.contains_key(held), "{name}: {held} was told, and is lost");
    }
    for settled in &told.settled {
        let expected = Some(&("settled".to_owned(), 10_000));
        assert_eq!(found.get(settled), expected, "{name}: {settled}");
    }
    // Between what was done and what was told a process does one thing at a time in each of its lanes.
    let untold = found.len() - told.held.len();
    assert!(
        untold <= LANES * usize::try_from(KILLS).unwrap(),
        "{name}: {untold} untold"
    );
    is_balanced(&db).await;

    let opened = open(&db).await;
    holds_are_found_again(&db, &opened, &told).await;
    requests_are_not_carried_out_again(&opened, &told, name).await;
    opened.close().await;
}

#[expect(clippy::print_stdout, reason = "how much was at stake is worth knowing")]
fn println_counts(name: &str, told: &Told) {
    println!(
        "{name}: {KILLS} kills; told: {} holds, {} settlements, {} requests begun, {} answered",
        told.held.len(),
        told.settled.len(),
        told.begun.len(),
        told.answered.len()
    );
}

/// Whoever comes back finds what was held, and ends it.
async fn holds_are_found_again(db: &TestDb, opened: &Opened, told: &Told) {
    let ledger = &opened.store.ledger();
    let unsettled = told.held.difference(&told.settled);
    let ending = unsettled.map(|name| async move {
        // It was settled, and that was not told any more.
        let Ok(hold) = ledger.hold(named(name)).await else {
            return;
        };
        assert!(hold.is_repeat, "{name}");
        ledger.settle(&hold.id, came_to("0.01")).await.unwrap();
    });
    join_all(ending).await;
    let found = holds(db).await;
    for held in &told.held {
        assert_eq!(found[held], ("settled".to_owned(), 10_000), "{}: {held}", db.name());
    }
    is_balanced(db).await;
}

async fn requests_are_not_carried_out_again(opened: &Opened, told: &Told, db: &str) {
    let requests = opened.store.named_requests();
    let sent = told.begun.iter().map(|name| {
        let requests = requests.clone();
        async move {
            (
                name,
                requests.begin(&request(name), [7; 32], at(SENT_MS)).await.unwrap(),
            )
        }
    });
    for (name, begun) in join_all(sent).await {
        if told.answered.contains(name) {
            assert_eq!(begun, Begun::Answered(answer(name)), "{db}: {name}");
        } else {
            let is_known = begun == Begun::UnderWay || begun == Begun::Answered(answer(name));
            assert!(is_known, "{db}: {name} would be carried out again: {begun:?}");
        }
    }
}

#[tokio::test]
async fn nothing_that_was_acknowledged_is_lost_in_a_hundred_kills_on_sqlite() {
    survive(TestDb::sqlite()).await;
}

#[tokio::test]
async fn nothing_that_was_acknowledged_is_lost_in_a_hundred_kills_on_postgres() {
    survive(TestDb::postgres().await).await;
}

/// Not a test of its own: the process that the tests above kill.
#[tokio::test]
#[ignore = "started by nothing_that_was_acknowledged_is_lost_in_a_hundred_kills"]
#[expect(clippy::disallowed_methods, reason = "a child is told by its environment what to do")]
#[expect(clippy::print_stdout, reason = "its parent reads what was acknowledged")]
async fn child_that_spends_until_it_is_killed() {
    let (Ok(url), Ok(round)) = (std::env::var(URL_VARIABLE), std::env::var(ROUND_VARIABLE)) else {
        return;
    };
    let opened = try_open(&url).await.unwrap();
    let (ledger, requests) = (opened.store.ledger(), opened.store.named_requests());
    ledger.configure(vec![hard(60, "1000")]);
    let spending = (0..LANES).map(|lane| {
        let (ledger, requests, round) = (ledger.clone(), requests.clone(), round.clone());
        async move {
            for number in 0..u64::MAX {
                let name = format!("{round}-{lane}-{number}");
                let hold = ledger.hold(named(&name)).await.unwrap();
                println!("{HELD}{name}");
                let Begun::First(claim) = requests.begin(&request(&name), [7; 32], at(SENT_MS)).await.unwrap() else {
                    panic!("{name} is new");
                };
                println!("{BEGUN}{name}");
                requests.answered(&claim, answer(&name)).await.unwrap();
                println!("{ANSWERED}{name}");
                ledger.settle(&hold.id, came_to("0.01")).await.unwrap();
                println!("{SETTLED}{name}");
            }
        }
    });
    join_all(spending).await;
}
