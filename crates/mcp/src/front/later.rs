//! Tools that run as tasks, as the protocol has it: who may ask for one, and what is said of it afterwards.
//!
//! In 2025-11-25 a client asks for a task by `task` in the params of its call. With the extension the gateway decides: a
//! call becomes a task where the tool's definition says that it takes long (`execution.taskSupport`), or where the client
//! says in `_meta` that it would rather not wait. No other version knows tasks, and in those nothing here exists.

mod begin;

pub(crate) use begin::with_support;

use super::{
    Front,
    method::{cancelled, unknown_method},
    turn::Turn,
};
use crate::{
    call::AskFault,
    era::Version,
    params::{Params, invalid, text},
    raw::{Members, with_member},
    rpc::{Ending, Fault, array, object},
    tasks::{
        Later, Seen, requests,
        wire::{self, Status},
    },
};
use forebay_domain::{Action, Code, Failure, task::TaskId};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::{json, value::RawValue};
use std::{collections::BTreeSet, time::Duration};

/// The extension's name.
pub(crate) const EXTENSION: &str = "io.modelcontextprotocol/tasks";
/// What names the task that a message of 2025-11-25 is about.
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// Whether a client's version, and the client, know tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Knows {
    /// 2025-11-25 has them itself.
    Core,
    /// A later version, by the extension.
    Extension,
    /// A later version, and the client has not named the extension.
    Unnamed,
    Nothing,
}

impl Knows {
    pub(crate) fn of(turn: &Turn) -> Self {
        let version = turn.dialect.version();
        match version {
            Version::V2025_11_25 => Self::Core,
            _ if !version.is_modern() => Self::Nothing,
            _ if turn.client.caps.has_tasks() => Self::Extension,
            _ => Self::Unnamed,
        }
    }
}

impl Front {
    /// `tasks/get`.
    pub(crate) async fn get_task(&self, params: &Params<'_>, turn: &Turn) -> Ending {
        let later = self.known(turn, "tasks/get")?;
        let seen = later.get(&turn.principal, &task_id(params)?).await?;
        Ok(match Knows::of(turn) {
            Knows::Core => wire::core(&seen),
            Knows::Extension | Knows::Unnamed | Knows::Nothing => {
                let more = detail(&seen, turn);
                self.envelope("\"complete\"", &[&wire::extension(&seen), &more])
            }
        })
    }

    /// `tasks/update` of the extension: answers to what a task asks. What it does not ask, or no longer, is ignored; but a
    /// task that runs elsewhere hears nothing of it, and its client is told so.
    pub(crate) async fn update_task(&self, params: &Params<'_>, turn: &Turn) -> Ending {
        let later = self.known(turn, "tasks/update")?;
        let seen = later.get(&turn.principal, &task_id(params)?).await?;
        let responses = params
            .input_responses
            .ok_or_else(|| invalid("`inputResponses` is required.".to_owned()))?;
        let responses =
            Members::of(responses).ok_or_else(|| invalid("`inputResponses` must be an object.".to_owned()))?;
        let is_over = Status::of_extension(&seen).is_final();
        if !responses.0.is_empty() && !is_over && !later.runs_here(&seen.id) {
            return Err(not_here().into());
        }
        for (key, answer) in &responses.0 {
            if let Ok(answer) = RawValue::from_string(answer.clone().into_owned()) {
                later.answer(&seen.id, key, Ok(answer));
            }
        }
        Ok(self.envelope("\"complete\"", &[]))
    }

    /// `tasks/cancel`.
    pub(crate) async fn cancel_task(&self, params: &Params<'_>, turn: &Turn) -> Ending {
        let later = self.known(turn, "tasks/cancel")?;
        let entry = self.note(&Action::TASKS_WRITE, turn);
        let result = self.try_cancel_task(later, params, turn).await;
        entry.settle(&result);
        Ok(result?)
    }

    async fn try_cancel_task(&self, later: &Later, params: &Params<'_>, turn: &Turn) -> Result<String, Failure> {
        let id = task_id(params)?;
        let before = later.get(&turn.principal, &id).await?;
        if Knows::of(turn) == Knows::Core {
            if Status::of_core(&before).is_final() {
                let status = Status::of_core(&before).as_str();
                return Err(invalid(format!("The task is {status} already.")));
            }
            let seen = later.cancel(&turn.principal, &id).await?;
            return Ok(wire::core(&seen));
        }
        later.cancel(&turn.principal, &id).await?;
        Ok(self.envelope("\"complete\"", &[]))
    }

    /// `tasks/list` of 2025-11-25.
    pub(crate) async fn list_tasks(&self, params: &Params<'_>, turn: &Turn) -> Ending {
        let later = self.known(turn, "tasks/list")?;
        let cursor = params.cursor.map(|raw| text("cursor", Some(raw))).transpose()?;
        let page = later.list(&turn.principal, cursor.as_deref()).await?;
        let tasks: Vec<String> = page.tasks.iter().map(wire::core).collect();
        let tasks = array(tasks.iter().map(String::as_str));
        let next = page.next.map(|next| json!(next).to_string());
        let mut members = vec![("tasks", tasks.as_str())];
        members.extend(next.as_deref().map(|next| ("nextCursor", next)));
        Ok(object(&members))
    }

