//! The rules of a rental against a provider of a few lines: whatever happens in whatever order, a machine that is there
//! is never given up, and one that is to end does.

use super::{
    body::{Agreed, Body, Ordered, Paying, Why},
    record::{Record, after},
    state::{self, Fact, Sight, Todo},
};
use crate::market::{Created, Destroyed, LIST_LAG, Machine, MachineState, MarketFault};
use forebay_domain::{market::Provider, money::UsdRate};
use forebay_store::{
    rentals::{Desired, RentalState, StoredRental},
    responses::{OwnerKind, ResponseOwner},
};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, time::Duration};

const START: i64 = 1_795_280_000_000;

pub(super) fn start() -> Timestamp {
    Timestamp::from_millisecond(START).unwrap()
}

pub(super) fn record() -> Record {
    let row = StoredRental {
        id: "r1".to_owned(),
        owner: ResponseOwner {
            tenant: "acme".parse().unwrap(),
            project: None,
            kind: OwnerKind::Key,
            subject: "ann".parse().unwrap(),
        },
        provider: Provider::Vast,
        seat: "vast.ai".to_owned(),
        label: "fb:acme:r1".to_owned(),
        offer: "1".to_owned(),
        machine: None,
        state: RentalState::Intended,
        desired: Desired::Up,
        open: true,
        token_hash: Some([1; 32]),
        idempotency_key: None,
        quote: None,
        created_at: start(),
        version: 1,
        body: RawValue::NULL.to_owned(),
    };
    let agreed = Agreed {
        ordered: Ordered {
            gpu: String::new(),
            gpus: 1,
            vram_gb: 24,
            country: None,
            image: "x".to_owned(),
            disk_gb: 1,
            hours: 24,
            ports: Vec::new(),
            bare: true,
        },
        rate: UsdRate::per_hour("0.4".parse().unwrap()),
        paying: Paying::Accrues,
        lifetime: Duration::from_hours(24),
        ends_by: after(start(), Duration::from_hours(24)),
    };
    let mut body = Body::new(agreed);
    body.money.hold = Some("h1".parse().unwrap());
    Record {
        row,
        body: Box::new(body),
    }
}

pub(super) fn machine() -> Machine {
    Machine {
        id: "27913406".to_owned(),
        label: "fb:acme:r1".to_owned(),
        state: MachineState::Running,
        status: "running".to_owned(),
        rate: None,
        paid: None,
        started_at: None,
        ends_at: None,
        endpoints: BTreeMap::new(),
    }
}

/// How the provider was asked, and what became of that.
#[derive(Debug, Clone, Copy)]
enum Asking {
    Confirmed,
    /// Nobody got the answer; whether it was made.
    Lost(bool),
    /// It said that it failed, with the id of what it had made.
    ErrorWithId,
    /// Whoever asked has died; whether it was made.
    Died(bool),
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Wait(u16),
    Look,
    Blind,
    /// The provider's answer arrives, where it has not yet.
    Answer,
    WantGone,
    /// Its provider is asked to end it, where that is to be done; whether it answers.
    End(bool),
    /// It ends by itself.
    Vanish,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1_u16..400).prop_map(Event::Wait),
        6 => Just(Event::Look),
        2 => Just(Event::Blind),
        1 => Just(Event::Answer),
        1 => Just(Event::WantGone),
        3 => any::<bool>().prop_map(Event::End),
        1 => Just(Event::Vanish),
    ]
}

fn asking() -> impl Strategy<Value = Asking> {
    prop_oneof![
        Just(Asking::Confirmed),
        any::<bool>().prop_map(Asking::Lost),
        Just(Asking::ErrorWithId),
        any::<bool>().prop_map(Asking::Died),
    ]
}

/// A rental and the truth about its machine.
struct Truth {
    record: Record,
    is_there: bool,
    now: Timestamp,
    /// Lists that do not have it yet.
    lag: u32,
    /// What its provider says, once that arrives.
    answer: Option<Created>,
    /// It is made no sooner than its provider answers.
    is_made_late: bool,
}

impl Truth {
    /// Its provider has answered at once.
    fn begin(asking: Asking, lag: u32) -> Self {
        let mut truth = Self::asked(asking, lag, false);
        truth.answered();
        truth
    }

