//! Runs the gateway's tools that a model called in one round.

use super::{Means, calls::Call, offer::Mine, plan::Fate, report, responses::Shown, run::Turn};
use crate::money::Cost;
use forebay_domain::{
    Code, ErrorKind, Failure,
    money::Usd,
    tool::{CallCost, ToolAnswer, ToolCall},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

/// Whether a tool was asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ran {
    No,
    /// It was asked for, and for certain not let run.
    Refused,
    Yes,
}

/// What became of one call.
struct Done {
    /// What the model is told.
    text: String,
    /// What the report says; nothing of calls that are the client's.
    entry: Option<Value>,
    /// What a response shows of it.
    shown: Shown,
    ran: Ran,
    cost: Usd,
    /// Whether something may be different now outside.
    may_have_changed: bool,
    /// Whether others wrote what the model is told.
    is_strange: bool,
}

impl Turn {
    /// Runs what is to run, and gives what the model is told of each call. `ends` says that the model will not hear it,
    /// so that the report has to hold it.
    pub(super) async fn outcomes(&mut self, calls: &[Call], fates: &[Fate], ends: bool) -> Vec<String> {
        let places = Semaphore::new(self.bounds.parallel_max);
        let work = calls
            .iter()
            .zip(fates)
            .map(|(call, fate)| self.outcome(call, fate, &places));
        let all = join_all(work).await;
        let mut texts = Vec::with_capacity(all.len());
        for (key, (call, done)) in calls.iter().zip(all).enumerate() {
            self.calls_left -= usize::from(done.ran != Ran::No);
            self.spent.add(Some(Cost {
                usd: done.cost,
                estimated: false,
            }));
            if done.may_have_changed {
                self.changed.insert(call.name.clone());
            }
            if done.is_strange {
                self.taint();
            }
            if done.ran == Ran::Refused {
                self.refused.insert(call.id.clone());
            }
            if let (Some(report), Some(mut entry)) = (&mut self.report, done.entry) {
                if ends && done.ran != Ran::No {
                    entry["result"] = done.text.as_str().into();
                }
                report.called(entry);
            }
            texts.push(done.text);
            self.note(key, call, done.shown);
        }
        texts
    }

    async fn outcome(&self, call: &Call, fate: &Fate, places: &Semaphore) -> Done {
        let mine = self.offered.get(&call.name);
        let server = mine.map(|mine| mine.info.server.as_str());
        let entry = |status: &str| report::call(&call.name, server, status, Duration::ZERO);
        let told = |text: String, entry: Option<Value>, shown: Shown| Done {
            text,
            entry,
            shown,
            ran: Ran::No,
            cost: Usd::ZERO,
            may_have_changed: false,
            is_strange: false,
        };
        match fate {
            Fate::Back => told(String::new(), None, Shown::Nothing),
            Fate::Approval => told(String::new(), Some(entry("approval_required")), Shown::Asked),
            Fate::PutOff => told(String::new(), Some(entry("put_off")), Shown::Nothing),
            Fate::Refused(failure) => {
                let mut entry = entry("refused");
                entry["error"] = report::error(failure);
                told(words(failure), Some(entry), Shown::failed(failure))
            }
            Fate::Run => match (mine, &self.means) {
                (Some(mine), Some(means)) => self.run(call, mine, means, places).await,
                // A call runs only where its tool was found.
                _ => told(String::new(), Some(entry("refused")), Shown::Nothing),
            },
        }
    }