    /// `tasks/result` of 2025-11-25: waits until the task has ended, and puts to its client what the task asks meanwhile.
    pub(crate) async fn task_result(&self, params: &Params<'_>, turn: &Turn) -> Ending {
        let later = self.known(turn, "tasks/result")?;
        let id = task_id(params)?;
        let mut news = later.news();
        let mut asked = BTreeSet::new();
        let mut questions = FuturesUnordered::new();
        let seen = loop {
            let seen = later.get(&turn.principal, &id).await?;
            if Status::of_core(&seen).is_final() {
                break seen;
            }
            for question in &seen.asked {
                if asked.insert(question.key.clone()) {
                    let params = related(question.params.as_deref(), &id);
                    let (key, method) = (question.key.clone(), question.method.clone());
                    questions.push(async move { (key, turn.client.ask(&method, Some(params)).await) });
                }
            }
            tokio::select! {
                biased;
                () = turn.cancel.cancelled() => return Err(cancelled().into()),
                () = self.stopping() => return Err(stopping().into()),
                Some((key, answer)) = questions.next(), if !questions.is_empty() => match answer {
                    Ok(answer) => later.answer(&id, &key, Ok(answer)),
                    Err(AskFault::Refused(error)) => later.answer(&id, &key, Err(error)),
                    // Somebody else may come for the task who can be asked.
                    Err(AskFault::Nobody | AskFault::Unable(_)) => {}
                },
                () = news.next(&id) => {}
            }
        };
        match (Status::of_core(&seen), seen.output.as_deref()) {
            (Status::Cancelled, _) => Err(cancelled().into()),
            (_, Some(output)) => Ok(self.dress(&related(Some(output), &id), turn.dialect)),
            (_, None) => Err(Fault::Failure(seen.failure())),
        }
    }

    /// The tasks of this gateway, where this client may speak of them.
    fn known(&self, turn: &Turn, method: &str) -> Result<&Later, Failure> {
        let later = self.need_later(method)?;
        match Knows::of(turn) {
            Knows::Core | Knows::Extension => Ok(later),
            Knows::Unnamed => Err(unnamed()),
            Knows::Nothing => Err(unknown_method(method)),
        }
    }

    fn need_later(&self, method: &str) -> Result<&Later, Failure> {
        self.later().ok_or_else(|| unknown_method(method))
    }

    /// A modern result with the members of these objects.
    fn envelope(&self, result_type: &str, objects: &[&str]) -> String {
        let mut text = object(&[("resultType", result_type), ("_meta", self.signature())]);
        for inner in objects.iter().filter(|inner| **inner != "{}") {
            text.truncate(text.len() - 1);
            text.push(',');
            text.push_str(&inner[1..]);
        }
        text
    }
}

/// What the extension tells beside a task: its result, its error, or what it asks.
fn detail(seen: &Seen, turn: &Turn) -> String {
    match Status::of_extension(seen) {
        Status::Completed => {
            let result = seen.output.as_deref().map_or("{}", RawValue::get);
            object(&[("result", result)])
        }
        Status::Failed => object(&[("error", &crate::rpc::error(&seen.failure(), turn.dialect).to_string())]),
        Status::InputRequired => object(&[("inputRequests", &requests(&seen.asked))]),
        Status::Working | Status::Cancelled => "{}".to_owned(),
    }
}

fn task_id(params: &Params<'_>) -> Result<TaskId, Failure> {
    let id = text("taskId", params.task_id)?;
    // What can be no id names no task.
    TaskId::try_from(&*id).map_err(|_| crate::tasks::unknown())
}

/// An object that says which task it belongs to.
fn related(raw: Option<&RawValue>, id: &TaskId) -> Box<RawValue> {
    let none = RawValue::from_string("{}".to_owned()).expect("an empty object is JSON");
    let raw = raw.unwrap_or(&none);
    let task = json!({"taskId": id.as_str()}).to_string();
    let meta = Members::of(raw)
        .and_then(|members| members.get("_meta").map(str::to_owned))
        .and_then(|meta| RawValue::from_string(meta).ok())
        .filter(|meta| meta.get().starts_with('{'));
    let meta = with_member(meta.as_deref().unwrap_or(&none), RELATED, &task);
    with_member(raw, "_meta", meta.get())
}

/// Answers have come to a process that does not run the task.
fn not_here() -> Failure {
    Failure::new(
        Code::Conflict,
        "The task does not run in this process, and has asked nothing here.",
    )
    .hint("Its questions are in `tasks/get`; send the answers to where they stand.")
}

/// The client has not named the extension without which it cannot be served.
fn unnamed() -> Failure {
    Failure::new(
        Code::MissingClientCapability,
        format!("This needs a client with the extension `{EXTENSION}`."),
    )
    .hint("Name it under `extensions` of the client's capabilities, in every request.")
    .details(json!({"requiredCapabilities": {"extensions": {EXTENSION: {}}}}))
}

fn stopping() -> Failure {
    Failure::new(Code::Overloaded, "The gateway is about to stop; the task goes on.")
        .hint("Ask again in a moment.")
        .retry_after(Duration::from_secs(1))
}
