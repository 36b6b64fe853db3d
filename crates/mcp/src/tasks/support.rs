//! What the definition of a tool says about tasks.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::borrow::Cow;

/// `execution.taskSupport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// Nothing, or that it never runs as a task.
    Unsaid,
    Optional,
    Required,
}

/// The same, and whether the tool asks its client something before it begins what takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) support: Support,
    pub(crate) asks_first: bool,
}

impl Said {
    pub(crate) const NOTHING: Self = Self {
        support: Support::Unsaid,
        asks_first: false,
    };

    pub(crate) fn of(definition: &RawValue) -> Self {
        #[derive(Deserialize)]
        struct Definition<'a> {
            #[serde(borrow)]
            execution: Option<Execution<'a>>,
            #[serde(default, rename = "_meta")]
            meta: Meta,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Meta {
            /// Says that it asks by the rounds of its version, before it begins what takes long.
            #[serde(rename = "io.forebay/asks-first")]
            asks_first: Value,
        }
        #[derive(Deserialize)]
        struct Execution<'a> {
            #[serde(borrow, rename = "taskSupport")]
            task_support: Option<Cow<'a, str>>,
        }
        let text = definition.get();
        // Nearly all say nothing, and need no reading.
        if !text.contains("\"taskSupport\"") {
            return Self::NOTHING;
        }
        let Ok(definition) = serde_json::from_str::<Definition<'_>>(text) else {
            return Self::NOTHING;
        };
        let said = definition.execution.and_then(|execution| execution.task_support);
        Self {
            support: match said.as_deref() {
                Some("required") => Support::Required,
                Some("optional") => Support::Optional,
                _ => Support::Unsaid,
            },
            asks_first: definition.meta.asks_first == true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_says_how_its_tool_stands_to_tasks() {
        for (definition, support, asks_first) in [
            (r#"{"name":"a"}"#, Support::Unsaid, false),
            (r#"{"execution":{"taskSupport":"forbidden"}}"#, Support::Unsaid, false),
            (r#"{"execution":{"taskSupport":7}}"#, Support::Unsaid, false),
            (r#"{"execution":{"taskSupport":"optional"}}"#, Support::Optional, false),
            (
                r#"{"execution":{"taskSupport":"required"},"_meta":{"io.forebay/asks-first":true}}"#,
                Support::Required,
                true,
            ),
        ] {
            let raw = RawValue::from_string(definition.to_owned()).unwrap();
            assert_eq!(Said::of(&raw), Said { support, asks_first }, "{definition}");
        }
    }
}
