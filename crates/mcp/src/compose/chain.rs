//! `call_chain`: one call after another, where later arguments take values from earlier results.
//!
//! Whether each reference names an earlier step is known before anything runs, and a chain with one that does not is
//! refused whole. What a pointer finds is only known on the way: one that finds nothing ends the chain there.

use super::{
    inner::Inner,
    pace::Pace,
    parsed,
    reference::{Reference, filled_in},
    report::{Ended, Entry, Room, Verdict, whole},
};
use crate::{
    call::{Outcome, raw},
    catalogue::RESULT_BYTES_MAX,
    rpc::array,
};
use forebay_domain::{Code, Failure};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::{borrow::Cow, pin::pin, time::Duration};

pub(super) const STEPS_MAX: usize = 20;

/// All results together. The last one stands in the result of the chain twice, and all of that once more as a JSON
/// string, which is twice as long at most: the whole stays within the bound on results.
const RESULTS_BYTES_MAX: usize = RESULT_BYTES_MAX / 8;

#[derive(Deserialize)]
struct Chain<'a> {
    #[serde(borrow)]
    steps: Vec<Step<'a>>,
}

#[derive(Deserialize)]
struct Step<'a> {
    tool: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    id: Option<String>,
}

pub(super) async fn run(inner: &Inner<'_>, arguments: &RawValue, limit: Duration) -> Result<Outcome, Failure> {
    let chain: Chain<'_> = parsed(arguments)?;
    check(&chain.steps)?;
    let ends = all(inner, &chain.steps, limit).await;
    Ok(report(&chain.steps, &ends))
}

/// Runs the steps up to the first that fails.
async fn all(inner: &Inner<'_>, steps: &[Step<'_>], limit: Duration) -> Vec<Ended> {
    let pace = Pace::new(&inner.client, steps.len());
    let mut room = Room::of(RESULTS_BYTES_MAX);
    let mut time_over = pin!(inner.time_over(limit));
    let mut ends: Vec<Ended> = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        pace.begins();
        let ended = match filled(index, step, steps, &ends) {
            Err(failure) => Ended::Failed(failure),
            Ok(arguments) => tokio::select! {
                biased;
                ended = inner.call(&pace, &step.tool, &arguments) => room.keep(ended),
                () = &mut time_over => Ended::Failed(too_long(limit)),
            },
        };
        let ok = ended.is_ok();
        pace.ends(&step.tool, ok);
        ends.push(ended);
        if !ok {
            break;
        }
    }
    ends
}

/// Refuses what no result could mend.
fn check(steps: &[Step<'_>]) -> Result<(), Failure> {
    for (index, step) in steps.iter().enumerate() {
        let taken = |earlier: &Step<'_>| earlier.id.is_some() && earlier.id == step.id;
        if steps[..index].iter().any(taken) {
            let message = format!("Step {index} has the `id` of an earlier step.");
            return Err(Failure::new(Code::InvalidArguments, message));
        }
        let Some(arguments) = step.arguments else { continue };
        filled_in(arguments, |reference| {
            let earlier = reference.parts().and_then(|(name, _)| position(&name, &steps[..index]));
            // The pointer is the caller's, and stays out of a message that may be logged.
            let message = || format!("A reference in step {index} does not begin with `/` and an earlier step.");
            match earlier {
                Some(_) => Ok(Cow::Borrowed("null")),
                None => Err(Failure::new(Code::InvalidArguments, message())
                    .hint("Steps are named by their number from 0, or by their `id`.")),
            }
        })?;
    }
    Ok(())
}

/// A step by its number or its id. An id does not begin with a digit, so there is no doubt which of them is meant.
fn position(name: &str, steps: &[Step<'_>]) -> Option<usize> {
    let by_id = steps.iter().position(|step| step.id.as_deref() == Some(name));
    by_id.or_else(|| (0..steps.len()).find(|index| index.to_string() == name))
}

/// The arguments of a step with its references filled in.
fn filled(index: usize, step: &Step<'_>, steps: &[Step<'_>], ends: &[Ended]) -> Result<Box<RawValue>, Failure> {
    let Some(arguments) = step.arguments else {
        return Ok(raw(&json!({})));
    };
    filled_in(arguments, |reference| {
        look_up(reference, &steps[..index], ends).map_err(|there| {
            let message = format!("Step {index}: `{}` finds nothing: {there}.", reference.pointer);
            Failure::new(Code::InvalidArguments, message)
        })
    })
}

fn look_up<'r>(reference: &Reference, earlier: &[Step<'_>], ends: &'r [Ended]) -> Result<Cow<'r, str>, String> {
    let unknown = || "there is no such earlier step".to_owned();
    let (name, rest) = reference.parts().ok_or_else(unknown)?;
    let ended = position(&name, earlier).and_then(|index| ends.get(index));
    match ended {
        Some(Ended::Ok(result)) => reference.resolve(result, &rest),
        // The chain would have ended there.
        Some(Ended::ToolError(_) | Ended::Failed(_)) | None => Err(unknown()),
    }
}

fn too_long(limit: Duration) -> Failure {
    let message = format!(
        "The time of the whole chain, {} s, was over while this step ran; it may have had its effect.",
        limit.as_secs()
    );
    Failure::new(Code::ToolTimedOut, message)
}

fn report(steps: &[Step<'_>], ends: &[Ended]) -> Outcome {
    let entries: Vec<String> = ends
        .iter()
        .zip(steps)
        .enumerate()
        .map(|(index, (ended, step))| {
            let entry = Entry {
                index,
                id: step.id.as_deref(),
                tool: &step.tool,
                ended,
            };
            entry.to_json()
        })
        .collect();
    let entries = array(entries.iter().map(String::as_str));
    match ends.last() {
        Some(Ended::Ok(last)) if ends.len() == steps.len() => {
            whole(&[("steps", &entries), ("result", last.get())], Verdict::Fine)
        }
        Some(Ended::Ok(_) | Ended::ToolError(_) | Ended::Failed(_)) | None => {
            whole(&[("steps", &entries)], Verdict::Failed)
        }
    }
}
