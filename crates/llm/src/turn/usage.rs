//! The tokens of all hops of a turn, as its answer tells them.

use crate::{dialect::Map, money::Tokens};
use serde_json::Value;

/// A larger figure is no count of tokens.
const TOKENS_MAX: u64 = 1_000_000_000;

/// What one hop used, as far as its engine tells it.
pub(super) fn read(chat: &Map) -> Option<Tokens> {
    let usage = chat.get("usage")?.as_object()?;
    let count = |key: &str| usage.get(key).and_then(Value::as_u64);
    let (input_tokens, output_tokens) = (count("prompt_tokens")?, count("completion_tokens").unwrap_or(0));
    let is_credible = input_tokens.max(output_tokens) <= TOKENS_MAX;
    let detail = |key: &str| usage.get("prompt_tokens_details")?.get(key)?.as_u64();
    is_credible.then_some(Tokens {
        input: input_tokens,
        cached: detail("cached_tokens").unwrap_or(0),
        written: detail("cache_write_tokens").unwrap_or(0),
        output: output_tokens,
    })
}

/// The sum so far; nothing where no engine told anything.
#[derive(Debug, Default)]
pub(super) struct Sum(Option<Value>);

impl Sum {
    /// Adds the usage of one hop, number by number, with its details.
    pub(super) fn add(&mut self, usage: Value) {
        match &mut self.0 {
            _ if !usage.is_object() => {}
            None => self.0 = Some(usage),
            Some(sum) => add(sum, usage),
        }
    }

    pub(super) fn value(&self) -> Option<Value> {
        self.0.clone()
    }
}

fn add(sum: &mut Value, more: Value) {
    match (sum, more) {
        (Value::Object(sum), Value::Object(more)) => {
            for (key, value) in more {
                match sum.get_mut(&key) {
                    Some(known) => add(known, value),
                    None => {
                        sum.insert(key, value);
                    }
                }
            }
        }
        (sum, more) => {
            if let (Some(one), Some(other)) = (sum.as_u64(), more.as_u64()) {
                *sum = one.saturating_add(other).into();
            } else if sum.is_null() {
                *sum = more;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn usages_add_up_with_their_details() {
        let mut sum = Sum::default();
        assert_eq!(sum.value(), None);
        sum.add(Value::Null);
        sum.add(json!({"prompt_tokens": 3, "total_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}}));
        sum.add(json!({"prompt_tokens": 5, "total_tokens": 9, "prompt_tokens_details": null, "completion_tokens": 4}));
        let expected = json!({"prompt_tokens": 8, "total_tokens": 13, "completion_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 1}});
        assert_eq!(sum.value(), Some(expected));
    }
}
