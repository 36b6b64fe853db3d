//! Contexts that the gateway keeps: nodes in order, and prompts within them.
//!
//! Whatever changes one is a durable task of one of five types. [`Contexts`] checks what somebody asks for and says which
//! task does it; the tasks are run by what [`Contexts::runs`] gives. Everybody sees their own contexts alone. Models are
//! asked through their port, so that policy, holds, context providers and tools are those of any other chat.
//!
//! It refuses to queue anything, and knows nothing of who waits for what.

mod ask;
mod config;
mod input;
mod keep;
mod metrics;
mod node;
mod run;

pub use config::{ContextsConfig, ContextsSettings, OnFullConfig, TruncationConfig};
pub use metrics::ContextsMetrics;

use arc_swap::ArcSwap;
use bytes::Bytes;
use forebay_api::{ContextCreate, ContextInfo, ContextList, ContextNodeAdd, ContextPrompt};
use forebay_domain::{
    Action, Code, Failure, Principal,
    id::{TaskType, TraceId, WorkerId},
    model::Priority,
    port::{AskModel, RunTask},
    task::{BODY_BYTES_MAX, Needs, Retry, TaskOwner, context_lane},
};
use forebay_runtime::{
    Clock, Tasks,
    looping::{Nudge, drive},
};
use forebay_store::{
    Conversations,
    conversations::{ConversationCursor, PAGE_MAX, StoredConversation, StoredNode},
    queue::NewTask,
    responses::ResponseOwner,
};
use jiff::Timestamp;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::sync::broadcast;

/// Changes that somebody who follows them may be behind.
const NEWS_MAX: usize = 1_024;
/// How long a task is kept after its end, unless somebody says otherwise.
const RESULT_TTL: Duration = Duration::from_hours(24);
/// Contexts of one page, unless somebody says otherwise.
const PAGE: u32 = 100;

/// What contexts stand on.
pub struct ContextsParts {
    pub conversations: Conversations,
    pub models: Arc<dyn AskModel>,
    pub clock: Clock,
    pub metrics: ContextsMetrics,
}

/// The contexts of a gateway. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Contexts(Arc<Inner>);

