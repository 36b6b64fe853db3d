//! An event as a row, exactly: what is read back hashes to what was hashed when it was written.

use forebay_domain::{
    Code, Event,
    event::{Actor, Class, Outcome, Surface, Usage},
    id::{IdFault, KeyId, ProjectId, SessionId, SubjectId, TenantId, TraceId},
    money::Usd,
};
use jiff::Timestamp;
use sqlx::Row;
use std::borrow::Cow;

use crate::{StoreError, metrics::class_name, sql::row_on_both};

/// Longest action and longest reason kept, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// The same event as the database can hold it: no NUL, bounded texts, milliseconds, numbers up to `i64::MAX`. What is
/// hashed and what is stored both come from this.
pub(super) fn storable(mut event: Event) -> Event {
    let clamp = |number: u64| number.min(i64::MAX.unsigned_abs());
    event.at = Timestamp::from_millisecond(event.at.as_millisecond()).unwrap_or(event.at);
    if event.outcome == Outcome::Failed(Code::Cancelled) {
        // Two ways to say the same thing, with the same word in the table.
        event.outcome = Outcome::Cancelled;
    }
    event.action = storable_text(event.action);
    event.reason = event.reason.map(storable_text);
    event.duration_us = clamp(event.duration_us);
    event.bytes_in = clamp(event.bytes_in);
    event.bytes_out = clamp(event.bytes_out);
    event.usage = event.usage.map(|usage| Usage {
        input_tokens: clamp(usage.input_tokens),
        output_tokens: clamp(usage.output_tokens),
        estimated: usage.estimated,
    });
    event
}

fn storable_text(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    }
    if text.contains('\0') {
        text = text.replace('\0', "\u{1a}");
    }
    text
}

/// A row of `event`, not yet believed.
#[derive(Debug, Clone)]
pub(super) struct EventRow {
    pub seq: i64,
    pub xid: i64,
    pub at_ms: i64,
    pub class: Cow<'static, str>,
    pub surface: Cow<'static, str>,
    pub trace: String,
    pub tenant: Option<String>,
    pub project: Option<String>,
    pub subject: Option<String>,
    pub key_id: Option<String>,
    pub session: Option<String>,
    pub action: String,
    pub outcome: Cow<'static, str>,
    pub reason: Option<String>,
    pub duration_us: i64,
    pub bytes_in: i64,
    pub bytes_out: i64,
    pub input_tokens: Option<i64>,
    pub output_tokens: Option<i64>,
    pub tokens_estimated: Option<bool>,
    pub cost_micros: Option<i64>,
    pub count: i64,
    pub chain_id: Option<String>,
    pub chain_seq: Option<i64>,
    pub prev_hash: Option<Vec<u8>>,
    pub hash: Option<Vec<u8>>,
}

row_on_both!(EventRow, |row| Ok(Self {
    seq: row.try_get("seq")?,
    xid: row.try_get("xid")?,
    at_ms: row.try_get("at_ms")?,
    class: Cow::Owned(row.try_get("class")?),
    surface: Cow::Owned(row.try_get("surface")?),
    trace: row.try_get("trace")?,
    tenant: row.try_get("tenant")?,
    project: row.try_get("project")?,
    subject: row.try_get("subject")?,
    key_id: row.try_get("key_id")?,
    session: row.try_get("session")?,
    action: row.try_get("action")?,
    outcome: Cow::Owned(row.try_get("outcome")?),
    reason: row.try_get("reason")?,
    duration_us: row.try_get("duration_us")?,
    bytes_in: row.try_get("bytes_in")?,
    bytes_out: row.try_get("bytes_out")?,
    input_tokens: row.try_get("input_tokens")?,
    output_tokens: row.try_get("output_tokens")?,
    tokens_estimated: row.try_get("tokens_estimated")?,
    cost_micros: row.try_get("cost_micros")?,
    count: row.try_get("count")?,
    chain_id: row.try_get("chain_id")?,
    chain_seq: row.try_get("chain_seq")?,
    prev_hash: row.try_get("prev_hash")?,
    hash: row.try_get("hash")?,
}));

impl EventRow {
    /// The row of an event that is [`storable`], not yet in any chain and without a place in the log.
    pub(super) fn new(event: &Event) -> Self {
        let actor = event.actor.as_ref();
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Self {
            seq: 0,
            xid: 0,
            at_ms: event.at.as_millisecond(),
            class: Cow::Borrowed(class_name(event.class)),
            surface: Cow::Borrowed(event.surface.as_str()),
            trace: event.trace.to_string(),
            tenant: actor.map(|a| a.tenant.to_string()),
            project: actor.and_then(|a| a.project.as_ref()).map(ToString::to_string),
            subject: actor.map(|a| a.subject.to_string()),
            key_id: actor.and_then(|a| a.key.as_ref()).map(ToString::to_string),
            session: actor.and_then(|a| a.session.as_ref()).map(ToString::to_string),
            action: event.action.clone(),
            outcome: Cow::Borrowed(event.outcome.as_str()),
            reason: event.reason.clone(),
            duration_us: number(event.duration_us),
            bytes_in: number(event.bytes_in),
            bytes_out: number(event.bytes_out),
            input_tokens: event.usage.map(|usage| number(usage.input_tokens)),
            output_tokens: event.usage.map(|usage| number(usage.output_tokens)),
            tokens_estimated: event.usage.map(|usage| usage.estimated),
            cost_micros: event.cost.map(Usd::micros),
            count: event.count.into(),
            chain_id: None,
            chain_seq: None,
            prev_hash: None,
            hash: None,
        }
    }

