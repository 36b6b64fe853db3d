//! Durable tasks over REST: submit, look, wait, cancel, queue again.
//!
//! Whoever asks sees their own tasks; operators see those of their tenant, and administrators all, without what they were
//! given and what came of them. A task that somebody may not see does not exist for them.

mod cancel;
mod list;
mod requeue;
mod show;
mod submit;
pub(crate) mod view;

pub(crate) use cancel::{__path_cancel, cancel};
pub(crate) use list::{__path_list, list, page};
pub(crate) use requeue::{__path_requeue, requeue};
pub(crate) use show::{__path_show, show};
pub(crate) use submit::{__path_submit, submit};

use forebay_domain::{Code, Failure, task::TaskId};

/// What all of them are below.
pub(crate) const PATH: &str = "/api/v1/mcp/tasks";

pub(crate) fn unknown() -> Failure {
    Failure::new(Code::UnknownTask, "There is no such task.")
        .hint("`GET /api/v1/mcp/tasks` lists yours; those that are over are forgotten after a while.")
}

fn id(text: &str) -> Result<TaskId, Failure> {
    TaskId::try_from(text).map_err(|_| unknown())
}
