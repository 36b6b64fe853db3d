//! OpenAI's `completions`: one text in, one text out.

use super::{
    Asked,
    field::{Map, map, refused, take, take_flag, unsaid},
    part,
};
use forebay_domain::Failure;
use serde_json::{Value, json};

/// What the API says where a request leaves it open.
const MAX_TOKENS_DEFAULT: u64 = 16;
const CHAT: &str = "OpenAI's chat API";

pub(super) fn request_to_chat(mut request: Map) -> Result<Map, Failure> {
    let prompt = match take(&mut request, "prompt") {
        Some(Value::String(text)) => text,
        Some(Value::Array(several)) => match <[Value; 1]>::try_from(several) {
            Ok([Value::String(text)]) => text,
            Ok(_) => return Err(refused("prompt", "must be a text here, not numbers of tokens")),
            Err(_) => return Err(refused("prompt", "must be one text here")),
        },
        _ => return Err(refused("prompt", "must be a text")),
    };
    if take_flag(&mut request, "echo", "")? == Some(true) {
        return Err(unsaid("echo", CHAT));
    }
    if take(&mut request, "suffix").is_some_and(|suffix| suffix != "") {
        return Err(unsaid("suffix", CHAT));
    }
    let wanted = request.get("n").and_then(Value::as_u64).unwrap_or(1);
    if take(&mut request, "best_of").is_some_and(|best| best.as_u64().is_none_or(|best| best > wanted)) {
        return Err(unsaid("best_of", CHAT));
    }
    match take(&mut request, "logprobs") {
        None => {}
        Some(count) if count.is_u64() => {
            request.insert("logprobs".to_owned(), true.into());
            if count != 0 {
                request.insert("top_logprobs".to_owned(), count);
            }
        }
        Some(_) => return Err(refused("logprobs", "must be a number")),
    }
    if request.get("max_tokens").is_none_or(Value::is_null) {
        request.insert("max_tokens".to_owned(), MAX_TOKENS_DEFAULT.into());
    }
    let messages = json!([{ "role": "user", "content": prompt }]);
    request.insert("messages".to_owned(), messages);
    Ok(request)
}

pub(super) fn chat_to_answer(mut answer: Map, asked: &Asked) -> Map {
    let choices = answer.get_mut("choices").map(Value::take);
    let choices = choices.as_ref().and_then(Value::as_array);
    let choices: Vec<Value> = choices
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(whole_choice)
        .collect();
    answer.extend(head(asked));
    answer.insert("choices".to_owned(), choices.into());
    answer
}

fn head(asked: &Asked) -> Map {
    map(json!({
        "id": asked.answer_id(),
        "object": "text_completion",
        "created": asked.created_s,
        "model": asked.model,
    }))
}

fn whole_choice(choice: &Value) -> Value {
    let message = &choice["message"];
    let text = said(message);
    let mut offset = 0;
    json!({
        "index": choice["index"],
        "text": text,
        "logprobs": logprobs(&choice["logprobs"], &mut offset),
        "finish_reason": finish(&choice["finish_reason"]),
    })
}

fn said(message: &Value) -> String {
    let content = part::text_of(&message["content"]);
    match message["refusal"].as_str() {
        Some(refusal) => content + refusal,
        None => content,
    }
}

fn finish(reason: &Value) -> Value {
    match reason.as_str() {
        None => Value::Null,
        Some(reason @ ("length" | "content_filter")) => reason.into(),
        Some(_) => "stop".into(),
    }
}

/// The probabilities in the old form: four lists. `offset` is where in the whole text the next token begins.
fn logprobs(logprobs: &Value, offset: &mut usize) -> Value {
    let Some(tokens) = logprobs["content"].as_array() else {
        return Value::Null;
    };
    let offsets = tokens.iter().map(|token| {
        let at = *offset;
        *offset += token["token"].as_str().map_or(0, |text| text.chars().count());
        at
    });
    let offsets: Vec<usize> = offsets.collect();
    let column = |key: &str| tokens.iter().map(|token| token[key].clone()).collect::<Vec<_>>();
    let tops = tokens.iter().map(|token| {
        let tops = token["top_logprobs"].as_array().map_or(&[][..], Vec::as_slice);
        let tops = tops
            .iter()
            .filter_map(|top| Some((top["token"].as_str()?.to_owned(), top["logprob"].clone())));
        Value::Object(tops.collect())
    });
    json!({
        "tokens": column("token"),
        "token_logprobs": column("logprob"),
        "top_logprobs": tops.collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// Chunks on their way; each choice counts where in its text it is.
#[derive(Debug, Default)]
pub(super) struct Stream {
    offsets: std::collections::BTreeMap<u64, usize>,
}

impl Stream {
    pub(super) fn chunk(&mut self, mut chunk: Map, asked: &Asked) -> Map {
        let choices = chunk.get_mut("choices").map(Value::take);
        let choices = choices.as_ref().and_then(Value::as_array);
        let choices: Vec<Value> = choices
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(|choice| self.choice(choice))
            .collect();
        chunk.extend(head(asked));
        chunk.insert("choices".to_owned(), choices.into());
        chunk
    }

    fn choice(&mut self, choice: &Value) -> Value {
        let offset = self.offsets.entry(choice["index"].as_u64().unwrap_or(0)).or_default();
        json!({
            "index": choice["index"],
            "text": said(&choice["delta"]),
            "logprobs": logprobs(&choice["logprobs"], offset),
            "finish_reason": finish(&choice["finish_reason"]),
        })
    }
}