    /// The event, if the row is one that this program could have written.
    pub(super) fn event(&self) -> Result<Event, StoreError> {
        let number = |number: i64| u64::try_from(number).map_err(|_| corrupt("a negative number"));
        let usage = match (self.input_tokens, self.output_tokens, self.tokens_estimated) {
            (None, None, None) => None,
            (Some(input), Some(output), Some(estimated)) => Some(Usage {
                input_tokens: number(input)?,
                output_tokens: number(output)?,
                estimated,
            }),
            _ => return Err(corrupt("half a usage")),
        };
        Ok(Event {
            at: Timestamp::from_millisecond(self.at_ms).map_err(|_| corrupt("a time outside the calendar"))?,
            class: class(&self.class).ok_or_else(|| corrupt("an unknown class"))?,
            surface: surface(&self.surface).ok_or_else(|| corrupt("an unknown surface"))?,
            trace: TraceId::parse(&self.trace).ok_or_else(|| corrupt("a malformed trace id"))?,
            actor: self.actor()?,
            action: self.action.clone(),
            outcome: outcome(&self.outcome).ok_or_else(|| corrupt("an unknown outcome"))?,
            reason: self.reason.clone(),
            duration_us: number(self.duration_us)?,
            bytes_in: number(self.bytes_in)?,
            bytes_out: number(self.bytes_out)?,
            usage,
            cost: self.cost_micros.map(Usd::from_micros),
            count: u32::try_from(self.count).map_err(|_| corrupt("an impossible count"))?,
        })
    }

    fn actor(&self) -> Result<Option<Actor>, StoreError> {
        let (Some(tenant), Some(subject)) = (&self.tenant, &self.subject) else {
            let parts = [&self.tenant, &self.subject, &self.project, &self.key_id, &self.session];
            let nobody = parts.iter().all(|part| part.is_none());
            return if nobody {
                Ok(None)
            } else {
                Err(corrupt("half an actor"))
            };
        };
        Ok(Some(Actor {
            tenant: known(TenantId::try_from(tenant.as_str()))?,
            project: known(self.project.as_deref().map(ProjectId::try_from).transpose())?,
            subject: known(SubjectId::try_from(subject.as_str()))?,
            key: known(self.key_id.as_deref().map(KeyId::try_from).transpose())?,
            session: known(self.session.as_deref().map(SessionId::try_from).transpose())?,
        }))
    }
}

fn corrupt(what: &str) -> StoreError {
    StoreError::corrupt(format!("an event with {what}"))
}

fn known<T>(id: Result<T, IdFault>) -> Result<T, StoreError> {
    id.map_err(|_| corrupt("a malformed identifier"))
}

fn class(text: &str) -> Option<Class> {
    [Class::Activity, Class::Audit]
        .into_iter()
        .find(|class| class_name(*class) == text)
}

fn surface(text: &str) -> Option<Surface> {
    Surface::ALL.into_iter().find(|surface| surface.as_str() == text)
}

fn outcome(text: &str) -> Option<Outcome> {
    let plain = [Outcome::Intended, Outcome::Ok, Outcome::ToolError, Outcome::Cancelled];
    let failed = Code::ALL.iter().map(|code| Outcome::Failed(*code));
    plain.into_iter().chain(failed).find(|outcome| outcome.as_str() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_as_itself() {
        let outcomes = [Outcome::Intended, Outcome::Ok, Outcome::ToolError, Outcome::Cancelled]
            .into_iter()
            .chain(Code::ALL.iter().map(|code| Outcome::Failed(*code)))
            .filter(|outcome| *outcome != Outcome::Failed(Code::Cancelled));
        for each in outcomes {
            assert_eq!(outcome(each.as_str()), Some(each));
        }
        for each in Surface::ALL {
            assert_eq!(surface(each.as_str()), Some(each));
        }
        assert_eq!(outcome("OK"), None);
    }

    #[test]
    fn a_text_is_cut_between_characters_and_holds_no_nul() {
        assert_eq!(storable_text("a\0b".to_owned()), "a\u{1a}b");
        let cut = storable_text("é".repeat(TEXT_BYTES_MAX));
        assert_eq!(cut.len(), TEXT_BYTES_MAX);
        let cut = storable_text(format!("x{}", "é".repeat(TEXT_BYTES_MAX)));
        assert_eq!(cut.len(), TEXT_BYTES_MAX - 1);
    }
}
