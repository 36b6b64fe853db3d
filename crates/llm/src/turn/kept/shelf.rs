//! Where responses are kept, for whoever asked for them.

use super::{ResponsesConfig, items::Draft};
use crate::dialect::{Asked, Map};
use arc_swap::ArcSwap;
use forebay_domain::{Code, Failure, Principal};
use forebay_store::{
    Responses, StoreError,
    responses::{CHAIN_MAX, ResponseOwner, StoredResponse},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, value::to_raw_value};
use std::sync::Arc;

/// The kept responses, and whether there are to be more of them.
#[derive(Clone)]
pub(crate) struct Shelf {
    responses: Responses,
    config: Arc<ArcSwap<ResponsesConfig>>,
}

/// The conversation that a request goes on with.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// What was asked and answered, oldest first; no instructions.
    pub(crate) items: Vec<Map>,
    /// Whether words of others were read in it.
    pub(crate) is_tainted: bool,
}

impl Shelf {
    pub(crate) fn new(responses: Responses) -> Self {
        Self {
            responses,
            config: Arc::default(),
        }
    }

    pub(crate) fn set(&self, config: ResponsesConfig) {
        self.config.store(Arc::new(config));
    }

    /// Whether new responses are kept.
    pub(crate) fn is_open(&self) -> bool {
        self.config.load().keep
    }

    /// The conversation that ends with a response of this principal's. Half a conversation is none: what the model did
    /// not read again it would contradict.
    pub(crate) async fn before(&self, principal: &Principal, id: &str, now: Timestamp) -> Result<Before, Failure> {
        let chain = self.responses.chain(id, &owner(principal), CHAIN_MAX, now).await?;
        if chain.responses.is_empty() {
            return Err(unknown("There is no such response to go on from, or it is not yours."));
        }
        if !chain.whole {
            let message = "The beginning of this conversation is gone: a response in it was deleted, or has expired.";
            return Err(unknown(message));
        }
        let mut before = Before::default();
        for kept in &chain.responses {
            let mut body: Map = serde_json::from_str(kept.body.get()).map_err(unreadable)?;
            let input: Vec<Map> = serde_json::from_str(kept.input.get()).map_err(unreadable)?;
            before.items.extend(input);
            before.is_tainted |= body.get("forebay").is_some_and(|ours| ours["tainted"] == true);
            if let Some(Value::Array(output)) = body.remove("output") {
                before.items.extend(output.into_iter().filter_map(|item| match item {
                    Value::Object(item) => Some(item),
                    _ => None,
                }));
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
    ) -> Result<(), StoreError> {
        let text = |key: &str| response.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let seconds = i64::try_from(asked.created_s).unwrap_or_default();
        let created_at = Timestamp::from_second(seconds).unwrap_or_default();
        let kept_for = SignedDuration::from_hours(i64::from(self.config.load().days) * 24);
        let stored = StoredResponse {
            id: asked.answer_id(),
            owner: owner(principal),
            key: principal.key.clone(),
            previous_id: draft.previous_id,
            model: asked.model.clone(),
            status: text("status"),
            created_at,
            expires_at: created_at + kept_for,
            input: to_raw_value(&draft.input).expect("values are JSON"),
            body: to_raw_value(response).expect("a map of values is JSON"),
        };
        self.responses.put(&stored).await
    }
}

fn owner(principal: &Principal) -> ResponseOwner {
    ResponseOwner {
        tenant: principal.tenant.clone(),
        subject: principal.subject.clone(),
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
