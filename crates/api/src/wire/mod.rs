//! What travels: the JSON of Forebay's own REST API, with the units and meanings that `openapi.json` shows.

mod explain;
mod health;
mod keys;
mod problem;
mod records;

pub use explain::{ExplainQuery, Explanation, LimitInfo, TraceExplanation};
pub use health::{ConfigStatus, Health, Status, StoreStatus};
pub use keys::{KeyCreate, KeyCreated, KeyInfo, KeyList, KeyQuery};
pub use problem::{PROBLEM_TYPE, Problem};
pub use records::{AuditReport, EventInfo, EventList, EventQuery};
