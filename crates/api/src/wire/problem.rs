//! The error body of the API.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// What the `type` of a problem begins with; the code follows. A name and no address: the page of each error stands in
/// `docs/errors/`, wherever an installation serves that.
pub const PROBLEM_TYPE: &str = "urn:forebay:error:";

/// An error, as RFC 9457 writes it (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of error: `urn:forebay:error:<code>`.
    #[serde(rename = "type")]
    pub r#type: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong, and what was expected.
    pub detail: String,
    /// The stable name of this error; `docs/errors/` has a page for each.
    pub code: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Particulars for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// Names the request in logs and events; `forebay explain --trace` looks it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// When to try again, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}
