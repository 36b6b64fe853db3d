//! A response as its client hears of it.

use super::{
    super::{
        Asked, Broken,
        delta::{self, Calls},
        field::Map,
    },
    deeds::Deed,
    output::Output,
};
use forebay_domain::Failure;
use serde_json::{Value, json};

#[derive(Debug, Default)]
pub(in super::super) struct Stream {
    output: Output,
    calls: Calls,
    is_begun: bool,
}

impl Stream {
    /// Tells that the work on it has begun, once.
    pub(in super::super) fn begin(&mut self, asked: &Asked) -> Vec<u8> {
        if !std::mem::replace(&mut self.is_begun, true) {
            let response: Value = self.output.response(asked, "in_progress").into();
            self.output.emit("response.created", json!({ "response": response }));
            self.output
                .emit("response.in_progress", json!({ "response": response }));
        }
        self.output.take_events()
    }

    pub(in super::super) fn chunk(&mut self, chunk: Map, asked: &Asked) -> Result<Vec<u8>, Broken> {
        let mut events = self.begin(asked);
        for said in delta::read(chunk, &mut self.calls)? {
            self.output.say(said, asked);
        }
        events.append(&mut self.output.take_events());
        Ok(events)
    }

    pub(in super::super) fn tell(&mut self, deed: Deed, asked: &Asked) -> Vec<u8> {
        let mut events = self.begin(asked);
        self.output.tell(deed, asked);
        events.append(&mut self.output.take_events());
        events
    }

    /// All but the last event, and the response that this one tells.
    pub(in super::super) fn finish(&mut self, asked: &Asked) -> Result<(Vec<u8>, Map), Broken> {
        if !self.output.is_finished() {
            return Err(Broken::Unfinished);
        }
        let mut events = self.begin(asked);
        self.output.complete(asked);
        events.append(&mut self.output.take_events());
        Ok((events, self.output.response(asked, self.output.status())))
    }

    /// The last event.
    pub(in super::super) fn end(&mut self, response: &Map) -> Vec<u8> {
        let status = self.output.status();
        self.output
            .emit(&format!("response.{status}"), json!({ "response": response }));
        self.output.take_events()
    }

    pub(in super::super) fn abort(&mut self, failure: &Failure, asked: &Asked) -> (Vec<u8>, Map) {
        let mut events = self.begin(asked);
        let mut response = self.output.failed(failure, asked);
        response.insert("store".to_owned(), false.into());
        self.output.emit("response.failed", json!({ "response": response }));
        events.append(&mut self.output.take_events());
        (events, response)
    }
}
