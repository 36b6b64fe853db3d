//! What each tool does: its arguments read, one function called, the answer told.

use super::{
    definitions::Own,
    work::{self, Came, Gone, Sent, Shown},
};
use crate::{
    app::App,
    http::{
        tasks::{self, view},
        wait as http_wait,
    },
};
use forebay_api::{ContextCreate, ContextNodeAdd, ContextPrompt, TaskPriority, TaskQuery};
use forebay_context::contexts::Asked;
use forebay_domain::{Failure, Principal, task::TaskId};
use forebay_mcp::{
    call::{CallContext, Step},
    tools::typed,
};
use forebay_store::queue::NewTask;
use forebay_work::Delta;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};

pub(super) async fn run(
    app: &Arc<App>,
    principal: &Principal,
    (own, arguments): (Own, Value),
    context: &CallContext,
) -> Result<Value, Failure> {
    let call = Call {
        app,
        principal,
        context,
    };
    match own {
        Own::List => {
            let page: Page = typed(arguments)?;
            Ok(told(
                &app.contexts.list(principal, page.limit, page.cursor.as_deref()).await?,
            ))
        }
        Own::Get => {
            let named: Named = typed(arguments)?;
            Ok(told(&app.contexts.get(principal, &named.context_id).await?))
        }
        Own::Tasks => {
            let query: TaskQuery = typed(arguments)?;
            Ok(told(&tasks::page(app, principal, &query).await?))
        }
        Own::Task => call.task(typed(arguments)?).await,
        Own::Cancel => {
            let named: TaskNamed = typed(arguments)?;
            let task = app.work.cancel(&forebay_work::scope(principal), &named.id()?).await?;
            Ok(told(&view::task(&task, principal)))
        }
        Own::Create => call.create(arguments).await,
        Own::AddNode => call.add_node(arguments).await,
        Own::DeleteNode => call.delete_node(arguments).await,
        Own::Delete => call.delete(arguments).await,
        Own::Prompt => call.prompt(arguments).await,
    }
}

/// Which page of a list.
#[derive(Deserialize)]
struct Page {
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    context_id: String,
    #[serde(default)]
    node_id: Option<String>,
}

#[derive(Deserialize)]
struct TaskNamed {
    task_id: String,
    #[serde(default)]
    wait: Option<String>,
}

impl TaskNamed {
    fn id(&self) -> Result<TaskId, Failure> {
        TaskId::try_from(self.task_id.as_str()).map_err(|_| tasks::unknown())
    }
}

/// How a task is to be made, of which a REST request says the most in its headers.
#[derive(Deserialize)]
struct Manner {
    #[serde(default)]
    priority: Option<TaskPriority>,
    #[serde(default)]
    idempotency_key: Option<String>,
}

/// One call of a tool.
struct Call<'a> {
    app: &'a Arc<App>,
    principal: &'a Principal,
    context: &'a CallContext,
}

