//! Responses that nobody waits for: `"background": true`.
//!
//! Such a request is read and refused like any other, and then becomes a task of the type `responses`. Its response has
//! the task's name, so that whoever has the one finds the other; once it is there, it is kept like every response, and a
//! run that finds it kept does not ask again. What a model's tools do is not done twice either: a request that offers any
//! is begun once, and fails where its worker is lost.

use super::Router;
use crate::{
    dialect::{Asked, Map, unfinished},
    turn::{self, Before, input_items},
};
use bytes::Bytes;
use forebay_domain::{
    Action, Code, ErrorKind, Failure, Principal,
    event::Surface,
    model::{Answer, AnswerForm, Endpoint, Hints, ModelRequest, Priority},
    port::{BoxFuture, RunTask, TaskRun, Via},
    task::{Needs, Retry, State, TaskFault, TaskId, TaskOwner, TaskType, TypeLimits},
};
use forebay_store::{
    queue::{self, Body, NewTask, Queue, Scope, Task},
    responses::{ResponseOwner, StoredResponse},
};
use futures_util::{StreamExt, future::ready, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use std::{sync::Arc, time::Duration};

/// The type of these tasks.
const TYPE: &str = "responses";
/// Of responses, beside their own names.
const PREFIX: &str = "resp_";
/// How long one may take.
const TIME_MAX: Duration = Duration::from_hours(1);
/// Responses of one process that are made at one time while nobody waits.
const CONCURRENCY: u32 = 16;
/// How often a request without tools is begun at most.
const ATTEMPTS_MAX: u32 = 3;
/// How long a task is kept after its end. The response itself is kept for as long as every other.
const KEPT: Duration = Duration::from_hours(24);

/// What a task is given: the request, and what came beside its body.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
    #[serde(borrow)]
    request: &'a RawValue,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context: Option<String>,
    /// Among those that wait for the same model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<String>,
}

/// What a task came to: the response itself only where it could not be kept.
#[derive(Serialize, Deserialize)]
struct Output<'a> {
    id: String,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    response: Option<&'a RawValue>,
}

/// Runs tasks of the type `responses`.
pub struct RespondLater {
    router: Arc<Router>,
}

impl Router {
    /// From now on there are tasks, and so responses that nobody waits for. The first queue counts.
    pub fn work_later(self: &Arc<Self>, queue: Queue) -> Arc<RespondLater> {
        // Whoever comes second is not needed.
        let _ = self.queue.set(queue);
        Arc::new(RespondLater { router: self.clone() })
    }

    /// Queues a request, and answers with the response as it is now.
    pub(super) async fn put_off(
        &self,
        queue: &Queue,
        principal: &Principal,
        request: ModelRequest,
        via: Via,
    ) -> Result<Answer, Failure> {
        self.check_later(principal, &request).await?;
        let whole: &RawValue = serde_json::from_slice(&request.body).map_err(|_| unreadable())?;
        let context = request.hints.context.as_deref();
        let input = Input {
            request: whole,
            base_url: request.hints.base_url.clone(),
            context: context.map(|context| String::from_utf8_lossy(context).into_owned()),
            priority: Some(request.hints.priority.as_str().to_owned()),
        };
        let task = NewTask {
            task_type: TaskType::try_from(TYPE).expect("it is an identifier"),
            owner: TaskOwner::of(principal),
            priority: request.hints.priority,
            run_at: None,
            input: serde_json::to_vec(&input).expect("texts are JSON").into(),
            idempotency_key: None,
            lane: None,
            context_id: None,
            wanted_by: None,
            retry: Retry {
                attempts_max: attempts(&request.body),
                ..Retry::default()
            },
            timeout: TIME_MAX,
            result_ttl: KEPT,
            trace: via.trace,
            needs: Needs::default(),
        };
        let submitted = queue.submit(task).await?;
        let created_s = self.desk.now_s();
        let asked = asked(&request.body, &submitted.id, created_s)?;
        let body = Value::from(unfinished(&asked, "queued", None)).to_string();
        Ok(Answer {
            form: AnswerForm::Whole,
            body: Box::pin(stream::once(ready(Ok(Bytes::from(body))))),
        })
    }

