//! `mcp.add_prompt`: what is asked, what a model says to it, and both of them kept or neither.

use super::{append::full, fault, of::Deed};
use crate::contexts::{
    Inner,
    ask::{Question, Said},
    input::{self, About},
    node::{self, Draft},
    unknown,
};
use bytes::Bytes;
use forebay_api::{ContextPrompt, ContextPrompted};
use forebay_domain::{
    Code, ErrorKind, Failure, Principal,
    conversation::{Fitted, Misfit, Weighed, fit, tokens_of},
    event::{Surface, Usage},
    port::{TaskRun, Tell, Via},
    task::{Retry, Share, TaskFault},
};
use forebay_store::conversations::{Append, NODE_BYTES_MAX, StoredConversation, StoredNode};
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct Prompt;

impl Deed for Prompt {
    const TYPE: &'static str = input::PROMPT;
    type Body = ContextPrompt;
    type Output = ContextPrompted;

    fn check(inner: &Inner, body: &ContextPrompt) -> Result<(), Failure> {
        input::check_prompt(body, &inner.settings.load()).map(drop)
    }

    fn retry(body: &ContextPrompt) -> Retry {
        input::prompt_retry(body)
    }

    /// It waits for an engine.
    fn share() -> Share {
        Share::Most
    }

    async fn run(inner: &Inner, run: TaskRun<'_>, about: About<ContextPrompt>) -> Result<ContextPrompted, TaskFault> {
        inner.prompt(run, about).await
    }
}

impl Inner {
    async fn prompt(&self, run: TaskRun<'_>, about: About<ContextPrompt>) -> Result<ContextPrompted, TaskFault> {
        let About { context, body } = about;
        let settings = self.settings.load_full();
        let draft = input::check_prompt(&body, &settings).map_err(TaskFault::lasting)?;
        let (owner, now) = (run.principal.into(), self.clock.now());
        let expires_at = settings.expires_at(now);
        // First of all: what is used now neither expires nor makes room while a model thinks.
        let touched = self.conversations.touch(&context, &owner, now, expires_at).await;
        if !touched.map_err(|error| fault(error.into()))? {
            return Err(TaskFault::lasting(unknown(&context)));
        }
        let found = self.find(&owner, &context).await.map_err(fault)?;
        let nodes = self.conversations.nodes(&found).await;
        let nodes = nodes.map_err(|error| fault(error.into()))?;
        let task = run.id.as_str();
        let asked = draft.node(task, 0, now);
        if nodes.iter().any(|node| node.id == asked.id) {
            // An earlier run asked, kept what was said, and was not heard of again.
            let made: Vec<_> = nodes.iter().filter(|node| node.task == task).cloned().collect();
            return self.answer(&found, &made, &body).await;
        }
        let mut append = Append {
            id: context,
            owner,
            version: Some(found.version),
            nodes: vec![asked],
            nodes_max: settings.nodes_max(),
            bytes_max: settings.bytes_max(),
            at: now,
            expires_at,
        };
        has_room(&found, &append).map_err(TaskFault::lasting)?;
        let (said, left_out) = self.ask(&run, &found, &nodes, &append.nodes[0], &body).await?;
        let metadata = said.metadata(&found.model, left_out).map_err(TaskFault::lasting)?;
        append.at = self.clock.now();
        append.expires_at = settings.expires_at(append.at);
        let answer = said_node(&said, metadata, task, &append).map_err(TaskFault::lasting)?;
        // Paid for: it may go past the bound, and then there is no room for another prompt.
        append.bytes_max = append.bytes_max.saturating_add(answer.weight());
        append.nodes.push(answer);
        let (now_is, made) = self.keep(&append).await?;
        self.answer(&now_is, &made, &body).await
    }

    /// Asks with as much of the context as there is room for; says how many nodes were left out.
    async fn ask(
        &self,
        run: &TaskRun<'_>,
        found: &StoredConversation,
        nodes: &[StoredNode],
        asked: &StoredNode,
        body: &ContextPrompt,
    ) -> Result<(Said, usize), TaskFault> {
        let all: Vec<&StoredNode> = nodes.iter().chain([asked]).collect();
        let fitted = self.fit(run.principal, found, &all, body).map_err(TaskFault::lasting)?;
        let question = Question {
            model: &found.model,
            nodes: fitted.kept.iter().map(|place| all[*place]).collect(),
            prompt: body,
            priority: run.priority,
        };
        let via = Via {
            surface: Surface::Api,
            trace: run.trace,
            in_task: true,
        };
        let tell = Told {
            tell: run.tell,
            any: AtomicBool::new(false),
        };
        let begun = self.clock.monotonic();
        let answer = tokio::select! {
            answer = question.ask(&*self.models, run.principal, via, &tell) => answer,
            () = run.cancelled.cancelled() => Err(Failure::new(Code::Cancelled, "The prompt was cancelled.")),
        };
        let took = self.clock.monotonic().saturating_sub(begun);
        self.metrics.asked(took, answer.is_ok());
        let mut said = answer.map_err(|failure| unanswered(failure, tell.any.load(Ordering::Relaxed)))?;
        self.metrics.left_out(fitted.left_out);
        said.usage.get_or_insert_with(|| guess(&fitted, &said.text));
        Ok((said, fitted.left_out))
    }