    async fn run(&self, call: &Call, mine: &Mine, means: &Means, places: &Semaphore) -> Done {
        let _place = places.acquire().await;
        let began = self.asker.desk.books.clock.monotonic();
        let cost = Arc::new(CallCost::default());
        let answer = self.ask_tool(call, mine, means, &cost).await;
        let took = self.asker.desk.books.clock.monotonic().saturating_sub(began);
        let status = match &answer {
            Ok(answer) if !answer.is_error => "success",
            Err(failure) if failure.code.kind() == ErrorKind::Forbidden => "refused",
            Ok(_) | Err(_) => "error",
        };
        let was_refused = matches!(&answer, Err(failure) if is_refusal(failure.code.kind()));
        let may_have_changed = !mine.info.hints.read_only && status != "refused";
        let mut entry = report::call(&call.name, Some(&mine.info.server), status, took);
        let arguments = call.arguments().and_then(|raw| serde_json::from_str(raw.get()).ok());
        entry["arguments"] = arguments.unwrap_or_default();
        entry["cost_usd"] = json!(cost.usd());
        let (text, shown) = match answer {
            Ok(answer) if answer.is_error => {
                entry["error"] = serde_json::json!({ "code": null, "message": "The tool itself says that it failed." });
                let text = self.bounded(answer.text);
                let shown = Shown::tool_failed(&text);
                (format!("The tool failed. {}", self.presentable(text, mine)), shown)
            }
            Ok(answer) => {
                let text = self.bounded(answer.text);
                let shown = Shown::Ended(Ok(text.clone()));
                (self.presentable(text, mine), shown)
            }
            Err(mut failure) => {
                failure.message = self.bounded(failure.message);
                entry["error"] = report::error(&failure);
                (self.told(&failure, mine), Shown::failed(&failure))
            }
        };
        Done {
            text,
            entry: Some(entry),
            shown,
            ran: if was_refused { Ran::Refused } else { Ran::Yes },
            cost: cost.usd(),
            may_have_changed,
            is_strange: !mine.info.is_trusted,
        }
    }

    async fn ask_tool(
        &self,
        call: &Call,
        mine: &Mine,
        means: &Means,
        cost: &Arc<CallCost>,
    ) -> Result<ToolAnswer, Failure> {
        let principal = self.narrow.as_ref().unwrap_or(&self.asker.principal);
        let too_late = || {
            let message = format!(
                "Tool `{}` did not answer in the time that a turn may take.",
                mine.info.name
            );
            Failure::new(Code::ToolTimedOut, message).hint("Answer without it.")
        };
        let arguments = call.arguments().ok_or_else(|| {
            Failure::new(Code::InvalidArguments, "The arguments are not a JSON object.").hint("Call it again.")
        })?;
        let patience = self.until.saturating_duration_since(Instant::now());
        let asked = ToolCall {
            tool: &mine.info.name,
            arguments: &arguments,
            patience: Some(patience),
            cost: Some(cost),
        };
        let answer = means.tools.call(principal, asked, self.asker.via);
        timeout(patience, answer).await.unwrap_or_else(|_| Err(too_late()))
    }

    /// As much of a result as anybody gets.
    fn bounded(&self, mut text: String) -> String {
        let length = text.len();
        let most = self.bounds.result_bytes_max;
        if length > most {
            text.truncate(text.floor_char_boundary(most));
            let missing = length - text.len();
            text.extend(["\n[", &missing.to_string(), " bytes more are left out]"]);
        }
        text
    }

    /// A result as the model gets it: marked as data unless the gateway and its operator wrote it.
    fn presentable(&self, text: String, mine: &Mine) -> String {
        if mine.info.is_trusted {
            text
        } else {
            self.mark.answer(&text)
        }
    }

    /// A failed call as the model is told of it. Why it failed may be in the words of a server that is not trusted; what
    /// to do about it is in ours.
    fn told(&self, failure: &Failure, mine: &Mine) -> String {
        if mine.info.is_trusted {
            return words(failure);
        }
        let hint = failure.hint.as_deref().unwrap_or("No result is to be had of it.");
        format!("The call failed. {hint}\n{}", self.mark.answer(&failure.message))
    }
}

/// Whether somebody stood before the tool and did not let it run: policy, a limit, a budget.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Forbidden | ErrorKind::RateLimited | ErrorKind::OverBudget
    )
}

/// A failure as the model is told of it.
fn words(failure: &Failure) -> String {
    match &failure.hint {
        Some(hint) => format!("The call failed: {} {hint}", failure.message),
        None => format!("The call failed: {}", failure.message),
    }
}
