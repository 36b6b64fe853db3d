//! Do later, for tools: any tool of the catalogue as a durable task, as [MCP clients](crate::front) know it.
//!
//! A task is a row of the queue before its client hears of it, so it outlives whoever runs it. It belongs to the subject
//! who called; to everybody else it does not exist. A tool that may not be called twice is begun once: where its worker
//! is lost, the task fails and says so. Here is what becomes of a call, and how its client follows it; [`run`] is what a
//! worker does.

mod desk;
pub(crate) mod input;
mod run;
pub(crate) mod support;
pub(crate) mod wire;

pub use desk::Desk;
pub(crate) use desk::requests;
pub use run::{CallTask, TYPE};

use crate::{
    call::{ClientCaps, RpcError},
    catalogue::Catalogue,
    compose,
    index::{Listed, Scope},
    source::{Tool, effects},
};
use bytes::Bytes;
use desk::Asked;
use forebay_domain::{
    Action, Code, Failure, Principal,
    id::TraceId,
    model::Priority,
    port::{DoLater, Errand},
    task::{State, TaskError, TaskId, TaskType},
};
use forebay_store::queue::{self, Body, Queue, Task, TaskChange, TaskQuery};
use input::Circumstances;
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};

/// How often a tool that may be called twice is begun at most.
const ATTEMPTS_MAX: u32 = 3;
/// Tasks of one page.
const PAGE: u32 = 50;
/// How often the store is asked for what happens in other processes.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// What tools are done later with. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Later {
    tasks: Arc<dyn DoLater>,
    queue: Queue,
    desk: Desk,
}

/// A call that is to become a task.
pub(crate) struct Begin<'a> {
    pub(crate) name: &'a str,
    pub(crate) params: &'a RawValue,
    pub(crate) around: Circumstances,
    /// How long its result is to be kept.
    pub(crate) kept: Option<Duration>,
    pub(crate) trace: TraceId,
}

/// A task as it stands, and what it asks.
pub(crate) struct Seen {
    pub(crate) id: TaskId,
    pub(crate) state: State,
    pub(crate) cancel_wanted: bool,
    pub(crate) attempts: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    /// How long after its creation it is forgotten; nobody knows before it has ended.
    pub(crate) ttl_ms: Option<u64>,
    /// Lists come without.
    pub(crate) output: Option<Box<RawValue>>,
    /// Its output says that the tool failed.
    pub(crate) is_error: bool,
    pub(crate) error: Option<TaskError>,
    pub(crate) asked: Vec<Asked>,
}

pub(crate) struct Page {
    pub(crate) tasks: Vec<Seen>,
    pub(crate) next: Option<String>,
}

impl Later {
    /// `tasks` is what queues them; what tools ask lies on the desk of the [`CallTask`] that runs them here.
    pub fn new(tasks: Arc<dyn DoLater>, queue: Queue, desk: Desk) -> Self {
        Self { tasks, queue, desk }
    }

    /// Queues a call. Who may not make it now is told so at once; whether it may be made is asked again when it runs.
    pub(crate) async fn begin(
        &self,
        catalogue: &Catalogue,
        principal: &Principal,
        begin: Begin<'_>,
    ) -> Result<Seen, Failure> {
        let found = catalogue.admits(principal, &begin.around.scope, begin.name)?;
        let mut around = begin.around;
        // Where nobody comes with answers a tool is better told so than left waiting.
        let can_be_asked = around.caps.has_questions() && self.tasks.works();
        around.desk = can_be_asked.then(|| self.desk.name().to_owned());
        let errand = Errand {
            task_type: TYPE,
            principal,
            input: Bytes::from(input::write(begin.params, &around).get().to_owned()),
            priority: Priority::default(),
            attempts_max: if may_repeat(&found) { ATTEMPTS_MAX } else { 1 },
            kept: begin.kept,
            is_wanted_here: can_be_asked && !self.desk.is_alone(),
            trace: begin.trace,
        };
        let id = self.tasks.submit(errand).await?;
        Ok(self.get(principal, &id).await?.at_its_beginning())
    }

    /// A task of this caller's.
    pub(crate) async fn get(&self, principal: &Principal, id: &TaskId) -> Result<Seen, Failure> {
        let task = self.queue.get(&queue::Scope::own(principal), id, Body::Output).await?;
        let task = task
            .filter(|task| task.task_type.as_str() == TYPE)
            .ok_or_else(unknown)?;
        Ok(self.seen(task))
    }

    /// A page of this caller's tasks, the newest first.
    pub(crate) async fn list(&self, principal: &Principal, cursor: Option<&str>) -> Result<Page, Failure> {
        let after = cursor.map(TaskId::try_from).transpose().map_err(|_| no_cursor())?;
        let query = TaskQuery {
            scope: queue::Scope::own(principal),
            state: None,
            task_type: Some(task_type()),
            context_id: None,
            after,
            limit: PAGE,
        };
        let page = self.queue.list(&query).await?;
        Ok(Page {
            tasks: page.tasks.into_iter().map(|task| self.seen(task)).collect(),
            next: page.next.map(|id| id.as_str().to_owned()),
        })
    }

