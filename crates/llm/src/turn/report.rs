//! What the gateway adds to an answer: the object `forebay`, which says what went into it. Standard clients ignore it.

use super::usage::Sum;
use crate::money::Spent;
use forebay_domain::{
    Failure,
    context::{Context, ContextItem, ProviderReport},
    id::TraceId,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

/// What a turn did beside asking the model.
#[derive(Debug, Default)]
pub(super) struct Report {
    context: Vec<Value>,
    providers: Vec<Value>,
    left_out: usize,
    tools: Vec<Value>,
    /// Whether words of others were read, in this turn or in the conversation that it goes on with.
    pub(super) is_tainted: bool,
    /// Why the turn ended before the model was done, where it did.
    pub(super) ended: Option<&'static str>,
}

impl Report {
    pub(super) fn found(&mut self, context: &Context) {
        self.context = context.items.iter().map(item).collect();
        self.providers = context.reports.iter().map(provider).collect();
        self.left_out = context.left_out;
    }

    pub(super) fn called(&mut self, entry: Value) {
        self.tools.push(entry);
    }

    pub(super) fn value(&self, usage: &Sum, spent: &Spent, trace: TraceId) -> Value {
        let mut value = json!({
            "context": self.context,
            "providers": self.providers,
            "tools": self.tools,
            "usage": usage.value(),
            "cost": spent.value(),
            "trace_id": trace.to_string(),
        });
        if self.left_out > 0 {
            value["context_left_out"] = self.left_out.into();
        }
        if self.is_tainted {
            value["tainted"] = true.into();
        }
        if let Some(why) = self.ended {
            value["ended"] = why.into();
        }
        value
    }
}

fn item(item: &ContextItem) -> Value {
    json!({
        "provider": item.provider,
        "id": item.id,
        "source": item.source,
        "title": item.title,
        "score": item.score,
    })
}

fn provider(report: &ProviderReport) -> Value {
    let failure = report.failure.as_ref();
    json!({
        "provider": report.provider,
        "ms": milliseconds(report.took),
        "items": report.items,
        "from_cache": report.from_cache,
        "strategy": report.strategy.as_str(),
        "failure": failure.map(|failure| json!({ "code": failure.code.as_str(), "message": failure.message })),
    })
}

/// One call, whatever became of it.
pub(super) fn call(name: &str, server: Option<&str>, status: &str, took: Duration) -> Value {
    json!({ "name": name, "server": server, "status": status, "ms": milliseconds(took), "cost_usd": 0.0 })
}

pub(super) fn error(failure: &Failure) -> Value {
    json!({ "code": failure.code.as_str(), "message": failure.message })
}

/// A failure of a turn that may have changed something before. Clients of the vendors repeat what failed, unasked; the
/// edge tells them not to by `details.ran`, and whoever reads the message knows what would run again.
pub(super) fn after(mut failure: Failure, changed: &BTreeSet<String>) -> Failure {
    if changed.is_empty() {
        return failure;
    }
    let names: Vec<String> = changed.iter().map(|name| format!("`{name}`")).collect();
    let before = failure.message.trim_end_matches('.');
    failure.message = format!("{before}. Before that this ran, or may have run: {}.", names.join(", "));
    failure.hint =
        Some("See what has become of it before you ask again: the same request may run it again.".to_owned());
    match &mut failure.details {
        Some(Value::Object(details)) => {
            details.insert("ran".to_owned(), json!(changed));
        }
        _ => failure.details = Some(json!({ "ran": changed })),
    }
    failure
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
