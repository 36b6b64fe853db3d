//! What somebody asks for, checked, and made into the task that does it.

use super::{Contexts, Inner, input, run};
use bytes::Bytes;
use forebay_api::{ContextCreate, ContextNodeAdd, ContextPrompt};
use forebay_domain::{
    Action, Code, Failure, Principal,
    id::{TaskType, TraceId, WorkerId},
    model::Priority,
    task::{BODY_BYTES_MAX, Needs, Retry, TaskOwner, context_lane},
};
use forebay_store::queue::{NewTask, Scope};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// How long a task is kept after its end, unless somebody says otherwise.
const RESULT_TTL: Duration = Duration::from_hours(24);

/// How somebody asks for something, beside what they ask for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub trace: TraceId,
    /// What the body says, where there is none.
    pub priority: Option<Priority>,
    pub idempotency_key: Option<String>,
    /// Not before.
    pub run_at: Option<Timestamp>,
    /// Whoever watches the pieces of an answer wants it to run where they are told.
    pub wanted_by: Option<(WorkerId, Timestamp)>,
}

impl Contexts {
    /// The task that makes a context.
    pub async fn create(&self, principal: &Principal, new: &ContextCreate, asked: &Asked) -> Result<NewTask, Failure> {
        self.0.admit(principal, &Action::CONTEXTS_WRITE)?;
        let checked = self.0.may_create(principal, new).map(drop);
        self.0.unless_asked_before(principal, asked, checked).await?;
        let priority = input::priority(new.priority, asked.priority);
        let task = Task::new(input::CREATE, input::write(new)?, priority, input::RETRY);
        task.of(principal, asked, None)
    }

    /// The task that asks a model within a context, and adds what is asked and what it says.
    pub async fn prompt(
        &self,
        principal: &Principal,
        id: &str,
        prompt: &ContextPrompt,
        asked: &Asked,
    ) -> Result<NewTask, Failure> {
        self.0.admit(principal, &Action::CONTEXTS_WRITE)?;
        let checked = self.0.may_prompt(principal, id, prompt).await;
        self.0.unless_asked_before(principal, asked, checked).await?;
        let priority = input::priority(prompt.priority, asked.priority);
        let body = input::write_about(id, prompt)?;
        let task = Task::new(input::PROMPT, body, priority, input::prompt_retry(prompt));
        task.of(principal, asked, Some(id))
    }

    /// The task that adds a node.
    pub async fn add_node(
        &self,
        principal: &Principal,
        id: &str,
        node: &ContextNodeAdd,
        asked: &Asked,
    ) -> Result<NewTask, Failure> {
        self.0.admit(principal, &Action::CONTEXTS_WRITE)?;
        let checked = match input::check_node(node, &self.0.settings.load()) {
            Ok(_) => self.0.find(&principal.into(), id).await.map(drop),
            Err(failure) => Err(failure),
        };
        self.0.unless_asked_before(principal, asked, checked).await?;
        let priority = input::priority(node.priority, asked.priority);
        let task = Task::new(input::ADD_NODE, input::write_about(id, node)?, priority, input::RETRY);
        task.of(principal, asked, Some(id))
    }

    /// The task that takes a node away.
    pub async fn delete_node(
        &self,
        principal: &Principal,
        id: &str,
        node: &str,
        asked: &Asked,
    ) -> Result<NewTask, Failure> {
        let body = input::NodeRef {
            node_id: node.to_owned(),
        };
        let body = input::write_about(id, &body)?;
        self.removal(principal, id, (input::DELETE_NODE, body), asked).await
    }

    /// The task that takes a context away.
    pub async fn delete(&self, principal: &Principal, id: &str, asked: &Asked) -> Result<NewTask, Failure> {
        let body = input::write_about(id, &input::Whole {})?;
        self.removal(principal, id, (input::DELETE, body), asked).await
    }

    async fn removal(
        &self,
        principal: &Principal,
        id: &str,
        (kind, body): (&'static str, Value),
        asked: &Asked,
    ) -> Result<NewTask, Failure> {
        self.0.admit(principal, &Action::CONTEXTS_WRITE)?;
        let found = self.0.find(&principal.into(), id).await.map(drop);
        self.0.unless_asked_before(principal, asked, found).await?;
        let task = Task::new(kind, body, input::priority(None, asked.priority), input::RETRY);
        task.of(principal, asked, Some(id))
    }
}

impl Inner {
    async fn may_prompt(&self, principal: &Principal, id: &str, prompt: &ContextPrompt) -> Result<(), Failure> {
        input::check_prompt(prompt, &self.settings.load())?;
        let found = self.find(&principal.into(), id).await?;
        input::check_model(&*self.models, principal, &found.model)
    }

    /// What is refused now may have been done before, under the name that it comes with: the context is gone since, or its
    /// model, or a bound is lower. Then it is no news, and the queue knows what came of it.
    async fn unless_asked_before(
        &self,
        principal: &Principal,
        asked: &Asked,
        checked: Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (Err(_), Some(key)) = (&checked, &asked.idempotency_key) else {
            return checked;
        };
        match self.queue.named(&Scope::own(principal), key).await? {
            Some(_) => Ok(()),
            None => checked,
        }
    }
}

/// A task as far as its type makes it.
struct Task {
    kind: &'static str,
    body: Value,
    priority: Priority,
    retry: Retry,
}

impl Task {
    fn new(kind: &'static str, body: Value, priority: Priority, retry: Retry) -> Self {
        Self {
            kind,
            body,
            priority,
            retry,
        }
    }

    fn of(self, principal: &Principal, asked: &Asked, context: Option<&str>) -> Result<NewTask, Failure> {
        let input = Bytes::from(self.body.to_string());
        if input.len() > BODY_BYTES_MAX {
            let message = format!("The request has {} bytes; it may have {BODY_BYTES_MAX}.", input.len());
            return Err(Failure::new(Code::BodyTooLarge, message)
                .hint("Send less at a time: nodes in requests of their own, and a long one in parts."));
        }
        let key = asked.idempotency_key.clone();
        Ok(NewTask {
            task_type: TaskType::try_from(self.kind).expect("a name of ours"),
            owner: TaskOwner::of(principal),
            priority: self.priority,
            run_at: asked.run_at,
            input,
            stands_for: key.as_ref().map(|_| input::stands_for(self.kind, self.body)),
            idempotency_key: key,
            lane: context.map(|id| context_lane(&principal.tenant, id)),
            context_id: context.map(str::to_owned),
            wanted_by: asked.wanted_by.clone(),
            retry: self.retry,
            timeout: run::timeout(self.kind),
            result_ttl: RESULT_TTL,
            trace: asked.trace,
            needs: Needs::default(),
        })
    }
}
