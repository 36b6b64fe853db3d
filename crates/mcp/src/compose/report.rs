//! How a batch or a chain tells what became of its calls. Results stand in it byte for byte as the tools gave them.

use crate::{
    call::{Complete, Outcome},
    rpc::{array, object},
};
use forebay_domain::{Code, ErrorKind, Failure};
use serde_json::{Map, Value, value::RawValue};

/// How one inner call ended.
#[derive(Debug)]
pub(super) enum Ended {
    Ok(Box<RawValue>),
    /// The tool ran and said in its result that it failed.
    ToolError(Box<RawValue>),
    /// It did not run, or its result cannot be handed over.
    Failed(Failure),
}

impl Ended {
    pub(super) fn is_ok(&self) -> bool {
        matches!(self, Self::Ok(_))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Ok(raw) | Self::ToolError(raw) => raw.get().len(),
            // Our own words, whose length is bounded.
            Self::Failed(_) => 0,
        }
    }
}

/// How many bytes of results may still be kept.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
    max: usize,
}

impl Room {
    pub(super) fn of(max: usize) -> Self {
        Self { left: max, max }
    }

    /// Keeps the result, or puts an error in its place where it no longer fits.
    pub(super) fn keep(&mut self, ended: Ended) -> Ended {
        let bytes = ended.bytes();
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            return ended;
        }
        let message = format!(
            "The tool ran, but its result of {bytes} bytes no longer fits: all results together may have {} bytes.",
            self.max
        );
        Ended::Failed(Failure::new(Code::ResultTooLarge, message).hint("Call it directly, or ask for less."))
    }
}

/// One call of a batch, or one step of a chain.
pub(super) struct Entry<'a> {
    pub(super) index: usize,
    pub(super) id: Option<&'a str>,
    pub(super) tool: &'a str,
    pub(super) ended: &'a Ended,
}

impl Entry<'_> {
    pub(super) fn to_json(&self) -> String {
        let (index, tool) = (self.index.to_string(), quoted(self.tool));
        let id = self.id.map(quoted);
        let mut members = vec![("index", index.as_str())];
        members.extend(id.as_deref().map(|id| ("id", id)));
        members.push(("tool", &tool));
        let error;
        match self.ended {
            Ended::Ok(raw) => members.extend([("ok", "true"), ("result", raw.get())]),
            Ended::ToolError(raw) => members.extend([("ok", "false"), ("result", raw.get())]),
            Ended::Failed(failure) => {
                error = told(failure).to_string();
                members.extend([("ok", "false"), ("error", &error)]);
            }
        }
        object(&members)
    }
}

/// Whether the whole failed, beside what its parts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Failed,
}

/// The result of one of our tools: the structure, and the same JSON as a text block.
pub(super) fn whole(structured: &[(&str, &str)], verdict: Verdict) -> Outcome {
    let structured = object(structured);
    let text = quoted(&structured);
    let block = object(&[("type", r#""text""#), ("text", &text)]);
    let is_error = verdict == Verdict::Failed;
    let result = object(&[
        ("content", &array([block.as_str()])),
        ("structuredContent", &structured),
        ("isError", if is_error { "true" } else { "false" }),
    ]);
    Outcome::Complete(Complete {
        raw: RawValue::from_string(result).expect("an object of JSON texts is JSON"),
        is_error,
        failed: None,
    })
}

pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A failure as the caller reads it in its place. This is where it ends, so its causes are logged here.
fn told(failure: &Failure) -> Value {
    if failure.source.is_some() || failure.kind() == ErrorKind::Bug {
        tracing::warn!(error.code = %failure.code, error.chain = %failure.chain(), "inner call failed");
    }
    let mut error = Map::new();
    error.insert("code".to_owned(), failure.code.as_str().to_uppercase().into());
    error.insert("message".to_owned(), failure.message.clone().into());
    if let Some(hint) = &failure.hint {
        error.insert("hint".to_owned(), hint.clone().into());
    }
    if let Some(details) = &failure.details {
        error.insert("details".to_owned(), details.clone());
    }
    if let Some(after) = failure.retry_after {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        error.insert("retryAfterMs".to_owned(), after_ms.into());
    }
    Value::Object(error)
}
