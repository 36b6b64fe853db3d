//! Having a context changed: a task is queued, and waited for as long as somebody has patience. Every surface does it here.
//!
//! Once it is queued it is done, whatever becomes of those who wait. So a database that is away meanwhile fails nobody's
//! request: they are told which task it is, and so they are when this process is to end.

use crate::{
    app::App,
    http::tasks::{self, view},
};
use forebay_api::{ContextNode, OnDisconnect, TaskInfo};
use forebay_domain::{
    Code, ErrorKind, Failure, Principal,
    task::{State, TaskError, TaskId},
};
use forebay_store::queue::{NewTask, Scope, Task};
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The wait before something is read again that the store did not give.
const READ_AGAIN: Duration = Duration::from_millis(250);
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
    /// As it was taken in.
    taken: Box<TaskInfo>,
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
    Later(Box<TaskInfo>),
}

/// Queues a task.
pub(crate) async fn submit(app: &App, task: NewTask, shown: Shown) -> Result<Sent, Failure> {
    let task = app.work.ruled(task);
    let submitted = app.work.submit(task.clone()).await?;
    Ok(Sent {
        taken: Box::new(view::taken(&task, &submitted)),
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

/// What came of a task, once it is over or after so long. A failure is the task's own, and names it.
pub(crate) async fn wait(app: &App, principal: &Principal, sent: &Sent, patience: Duration) -> Result<Came, Failure> {
    let until = Instant::now() + patience;
    let scope = forebay_work::scope(principal);
    let came = match app.work.watch().wait(&scope, &sent.id, patience).await {
        Ok(found) => came(app, principal, sent, found, until).await,
        Err(failure) if is_away(&failure) => Ok(Came::Later(sent.taken.clone())),
        Err(failure) => Err(failure),
    };
    came.map_err(|failure| about(failure, &sent.id))
}

/// What came of a task in the end. A failure names it, whether or not it is its own.
pub(crate) async fn wait_to_the_end(
    app: &App,
    principal: &Principal,
    sent: &Sent,
) -> Result<Map<String, Value>, Failure> {
    let ended = async {
        let patience = app.contexts.timeout();
        let scope = forebay_work::scope(principal);
        let found = app.work.watch().follow(&scope, &sent.id, patience).await?;
        match came(app, principal, sent, found, Instant::now() + patience).await? {
            Came::Done(output) => Ok(output),
            Came::Later(task) => Err(goes_on(&task)),
        }
    };
    ended.await.map_err(|failure| about(failure, &sent.id))
}

/// What is to be told of a task as it was found.
async fn came(
    app: &App,
    principal: &Principal,
    sent: &Sent,
    found: Option<Task>,
    until: Instant,
) -> Result<Came, Failure> {
    let task = found.ok_or_else(tasks::unknown)?;
    match task.state {
        State::Completed => match told(app, principal, sent, &task, until).await {
            // It is done, and what came of it stands in the task.
            Err(failure) if is_away(&failure) => Ok(Came::Later(Box::new(view::task(&task, principal)))),
            told => told.map(Came::Done),
        },
        State::Failed | State::Dead => Err(failure(task.error.as_ref())),
        State::Cancelled => Err(cancelled()),
        State::Pending | State::Scheduled | State::Running => Ok(Came::Later(Box::new(view::task(&task, principal)))),
    }
}

/// The store cannot say, just now.
fn is_away(failure: &Failure) -> bool {
    failure.kind() == ErrorKind::Unavailable
}

/// Nobody can be told here what becomes of it.
fn goes_on(task: &TaskInfo) -> Failure {
    let message = format!("The gateway stops telling of the task, which is `{}`.", task.status);
    let hint = format!(
        "It goes on: `GET {}/{}` tells what becomes of it.",
        tasks::PATH,
        task.id
    );
    Failure::new(Code::Overloaded, message).hint(hint)
}

/// A failure that names its task.
fn about(mut failure: Failure, task: &TaskId) -> Failure {
    let details = failure.details.get_or_insert_with(|| json!({}));
    if let Some(members) = details.as_object_mut() {
        members.insert("task_id".to_owned(), task.as_str().into());
    }
    failure
}

/// The output of a task, with what was too large for it read anew.
async fn told(
    app: &App,
    principal: &Principal,
    sent: &Sent,
    task: &Task,
    until: Instant,
) -> Result<Map<String, Value>, Failure> {
    let mut output: Map<String, Value> = task
        .output
        .as_deref()
        .and_then(|output| serde_json::from_slice(output).ok())
        .ok_or_else(|| Failure::new(Code::InternalError, "What came of the task cannot be read."))?;
    loop {
        match fill(app, principal, sent.shown, &mut output).await {
            Ok(()) => break,
            Err(failure) if is_away(&failure) && Instant::now() < until && !app.tasks.stop().is_draining() => {
                sleep(READ_AGAIN).await;
            }
            Err(failure) => return Err(failure),
        }
    }
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
            output.insert(member.to_owned(), value(node));
        }
    }
    if lacks_nodes {
        output.insert("nodes".to_owned(), value(&context.nodes));
    }
    if lacks_context {
        output.insert("context".to_owned(), value(&context));
    }
    Ok(())
}

fn whole<'a>(nodes: &'a [ContextNode], id: &Value) -> Option<&'a ContextNode> {
    nodes.iter().find(|node| id == node.id.as_str())
}

fn value<T: serde::Serialize>(shown: &T) -> Value {
    serde_json::to_value(shown).unwrap_or_default()
}

/// Why a task failed, in the words that it left.
fn failure(error: Option<&TaskError>) -> Failure {
    let Some(error) = error else {
        return Failure::new(Code::InternalError, "The task failed, and nobody said why.");
    };
    let code = Code::ALL.iter().find(|code| code.as_str() == error.code);
    let failure = Failure::new(code.copied().unwrap_or(Code::InternalError), error.message.clone());
    Failure {
        hint: error.hint.clone(),
        details: view::details(error),
        ..failure
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
        let full = Failure::new(Code::ContextLimit, "no").details(json!({"limit": 3}));
        let told = about(failure(Some(&TaskError::from(&full))), &TaskId::try_from("t1").unwrap());
        assert_eq!(told.details, Some(json!({"limit": 3, "task_id": "t1"})));
    }
}
