//! A task as the protocol writes it. There are two ways: 2025-11-25 has tasks of its own, and later versions have the
//! extension `io.modelcontextprotocol/tasks`.
//!
//! They differ in more than names. Where a client of the extension has asked that a task end, it is working until it has
//! ended; to one of 2025-11-25 it is cancelled from then on, whatever still comes of it. And a tool that says that it
//! failed has failed there, and completed here.

use super::Seen;
use crate::rpc::object;
use forebay_domain::task::State;
use serde_json::{Value, json};

/// How often clients are to ask, in milliseconds.
pub(crate) const POLL_MS: u64 = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Working,
    InputRequired,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::InputRequired => "input_required",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// As 2025-11-25 has it.
    pub(crate) fn of_core(seen: &Seen) -> Self {
        match seen.state {
            _ if seen.cancel_wanted => Self::Cancelled,
            State::Completed if seen.is_error => Self::Failed,
            _ => Self::of_extension(seen),
        }
    }

    pub(crate) fn of_extension(seen: &Seen) -> Self {
        match seen.state {
            State::Pending | State::Scheduled | State::Running if seen.asked.is_empty() => Self::Working,
            State::Pending | State::Scheduled | State::Running => Self::InputRequired,
            State::Completed => Self::Completed,
            State::Failed | State::Dead => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }

    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Working | Self::InputRequired => false,
        }
    }
}

/// `Task` of 2025-11-25.
pub(crate) fn core(seen: &Seen) -> String {
    let status = Status::of_core(seen);
    written(seen, status, ("ttl", "pollInterval"))
}

/// The members of `Task` of the extension, as the text of an object.
pub(crate) fn extension(seen: &Seen) -> String {
    let status = Status::of_extension(seen);
    written(seen, status, ("ttlMs", "pollIntervalMs"))
}

fn written(seen: &Seen, status: Status, (ttl, poll): (&str, &str)) -> String {
    let text = |text: &str| Value::from(text).to_string();
    let id = text(seen.id.as_str());
    let status_text = text(status.as_str());
    let created = text(&moment(seen.created_at));
    let updated = text(&moment(seen.updated_at));
    let ttl_ms = json!(seen.ttl_ms).to_string();
    let poll_ms = POLL_MS.to_string();
    let message = message(seen, status).map(|message| text(&message));
    let mut members = vec![("taskId", id.as_str()), ("status", &status_text)];
    members.extend(message.as_deref().map(|message| ("statusMessage", message)));
    members.extend([
        ("createdAt", created.as_str()),
        ("lastUpdatedAt", &updated),
        (ttl, &ttl_ms),
    ]);
    members.push((poll, &poll_ms));
    object(&members)
}

/// With milliseconds, as clients write them.
fn moment(at: jiff::Timestamp) -> String {
    format!("{at:.3}")
}

fn message(seen: &Seen, status: Status) -> Option<String> {
    match status {
        Status::Working if seen.attempts > 1 => Some("It was begun anew after its worker was lost.".to_owned()),
        Status::InputRequired => Some("The tool asks something before it goes on.".to_owned()),
        Status::Failed => seen.error.as_ref().map(|error| error.message.clone()),
        Status::Working | Status::Completed | Status::Cancelled => None,
    }
}
