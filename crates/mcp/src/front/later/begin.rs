//! Which calls become tasks: as the client wants it in 2025-11-25, and as the tool's definition says with the extension.

use super::{Knows, unnamed};
use crate::{
    front::{Front, method::unknown_method, turn::Turn},
    index::Listed,
    params::{Params, invalid},
    raw::{Members, with_member},
    rpc::{Ending, object},
    source::{Naming, Tool},
    tasks::{
        Begin,
        input::Circumstances,
        support::{Said, Support},
        wire,
    },
};
use forebay_domain::{Action, Failure};
use serde_json::{Value, value::RawValue};
use std::time::Duration;

/// What a client of the extension puts into the `_meta` of a call that it will not wait for.
const WISH: &str = "io.forebay/task";

/// What a tool says about tasks, as it concerns the clients of this gateway. An upstream's tool that runs as a task only
/// can be called as any other here: the gateway follows the task for whoever cannot.
fn said(tool: &Listed<Tool>) -> Said {
    let said = Said::of(&tool.raw);
    match (said.support, tool.source.naming()) {
        (Support::Required, Naming::Prefixed) => Said {
            support: Support::Optional,
            ..said
        },
        _ => said,
    }
}

/// How long a client wants its result to be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept(Option<Duration>);

impl Front {
    /// Whether a call is to become a task, and for how long its result is to be kept.
    pub(crate) fn as_task(&self, params: &Params<'_>, name: &str, turn: &Turn) -> Result<Option<Kept>, Failure> {
        let Some(_) = self.later() else { return Ok(None) };
        let knows = Knows::of(turn);
        if knows == Knows::Nothing {
            return Ok(None);
        }
        let found = self.catalogue().find(&turn.principal, &turn.scope, name);
        let said = found.as_deref().map_or(Said::NOTHING, said);
        match (knows, said.support) {
            (Knows::Core, support) => match params.task {
                Some(raw) => kept(raw, "task", "ttl").map(Some),
                None if support == Support::Required => Err(unknown_method("tools/call")
                    .hint("This tool runs as a task only: send `task` in the params of the call.")),
                None => Ok(None),
            },
            (Knows::Unnamed, Support::Required) => Err(unnamed()),
            (Knows::Extension, _) => match params.meta().task {
                Some(raw) if raw.get() == "false" || raw.get() == "null" => Ok(None),
                Some(raw) if raw.get() == "true" => Ok(Some(Kept::default())),
                Some(raw) => kept(raw, WISH, "ttlMs").map(Some),
                None if said.support == Support::Unsaid => Ok(None),
                // Whoever asks first is called as ever until it has been answered; whoever does not asks as a task.
                None => Ok((said.asks_first == turn.again.is_some()).then(Kept::default)),
            },
            (Knows::Unnamed | Knows::Nothing, _) => Ok(None),
        }
    }

    /// Begins a task for a call: once this has answered, the task is there, whatever becomes of the gateway.
    pub(crate) async fn begin_task(&self, name: &str, params: &RawValue, kept: Kept, turn: &Turn) -> Ending {
        let entry = self.note(&Action::TASKS_WRITE, turn);
        let result = self.try_begin_task(name, params, kept, turn).await;
        entry.settle(&result);
        Ok(result?)
    }

    async fn try_begin_task(&self, name: &str, params: &RawValue, kept: Kept, turn: &Turn) -> Result<String, Failure> {
        let later = self.need_later("tools/call")?;
        let around = Circumstances {
            scope: turn.scope.clone(),
            version: Some(turn.dialect.version()),
            caps: turn.client.caps.clone(),
            again: turn.retry(),
            desk: None,
        };
        let begin = Begin {
            name,
            params,
            around,
            kept: kept.0,
            trace: turn.trace,
        };
        let seen = later.begin(self.catalogue(), &turn.principal, begin).await?;
        Ok(match Knows::of(turn) {
            Knows::Core => object(&[("task", &wire::core(&seen))]),
            Knows::Extension | Knows::Unnamed | Knows::Nothing => self.envelope("\"task\"", &[&wire::extension(&seen)]),
        })
    }
}

/// `{"ttl": 60000}`, or its like.
fn kept(raw: &RawValue, name: &str, member: &str) -> Result<Kept, Failure> {
    let wrong = || {
        invalid(format!(
            "`{name}` must be an object whose `{member}`, if any, is a number of milliseconds."
        ))
    };
    let members = Members::of(raw).ok_or_else(wrong)?;
    match members.get(member) {
        None | Some("null") => Ok(Kept::default()),
        Some(text) => {
            let value: Value = serde_json::from_str(text).map_err(|_| wrong())?;
            let ms = value.as_f64().filter(|ms| *ms >= 0.0).ok_or_else(wrong)?;
            // A float beyond it becomes the largest number, which is bounded where it is used.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is not negative, and the cast saturates"
            )]
            Ok(Kept(Some(Duration::from_millis(ms as u64))))
        }
    }
}

/// The definition of a tool as clients of 2025-11-25 see it: every one of them can run as a task, and only what is the
/// gateway's own may insist on it.
pub(crate) fn with_support(definition: &str, may_require: impl FnOnce() -> bool) -> String {
    const OPTIONAL: &str = r#""execution":{"taskSupport":"optional"}"#;
    let text = definition.trim_end();
    if !text.contains("\"execution\"") && text.ends_with('}') {
        let comma = if text[1..].trim_start().starts_with('}') {
            ""
        } else {
            ","
        };
        return [&text[..text.len() - 1], comma, OPTIONAL, "}"].concat();
    }
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else {
        return definition.to_owned();
    };
    if Said::of(raw).support == Support::Required && may_require() {
        return definition.to_owned();
    }
    with_member(raw, "execution", r#"{"taskSupport":"optional"}"#)
        .get()
        .to_owned()
}
