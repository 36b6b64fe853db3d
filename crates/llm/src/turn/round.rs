//! What becomes of one hop: which of its calls run here, what the model is told of them, and whether the turn goes on.

use super::{
    calls::{self, Call},
    hop::Calling,
    plan::{self, Circumstances, Fate},
    run::Turn,
    taint,
    writer::Writer,
};
use crate::dialect::Map;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// What a hop came to.
pub(super) struct Round {
    pub(super) message: Map,
    pub(super) calls: Vec<Call>,
    pub(super) fates: Vec<Fate>,
    /// Whether the turn ends with it.
    pub(super) ends: bool,
    pub(super) reason: String,
}

impl Turn {
    /// What is to be done about what the model said.
    pub(super) fn round(&self, mut message: Map, reason: String, calling: Calling) -> Round {
        let calls = calls::take(&mut message, &self.asker.desk.entropy);
        let circumstances = Circumstances {
            offered: &self.offered,
            principal: &self.asker.principal,
            narrow: self.narrow.as_ref(),
            calls_left: if self.is_spent() { 0 } else { self.calls_left },
        };
        let mut round = Round {
            message,
            calls,
            fates: Vec::new(),
            ends: true,
            reason,
        };
        if calling == Calling::Over {
            // It calls all the same. Nobody asked for that, and nobody runs it.
            round.calls.clear();
        }
        let (fates, returns) = plan::decide(&round.calls, &circumstances);
        round.ends = returns || fates.is_empty();
        round.fates = fates;
        if returns {
            "tool_calls".clone_into(&mut round.reason);
        } else if round.ends && round.reason == "tool_calls" {
            "stop".clone_into(&mut round.reason);
        }
        round
    }

    /// Runs the calls of a round of the model's.
    pub(super) async fn carry_out(&mut self, round: &Round) {
        self.rounds_left = self.rounds_left.saturating_sub(1);
        self.run_calls(round).await;
        // What the client chose, it chose for the first time.
        let is_choice = |choice: &Value| choice != "auto" && choice != "none";
        if !round.ends && self.chat.get("tool_choice").is_some_and(is_choice) {
            self.chat.remove("tool_choice");
        }
    }

    /// Runs calls, and puts them and their results into the conversation where it goes on.
    pub(super) async fn run_calls(&mut self, round: &Round) {
        let outcomes = self.outcomes(&round.calls, &round.fates, round.ends).await;
        if round.ends {
            return;
        }
        let mut message = round.message.clone();
        message.insert("tool_calls".to_owned(), round.calls.iter().map(Call::mended).collect());
        message.retain(|key, value| key == "content" || !value.is_null());
        let results = round.calls.iter().zip(outcomes);
        let results = results.map(|(call, text)| json!({ "role": "tool", "tool_call_id": call.id, "content": text }));
        if let Some(Value::Array(messages)) = self.chat.get_mut("messages") {
            messages.push(message.into());
            messages.extend(results);
        }
    }

    /// Whether the model may go on calling. Where it may not, the report says why.
    pub(super) fn calling(&mut self) -> Calling {
        let why = if self.is_spent() {
            "cost"
        } else if self.rounds_left == 0 {
            "rounds"
        } else if self.calls_left == 0 {
            "calls"
        } else if Instant::now() >= self.until {
            "time"
        } else {
            return Calling::Allowed;
        };
        if let Some(report) = &mut self.report {
            report.ended = Some(why);
        }
        Calling::Over
    }

    /// Whether the turn has cost as much as one may.
    fn is_spent(&self) -> bool {
        self.bounds.cost_max.is_some_and(|most| self.spent.usd() >= most)
    }

    /// The narrower caller of a turn that has read what others wrote.
    pub(super) fn taint(&mut self) {
        if let Some(report) = &mut self.report {
            report.is_tainted = true;
        }
        if self.narrow.is_none() {
            self.narrow = Some(taint::narrow(&self.asker.principal, &self.bounds.denied));
        }
    }
}

impl Round {
    /// Whether something is to be run, or to be told to the model or in the report.
    pub(super) fn needs_work(&self) -> bool {
        !self.fates.iter().all(|fate| matches!(fate, Fate::Back))
    }

    /// The calls that go back to the client.
    pub(super) fn theirs(&mut self) -> Vec<Call> {
        let calls = self.calls.drain(..).zip(&self.fates);
        let theirs = calls.filter(|(_, fate)| matches!(fate, Fate::Back | Fate::Approval));
        theirs.map(|(call, _)| call).collect()
    }

    /// Puts the last message into an answer, with the words of all hops: those whose answer was streamed have heard
    /// them too.
    pub(super) fn put(mut self, answer: &mut Map, said: String) {
        let calls = self.theirs();
        let mut message = self.message;
        if !said.is_empty() {
            message.insert("content".to_owned(), said.into());
        }
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), calls.iter().map(Call::value).collect());
        }
        let choice = answer.get_mut("choices").and_then(|choices| choices.get_mut(0));
        if let Some(choice) = choice {
            choice["message"] = message.into();
            choice["finish_reason"] = self.reason.into();
        }
    }
}

/// Takes what the model said out of an answer, and why it ended.
pub(super) fn take_choice(answer: &mut Map) -> (Map, String) {
    let choice = answer.get_mut("choices").and_then(|choices| choices.get_mut(0));
    let Some(choice) = choice else {
        return (Map::new(), "stop".to_owned());
    };
    let reason = choice["finish_reason"].as_str().unwrap_or("stop").to_owned();
    match choice["message"].take() {
        Value::Object(message) => (message, reason),
        _ => (Map::new(), reason),
    }
}

/// Waits for something that takes its time while the client of a stream is kept company.
pub(super) async fn accompanied<T>(work: impl Future<Output = T>, every: Duration, writer: &Writer) -> T {
    let mut reminders = interval_at(Instant::now() + every, every);
    reminders.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = reminders.tick() => writer.remind().await,
        }
    }
}
