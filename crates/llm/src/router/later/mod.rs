//! Responses that nobody waits for: `"background": true`.
//!
//! Such a request is read and refused like any other, and then becomes a task of the type `responses`. Its response has
//! the task's name, so that whoever has the one finds the other; once it is there, it is kept like every response, and a
//! run that finds it kept does not ask again. What a model's tools do is not done twice either: a request that offers any
//! is begun once, and fails where its worker is lost.

mod run;
mod told;

pub use run::RespondLater;

use super::{Promised, Router};
use crate::{
    dialect::{Asked, Map, unfinished},
    turn::{self, Before},
};
use forebay_domain::{
    Action, Code, Failure, Principal,
    model::{Answer, Endpoint, ModelRequest},
    port::{DoLater, Errand, Via},
    task::{State, TaskId},
};
use forebay_store::{
    queue::{self, Body, Queue, Scope, Task},
    responses::{ResponseOwner, StoredResponse},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use std::sync::Arc;
use told::{has_response, promised, task_of, told};

/// The type of these tasks.
const TYPE: &str = "responses";
/// How often a request without tools is begun at most.
const ATTEMPTS_MAX: u32 = 3;

/// Where what nobody waits for is put.
pub(super) struct Later {
    tasks: Arc<dyn DoLater>,
    queue: Queue,
}

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

impl Later {
    /// The task of a response of this principal's.
    async fn find(&self, principal: &Principal, id: &str) -> Result<Option<Task>, Failure> {
        let Some(task) = task_of(id) else { return Ok(None) };
        let found = self.queue.get(&Scope::own(principal), &task, Body::Both).await?;
        Ok(found.filter(|task| task.task_type.as_str() == TYPE))
    }
}

impl Router {
    /// From now on there are tasks, and so responses that nobody waits for. The first queue counts.
    pub fn work_later(&self, tasks: Arc<dyn DoLater>, queue: Queue) {
        // Whoever comes second is not needed.
        let _ = self.later.set(Later { tasks, queue });
    }

    /// Queues a request, and answers with the response as it is now.
    pub(super) async fn put_off(
        &self,
        later: &Later,
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
        let errand = Errand {
            task_type: TYPE,
            principal,
            input: serde_json::to_vec(&input).expect("texts are JSON").into(),
            priority: request.hints.priority,
            attempts_max: attempts(&request.body),
            kept: None,
            is_wanted_here: false,
            trace: via.trace,
        };
        let task = later.tasks.submit(errand).await?;
        let asked = asked(&request.body, promised(&task))?;
        let body = Value::from(unfinished(&asked, "queued", None)).to_string();
        Ok(Answer::Whole(body.into()))
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
        let promised = Promised {
            name: "0".to_owned(),
            created_s: 0,
        };
        self.question_after(request, before, Some(&promised)).map(drop)
    }

    /// A response of this principal's that is not there yet, or never will be: what is known of it.
    pub async fn unfinished(&self, principal: &Principal, id: &str) -> Result<Option<StoredResponse>, Failure> {
        let Some(later) = self.later.get() else {
            return Ok(None);
        };
        let Some(task) = later.find(principal, id).await? else {
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

    /// Asks a response that is not there yet to end, and names its task; one that is there, or has ended otherwise, stays as
    /// it is.
    pub async fn cancel_response(&self, principal: &Principal, id: &str) -> Result<TaskId, Failure> {
        let found = match self.later.get() {
            Some(later) => later.find(principal, id).await?.map(|task| (later, task)),
            None => None,
        };
        let Some((later, task)) = found else {
            let message = "Only a response that was asked for with `\"background\": true` can be cancelled.";
            return Err(Failure::new(Code::InvalidRequest, message).hint("To cancel any other, close its connection."));
        };
        match later.queue.cancel(&Scope::own(principal), &task.id).await {
            Ok(_) | Err(queue::TaskError::Refused(_)) => Ok(task.id),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets the task of a response, with what was asked and what came of it; whether there was one. A run of it that
    /// begins after this makes nothing.
    pub async fn forget_response(&self, principal: &Principal, id: &str) -> Result<bool, Failure> {
        let (Some(later), Some(task)) = (self.later.get(), task_of(id)) else {
            return Ok(false);
        };
        Ok(later.queue.forget(&Scope::own(principal), &task).await?)
    }
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

/// What a response has to know of its request, before anybody has read all of it.
fn asked(body: &[u8], promised: Promised) -> Result<Asked, Failure> {
    let request: Map = serde_json::from_slice(body).map_err(|_| unreadable())?;
    let Promised { name, created_s } = promised;
    Ok(Asked::new(Endpoint::Responses, &request, name, created_s))
}

fn unreadable() -> Failure {
    Failure::new(Code::InternalError, "What was asked cannot be read.").details(json!({ "param": "input" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_offers_tools_is_begun_once() {
        let check = |body: &str, expected| assert_eq!(attempts(body.as_bytes()), expected, "{body}");
        check("{}", ATTEMPTS_MAX);
        check(r#"{"tools":null}"#, ATTEMPTS_MAX);
        check(r#"{"tools":[]}"#, ATTEMPTS_MAX);
        check(r#"{"tools":[{"type":"mcp"}]}"#, 1);
    }
}