    /// Its provider was asked, and has not answered yet.
    fn asked(asking: Asking, lag: u32, is_made_late: bool) -> Self {
        let mut record = record();
        state::asking(&mut record, start());
        let lost = || MarketFault::Unreachable(String::new());
        let (answer, is_there) = match asking {
            Asking::Confirmed => (Some(Created::Confirmed { id: machine().id }), true),
            Asking::Lost(is_made) => (Some(Created::Ambiguous { why: lost(), id: None }), is_made),
            Asking::ErrorWithId => {
                let id = Some(machine().id);
                (Some(Created::Ambiguous { why: lost(), id }), true)
            }
            Asking::Died(is_made) => (None, is_made),
        };
        let is_made_late = is_made_late && is_there && answer.is_some();
        Self {
            record,
            is_there: is_there && !is_made_late,
            now: start(),
            lag,
            answer,
            is_made_late,
        }
    }

    fn answered(&mut self) {
        if let Some(answer) = self.answer.take() {
            self.is_there |= self.is_made_late;
            state::answered(&mut self.record, &answer, self.now);
        }
    }

    /// It was given up before it was made: a machine that is nobody's, which others see to.
    fn is_orphan(&self) -> bool {
        self.is_made_late && self.record.row.state == RentalState::Refused
    }

    fn wait(&mut self, seconds: u16) {
        self.now = after(self.now, Duration::from_secs(seconds.into()));
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Wait(seconds) => self.wait(seconds),
            Event::Look => self.look(),
            Event::Answer => self.answered(),
            Event::Blind => drop(state::look(&mut self.record, Sight::Blind, self.now)),
            Event::WantGone => drop(state::end(&mut self.record, Why::Asked, self.now)),
            Event::End(answers) => self.end(answers),
            Event::Vanish => self.is_there = false,
        }
    }

    fn look(&mut self) {
        let is_shown = self.is_there && self.lag == 0;
        // No provider hides a machine for longer than a list or two, or for minutes.
        let is_new = super::record::between(start(), self.now) < Duration::from_mins(1);
        self.lag = if is_new { self.lag } else { self.lag.saturating_sub(1) };
        let machine = machine();
        let sight = if is_shown {
            Sight::Present(&machine)
        } else {
            Sight::Absent { lag: LIST_LAG }
        };
        state::look(&mut self.record, sight, self.now);
    }

    fn end(&mut self, answers: bool) {
        if state::todo(&self.record, self.now) != Todo::End || self.record.row.machine.is_none() {
            return;
        }
        let answer = match (answers, self.is_there) {
            (false, _) => Err(MarketFault::Broken(String::new())),
            (true, true) => Ok(Destroyed::Accepted),
            (true, false) => Ok(Destroyed::Gone),
        };
        self.is_there &= !answers;
        state::ended(&mut self.record, &answer, self.now);
    }

    fn is_given_up(&self) -> bool {
        !self.record.row.state.is_live()
    }
}