    /// Reads a request as it will be read when it runs, so that what is wrong with it is told to whoever still listens.
    async fn check_later(&self, principal: &Principal, request: &ModelRequest) -> Result<(), Failure> {
        principal.require(&Action::model(super::bounded(&request.model)))?;
        if !self.desk.settings.load().models.contains_key(&request.model) {
            return Err(self.unknown(principal, &request.model));
        }
        let mut before = Before::default();
        if let Some(id) = turn::previous(&request.body)? {
            let books = &self.desk.books;
            before = books.shelf.before(principal, &id, books.clock.now()).await?;
        }
        self.question_after(request, before, Some("0")).map(drop)
    }

    /// A response of this principal's that is not there yet, or never will be: what is known of it.
    pub async fn unfinished(&self, principal: &Principal, id: &str) -> Result<Option<StoredResponse>, Failure> {
        let Some(queue) = self.queue.get() else {
            return Ok(None);
        };
        let Some(task) = find(queue, principal, id).await? else {
            return Ok(None);
        };
        if task.state == State::Completed && !has_response(&task) {
            // It has been kept since somebody looked, or has been deleted.
            let books = &self.desk.books;
            let owner = ResponseOwner::from(principal);
            return Ok(books.shelf.get(id, &owner, books.clock.now()).await?);
        }
        told(&task, id, principal).map(Some)
    }

