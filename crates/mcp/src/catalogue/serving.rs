//! One request at its source: within its time, within its bound, and how it ended.

use crate::{
    call::{CallContext, Outcome},
    index::Listed,
    source::{Source, Tool, Wanted},
};
use forebay_domain::{Code, Failure, Principal, event::Outcome as Ending};
use std::{sync::Arc, time::Duration};

/// The largest result that is passed on, of a tool, a resource or a prompt.
pub const RESULT_BYTES_MAX: usize = 16 << 20;

/// How long anything but a tool call may take.
const OTHERS_TIME_LIMIT: Duration = Duration::from_mins(1);

/// Runs one request at its source, within its time and its bound.
pub(crate) async fn serve(
    principal: &Principal,
    source: &Arc<dyn Source>,
    wanted: Wanted<'_>,
    context: CallContext,
    tool: Option<&Listed<Tool>>,
) -> Result<Outcome, Failure> {
    let limit = tool.map_or(OTHERS_TIME_LIMIT, |tool| tool.item.time_limit);
    let limit = context.deadline.unwrap_or(limit);
    let (cancel, client) = (context.cancel.clone(), context.client.clone());
    let mut work = source.serve(principal, wanted, context);
    let outcome = loop {
        let answered = client.answered();
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(Outcome::Cancelled),
            outcome = &mut work => break outcome?,
            // The time in which a person thinks about a question is not the tool's: it begins anew with each answer.
            () = tokio::time::sleep(limit) => if !client.is_being_asked() && client.answered() == answered {
                let name = tool.map_or(source.name(), |tool| &tool.exposed);
                let seconds = limit.as_millis().div_ceil(1_000);
                let message = format!("`{name}` did not end within {seconds} s.");
                return Err(Failure::new(Code::ToolTimedOut, message).hint("Ask for less, or try again later."));
            },
        }
    };
    let size = match &outcome {
        Outcome::Complete(complete) => complete.raw.get().len(),
        Outcome::InputRequired(raw) => raw.get().len(),
        Outcome::Refused(_) | Outcome::Cancelled => 0,
    };
    if size > RESULT_BYTES_MAX {
        let message = format!("The result has {size} bytes; at most {RESULT_BYTES_MAX} are passed on.");
        return Err(Failure::new(Code::ResultTooLarge, message).hint("Ask for less."));
    }
    Ok(outcome)
}

pub(crate) fn ending(result: &Result<Outcome, Failure>) -> (Ending, usize) {
    match result {
        Ok(Outcome::Complete(complete)) => {
            let ending = match complete.failed {
                Some(code) => Ending::Failed(code),
                None if complete.is_error => Ending::ToolError,
                None => Ending::Ok,
            };
            (ending, complete.raw.get().len())
        }
        Ok(Outcome::InputRequired(raw)) => (Ending::Ok, raw.get().len()),
        Ok(Outcome::Refused(_)) => (Ending::Failed(Code::UpstreamFailed), 0),
        Ok(Outcome::Cancelled) => (Ending::Cancelled, 0),
        Err(failure) => (Ending::Failed(failure.code), 0),
    }
}