proptest! {
    #[test]
    fn what_is_there_is_never_given_up_and_what_is_to_end_ends(
        asking in asking(),
        lag in 0_u32..3,
        is_made_late in any::<bool>(),
        answers_at_once in any::<bool>(),
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut truth = Truth::asked(asking, lag, is_made_late);
        if answers_at_once {
            truth.answered();
        }
        for event in events {
            let was_given_up = truth.is_given_up();
            truth.happens(event);
            prop_assert!(!was_given_up || truth.is_given_up(), "{event:?} revived it: {:?}", truth.record.row.state);
            let is_lost = truth.is_given_up() && truth.is_there && !truth.is_orphan();
            prop_assert!(!is_lost, "given up after {event:?}: {:?}", truth.record.row.state);
            if truth.record.row.state == RentalState::Refused {
                prop_assert!(truth.record.row.token_hash.is_none());
            }
            if matches!(asking, Asking::ErrorWithId) && truth.answer.is_none() {
                let is_to_end = truth.is_given_up() || truth.record.row.desired == Desired::Gone;
                prop_assert!(is_to_end, "who asked was told that there is none");
            }
        }
        truth.answered();
        truth.happens(Event::WantGone);
        for _ in 0..60 {
            truth.wait(30);
            truth.look();
            truth.end(true);
        }
        let is_over = truth.is_given_up() && (!truth.is_there || truth.is_orphan());
        prop_assert!(is_over, "{:?}", truth.record.row.state);
    }

    #[test]
    fn blindness_decides_nothing(asking in asking(), waits in prop::collection::vec(1_u16..600, 1..100)) {
        let mut truth = Truth::begin(asking, 0);
        for seconds in waits {
            truth.wait(seconds);
            truth.happens(Event::Blind);
            prop_assert!(!truth.is_given_up());
        }
    }

    #[test]
    fn what_it_cost_never_falls_and_stops_at_its_end(seconds in prop::collection::vec(1_u16..600, 1..50)) {
        let mut truth = Truth::begin(Asking::Confirmed, 0);
        let mut before = truth.record.accrued(truth.now);
        for wait in seconds {
            truth.wait(wait);
            truth.look();
            let now = truth.record.accrued(truth.now);
            prop_assert!(now >= before);
            before = now;
        }
        truth.is_there = false;
        let missed_at = truth.now;
        for _ in 0..4 {
            truth.wait(60);
            truth.look();
        }
        prop_assert_eq!(truth.record.row.state, RentalState::Gone);
        let until = after(missed_at, Duration::from_mins(1)).min(truth.now);
        prop_assert!(truth.record.accrued(truth.now) <= truth.record.body.rate().cost_of(super::record::between(start(), until)));
    }
}

#[test]
fn one_list_that_is_read_three_times_is_one() {
    let mut truth = Truth::begin(Asking::Confirmed, 0);
    truth.wait(300);
    truth.is_there = false;
    for _ in 0..10 {
        truth.look();
    }
    assert_eq!(truth.record.row.state, RentalState::Up);
    assert_eq!(truth.record.body.misses, 1);
}

#[test]
fn a_refusal_that_comes_after_the_list_has_shown_the_machine_ends_it() {
    let mut truth = Truth::asked(Asking::Confirmed, 0, false);
    truth.look();
    assert_eq!(truth.record.row.state, RentalState::Up);
    let refused = Created::Refused(MarketFault::Refused("no".to_owned()));
    let told = state::answered(&mut truth.record, &refused, truth.now);
    assert_eq!(told, [Fact::Ending]);
    assert_eq!(
        (truth.record.row.state, truth.record.body.why),
        (RentalState::Destroying, Some(Why::MadeInError))
    );
}

#[test]
fn an_intent_that_nobody_followed_is_let_go() {
    let mut record = record();
    let later = |minutes| after(start(), Duration::from_mins(minutes));
    state::look(&mut record, Sight::Blind, later(1));
    assert_eq!(record.row.state, RentalState::Intended);
    state::look(&mut record, Sight::Blind, later(2));
    assert_eq!(
        (record.row.state, record.body.why),
        (RentalState::Refused, Some(Why::NeverAsked))
    );
    assert_eq!(state::todo(&record, later(2)), Todo::Release);
}

#[test]
fn somebody_is_told_when_an_end_fails_and_when_it_costs_more() {
    let mut truth = Truth::begin(Asking::Confirmed, 0);
    let mut dearer = machine();
    dearer.rate = Some(UsdRate::per_hour("0.5".parse().unwrap()));
    let told = state::look(&mut truth.record, Sight::Present(&dearer), truth.now);
    assert!(matches!(told.as_slice(), [Fact::PriceDrift { .. }]));
    assert!(
        state::look(&mut truth.record, Sight::Present(&dearer), truth.now).is_empty(),
        "once"
    );
    assert_eq!(
        truth.record.body.rate(),
        UsdRate::per_hour("0.4".parse().unwrap()),
        "nothing is accepted"
    );

    truth.happens(Event::WantGone);
    let fails = |truth: &mut Truth| {
        let answer = Err(MarketFault::Broken(String::new()));
        state::ended(&mut truth.record, &answer, truth.now)
    };
    let alarms: Vec<bool> = (0..5).map(|_| !fails(&mut truth).is_empty()).collect();
    assert_eq!(alarms, [false, false, true, true, true]);
}