    /// Ends a response that is not there yet; one that is there, or has ended otherwise, stays as it is.
    pub async fn cancel_response(&self, principal: &Principal, id: &str) -> Result<(), Failure> {
        let found = match self.queue.get() {
            Some(queue) => find(queue, principal, id).await?.map(|task| (queue, task)),
            None => None,
        };
        let Some((queue, task)) = found else {
            let message = "Only a response that was asked for with `\"background\": true` can be cancelled.";
            return Err(Failure::new(Code::InvalidRequest, message).hint("To cancel any other, close its connection."));
        };
        match queue.cancel(&Scope::own(principal), &task.id).await {
            Ok(_) | Err(queue::TaskError::Refused(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl RunTask for RespondLater {
    fn task_type(&self) -> &str {
        TYPE
    }

    fn limits(&self) -> TypeLimits {
        TypeLimits {
            concurrency: CONCURRENCY,
            timeout: TIME_MAX,
            retry: Retry::NEVER,
        }
    }

    fn accept(&self, _principal: &Principal, _input: &[u8]) -> Result<(), Failure> {
        let message = "Tasks of the type `responses` are not submitted this way.";
        Err(Failure::new(Code::InvalidRequest, message).hint("Send `POST /v1/responses` with `\"background\": true`."))
    }

    fn run<'a>(&'a self, run: TaskRun<'a>) -> BoxFuture<'a, Result<Bytes, TaskFault>> {
        Box::pin(async move {
            tokio::select! {
                biased;
                ended = self.respond(run) => ended.map_err(fault),
                () = run.cancelled.cancelled() => {
                    Err(TaskFault::lasting(Failure::new(Code::Cancelled, "The response was cancelled.")))
                }
            }
        })
    }
}

impl RespondLater {
    async fn respond(&self, run: TaskRun<'_>) -> Result<Bytes, Failure> {
        let name = name_of(run.id);
        let id = format!("{PREFIX}{name}");
        let books = &self.router.desk.books;
        let owner = ResponseOwner::from(run.principal);
        // A run before this one may have come so far, and no further.
        if books.shelf.get(&id, &owner, books.clock.now()).await?.is_some() {
            return Ok(output(id, None));
        }
        let input: Input<'_> = serde_json::from_slice(run.input).map_err(|_| unreadable())?;
        let request = ModelRequest {
            endpoint: Endpoint::Responses,
            model: asked(input.request.get().as_bytes(), run.id, 0)?.model,
            body: Bytes::from(input.request.get().to_owned()),
            hints: Hints {
                context: input.context.map(Bytes::from),
                base_url: input.base_url,
                priority: input.priority.as_deref().and_then(Priority::parse).unwrap_or_default(),
            },
        };
        let via = Via {
            surface: Surface::OpenAi,
            trace: run.trace,
        };
        let answer = self.router.ask_now(run.principal, request, via, Some(name)).await?;
        let body = whole(answer).await?;
        let response: &RawValue = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        let is_kept = is_kept(response);
        Ok(output(id, (!is_kept).then_some(response)))
    }
}

/// What found no room may be tried again, where the request may be begun again at all.
fn fault(failure: Failure) -> TaskFault {
    match failure.kind() {
        ErrorKind::Unavailable | ErrorKind::RateLimited => TaskFault::passing(failure),
        _ => TaskFault::lasting(failure),
    }
}

fn output(id: String, response: Option<&RawValue>) -> Bytes {
    serde_json::to_vec(&Output { id, response })
        .expect("texts are JSON")
        .into()
}

/// A response that could not be kept says so itself.
fn is_kept(response: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Looked {
        store: bool,
    }
    serde_json::from_str::<Looked>(response.get()).is_ok_and(|looked| looked.store)
}

async fn whole(mut answer: Answer) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(piece) = answer.body.next().await {
        body.extend_from_slice(&piece?);
    }
    Ok(body)
}

/// What changes nothing may be asked again; what tools do is done once.
fn attempts(body: &[u8]) -> u32 {
    #[derive(Deserialize)]
    struct Looked {
        #[serde(default)]
        tools: Value,
    }
    let looked = serde_json::from_slice::<Looked>(body);
    let has_none = looked.is_ok_and(|looked| looked.tools.as_array().is_none_or(Vec::is_empty));
    if has_none { ATTEMPTS_MAX } else { 1 }
}

/// The name of a task's response: the task's own, with what was drawn in front, as in the names of all responses.
fn name_of(task: &TaskId) -> String {
    let (time, drawn) = task.as_str().split_at_checked(16).unwrap_or((task.as_str(), ""));
    format!("{drawn}_{time}")
}

/// The task of a response, if it is one of a task.
fn task_of(response: &str) -> Option<TaskId> {
    let (drawn, time) = response.strip_prefix(PREFIX)?.split_once('_')?;
    let is_one = [drawn, time]
        .iter()
        .all(|part| part.len() == 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let task = is_one.then(|| TaskId::try_from(format!("{time}{drawn}")));
    task?.ok()
}

async fn find(queue: &Queue, principal: &Principal, id: &str) -> Result<Option<Task>, Failure> {
    let Some(task) = task_of(id) else { return Ok(None) };
    let found = queue.get(&Scope::own(principal), &task, Body::Both).await?;
    Ok(found.filter(|task| task.task_type.as_str() == TYPE))
}

fn has_response(task: &Task) -> bool {
    let output = task.output.as_deref().unwrap_or_default();
    serde_json::from_slice::<Output<'_>>(output).is_ok_and(|output| output.response.is_some())
}

/// What a response has to know of its request, before anybody has read all of it.
fn asked(body: &[u8], task: &TaskId, created_s: u64) -> Result<Asked, Failure> {
    let request: Map = serde_json::from_slice(body).map_err(|_| unreadable())?;
    Ok(Asked::new(Endpoint::Responses, &request, name_of(task), created_s))
}

/// A response as far as it has come.
fn told(task: &Task, id: &str, principal: &Principal) -> Result<StoredResponse, Failure> {
    let input: Input<'_> =
        serde_json::from_slice(task.input.as_deref().unwrap_or_default()).map_err(|_| unreadable())?;
    let created_s = u64::try_from(task.created_at.as_second()).unwrap_or(0);
    let asked = asked(input.request.get().as_bytes(), &task.id, created_s)?;
    let request: Map = serde_json::from_str(input.request.get()).map_err(|_| unreadable())?;
    let output: Option<Output<'_>> = task
        .output
        .as_deref()
        .and_then(|output| serde_json::from_slice(output).ok());
    let status = match task.state {
        State::Pending | State::Scheduled => "queued",
        State::Running if task.cancel_wanted => "cancelled",
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

fn unreadable() -> Failure {
    Failure::new(Code::InternalError, "What was asked cannot be read.").details(json!({ "param": "input" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_and_its_task_find_each_other() {
        let task = TaskId::try_from("019a8c1d2e3f0001deadbeef00c0ffee").unwrap();
        let response = format!("{PREFIX}{}", name_of(&task));
        assert_eq!(response, "resp_deadbeef00c0ffee_019a8c1d2e3f0001");
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

    #[test]
    fn what_offers_tools_is_begun_once() {
        let check = |body: &str, expected| assert_eq!(attempts(body.as_bytes()), expected, "{body}");
        check("{}", ATTEMPTS_MAX);
        check(r#"{"tools":null}"#, ATTEMPTS_MAX);
        check(r#"{"tools":[]}"#, ATTEMPTS_MAX);
        check(r#"{"tools":[{"type":"mcp"}]}"#, 1);
    }
}
