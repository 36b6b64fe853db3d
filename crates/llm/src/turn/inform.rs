//! Context for a turn: looked up once, and put before the question that it is for.
//!
//! The block goes into the last message of the user, in front of the user's own words, and not into a system message:
//! the templates of many small models take a system message only at the very beginning, or give what stands there the
//! authority that other people's text must not have; near the question is where they use it best; and all that came
//! before stays as it was, so that an engine need not read it again.

use super::{run::Turn, wish::Wanted};
use crate::dialect::Map;
use forebay_domain::{Code, Failure};
use serde_json::{Value, json};

impl Turn {
    pub(super) async fn inform(&mut self, wanted: Wanted) -> Result<(), Failure> {
        let query = wanted.query(last_words(&self.chat))?;
        let Some(means) = &self.means else {
            let message = format!(
                "There is no provider of context `{}`.",
                query.providers[0].escape_debug()
            );
            return Err(Failure::new(Code::UnknownProvider, message)
                .hint("None is configured; an administrator adds them under `mcp.providers`."));
        };
        let asker = &self.asker;
        let principal = self.narrow.as_ref().unwrap_or(&asker.principal);
        let context = means.context.find(principal, &query, asker.via).await?;
        if let Some(report) = &mut self.report {
            report.found(&context);
        }
        if !context.items.is_empty() {
            put(&mut self.chat, &self.mark.context(&context));
            self.taint();
        }
        Ok(())
    }
}

/// What the user said last.
fn last_words(chat: &Map) -> Option<String> {
    let messages = chat.get("messages")?.as_array()?;
    let last = messages.iter().rfind(|message| message["role"] == "user")?;
    match &last["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            Some(texts.join("\n"))
        }
        _ => None,
    }
}

fn put(chat: &mut Map, block: &str) {
    let Some(Value::Array(messages)) = chat.get_mut("messages") else {
        return;
    };
    let Some(last) = messages.iter_mut().rfind(|message| message["role"] == "user") else {
        messages.push(json!({ "role": "user", "content": block }));
        return;
    };
    match &mut last["content"] {
        Value::String(said) => *said = format!("{block}\n\n{said}"),
        Value::Array(parts) => parts.insert(0, json!({ "type": "text", "text": block })),
        other => *other = block.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: &Value, words: Option<&str>, expected: &Value) {
        let Value::Object(mut chat) = json!({ "messages": messages }) else {
            panic!()
        };
        assert_eq!(last_words(&chat).as_deref(), words);
        put(&mut chat, "BLOCK");
        assert_eq!(&chat["messages"], expected);
    }

    #[test]
    fn the_block_stands_before_what_the_user_said_last() {
        check(
            &json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]),
            Some("c"),
            &json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                {"role": "user", "content": "BLOCK\n\nc"}]),
        );
        let part = json!({"type": "text", "text": "a"});
        check(
            &json!([{"role": "user", "content": [part]}, {"role": "tool", "content": "t"}]),
            Some("a"),
            &json!([{"role": "user", "content": [{"type": "text", "text": "BLOCK"}, part]}, {"role": "tool", "content": "t"}]),
        );
        check(
            &json!([{"role": "system", "content": "s"}]),
            None,
            &json!([{"role": "system", "content": "s"}, {"role": "user", "content": "BLOCK"}]),
        );
    }
}
