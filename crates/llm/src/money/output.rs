//! A limit on the answer, put into requests whose client set none. Only where a budget counts.

use crate::{config::Engine, dialect::Map};
use forebay_domain::model::Endpoint;
use serde_json::Value;

/// What the API says where a request for a text leaves it open.
const COMPLETION_TOKENS: u64 = 16;

/// How many tokens each answer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) each: u64,
}

/// Which limits a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Has {
    pub(crate) max_tokens: bool,
    pub(crate) max_completion_tokens: bool,
}

impl Limit {
    pub(crate) const MAX_TOKENS: &str = "max_tokens";
    const MAX_COMPLETION_TOKENS: &str = "max_completion_tokens";

    /// What is set where the request says nothing.
    pub(crate) fn unless_said(endpoint: Endpoint, configured: u64) -> u64 {
        match endpoint {
            Endpoint::Completions => configured.min(COMPLETION_TOKENS),
            Endpoint::Chat | Endpoint::Embeddings | Endpoint::Responses | Endpoint::Messages => configured,
        }
    }

    /// The field that a request lacks as it goes to that engine. OpenAI's newer models refuse the older field; other
    /// engines in the form of its API do not know the newer one, or not all of them, and would answer without end.
    pub(crate) fn missing(sent_to: Endpoint, engine: Option<Engine>, has: Has) -> Option<&'static str> {
        match sent_to {
            Endpoint::Embeddings | Endpoint::Responses => None,
            Endpoint::Chat if engine == Some(Engine::Openai) => {
                (!has.max_tokens && !has.max_completion_tokens).then_some(Self::MAX_COMPLETION_TOKENS)
            }
            Endpoint::Chat | Endpoint::Completions | Endpoint::Messages => {
                (!has.max_tokens).then_some(Self::MAX_TOKENS)
            }
        }
    }

    /// Puts the limit into a request that is about to go to an engine.
    pub(crate) fn put(self, sent_to: Endpoint, engine: Option<Engine>, body: &mut Map) {
        let is_said = |field: &str| body.get(field).is_some_and(|value| !value.is_null());
        let has = Has {
            max_tokens: is_said(Self::MAX_TOKENS),
            max_completion_tokens: is_said(Self::MAX_COMPLETION_TOKENS),
        };
        if let Some(field) = Self::missing(sent_to, engine, has) {
            body.insert(field.to_owned(), Value::from(self.each));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn put(sent_to: Endpoint, engine: Option<Engine>, body: Value) -> Value {
        let Value::Object(mut body) = body else { panic!() };
        Limit { each: 7 }.put(sent_to, engine, &mut body);
        body.into()
    }

    #[test]
    fn each_engine_is_told_in_a_field_that_it_reads() {
        let check = |sent_to, engine, body, expected| assert_eq!(put(sent_to, engine, body), expected);
        let llamacpp = Some(Engine::Llamacpp);
        let (old, new) = (json!({ "max_tokens": 7 }), json!({ "max_completion_tokens": 7 }));
        check(Endpoint::Chat, llamacpp, json!({}), old.clone());
        check(Endpoint::Chat, None, json!({ "max_tokens": null }), old.clone());
        check(Endpoint::Chat, Some(Engine::Openai), json!({}), new);
        check(Endpoint::Completions, Some(Engine::Openai), json!({}), old.clone());
        check(Endpoint::Messages, Some(Engine::Anthropic), json!({}), old);
        check(Endpoint::Embeddings, None, json!({}), json!({}));
        let said = json!({ "max_completion_tokens": 3 });
        check(Endpoint::Chat, Some(Engine::Openai), said.clone(), said.clone());
        let both = json!({ "max_completion_tokens": 3, "max_tokens": 7 });
        check(Endpoint::Chat, llamacpp, said, both.clone());
        check(Endpoint::Chat, llamacpp, both.clone(), both);
    }

    #[test]
    fn a_text_that_goes_on_is_as_short_as_its_api_says() {
        assert_eq!(Limit::unless_said(Endpoint::Completions, 4_096), 16);
        assert_eq!(Limit::unless_said(Endpoint::Completions, 8), 8);
        assert_eq!(Limit::unless_said(Endpoint::Chat, 4_096), 4_096);
    }
}
