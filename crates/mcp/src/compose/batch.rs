//! `call_batch`: independent calls in parallel. What fails does not take along what succeeds.

use super::{
    inner::Inner,
    pace::Pace,
    parsed,
    report::{Ended, Entry, Room, Verdict, whole},
};
use crate::{
    call::{Outcome, raw},
    catalogue::RESULT_BYTES_MAX,
    rpc::array,
};
use forebay_domain::{Code, Failure};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::{pin::pin, time::Duration};

pub(super) const CALLS_MAX: usize = 50;

/// How many calls run at once where the caller does not say.
pub(super) const CONCURRENCY: usize = 8;
pub(super) const CONCURRENCY_MAX: usize = 16;

/// All results together. They stand in the result twice, the second time as a JSON string, which is twice as long at
/// most: the whole stays within the bound on results.
const RESULTS_BYTES_MAX: usize = RESULT_BYTES_MAX / 4;

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    calls: Vec<Wanted<'a>>,
    #[serde(default)]
    stop_on_error: bool,
}

#[derive(Deserialize)]
struct Wanted<'a> {
    tool: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

/// Why calls were left without an end of their own.
#[derive(Debug, Clone, Copy)]
enum Left {
    AfterError,
    TimeOver,
}

/// Runs the calls of these arguments, so many at once.
pub(super) async fn run(
    inner: &Inner<'_>,
    (arguments, at_once): (&RawValue, Option<u64>),
    limit: Duration,
) -> Result<Outcome, Failure> {
    let batch: Batch<'_> = parsed(arguments)?;
    let at_once = at_once.and_then(|wanted| usize::try_from(wanted).ok());
    let at_once = at_once.unwrap_or(CONCURRENCY).clamp(1, CONCURRENCY_MAX);
    let mut results: Vec<Option<Ended>> = batch.calls.iter().map(|_| None).collect();
    let begun = all(inner, (&batch, at_once), limit, &mut results).await;
    let left = if batch.stop_on_error && results.iter().flatten().any(|ended| !ended.is_ok()) {
        Left::AfterError
    } else {
        Left::TimeOver
    };
    let results: Vec<Ended> = results
        .into_iter()
        .enumerate()
        .map(|(index, ended)| ended.unwrap_or_else(|| Ended::Failed(unfinished(left, index < begun, limit))))
        .collect();
    Ok(report(&batch, &results))
}

/// Runs the calls, and says how many of them were begun.
async fn all(
    inner: &Inner<'_>,
    (batch, at_once): (&Batch<'_>, usize),
    limit: Duration,
    results: &mut [Option<Ended>],
) -> usize {
    let pace = Pace::new(&inner.client, batch.calls.len());
    let nothing = raw(&json!({}));
    let one = async |index: usize, call: &Wanted<'_>| {
        pace.begins();
        let ended = inner.call(&pace, &call.tool, call.arguments.unwrap_or(&nothing)).await;
        (index, ended)
    };
    let mut room = Room::of(RESULTS_BYTES_MAX);
    let mut time_over = pin!(inner.time_over(limit));
    let mut running = FuturesUnordered::new();
    let mut stopped = false;
    let mut begun = 0;
    loop {
        while !stopped && running.len() < at_once && begun < batch.calls.len() {
            running.push(one(begun, &batch.calls[begun]));
            begun += 1;
        }
        tokio::select! {
            biased;
            ended = running.next() => {
                let Some((index, ended)) = ended else { return begun };
                let kept = room.keep(ended);
                pace.ends(&batch.calls[index].tool, kept.is_ok());
                stopped |= batch.stop_on_error && !kept.is_ok();
                results[index] = Some(kept);
            }
            () = &mut time_over => return begun,
        }
    }
}

fn unfinished(left: Left, begun: bool, limit: Duration) -> Failure {
    let over = format!("The time of the whole batch, {} s, was over", limit.as_secs());
    match (left, begun) {
        (Left::AfterError, false) => Failure::new(
            Code::Cancelled,
            "Not run: an earlier call failed, and `stop_on_error` is set.",
        ),
        (Left::TimeOver, false) => Failure::new(Code::ToolTimedOut, format!("{over} before this call began.")),
        (Left::AfterError | Left::TimeOver, true) => Failure::new(
            Code::ToolTimedOut,
            format!("{over} while this call ran; it may have had its effect."),
        ),
    }
}

fn report(batch: &Batch<'_>, results: &[Ended]) -> Outcome {
    let entries: Vec<String> = results
        .iter()
        .zip(&batch.calls)
        .enumerate()
        .map(|(index, (ended, call))| {
            let entry = Entry {
                index,
                id: None,
                tool: &call.tool,
                ended,
            };
            entry.to_json()
        })
        .collect();
    let succeeded = results.iter().filter(|ended| ended.is_ok()).count();
    let members = [
        ("results", array(entries.iter().map(String::as_str))),
        ("succeeded", succeeded.to_string()),
        ("failed", (results.len() - succeeded).to_string()),
    ];
    let verdict = if succeeded == 0 { Verdict::Failed } else { Verdict::Fine };
    whole(
        &members.each_ref().map(|(name, value)| (*name, value.as_str())),
        verdict,
    )
}