    fn fit(
        &self,
        principal: &Principal,
        found: &StoredConversation,
        all: &[&StoredNode],
        body: &ContextPrompt,
    ) -> Result<Fitted, Failure> {
        let weighed: Vec<Weighed> = all
            .iter()
            .map(|node| Weighed {
                role: node.role,
                tokens: node::tokens(node),
            })
            .collect();
        let settings = self.settings.load();
        let models = self.models.models(principal);
        let model = models.iter().find(|model| model.name == found.model);
        let tokens_max = settings.tokens_max(model.and_then(|model| model.context_tokens), body.max_tokens);
        fit(&weighed, tokens_max, settings.config.truncation.into()).map_err(too_long)
    }

    /// What was made, as whoever asked gets it.
    async fn answer(
        &self,
        found: &StoredConversation,
        made: &[StoredNode],
        body: &ContextPrompt,
    ) -> Result<ContextPrompted, TaskFault> {
        let [asked, said] = made else {
            let message = format!(
                "Nodes of this prompt were deleted from the context `{}` meanwhile.",
                found.id
            );
            return Err(TaskFault::lasting(
                Failure::new(Code::UnknownNode, message).hint("Ask again."),
            ));
        };
        let whole = if body.return_context {
            Some(self.whole(found).await.map_err(fault)?)
        } else {
            None
        };
        let node = node::shown(said);
        Ok(ContextPrompted {
            context_id: found.id.clone(),
            usage: node.usage,
            node,
            prompt_node: node::shown(asked),
            context: whole,
            task_id: None,
        })
    }
}

/// The node of what was said. Whatever the bounds of new nodes are by now, what was paid for is kept.
fn said_node(
    said: &Said,
    metadata: Box<serde_json::value::RawValue>,
    task: &str,
    append: &Append,
) -> Result<StoredNode, Failure> {
    if said.text.len() > NODE_BYTES_MAX {
        let message = format!(
            "The model's answer has {} bytes; a node has at most {NODE_BYTES_MAX}.",
            said.text.len()
        );
        return Err(Failure::new(Code::UpstreamTruncated, message).hint("Set `max_tokens`."));
    }
    let mut node = Draft::answer(&said.text, metadata).node(task, 1, append.at);
    node.usage = said.usage;
    Ok(node)
}

/// Refuses before anything is asked what would have no room for an answer.
fn has_room(found: &StoredConversation, append: &Append) -> Result<(), Failure> {
    let nodes = found.nodes.saturating_add(2);
    let bytes = found.bytes.saturating_add(append.nodes[0].weight());
    if nodes > append.nodes_max || bytes >= append.bytes_max {
        return Err(full(append, nodes, bytes));
    }
    Ok(())
}

/// Beside what may pass anyway, an engine that failed is asked again, unless somebody has seen a part of its answer.
fn unanswered(failure: Failure, is_told: bool) -> TaskFault {
    let is_engine = failure.kind() == ErrorKind::UpstreamFailed && failure.code != Code::ContextFailed;
    let fault = fault(failure);
    let has_effects = fault
        .failure
        .details
        .as_ref()
        .is_some_and(|details| details.get("ran").is_some());
    TaskFault {
        retryable: (fault.retryable || (is_engine && !has_effects)) && !is_told,
        ..fault
    }
}

fn too_long(misfit: Misfit) -> Failure {
    let message = format!(
        "The model would read about {} tokens at least; there is room for {}.",
        misfit.tokens, misfit.tokens_max
    );
    Failure::new(Code::PromptTooLong, message).hint(match misfit.tokens_max {
        0 => "`max_tokens` takes all that the model has room for: ask for a shorter answer.",
        _ => "Ask with fewer words, or delete nodes of the context.",
    })
}

/// Where no engine counts, somebody has to.
fn guess(fitted: &Fitted, text: &str) -> Usage {
    let count = |tokens: usize| u64::try_from(tokens).unwrap_or(u64::MAX);
    Usage {
        input_tokens: count(fitted.tokens),
        output_tokens: count(tokens_of(text)),
        estimated: true,
    }
}

/// Whether anybody was told anything.
struct Told<'a> {
    tell: &'a dyn Tell,
    any: AtomicBool,
}

impl Tell for Told<'_> {
    fn tell(&self, piece: Bytes) {
        self.any.store(true, Ordering::Relaxed);
        self.tell.tell(piece);
    }
}