impl Call<'_> {
    async fn create(&self, mut arguments: Value) -> Result<Value, Failure> {
        let asked = self.asked(&mut arguments)?;
        let wish: ContextCreate = typed(arguments)?;
        let task = self.app.contexts.create(self.principal, &wish, &asked).await?;
        self.have_done(task, Shown::nodes(wish.return_context)).await
    }

    async fn add_node(&self, mut arguments: Value) -> Result<Value, Failure> {
        let (asked, id) = (self.asked(&mut arguments)?, context_id(&mut arguments)?);
        let wish: ContextNodeAdd = typed(arguments)?;
        let task = self.app.contexts.add_node(self.principal, &id, &wish, &asked).await?;
        self.have_done(task, Shown::context(wish.return_context)).await
    }

    async fn delete_node(&self, mut arguments: Value) -> Result<Value, Failure> {
        let asked = self.asked(&mut arguments)?;
        let Named { context_id, node_id } = typed(arguments)?;
        let node = node_id.unwrap_or_default();
        let contexts = &self.app.contexts;
        let task = contexts.delete_node(self.principal, &context_id, &node, &asked).await?;
        self.have_done(task, Shown::Change).await
    }

    async fn delete(&self, mut arguments: Value) -> Result<Value, Failure> {
        let asked = self.asked(&mut arguments)?;
        let named: Named = typed(arguments)?;
        let contexts = &self.app.contexts;
        let task = contexts.delete(self.principal, &named.context_id, &asked).await?;
        self.have_done(task, Shown::Change).await
    }

    async fn prompt(&self, mut arguments: Value) -> Result<Value, Failure> {
        let (mut asked, id) = (self.asked(&mut arguments)?, context_id(&mut arguments)?);
        let mut wish: ContextPrompt = typed(arguments)?;
        wish.stream = self.is_told_on_the_way();
        if wish.stream {
            asked.wanted_by = work::claimed_here(self.app);
        }
        let task = self.app.contexts.prompt(self.principal, &id, &wish, &asked).await?;
        self.have_done(task, Shown::context(wish.return_context)).await
    }

    /// Takes what is about the task out of the arguments.
    fn asked(&self, arguments: &mut Value) -> Result<Asked, Failure> {
        let mut own = Map::new();
        for member in ["priority", "idempotency_key"] {
            own.extend(taken(arguments, member).map(|value| (member.to_owned(), value)));
        }
        let manner: Manner = typed(Value::Object(own))?;
        Ok(Asked {
            trace: self.context.via.trace,
            priority: manner.priority.map(|priority| priority.0),
            idempotency_key: manner.idempotency_key,
            run_at: None,
            wanted_by: None,
        })
    }

    /// Has a task done, and tells pieces of it on the way, where somebody wants them.
    async fn have_done(&self, task: NewTask, shown: Shown) -> Result<Value, Failure> {
        let sent = work::submit(self.app, task, shown).await?;
        // A client that takes its call back says so; a connection that is gone says nothing.
        let gone = Gone::by_word(self.app, self.principal, &sent, &self.context.cancel);
        let came = self.come(&sent).await;
        gone.stayed();
        match came? {
            Came::Done(output) => Ok(Value::Object(output)),
            Came::Later(task) => Ok(json!({"task_id": sent.id.as_str(), "task": task})),
        }
    }

    async fn come(&self, sent: &Sent) -> Result<Came, Failure> {
        let patience = self.patience();
        let wait = work::wait(self.app, self.principal, sent, patience);
        if !self.is_told_on_the_way() {
            return wait.await;
        }
        let mut deltas = self.app.work.watch().deltas(&sent.id);
        let mut wait = std::pin::pin!(wait);
        let mut progress = 0.0;
        loop {
            tokio::select! {
                biased;
                delta = deltas.next() => match delta {
                    Some(Delta::Piece { bytes, .. }) => {
                        progress += 1.0;
                        let message = serde_json::from_slice::<Piece>(&bytes).ok().map(|piece| piece.content);
                        self.context.client.report(Step { progress, total: None, message });
                    }
                    Some(Delta::Missed) | None => {}
                },
                came = &mut wait => return came,
            }
        }
    }

    /// Whether pieces of an answer are told to whoever called. A task that calls hears of the task, and of nothing more.
    fn is_told_on_the_way(&self) -> bool {
        self.context.client.wants_progress && !self.context.via.in_task
    }

    /// How long the call waits: within its own deadline there is time to say that it goes on. Where a task calls, it does
    /// not wait at all: what it would wait for may wait for its place.
    fn patience(&self) -> Duration {
        const TO_SAY_SO: Duration = Duration::from_secs(1);
        if self.context.via.in_task {
            return Duration::ZERO;
        }
        let longest = self.app.contexts.timeout();
        self.context
            .deadline
            .map_or(longest, |deadline| longest.min(deadline.saturating_sub(TO_SAY_SO)))
    }

    async fn task(&self, named: TaskNamed) -> Result<Value, Failure> {
        let asked = named.wait.as_deref().map(http_wait::span).transpose()?;
        let patience = asked.filter(|_| !self.context.via.in_task).unwrap_or_default();
        let scope = forebay_work::scope(self.principal);
        let found = self.app.work.watch().wait(&scope, &named.id()?, patience).await?;
        Ok(told(&view::task(&found.ok_or_else(tasks::unknown)?, self.principal)))
    }
}

/// A piece of an answer, as a prompt's task tells it.
#[derive(Deserialize)]
struct Piece {
    content: String,
}

fn context_id(arguments: &mut Value) -> Result<String, Failure> {
    typed(taken(arguments, "context_id").unwrap_or_default())
}

fn taken(arguments: &mut Value, member: &str) -> Option<Value> {
    arguments.as_object_mut()?.remove(member)
}

fn told<T: serde::Serialize>(answer: &T) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}
