//! The record of one completion: an event, the metrics, and the attributes of the span.
//!
//! A [`Record`] is open from the first check to the last byte. Whoever drops it unfinished has gone away: it then
//! closes itself as cancelled, with what is known of the usage by then. With it closes the bill.

use crate::{
    fault::Place,
    metrics::Metrics,
    money::{Bill, Cost, Tokens},
    turn::Shelf,
};
use forebay_domain::{
    Action, Decision, Event, Principal,
    event::{Actor, Class, Outcome, Usage},
    port::Via,
};
use forebay_runtime::{Clock, telemetry::names};
use forebay_store::EventLog;
use std::time::Duration;
use tracing::Span;

/// What a record writes to.
#[derive(Clone)]
pub(crate) struct Books {
    pub(crate) events: EventLog,
    /// Where the answers are that somebody wants to come back to.
    pub(crate) shelf: Shelf,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

pub(crate) struct Record {
    books: Books,
    started: Duration,
    model: String,
    event: Option<Event>,
    /// Whether an engine was asked; a refusal before that is no model request in the metrics.
    asked: bool,
    guessed_tokens: u64,
    reported: Option<Tokens>,
    /// Whether no later figure will follow.
    is_reported_last: bool,
    bill: Option<Bill>,
    span: Span,
}

impl Record {
    /// `model` is a configured name, and `None` where the caller's was none: what a caller made up may be a prompt or a
    /// key in the wrong place, and is written nowhere.
    pub(crate) fn open(
        books: &Books,
        principal: &Principal,
        via: Via,
        model: Option<&str>,
        decision: &Decision,
        bytes_in: usize,
    ) -> Self {
        let model = model.unwrap_or("?");
        let event = Event {
            at: books.clock.now(),
            class: Class::Activity,
            surface: via.surface,
            trace: via.trace,
            actor: Some(Actor::from(principal)),
            action: Action::model(model).to_string(),
            outcome: Outcome::Cancelled,
            reason: Some(decision.to_string()),
            duration_us: 0,
            bytes_in: bytes_in as u64,
            bytes_out: 0,
            usage: None,
            cost: None,
            count: 1,
        };
        Self {
            books: books.clone(),
            started: books.clock.monotonic(),
            model: model.to_owned(),
            event: Some(event),
            asked: false,
            guessed_tokens: 0,
            reported: None,
            is_reported_last: false,
            bill: None,
            span: span_of(model),
        }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// From here on an engine may be at work, and this is who pays.
    pub(crate) fn asked(&mut self, bill: Bill) {
        self.asked = true;
        self.bill = Some(bill);
    }

    /// A model has begun to answer: its prices count, and words that come one by one.
    pub(crate) fn answered_by(&mut self, place: &Place, events: bool) {
        if let Some(bill) = &mut self.bill {
            let engine = place.model.backends[place.backend].engine;
            bill.answered_by(&place.model, engine, events);
        }
    }

    /// Whether all that the engine has said by now was looked at, so that it is the engine that is waited for.
    pub(crate) fn waits(&mut self, is_heard: bool) {
        if let Some(bill) = &mut self.bill {
            bill.told.is_heard = is_heard;
        }
    }

    /// Some of the answer goes to the client.
    pub(crate) fn passed(&mut self, bytes: usize) {
        if let Some(event) = &mut self.event {
            event.bytes_out += bytes as u64;
        }
    }

    /// One chunk of streamed output. Engines send a token a chunk, give or take.
    pub(crate) fn chunk(&mut self) {
        if self.guessed_tokens == 0 {
            self.books.metrics.first_token(&self.model, self.took());
        }
        self.guess(1);
    }

    /// What the model says, as an event or a document with its words. Looked at only where somebody pays by it.
    pub(crate) fn said(&mut self, words: impl FnOnce() -> u64) {
        if let Some(bill) = self.bill.as_mut().filter(|bill| bill.counts()) {
            bill.told.said += words();
        }
    }

    /// So many more tokens of output, as far as the gateway can tell. Where an engine never tells its usage these are
    /// recorded, with an input of nothing, marked as estimated: good for a look at the log, never for money.
    pub(crate) fn guess(&mut self, output_tokens: u64) {
        self.guessed_tokens += output_tokens;
    }

    /// What the engine says that it used. A later figure replaces an earlier one.
    pub(crate) fn used(&mut self, usage: Tokens) {
        self.reported = Some(usage);
    }

    /// What the engine says in the end, after all that it had to say.
    pub(crate) fn used_in_all(&mut self, usage: Tokens) {
        self.used(usage);
        self.is_reported_last = true;
    }

    /// What the engine says in two places of one answer: of each figure the larger one counts.
    pub(crate) fn used_at_least(&mut self, usage: Tokens) {
        self.reported = Some(self.reported.unwrap_or_default().max(usage));
    }

    /// What it comes to, if all of the answer is there; `None` where a price is unknown.
    pub(crate) fn cost(&mut self) -> Option<Cost> {
        self.account(true)?.cost()
    }

    /// The bill, with all that is known.
    fn account(&mut self, is_whole: bool) -> Option<&mut Bill> {
        let bill = self.bill.as_mut()?;
        bill.told.used = self.reported;
        bill.told.is_whole |= is_whole || self.is_reported_last;
        Some(bill)
    }

    /// Closes the record. Only the first close counts.
    pub(crate) fn finish(&mut self, outcome: Outcome) {
        let Some(mut event) = self.event.take() else { return };
        let took = self.took();
        let estimate = (self.guessed_tokens > 0).then_some(Usage {
            input_tokens: 0,
            output_tokens: self.guessed_tokens,
            estimated: true,
        });
        event.outcome = outcome;
        event.duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        event.usage = self.reported.map(Usage::from).or(estimate);
        self.describe(outcome, event.usage);
        if self.asked {
            self.books.metrics.ended(&self.model, outcome, took);
            if let Some(usage) = event.usage {
                self.books.metrics.used(&self.model, usage);
            }
        }
        event.cost = self.account(outcome == Outcome::Ok).and_then(Bill::close);
        self.books.events.record(event);
    }

    fn took(&self) -> Duration {
        self.books.clock.monotonic().saturating_sub(self.started)
    }

    fn describe(&self, outcome: Outcome, usage: Option<Usage>) {
        if let Some(usage) = usage.filter(|usage| !usage.estimated) {
            self.span.record(names::GEN_AI_USAGE_INPUT_TOKENS, usage.input_tokens);
            self.span.record(names::GEN_AI_USAGE_OUTPUT_TOKENS, usage.output_tokens);
        }
        if outcome != Outcome::Ok {
            self.span.record(names::ERROR_TYPE, outcome.as_str());
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.finish(Outcome::Cancelled);
    }
}

fn span_of(model: &str) -> Span {
    tracing::info_span!(
        names::SPAN_CHAT,
        { names::OTEL_NAME } = %format_args!("{} {model}", names::SPAN_CHAT),
        { names::OTEL_KIND } = "client",
        { names::GEN_AI_OPERATION_NAME } = names::SPAN_CHAT,
        { names::GEN_AI_REQUEST_MODEL } = model,
        { names::GEN_AI_USAGE_INPUT_TOKENS } = tracing::field::Empty,
        { names::GEN_AI_USAGE_OUTPUT_TOKENS } = tracing::field::Empty,
        { names::ERROR_TYPE } = tracing::field::Empty,
    )
}
