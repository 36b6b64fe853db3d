//! What a client can be asked, by its own word.

use super::raw;
use crate::raw::Members;
use serde_json::{Value, json, value::RawValue};

/// What a client can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    Sampling,
    Elicitation,
    Roots,
}

impl Capability {
    pub const ALL: [Self; 3] = [Self::Sampling, Self::Elicitation, Self::Roots];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::Elicitation => "elicitation",
            Self::Roots => "roots",
        }
    }

    /// The capability that a request to the client needs; none for methods that no client knows.
    pub fn of(method: &str) -> Option<Self> {
        match method {
            "sampling/createMessage" => Some(Self::Sampling),
            "elicitation/create" => Some(Self::Elicitation),
            "roots/list" => Some(Self::Roots),
            _ => None,
        }
    }

    /// As a `ClientCapabilities` object, for the error that names it.
    pub fn to_json(self) -> Value {
        json!({self.as_str(): {}})
    }
}

/// The capabilities that a client declared, as it wrote them.
#[derive(Debug, Clone)]
pub struct ClientCaps {
    raw: Box<RawValue>,
    has: [bool; Capability::ALL.len()],
    fills_in_forms: bool,
}

impl ClientCaps {
    /// Reads the raw `ClientCapabilities` object; what is no object declares nothing.
    pub fn new(declared: &RawValue) -> Self {
        let Ok(Value::Object(members)) = serde_json::from_str(declared.get()) else {
            return Self::default();
        };
        Self {
            raw: declared.to_owned(),
            has: Capability::ALL.map(|one| members.get(one.as_str()).is_some_and(Value::is_object)),
            fills_in_forms: members.get("elicitation").is_some_and(fills_in_forms),
        }
    }

    /// Whether its user can be asked by a form, and not only sent to an address.
    pub fn fills_in_forms(&self) -> bool {
        self.fills_in_forms
    }

    pub fn has(&self, capability: Capability) -> bool {
        self.has[capability as usize]
    }

    /// Whether there is anything that its client can be asked.
    pub(crate) fn has_questions(&self) -> bool {
        self.has.contains(&true)
    }

    /// The same of a client that cannot be reached with a question.
    pub(crate) fn without_questions(&self) -> Self {
        let mut members = Members::of(&self.raw).unwrap_or_default();
        for capability in Capability::ALL {
            members.remove(capability.as_str());
        }
        Self::new(&members.write())
    }

    pub fn raw(&self) -> &RawValue {
        &self.raw
    }
}

impl Default for ClientCaps {
    fn default() -> Self {
        Self {
            raw: raw(&json!({})),
            has: [false; Capability::ALL.len()],
            fills_in_forms: false,
        }
    }
}

/// Forms are what elicitation was before it had parts; whoever names parts can do those that it names.
fn fills_in_forms(elicitation: &Value) -> bool {
    let Some(parts) = elicitation.as_object() else {
        return false;
    };
    parts.contains_key("form") || !parts.contains_key("url")
}
