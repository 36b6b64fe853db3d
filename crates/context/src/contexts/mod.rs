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
mod order;
mod run;

pub use config::{ContextsConfig, ContextsSettings, OnFullConfig, TruncationConfig};
pub use metrics::ContextsMetrics;
pub use order::Asked;

use arc_swap::ArcSwap;
use forebay_api::{ContextCreate, ContextInfo, ContextList};
use forebay_domain::{
    Action, Code, Failure, Principal,
    port::{AskModel, RunTask},
};
use forebay_runtime::{
    Clock, Tasks,
    looping::{Nudge, drive},
};
use forebay_store::{
    Conversations, Queue,
    conversations::{ConversationCursor, PAGE_MAX, StoredConversation, StoredNode},
    responses::ResponseOwner,
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::sync::broadcast;

/// Changes that somebody who follows them may be behind.
const NEWS_MAX: usize = 1_024;
/// Contexts of one page, unless somebody says otherwise.
const PAGE: u32 = 100;

/// What contexts stand on.
pub struct ContextsParts {
    pub conversations: Conversations,
    /// Only looked into: for what was asked before under the same name.
    pub queue: Queue,
    pub models: Arc<dyn AskModel>,
    pub clock: Clock,
    pub metrics: ContextsMetrics,
}

/// The contexts of a gateway. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Contexts(Arc<Inner>);

struct Inner {
    conversations: Conversations,
    queue: Queue,
    models: Arc<dyn AskModel>,
    clock: Clock,
    settings: ArcSwap<ContextsSettings>,
    metrics: ContextsMetrics,
    news: broadcast::Sender<String>,
}

impl Contexts {
    pub fn new(settings: ContextsSettings, parts: ContextsParts) -> Self {
        Self(Arc::new(Inner {
            conversations: parts.conversations,
            queue: parts.queue,
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

    /// Refuses where nobody may work with contexts.
    pub fn open(&self) -> Result<(), Failure> {
        self.0.open()
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
        self.0.admit(principal, &Action::CONTEXTS_READ)?;
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
        self.0.admit(principal, &Action::CONTEXTS_READ)?;
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
}

impl Inner {
    fn open(&self) -> Result<(), Failure> {
        if self.settings.load().is_enabled {
            return Ok(());
        }
        let failure = Failure::new(Code::ContextsDisabled, "This gateway keeps no contexts.");
        Err(failure.hint("An administrator says so with `mcp.enabled: false`. `/v1/chat/completions` needs none."))
    }

    /// Lets somebody work with contexts who may do that, where anybody may.
    fn admit(&self, principal: &Principal, action: &Action) -> Result<(), Failure> {
        principal.require(action)?;
        self.open()
    }

    async fn find(&self, owner: &ResponseOwner, id: &str) -> Result<StoredConversation, Failure> {
        let found = self.conversations.get(id, owner, self.clock.now()).await?;
        found.ok_or_else(|| unknown(id))
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
