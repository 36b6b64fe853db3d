//! Having a context changed: a task is queued, and waited for as long as somebody has patience. Every surface does it here.

use crate::{app::App, http::tasks};
use forebay_api::{ContextNode, OnDisconnect};
use forebay_domain::{
    Code, Failure, Principal,
    task::{State, TaskError, TaskId},
};
use forebay_store::queue::{NewTask, Scope, Task};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A stream is waited for, round by round, until its task is over.
const ROUND: Duration = Duration::from_mins(5);
/// How long the worker of this process alone may claim a task whose pieces somebody wants to hear.
const CLAIM_HERE: Duration = Duration::from_secs(10);

/// A task that was queued.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) id: TaskId,
    /// The same had been asked for before, under the same name.
    pub(crate) is_repeat: bool,
    /// What its caller wants to see beside what was done.
    pub(crate) shown: Shown,
}

/// What of a context an answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// What was done, and nothing else.
    Change,
    /// The whole context, as a member of the answer.
    Context,
    /// The answer is the context that was made, and has its nodes.
    Nodes,
    /// The same without them.
    NoNodes,
}

impl Shown {
    pub(crate) fn context(asked: bool) -> Self {
        if asked { Self::Context } else { Self::Change }
    }

    /// What a context is made for is to be seen, unless somebody says otherwise.
    pub(crate) fn nodes(asked: Option<bool>) -> Self {
        if asked.unwrap_or(true) {
            Self::Nodes
        } else {
            Self::NoNodes
        }
    }

    /// Whether what is shown is a context that was made.
    pub(crate) fn is_of_made(self) -> bool {
        match self {
            Self::Nodes | Self::NoNodes => true,
            Self::Change | Self::Context => false,
        }
    }
}

/// What came of a task within somebody's patience.
#[derive(Debug)]
pub(crate) enum Came {
    /// Its output, with its id.
    Done(Map<String, Value>),
    /// It goes on.
    Later(Box<Task>),
}

/// Queues a task.
pub(crate) async fn submit(app: &App, task: NewTask, shown: Shown) -> Result<Sent, Failure> {
    let submitted = app.work.submit(task).await?;
    Ok(Sent {
        id: submitted.id,
        is_repeat: submitted.is_repeat,
        shown,
    })
}

/// Who is to claim a task whose pieces are wanted here: this process, for a moment, where it works at all.
pub(crate) fn claimed_here(app: &App) -> Option<(forebay_domain::task::WorkerId, jiff::Timestamp)> {
    let until = app.clock.now().checked_add(CLAIM_HERE).ok()?;
    app.work.works().then(|| (app.work.worker().clone(), until))
}

/// What came of a task, once it is over or after so long.
pub(crate) async fn wait(app: &App, principal: &Principal, sent: &Sent, patience: Duration) -> Result<Came, Failure> {
    let found = app
        .work
        .watch()
        .wait(&forebay_work::scope(principal), &sent.id, patience)
        .await?;
    let task = found.ok_or_else(tasks::unknown)?;
    match task.state {
        State::Completed => told(app, principal, sent, &task).await.map(Came::Done),
        State::Failed | State::Dead => Err(failure(task.error.as_ref())),
        State::Cancelled => Err(cancelled()),
        State::Pending | State::Scheduled | State::Running => Ok(Came::Later(Box::new(task))),
    }
}

/// What came of a task in the end.
pub(crate) async fn wait_to_the_end(
    app: &App,
    principal: &Principal,
    sent: &Sent,
) -> Result<Map<String, Value>, Failure> {
    loop {
        if let Came::Done(output) = wait(app, principal, sent, ROUND).await? {
            return Ok(output);
        }
    }
}

/// The output of a task, with what was too large for it read anew.
async fn told(app: &App, principal: &Principal, sent: &Sent, task: &Task) -> Result<Map<String, Value>, Failure> {
    let mut output: Map<String, Value> = task
        .output
        .as_deref()
        .and_then(|output| serde_json::from_slice(output).ok())
        .ok_or_else(|| Failure::new(Code::InternalError, "What came of the task cannot be read."))?;
    fill(app, principal, sent.shown, &mut output).await?;
    output.insert("task_id".to_owned(), sent.id.as_str().into());
    Ok(output)
}

