//! Tools that run as tasks, as the protocol has it: who may ask for one, and what is said of it afterwards.
//!
//! In 2025-11-25 a client asks for a task by `task` in the params of its call. With the extension the gateway decides: a
//! call becomes a task where the tool's definition says that it takes long (`execution.taskSupport`), or where the client
//! says in `_meta` that it would rather not wait. No other version knows tasks, and in those nothing here exists.

use super::{
    Front,
    method::{cancelled, unknown_method},
    turn::Turn,
};
use crate::{
    call::AskFault,
    era::Version,
    index::Listed,
    params::{Params, invalid, text},
    raw::{Members, with_member},
    rpc::{Ending, Fault, array, object},
    source::{Naming, Tool},
    tasks::{
        Begin, Later, Seen,
        input::Circumstances,
        requests,
        wire::{self, Status},
    },
};
use forebay_domain::{Action, Code, Failure, task::TaskId};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use std::{borrow::Cow, collections::BTreeSet, time::Duration};

/// The extension's name.
pub(crate) const EXTENSION: &str = "io.modelcontextprotocol/tasks";
/// What a client of the extension puts into the `_meta` of a call that it will not wait for.
const WISH: &str = "io.forebay/task";
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

/// What the definition of a tool says about tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    Unsaid,
    Optional,
    Required,
}

impl Support {
    fn of(tool: &Listed<Tool>) -> Self {
        #[derive(Deserialize)]
        struct Definition<'a> {
            #[serde(borrow)]
            execution: Option<Execution<'a>>,
        }
        #[derive(Deserialize)]
        struct Execution<'a> {
            #[serde(borrow, rename = "taskSupport")]
            task_support: Option<Cow<'a, str>>,
        }
        let text = tool.raw.get();
        if !text.contains("\"taskSupport\"") {
            return Self::Unsaid;
        }
        let definition = serde_json::from_str::<Definition<'_>>(text).ok();
        let said = definition.and_then(|definition| definition.execution?.task_support);
        match said.as_deref() {
            // An upstream's tool runs as a task of this gateway, whatever the upstream could do itself.
            Some("required") if tool.source.naming() == Naming::Bare => Self::Required,
            Some("required" | "optional") => Self::Optional,
            _ => Self::Unsaid,
        }
    }
}

/// How long a client wants its result to be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept(Option<Duration>);

impl Front {
    /// Whether a call is to become a task, and for how long its result is to be kept.
    pub(crate) fn as_task(&self, params: &Params<'_>, name: &str, turn: &Turn) -> Result<Option<Kept>, Failure> {
        let Some(_) = self.later() else { return Ok(None) };
        let knows = Knows::of(turn);
        if knows == Knows::Nothing {
            return Ok(None);
        }
        let found = self.catalogue().find(&turn.principal, &turn.scope, name);
        let support = found.as_deref().map_or(Support::Unsaid, Support::of);
        match (knows, support) {
            (Knows::Core, _) => match params.task {
                Some(raw) => kept(raw, "task", "ttl").map(Some),
                None if support == Support::Required => Err(unknown_method("tools/call")
                    .hint("This tool runs as a task only: send `task` in the params of the call.")),
                None => Ok(None),
            },
            (Knows::Unnamed, Support::Required) => Err(unnamed()),
            (Knows::Extension, _) if turn.again.is_some() => Ok(None),
            (Knows::Extension, _) => match params.meta().task {
                Some(raw) if raw.get() == "false" || raw.get() == "null" => Ok(None),
                Some(raw) if raw.get() == "true" => Ok(Some(Kept::default())),
                Some(raw) => kept(raw, WISH, "ttlMs").map(Some),
                None if support == Support::Unsaid => Ok(None),
                None => Ok(Some(Kept::default())),
            },
            (Knows::Unnamed | Knows::Nothing, _) => Ok(None),
        }
    }

    /// Begins a task for a call: once this has answered, the task is there, whatever becomes of the gateway.
    pub(crate) async fn begin_task(&self, name: &str, params: &RawValue, kept: Kept, turn: &Turn) -> Ending {
        let entry = self.note(&Action::TASKS_WRITE, turn);
        let result = self.try_begin_task(name, params, kept, turn).await;
        entry.settle(&result);
        Ok(result?)
    }

    async fn try_begin_task(&self, name: &str, params: &RawValue, kept: Kept, turn: &Turn) -> Result<String, Failure> {
        let later = self.need_later("tools/call")?;
        let around = Circumstances {
            scope: turn.scope.clone(),
            version: Some(turn.dialect.version()),
            caps: turn.client.caps.clone(),
        };
        let begin = Begin {
            name,
            params,
            around: &around,
            kept: kept.0,
            trace: turn.trace,
        };
        let seen = later.begin(self.catalogue(), &turn.principal, begin).await?;
        Ok(match Knows::of(turn) {
            Knows::Core => object(&[("task", &wire::core(&seen))]),
            Knows::Extension | Knows::Unnamed | Knows::Nothing => self.envelope("\"task\"", &[&wire::extension(&seen)]),
        })
    }

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

    /// `tasks/update` of the extension: answers to what a task asks. What it does not ask, or no longer, is ignored.
    pub(crate) async fn update_task(&self, params: &Params<'_>, turn: &Turn) -> Ending {
        let later = self.known(turn, "tasks/update")?;
        let seen = later.get(&turn.principal, &task_id(params)?).await?;
        let responses = params
            .input_responses
            .ok_or_else(|| invalid("`inputResponses` is required.".to_owned()))?;
        let responses =
            Members::of(responses).ok_or_else(|| invalid("`inputResponses` must be an object.".to_owned()))?;
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

/// `{"ttl": 60000}`, or its like.
fn kept(raw: &RawValue, name: &str, member: &str) -> Result<Kept, Failure> {
    let wrong = || {
        invalid(format!(
            "`{name}` must be an object whose `{member}`, if any, is a number of milliseconds."
        ))
    };
    let members = Members::of(raw).ok_or_else(wrong)?;
    match members.get(member) {
        None | Some("null") => Ok(Kept::default()),
        Some(text) => {
            let value: Value = serde_json::from_str(text).map_err(|_| wrong())?;
            let ms = value.as_f64().filter(|ms| *ms >= 0.0).ok_or_else(wrong)?;
            // A float beyond it becomes the largest number, which is bounded where it is used.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is not negative, and the cast saturates"
            )]
            Ok(Kept(Some(Duration::from_millis(ms as u64))))
        }
    }
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

/// The definition of a tool as clients of 2025-11-25 see it: every one of them can run as a task.
pub(crate) fn with_support(definition: &str) -> String {
    const OPTIONAL: &str = r#""execution":{"taskSupport":"optional"}"#;
    let text = definition.trim_end();
    if !text.contains("\"execution\"") && text.ends_with('}') {
        let comma = if text[1..].trim_start().starts_with('}') {
            ""
        } else {
            ","
        };
        return [&text[..text.len() - 1], comma, OPTIONAL, "}"].concat();
    }
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else {
        return definition.to_owned();
    };
    let execution = Members::of(raw).and_then(|members| members.get("execution").map(str::to_owned));
    if execution.is_some_and(|execution| execution.contains("\"required\"")) {
        return definition.to_owned();
    }
    with_member(raw, "execution", r#"{"taskSupport":"optional"}"#)
        .get()
        .to_owned()
}
