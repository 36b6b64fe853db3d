//! A stream on its way to the client, in the client's own API.
//!
//! What the model says passes as it comes. Where the gateway's tools take part, calls do not: which of them are the
//! client's is known only when they are complete, and those of the gateway are no work for the client.

use super::{calls::Call, hear};
use crate::{
    dialect::{Asked, Deed, Map, ToClient},
    fault::Place,
};
use bytes::Bytes;
use forebay_domain::Failure;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;

pub(super) struct Writer {
    to: ToClient,
    /// Nobody listens where the answer is wanted in one piece.
    out: Option<Sender<Result<Bytes, Failure>>>,
    /// Whether calls and the end are held back until the gateway knows what becomes of them.
    withholds: bool,
    has_begun: bool,
    /// The last chunk of a hop that said nothing but the usage, and perhaps more that only its engine knows.
    closing: Map,
}

impl Writer {
    pub(super) fn new(asked: Asked, out: Sender<Result<Bytes, Failure>>, withholds: bool) -> Self {
        Self {
            to: ToClient::new(asked),
            out: Some(out),
            withholds,
            has_begun: false,
            closing: Map::new(),
        }
    }

    /// One that only puts a response together.
    pub(super) fn silent(asked: Asked, withholds: bool) -> Self {
        Self {
            to: ToClient::new(asked),
            out: None,
            withholds,
            has_begun: false,
            closing: Map::new(),
        }
    }

    pub(super) async fn begin(&mut self) {
        let bytes = self.to.begin();
        self.send(bytes).await;
    }

    /// Tells what the gateway does of its own, where the API has words for it.
    pub(super) async fn tell(&mut self, deed: Deed) {
        let bytes = self.to.tell(deed);
        self.send(bytes).await;
    }

    /// Passes a chunk on, without its usage, which is told once for all hops. Gives the bytes that went out.
    pub(super) async fn chunk(&mut self, mut chunk: Map, place: &Place) -> Result<usize, Failure> {
        let has_usage = chunk.remove("usage").is_some_and(|usage| !usage.is_null());
        let choices = chunk.get("choices").and_then(Value::as_array);
        if has_usage && choices.is_none_or(Vec::is_empty) {
            self.closing = chunk;
            return Ok(0);
        }
        if self.withholds && !withhold(&mut chunk, self.has_begun) {
            return Ok(0);
        }
        self.has_begun = true;
        let bytes = self.to.chunk(chunk).map_err(|broken| hear::failure(broken, place))?;
        Ok(self.send(bytes).await)
    }

    /// The end: what was held back, the usage of all hops, and what the gateway adds. Gives the bytes for the client.
    pub(super) fn close(&mut self, end: Option<End<'_>>, last: Map, place: &Place) -> Result<Vec<u8>, Failure> {
        let mut chunks = Vec::new();
        if let Some(end) = end {
            if !end.calls.is_empty() {
                let numbered = end.calls.iter().enumerate().map(|(index, call)| {
                    let mut call = call.value();
                    call["index"] = index.into();
                    call
                });
                chunks.push(delta(&json!({ "tool_calls": numbered.collect::<Vec<_>>() }), None));
            }
            chunks.push(delta(&json!({}), Some(end.reason)));
        }
        if !last.is_empty() {
            let mut closing = std::mem::take(&mut self.closing);
            closing.insert("choices".to_owned(), json!([]));
            closing.extend(last);
            chunks.push(closing);
        }
        let mut bytes = Vec::new();
        let broken = |broken| hear::failure(broken, place);
        for chunk in chunks {
            bytes.append(&mut self.to.chunk(chunk).map_err(broken)?);
        }
        bytes.append(&mut self.to.finish().map_err(broken)?);
        Ok(bytes)
    }

    /// The response as its client has it, once it is closed.
    pub(super) fn response(&self) -> Option<&Map> {
        self.to.response()
    }

    /// What follows once it is known whether the response is kept: the end of a stream, or the response in one piece.
    pub(super) fn last_word(&mut self, is_kept: bool) -> Vec<u8> {
        let event = self.to.last_word(is_kept);
        match &self.out {
            Some(_) => event,
            None => self.whole(),
        }
    }

    fn whole(&self) -> Vec<u8> {
        let response = self.response().map(serde_json::to_vec);
        response.map_or_else(Vec::new, |bytes| bytes.expect("a map of values is JSON"))
    }

    pub(super) fn into_whole(self) -> Vec<u8> {
        self.whole()
    }

    /// The end, by a failure.
    pub(super) async fn abort(&mut self, failure: Failure) {
        let bytes = self.to.abort(&failure);
        self.send(bytes).await;
        if let Some(out) = &self.out {
            // Nobody reads any more: then nobody misses it.
            let _ = out.send(Err(failure)).await;
        }
    }

    /// Says that something is still going on, to whoever would hang up otherwise.
    pub(super) async fn remind(&self) {
        self.send(b": tools are at work\n\n".to_vec()).await;
    }

    pub(super) async fn send(&self, bytes: Vec<u8>) -> usize {
        let count = bytes.len();
        match &self.out {
            Some(out) if count > 0 => {
                // Nobody reads any more: then this future is about to be dropped.
                let _ = out.send(Ok(bytes.into())).await;
                count
            }
            _ => 0,
        }
    }
}

/// How a turn ends in which calls were held back.
pub(super) struct End<'a> {
    pub(super) calls: &'a [Call],
    pub(super) reason: &'a str,
}

/// Takes out of a chunk what has to wait. False where nothing is left.
fn withhold(chunk: &mut Map, has_begun: bool) -> bool {
    let mut is_worth = false;
    for choice in chunk
        .get_mut("choices")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        choice["finish_reason"] = Value::Null;
        // An answer in one piece is one large chunk.
        let said = if choice.get("delta").is_some() {
            "delta"
        } else {
            "message"
        };
        let Some(delta) = choice[said].as_object_mut() else {
            continue;
        };
        delta.remove("tool_calls");
        if has_begun {
            delta.remove("role");
        }
        is_worth |= delta.values().any(|value| !value.is_null() && value != "");
    }
    is_worth
}

fn delta(delta: &Value, reason: Option<&str>) -> Map {
    let mut chunk = Map::new();
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": reason });
    chunk.insert("choices".to_owned(), json!([choice]));
    chunk
}