struct Inner {
    conversations: Conversations,
    models: Arc<dyn AskModel>,
    clock: Clock,
    settings: ArcSwap<ContextsSettings>,
    metrics: ContextsMetrics,
    news: broadcast::Sender<String>,
}

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
    pub fn new(settings: ContextsSettings, parts: ContextsParts) -> Self {
        Self(Arc::new(Inner {
            conversations: parts.conversations,
            models: parts.models,
            clock: parts.clock,
            settings: ArcSwap::from_pointee(settings),
            metrics: parts.metrics,
            news: broadcast::Sender::new(NEWS_MAX),
        }))
    }

    /// Removes what expires, until the tasks end.
    pub fn start(&self, tasks: &Tasks) {
        drive(tasks, keep::Keeper(self.0.clone()), keep::EVERY, Nudge::new());
    }

    /// Puts new settings in force. What is there already stays, however much it is.
    pub fn reconfigure(&self, settings: ContextsSettings) {
        self.0.settings.store(Arc::new(settings));
    }

    /// What runs the five types of task.
    pub fn runs(&self) -> Vec<Arc<dyn RunTask>> {
        run::all(&self.0)
    }

    /// How long a request waits for its task (`mcp.timeout`).
    pub fn timeout(&self) -> Duration {
        self.0.settings.load().timeout
    }

    /// The ids of contexts that were changed or removed by this process. Whoever is too far behind is told so.
    pub fn news(&self) -> broadcast::Receiver<String> {
        self.0.news.subscribe()
    }

    /// When those of these contexts that are there were last changed: for those who were let through to them before.
    pub async fn stamps(&self, ids: &[String]) -> Result<Vec<(String, Timestamp)>, Failure> {
        Ok(self.0.conversations.stamps(ids, self.0.clock.now()).await?)
    }

    /// A context with its nodes.
    pub async fn get(&self, principal: &Principal, id: &str) -> Result<ContextInfo, Failure> {
        principal.require(&Action::CONTEXTS_READ)?;
        let found = self.0.find(&principal.into(), id).await?;
        let nodes = self.0.conversations.nodes(&found).await?;
        Ok(info(&found, Some(&nodes)))
    }

    /// The caller's contexts without their nodes, the newest first.
    pub async fn list(
        &self,
        principal: &Principal,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<ContextList, Failure> {
        principal.require(&Action::CONTEXTS_READ)?;
        let limit = limit.unwrap_or(PAGE);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(input::invalid(format!("`limit` is not within 1 and {PAGE_MAX}.")));
        }
        let after = cursor.map(str::parse::<ConversationCursor>).transpose()?;
        let now = self.0.clock.now();
        let owner = principal.into();
        let page = self.0.conversations.list(&owner, limit, after.as_ref(), now).await?;
        Ok(ContextList {
            contexts: page.conversations.iter().map(|found| info(found, None)).collect(),
            next_cursor: page.next.map(|next| next.to_string()),
        })
    }

    /// The task that makes a context.
    pub fn create(&self, principal: &Principal, new: &ContextCreate, asked: &Asked) -> Result<NewTask, Failure> {
        self.0.may_create(principal, new)?;
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
        principal.require(&Action::CONTEXTS_WRITE)?;
        input::check_prompt(prompt, &self.0.settings.load())?;
        if let Some(found) = self.0.find_unless_named(principal, id, asked).await? {
            input::check_model(&*self.0.models, principal, &found.model)?;
        }
        let priority = input::priority(prompt.priority, asked.priority);
        let mut body = input::write_about(id, prompt)?;
        body["priority"] = priority.as_str().into();
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
        principal.require(&Action::CONTEXTS_WRITE)?;
        input::check_node(node, &self.0.settings.load())?;
        self.0.find_unless_named(principal, id, asked).await?;
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
        principal.require(&Action::CONTEXTS_WRITE)?;
        self.0.find_unless_named(principal, id, asked).await?;
        let body = input::NodeRef {
            node_id: node.to_owned(),
        };
        let priority = input::priority(None, asked.priority);
        let task = Task::new(
            input::DELETE_NODE,
            input::write_about(id, &body)?,
            priority,
            input::RETRY,
        );
        task.of(principal, asked, Some(id))
    }

    /// The task that takes a context away.
    pub async fn delete(&self, principal: &Principal, id: &str, asked: &Asked) -> Result<NewTask, Failure> {
        principal.require(&Action::CONTEXTS_WRITE)?;
        self.0.find_unless_named(principal, id, asked).await?;
        let priority = input::priority(None, asked.priority);
        let body = input::write_about(id, &input::Whole {})?;
        let task = Task::new(input::DELETE, body, priority, input::RETRY);
        task.of(principal, asked, Some(id))
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
            let message = format!("It has {} bytes; there are at most {BODY_BYTES_MAX}.", input.len());
            return Err(
                Failure::new(Code::BodyTooLarge, message).hint("Add some nodes later, in requests of their own.")
            );
        }
        Ok(NewTask {
            task_type: TaskType::try_from(self.kind).expect("a name of ours"),
            owner: TaskOwner::of(principal),
            priority: self.priority,
            run_at: asked.run_at,
            input,
            idempotency_key: asked.idempotency_key.clone(),
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

impl Inner {
    async fn find(&self, owner: &ResponseOwner, id: &str) -> Result<StoredConversation, Failure> {
        let found = self.conversations.get(id, owner, self.clock.now()).await?;
        found.ok_or_else(|| unknown(id))
    }

    /// The context that a task is to be about. Where the task has a name of its sender's it may be a repetition of one that
    /// was done, after which the context is gone: then there is none, and the queue knows better.
    async fn find_unless_named(
        &self,
        principal: &Principal,
        id: &str,
        asked: &Asked,
    ) -> Result<Option<StoredConversation>, Failure> {
        let found = self.conversations.get(id, &principal.into(), self.clock.now()).await?;
        if found.is_none() && asked.idempotency_key.is_none() {
            return Err(unknown(id));
        }
        Ok(found)
    }

    /// What has to be so before a context is made, also where its task is submitted without us.
    fn may_create(&self, principal: &Principal, new: &ContextCreate) -> Result<Vec<node::Draft>, Failure> {
        principal.require(&Action::CONTEXTS_WRITE)?;
        let drafts = input::check_create(new, &self.settings.load())?;
        input::check_model(&*self.models, principal, &new.model_id)?;
        Ok(drafts)
    }

    /// Tells whoever follows that a context is not what it was.
    fn tell(&self, id: &str) {
        // Nobody may follow.
        self.news.send(id.to_owned()).ok();
    }
}

fn unknown(id: &str) -> Failure {
    let message = format!("There is no context `{}`.", shortened(id));
    Failure::new(Code::UnknownContext, message).hint("List your contexts: it may have expired, or been deleted.")
}

fn unknown_node(context: &str, node: &str) -> Failure {
    let message = format!("The context `{context}` has no node `{}`.", shortened(node));
    Failure::new(Code::UnknownNode, message).hint("Read the context: the node may have been deleted.")
}

/// As much of somebody's word as an id can have.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_debug().to_string()
}

/// A context as its owner gets it.
fn info(found: &StoredConversation, nodes: Option<&[StoredNode]>) -> ContextInfo {
    ContextInfo {
        id: found.id.clone(),
        model_id: found.model.clone(),
        metadata: node::object(&found.metadata),
        user_id: found.user_label.clone(),
        created_at: found.created_at,
        updated_at: found.updated_at,
        expires_at: found.expires_at,
        node_count: nodes.map_or(found.nodes, |nodes| u64::try_from(nodes.len()).unwrap_or(u64::MAX)),
        nodes: nodes.map(|nodes| nodes.iter().map(node::shown).collect()),
        task_id: None,
    }
}
