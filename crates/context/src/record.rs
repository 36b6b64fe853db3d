//! The record of one look-up: an event, the metrics, and how the provider is known to be.
//!
//! Whoever drops it unfinished has gone away; it then closes itself as cancelled.

use crate::{metrics::Metrics, providers::Running};
use forebay_domain::{
    Action, Code, Event, Principal,
    context::{ProviderFailure, Strategy},
    event::{Actor, Class, Outcome},
    port::Via,
};
use forebay_runtime::Clock;
use forebay_store::EventLog;
use std::time::Duration;

/// What a record writes to.
#[derive(Clone)]
pub(crate) struct Books {
    pub(crate) events: EventLog,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

pub(crate) struct Record<'a> {
    books: &'a Books,
    running: &'a Running,
    started: Duration,
    event: Option<Event>,
}

impl<'a> Record<'a> {
    pub(crate) fn open(
        books: &'a Books,
        principal: &Principal,
        via: Via,
        running: &'a Running,
        bytes_in: usize,
    ) -> Self {
        let name = &running.settings.name;
        let action = Action::context(name);
        let event = Event {
            at: books.clock.now(),
            class: Class::Activity,
            surface: via.surface,
            trace: via.trace,
            actor: Some(Actor::from(principal)),
            reason: Some(principal.decide(&action).to_string()),
            action: action.to_string(),
            outcome: Outcome::Cancelled,
            duration_us: 0,
            bytes_in: bytes_in as u64,
            bytes_out: 0,
            usage: None,
            cost: None,
            count: 1,
        };
        Self {
            books,
            running,
            started: books.clock.monotonic(),
            event: Some(event),
        }
    }

    pub(crate) fn took(&self) -> Duration {
        self.books.clock.monotonic().saturating_sub(self.started)
    }

    pub(crate) fn found(mut self, bytes_out: usize, from_cache: bool, strategy: Strategy) {
        tracing::debug!(provider.name = %self.running.settings.name, from_cache, %strategy, "context found");
        if let Some(event) = &mut self.event {
            event.bytes_out = bytes_out as u64;
        }
        self.close(Outcome::Ok, from_cache);
        self.running.worked(self.books.clock.now());
    }

    pub(crate) fn failed(mut self, failure: &ProviderFailure) {
        self.books.metrics.failed(&self.running.settings.name, failure.code);
        self.close(Outcome::Failed(failure.code), false);
        self.running.failed(self.books.clock.now(), failure);
    }

    fn close(&mut self, outcome: Outcome, from_cache: bool) {
        let Some(mut event) = self.event.take() else { return };
        let took = self.took();
        event.outcome = outcome;
        event.duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let name = &self.running.settings.name;
        self.books.metrics.retrieved(name, took, from_cache);
        if let Some(connections) = self
            .running
            .provider
            .as_ref()
            .and_then(|provider| provider.connections())
        {
            self.books.metrics.connections(name, connections);
        }
        self.books.events.record(event);
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.close(Outcome::Cancelled, false);
    }
}

/// What was refused before any provider was asked. A name that is none of ours is written nowhere: it may be anything.
pub(crate) fn refused(books: &Books, principal: &Principal, via: Via, provider: Option<&str>, code: Code) {
    let action = Action::context(provider.unwrap_or("?"));
    books.events.record(Event {
        at: books.clock.now(),
        class: Class::Activity,
        surface: via.surface,
        trace: via.trace,
        actor: Some(Actor::from(principal)),
        reason: provider.map(|_| principal.decide(&action).to_string()),
        action: action.to_string(),
        outcome: Outcome::Failed(code),
        duration_us: 0,
        bytes_in: 0,
        bytes_out: 0,
        usage: None,
        cost: None,
        count: 1,
    });
}
