//! What happened, as one row: who, what, when, decided how, with what outcome.
//!
//! Never prompts, arguments, results or secrets. Activity may be batched; audit events form a hash chain per writing
//! process, so that a changed, moved or missing row shows.

use crate::id::{ChainId, KeyId, ProjectId, SessionId, SubjectId, TenantId, TraceId};
use crate::{Code, Principal, money::Usd};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// How durable an event has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Batched: a crash may lose the last 100 ms.
    Activity,
    /// Committed before the action it announces; chained.
    Audit,
}

/// The door through which the request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    Mcp,
    OpenAi,
    Api,
    /// The gateway itself: its first key, a changed configuration.
    System,
}

impl Surface {
    pub const ALL: [Self; 4] = [Self::Mcp, Self::OpenAi, Self::Api, Self::System];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::OpenAi => "openai",
            Self::Api => "api",
            Self::System => "system",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An audit row written before the action; a later row of the same trace says how it ended.
    Intended,
    Ok,
    /// The tool ran and said that it failed (`isError`).
    ToolError,
    /// The client went away before the end.
    Cancelled,
    Failed(Code),
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Ok => "ok",
            Self::ToolError => "tool_error",
            Self::Cancelled => "cancelled",
            Self::Failed(code) => code.as_str(),
        }
    }
}

/// Tokens of one model answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// True where the engine gave no figures and these are the gateway's guess.
    pub estimated: bool,
}

/// Who did it, as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub tenant: TenantId,
    pub project: Option<ProjectId>,
    pub subject: SubjectId,
    pub key: Option<KeyId>,
    pub session: Option<SessionId>,
}

impl From<&Principal> for Actor {
    fn from(principal: &Principal) -> Self {
        Self {
            tenant: principal.tenant.clone(),
            project: principal.project.clone(),
            subject: principal.subject.clone(),
            key: principal.key.clone(),
            session: principal.session.clone(),
        }
    }
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub class: Class,
    pub surface: Surface,
    pub trace: TraceId,
    /// `None` for an anonymous request.
    pub actor: Option<Actor>,
    /// An action (`tool:calculator`) or a request line (`GET /v1/models`).
    pub action: String,
    pub outcome: Outcome,
    /// The rule that decided, where one did.
    pub reason: Option<String>,
    pub duration_us: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub usage: Option<Usage>,
    /// What it was settled at, where something was; `None` for what has no price. The ledger has the movements.
    pub cost: Option<Usd>,
    /// How many equal facts this row stands for (floods of equal anonymous events are coalesced).
    pub count: u32,
}

/// An action that is about to be taken: what its audit event says before it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub surface: Surface,
    pub trace: TraceId,
    /// `None` for the gateway itself.
    pub actor: Option<Actor>,
    pub action: String,
    pub reason: Option<String>,
}

impl Intent {
    pub fn at(self, at: Timestamp) -> Event {
        Event {
            at,
            class: Class::Audit,
            surface: self.surface,
            trace: self.trace,
            actor: self.actor,
            action: self.action,
            outcome: Outcome::Intended,
            reason: self.reason,
            duration_us: 0,
            bytes_in: 0,
            bytes_out: 0,
            usage: None,
            cost: None,
            count: 1,
        }
    }
}

impl Event {
    /// The bytes that the audit chain covers: every field, each prefixed by its length, so that no two events share
    /// an encoding.
    fn canonical(&self) -> Vec<u8> {
        let actor = self.actor.as_ref();
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let number = |value: u64| value.to_string();
        let usage = self
            .usage
            .map(|u| format!("{}/{}/{}", u.input_tokens, u.output_tokens, u.estimated));
        let mut fields = vec![
            self.at.as_millisecond().to_string(),
            self.surface.as_str().to_owned(),
            self.trace.to_string(),
            text(actor.map(|a| a.tenant.as_str())),
            text(actor.and_then(|a| a.project.as_ref()).map(ProjectId::as_str)),
            text(actor.map(|a| a.subject.as_str())),
            text(actor.and_then(|a| a.key.as_ref()).map(KeyId::as_str)),
            text(actor.and_then(|a| a.session.as_ref()).map(SessionId::as_str)),
            self.action.clone(),
            self.outcome.as_str().to_owned(),
            text(self.reason.as_deref()),
            number(self.duration_us),
            number(self.bytes_in),
            number(self.bytes_out),
            text(usage.as_deref()),
            number(self.count.into()),
        ];
        // Chains that are older than this field have links without it.
        fields.extend(self.cost.map(|cost| cost.micros().to_string()));
        fields
            .iter()
            .flat_map(|field| format!("{}:{field},", field.len()).into_bytes())
            .collect()
    }
}

/// A link of an audit chain: SHA-256 over chain, position, predecessor and event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// What the first event of a chain follows.
    pub const GENESIS: Self = Self([0; 32]);

    /// The link of `event` at `position` (counted from 1) of `chain`, after `previous`.
    pub fn next(previous: Self, chain: &ChainId, position: u64, event: &Event) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(previous.0);
        hasher.update(format!("{}:{chain},{position},", chain.as_str().len()));
        hasher.update(event.canonical());
        Self(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            at: Timestamp::from_millisecond(1_700_000_000_000).unwrap(),
            class: Class::Audit,
            surface: Surface::Api,
            trace: TraceId::from_bytes([1; 16]).unwrap(),
            actor: None,
            action: "keys:write".to_owned(),
            outcome: Outcome::Intended,
            reason: None,
            duration_us: 0,
            bytes_in: 0,
            bytes_out: 0,
            usage: None,
            cost: None,
            count: 1,
        }
    }

    #[test]
    fn every_field_changes_the_link() {
        let chain = ChainId::try_from("c1").unwrap();
        let link = |event: &Event| ChainHash::next(ChainHash::GENESIS, &chain, 1, event);
        let first = link(&event());
        let edits: Vec<fn(&mut Event)> = vec![
            |e| e.at = Timestamp::from_millisecond(1).unwrap(),
            |e| e.surface = Surface::Mcp,
            |e| e.trace = TraceId::from_bytes([2; 16]).unwrap(),
            |e| e.action.push('x'),
            |e| e.outcome = Outcome::Ok,
            |e| e.reason = Some("r".to_owned()),
            |e| e.duration_us = 1,
            |e| e.bytes_in = 1,
            |e| e.bytes_out = 1,
            |e| e.usage = Some(Usage::default()),
            |e| e.cost = Some(Usd::ZERO),
            |e| e.count = 2,
        ];
        for edit in edits {
            let mut changed = event();
            edit(&mut changed);
            assert_ne!(link(&changed), first, "{changed:?}");
        }
        assert_ne!(ChainHash::next(ChainHash::GENESIS, &chain, 2, &event()), first);
        assert_ne!(ChainHash::next(first, &chain, 1, &event()), first);
    }
}