async fn fill(app: &App, principal: &Principal, shown: Shown, output: &mut Map<String, Value>) -> Result<(), Failure> {
    let has_not = |member: &str| !output.contains_key(member);
    let lacks_context = shown == Shown::Context && has_not("context");
    let lacks_nodes = shown == Shown::Nodes && has_not("nodes");
    let cut: Vec<&str> = ["node", "prompt_node"]
        .into_iter()
        .filter(|member| {
            output
                .get(*member)
                .is_some_and(|node| node["content"].is_null() && node["content_type"] == "text")
        })
        .collect();
    if !lacks_context && !lacks_nodes && cut.is_empty() {
        return Ok(());
    }
    let id = output
        .get("context_id")
        .or_else(|| output.get("id"))
        .and_then(Value::as_str);
    let id = id.unwrap_or_default().to_owned();
    let context = match app.contexts.get(principal, &id).await {
        Ok(context) => context,
        // It was removed since: what was done is told all the same.
        Err(failure) if failure.code == Code::UnknownContext => return Ok(()),
        Err(failure) => return Err(failure),
    };
    for member in cut {
        let found = whole(context.nodes.as_deref().unwrap_or_default(), &output[member]["id"]);
        if let Some(node) = found {
            output.insert(member.to_owned(), json(node));
        }
    }
    if lacks_nodes {
        output.insert("nodes".to_owned(), json(&context.nodes));
    }
    if lacks_context {
        output.insert("context".to_owned(), json(&context));
    }
    Ok(())
}

fn whole<'a>(nodes: &'a [ContextNode], id: &Value) -> Option<&'a ContextNode> {
    nodes.iter().find(|node| id == node.id.as_str())
}

fn json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Why a task failed, in the words that it left.
fn failure(error: Option<&TaskError>) -> Failure {
    let Some(error) = error else {
        return Failure::new(Code::InternalError, "The task failed, and nobody said why.");
    };
    let code = Code::ALL.iter().find(|code| code.as_str() == error.code);
    let failure = Failure::new(code.copied().unwrap_or(Code::InternalError), error.message.clone());
    match &error.hint {
        Some(hint) => failure.hint(hint.clone()),
        None => failure,
    }
}

fn cancelled() -> Failure {
    Failure::new(Code::Conflict, "The task was cancelled.").hint("Ask again, if you want it after all.")
}

/// Takes a task back where whoever waits for it goes away without its answer, and wants that.
pub(crate) struct Gone(Option<Waiting>);

struct Waiting {
    app: Arc<App>,
    scope: Scope,
    task: TaskId,
    /// Where they would have said so.
    said: Option<CancellationToken>,
}

impl Gone {
    /// Their connection says it: it breaks.
    pub(crate) fn by_connection(app: &Arc<App>, principal: &Principal, sent: &Sent, then: OnDisconnect) -> Self {
        match then {
            OnDisconnect::Continue => Self(None),
            OnDisconnect::Cancel => Self::new(app, principal, sent, None),
        }
    }

    /// They say it in so many words.
    pub(crate) fn by_word(app: &Arc<App>, principal: &Principal, sent: &Sent, word: &CancellationToken) -> Self {
        Self::new(app, principal, sent, Some(word.clone()))
    }

    fn new(app: &Arc<App>, principal: &Principal, sent: &Sent, said: Option<CancellationToken>) -> Self {
        Self(Some(Waiting {
            app: app.clone(),
            scope: forebay_work::scope(principal),
            task: sent.id.clone(),
            said,
        }))
    }

    /// They have waited to the end.
    pub(crate) fn stayed(mut self) {
        self.0 = None;
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        let Some(waiting) = self.0.take() else { return };
        // A gateway that ends has not been left by anybody.
        let is_left = waiting.said.as_ref().is_none_or(CancellationToken::is_cancelled);
        if !is_left || waiting.app.tasks.stop().is_draining() {
            return;
        }
        let tasks = waiting.app.tasks.clone();
        tasks.spawn("contexts.gone", |_| async move {
            let Waiting { app, scope, task, .. } = waiting;
            if let Err(error) = app.work.cancel(&scope, &task).await {
                tracing::debug!(task.id = %task, %error, "a task whose client has gone is not taken back");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_fails_with_the_code_that_it_left() {
        let of = |code: &str| failure(Some(&TaskError::new(code, "no", Some("do")))).code;
        assert_eq!(of("upstream_failed"), Code::UpstreamFailed);
        assert_eq!(of("unknown_context"), Code::UnknownContext);
        assert_eq!(of("of_another_version"), Code::InternalError);
        assert_eq!(failure(None).code, Code::InternalError);
    }
}