    /// Ends a task of this caller's, if it has not ended.
    pub(crate) async fn cancel(&self, principal: &Principal, id: &TaskId) -> Result<Seen, Failure> {
        self.get(principal, id).await?;
        match self.queue.cancel(&queue::Scope::own(principal), id).await {
            // What has just ended needs no ending.
            Ok(_) | Err(queue::TaskError::Refused(_)) => self.get(principal, id).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a task runs in this process, and may ask here.
    pub(crate) fn runs_here(&self, id: &TaskId) -> bool {
        self.desk.has(id)
    }

    /// Answers what a task asks; nothing where it does not ask that.
    pub(crate) fn answer(&self, id: &TaskId, key: &str, answer: Result<Box<RawValue>, RpcError>) {
        self.desk.answer(id, key, answer);
    }

    /// Tells when it is worth looking at a task again.
    pub(crate) fn news(&self) -> TaskNews {
        TaskNews {
            changes: self.queue.changes(),
            bell: self.desk.bell(),
        }
    }

    fn seen(&self, task: Task) -> Seen {
        let ends = [task.completed_at, task.started_at];
        let updated_at = ends.into_iter().flatten().next().unwrap_or(task.created_at);
        let lives = task.expires_at.map(|at| at.duration_since(task.created_at).as_millis());
        Seen {
            asked: if task.state.is_final() {
                Vec::new()
            } else {
                self.desk.of(&task.id)
            },
            id: task.id,
            state: task.state,
            cancel_wanted: task.cancel_wanted,
            attempts: task.attempts,
            created_at: task.created_at,
            updated_at,
            ttl_ms: lives.map(|ms| u64::try_from(ms).unwrap_or(0).max(1)),
            is_error: task.is_error,
            output: task.output.and_then(|output| serde_json::from_slice(&output).ok()),
            error: task.error,
        }
    }
}

impl Seen {
    /// Every task begins at work, whatever has become of it since.
    fn at_its_beginning(self) -> Self {
        Self {
            state: State::Pending,
            cancel_wanted: false,
            attempts: 0,
            updated_at: self.created_at,
            ttl_ms: None,
            output: None,
            is_error: false,
            error: None,
            asked: Vec::new(),
            ..self
        }
    }

    /// Why it has no result.
    pub(crate) fn failure(&self) -> Failure {
        let Some(error) = &self.error else {
            return Failure::new(Code::InternalError, "The task ended without a result.");
        };
        let code = Code::ALL.iter().copied().find(|code| code.as_str() == error.code);
        let failure = Failure::new(code.unwrap_or(Code::InternalError), error.message.clone());
        match &error.hint {
            Some(hint) => failure.hint(hint.clone()),
            None => failure,
        }
    }
}

/// What happens to tasks here, and what they ask.
pub(crate) struct TaskNews {
    changes: broadcast::Receiver<TaskChange>,
    bell: watch::Receiver<u64>,
}

impl TaskNews {
    /// Completes when something may have happened to a task: at once where it happens here, and else after a while.
    pub(crate) async fn next(&mut self, id: &TaskId) {
        let changed = async {
            loop {
                match self.changes.recv().await {
                    Ok(change) if change.id == *id => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = changed => {}
            Ok(()) = self.bell.changed() => {}
            () = tokio::time::sleep(LOOK_PERIOD) => {}
        }
    }
}

impl Catalogue {
    /// The tool, if this caller may call it now. It is not counted against any limit.
    pub(crate) fn admits(
        &self,
        principal: &Principal,
        scope: &Scope,
        tool: &str,
    ) -> Result<Arc<Listed<Tool>>, Failure> {
        let Some(found) = self.find(principal, scope, tool) else {
            return Err(match self.withheld(scope, tool) {
                // How it stands with a tool is for those who may use it.
                Some((exposed, why)) => principal.require(&Action::tool(&exposed)).err().unwrap_or(why),
                None => Failure::new(Code::UnknownTool, "There is no tool of that name.")
                    .hint("`tools/list` shows what there is."),
            });
        };
        principal.require(&Action::tool(&found.exposed))?;
        effects(found.item.hints).try_for_each(|effect| principal.require(&effect))?;
        Ok(found)
    }
}

impl ClientCaps {
    /// Whether the client knows the tasks extension.
    pub(crate) fn has_tasks(&self) -> bool {
        let text = self.raw().get();
        text.contains(crate::front::EXTENSION)
            && serde_json::from_str::<serde_json::Value>(text)
                .is_ok_and(|caps| caps["extensions"][crate::front::EXTENSION].is_object())
    }
}

/// Whether a tool may be begun again that may have run. One that calls others does whatever those do, whatever the policy
/// hears of it.
fn may_repeat(tool: &Listed<Tool>) -> bool {
    let calls_others = tool.source.name() == compose::NAME && compose::calls_others(&tool.item.name);
    !calls_others && tool.item.hints.may_repeat()
}

fn task_type() -> TaskType {
    TaskType::try_from(TYPE).expect("it is an identifier")
}

pub(crate) fn unknown() -> Failure {
    Failure::new(Code::UnknownTask, "There is no such task, or it is not yours.")
        .hint("Tasks are forgotten some time after their end.")
}

fn no_cursor() -> Failure {
    Failure::new(Code::InvalidParams, "`cursor` is none that this gateway has given out.")
        .hint("Begin again without a cursor.")
}
