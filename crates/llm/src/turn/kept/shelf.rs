//! Where responses are kept, for whoever asked for them.

use super::{ResponsesConfig, items::Draft, maps};
use crate::dialect::{Asked, Map};
use arc_swap::ArcSwap;
use forebay_domain::{Action, Code, Failure, Principal};
use forebay_store::{
    Responses, StoreError,
    responses::{CHAIN_MAX, OWNER_BYTES_MAX, ResponseOwner, StoredResponse},
};
use jiff::Timestamp;
use serde_json::{Value, value::to_raw_value};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The kept responses, and whether there are to be more of them.
#[derive(Clone)]
pub(crate) struct Shelf {
    responses: Responses,
    config: Arc<ArcSwap<ResponsesConfig>>,
    /// Whether it was said that somebody's oldest responses make room.
    is_full_told: Arc<AtomicBool>,
}

/// The conversation that a request goes on with.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// What was asked and answered, oldest first; no instructions.
    pub(crate) items: Vec<Map>,
    /// Whether words of others were read in it.
    pub(crate) is_tainted: bool,
    /// When its last response expires.
    pub(crate) kept_until: Option<Timestamp>,
}

impl Shelf {
    pub(crate) fn new(responses: Responses) -> Self {
        Self {
            responses,
            config: Arc::default(),
            is_full_told: Arc::default(),
        }
    }

    pub(crate) fn set(&self, config: ResponsesConfig) {
        self.config.store(Arc::new(config));
    }

    /// Whether new responses are kept.
    pub(crate) fn is_open(&self) -> bool {
        self.config.load().keep
    }

    /// A response of this owner's.
    pub(crate) async fn get(
        &self,
        id: &str,
        owner: &ResponseOwner,
        now: Timestamp,
    ) -> Result<Option<StoredResponse>, StoreError> {
        self.responses.get(id, owner, now).await
    }

    /// The conversation that ends with a response of this principal's. Half a conversation is none: what the model did
    /// not read again it would contradict.
    pub(crate) async fn before(&self, principal: &Principal, id: &str, now: Timestamp) -> Result<Before, Failure> {
        let chain = self.responses.chain(id, &principal.into(), CHAIN_MAX, now).await?;
        if chain.responses.is_empty() {
            return Err(unknown("There is no such response to go on from, or it is not yours."));
        }
        if !chain.whole {
            let message = "The beginning of this conversation is gone: a response in it was deleted, or has expired.";
            return Err(unknown(message));
        }
        let mut before = Before {
            kept_until: chain.responses.last().map(|last| last.expires_at),
            ..Before::default()
        };
        for kept in &chain.responses {
            // Who may no longer ask a model may no longer have its words read out by another one.
            principal.require(&Action::model(&kept.model))?;
            let mut body: Map = serde_json::from_str(kept.body.get()).map_err(unreadable)?;
            let input: Vec<Map> = serde_json::from_str(kept.input.get()).map_err(unreadable)?;
            before.items.extend(input);
            before.is_tainted |= body.get("forebay").is_some_and(|ours| ours["tainted"] == true);
            if let Some(Value::Array(output)) = body.remove("output") {
                before.items.extend(maps(output));
            }
        }
        Ok(before)
    }

    pub(crate) async fn keep(
        &self,
        principal: &Principal,
        draft: Draft,
        asked: &Asked,
        response: &Map,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let text = |key: &str| response.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let seconds = i64::try_from(asked.created_s).unwrap_or_default();
        let config = self.config.load();
        let stored = StoredResponse {
            id: asked.answer_id(),
            owner: principal.into(),
            key: principal.key.clone(),
            previous_id: draft.previous_id,
            model: asked.model.clone(),
            status: text("status"),
            created_at: Timestamp::from_second(seconds).unwrap_or_default(),
            // It may have been asked for long ago.
            expires_at: now + config.kept_for(),
            input: to_raw_value(&draft.input).expect("values are JSON"),
            body: to_raw_value(response).expect("a map of values is JSON"),
        };
        let gone = self.responses.put(&stored, config.max_per_owner).await?;
        if gone > 0 && !self.is_full_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                responses = config.max_per_owner,
                bytes = OWNER_BYTES_MAX,
                "somebody has as many responses as one may: the oldest make room, whoever it is from now on"
            );
        }
        Ok(())
    }

    /// Says that calls which were agreed to are about to run, and gives those of which nobody had said so before. It is
    /// remembered for as long as the conversation is kept, and where it is not, for as long as one would be.
    pub(crate) async fn claim(
        &self,
        principal: &Principal,
        requests: BTreeSet<String>,
        now: Timestamp,
        kept_until: Option<Timestamp>,
    ) -> Result<BTreeSet<String>, StoreError> {
        let until = now + self.config.load().kept_for();
        let until = kept_until.map_or(until, |kept| kept.max(until));
        self.responses.claim(&principal.into(), requests, until).await
    }

    /// Takes that back for calls which were refused before they ran.
    pub(crate) async fn release(&self, principal: &Principal, requests: BTreeSet<String>) {
        if let Err(error) = self.responses.release(&principal.into(), requests).await {
            tracing::warn!(%error, "calls that were refused cannot be agreed to again");
        }
    }
}

fn unknown(message: &str) -> Failure {
    Failure::new(Code::UnknownResponse, message)
        .hint("Leave out `previous_response_id` and send the whole conversation as `input`.")
        .details(serde_json::json!({ "param": "previous_response_id" }))
}

fn unreadable(error: serde_json::Error) -> Failure {
    Failure::new(Code::InternalError, "A kept response cannot be read.").caused_by(error)
}
