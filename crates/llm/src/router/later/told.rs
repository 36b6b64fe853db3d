//! What is known of a response that nobody waits for, read from its task.

use super::{Input, Promised, asked, unreadable};
use crate::{
    dialect::{Map, unfinished},
    turn::input_items,
};
use bytes::Bytes;
use forebay_domain::{
    Code, Failure, Principal,
    task::{State, TaskId},
};
use forebay_store::{queue::Task, responses::StoredResponse};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// Of responses, beside their own names.
pub(super) const PREFIX: &str = "resp_";

/// What a task came to: the response itself only where it could not be kept.
#[derive(Serialize, Deserialize)]
struct Output<'a> {
    id: String,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    response: Option<&'a RawValue>,
}

/// What is known of a task's response from the beginning. Its name is the task's own, with what was drawn in front, as in
/// the names of all responses; its time is that in the name, so that everybody is told the same one.
pub(super) fn promised(task: &TaskId) -> Promised {
    let (time, drawn) = task.as_str().split_at_checked(16).unwrap_or((task.as_str(), ""));
    let created_ms = time.get(..12).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    Promised {
        name: format!("{drawn}_{time}"),
        created_s: created_ms.unwrap_or_default() / 1_000,
    }
}

/// The task of a response, if it is one of a task.
pub(super) fn task_of(response: &str) -> Option<TaskId> {
    let (drawn, time) = response.strip_prefix(PREFIX)?.split_once('_')?;
    let is_one = [drawn, time]
        .iter()
        .all(|part| part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let task = is_one.then(|| TaskId::try_from(format!("{time}{drawn}")));
    task?.ok()
}

pub(super) fn output(id: String, response: Option<&RawValue>) -> Bytes {
    serde_json::to_vec(&Output { id, response })
        .expect("texts are JSON")
        .into()
}

pub(super) fn has_response(task: &Task) -> bool {
    let output = task.output.as_deref().unwrap_or_default();
    serde_json::from_slice::<Output<'_>>(output).is_ok_and(|output| output.response.is_some())
}

/// A response as far as it has come.
pub(super) fn told(task: &Task, id: &str, principal: &Principal) -> Result<StoredResponse, Failure> {
    let input: Input<'_> =
        serde_json::from_slice(task.input.as_deref().unwrap_or_default()).map_err(|_| unreadable())?;
    let asked = asked(input.request.get().as_bytes(), promised(&task.id))?;
    let request: Map = serde_json::from_str(input.request.get()).map_err(|_| unreadable())?;
    let output: Option<Output<'_>> = task
        .output
        .as_deref()
        .and_then(|output| serde_json::from_slice(output).ok());
    let status = match task.state {
        State::Pending | State::Scheduled => "queued",
        // It may still come to its end although somebody wants it not to: what it came to is told once that is known.
        State::Running => "in_progress",
        State::Completed => "completed",
        State::Failed | State::Dead => "failed",
        State::Cancelled => "cancelled",
    };
    let failure = match (task.state, &task.error) {
        (State::Failed | State::Dead, Some(error)) => Some(failure(&error.code, &error.message)),
        (State::Failed | State::Dead, None) => Some(unreadable()),
        _ => None,
    };
    let body = match output.and_then(|output| output.response) {
        Some(response) => response.to_owned(),
        None => to_raw_value(&unfinished(&asked, status, failure.as_ref())).expect("a map of values is JSON"),
    };
    let drawn = asked.id.clone();
    Ok(StoredResponse {
        id: id.to_owned(),
        owner: principal.into(),
        key: task.owner.key.clone(),
        previous_id: None,
        model: asked.model,
        status: status.to_owned(),
        created_at: task.created_at,
        expires_at: task.expires_at.unwrap_or(Timestamp::MAX),
        input: to_raw_value(&input_items(request.get("input"), &drawn)).expect("values are JSON"),
        body,
    })
}

fn failure(code: &str, message: &str) -> Failure {
    let code = Code::ALL.iter().copied().find(|known| known.as_str() == code);
    Failure::new(code.unwrap_or(Code::InternalError), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_and_its_task_find_each_other() {
        let task = TaskId::try_from("019a8c1d2e3f0001deadbeef00c0ffee").unwrap();
        let response = format!("{PREFIX}{}", promised(&task).name);
        assert_eq!(response, "resp_deadbeef00c0ffee_019a8c1d2e3f0001");
        assert_eq!(promised(&task).created_s, 0x019a_8c1d_2e3f / 1_000);
        assert_eq!(task_of(&response), Some(task));
        for other in [
            "resp_deadbeef00c0ffee",
            "resp_",
            "msg_deadbeef00c0ffee_019a8c1d2e3f0001",
            "resp_x_y",
        ] {
            assert_eq!(task_of(other), None, "{other}");
        }
    }
}
