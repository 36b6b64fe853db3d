//! What a turn does for a response beside what it does for a chat: it offers the servers that the request names, runs
//! what was agreed to, tells of its own calls as items, and keeps the answer.

use super::{
    calls::Call,
    kept::{Approved, is_issued},
    offer::Offered,
    plan::{self, Circumstances, Fate},
    round::Round,
    run::Turn,
    servers::{self, Asking},
    writer::Writer,
};
use crate::{
    dialect::{Deed, Errand, Map},
    reading::Begun,
    record::Record,
};
use forebay_domain::{Code, Failure, port::CallTool};
use serde_json::{Value, json};
use std::collections::BTreeSet;

impl Turn {
    /// Puts the tools of the servers that the request names among what is offered.
    pub(super) fn offer_servers(&mut self, offered: &mut Offered) -> Result<(), Failure> {
        let Some(thread) = &mut self.thread else { return Ok(()) };
        let asking = Asking {
            tools: self.means.as_ref().map(|means| &*means.tools),
            principal: &self.asker.principal,
            base_url: thread.base_url.as_deref(),
        };
        let listed = servers::expand(&mut self.chat, offered, &asking)?;
        // What the conversation lists already the model and the client know.
        let new = listed
            .into_iter()
            .filter(|found| !thread.listed.contains(&found.server));
        thread.deeds.extend(new.map(|found| Deed::Lists {
            server: found.server,
            tools: found.tools,
        }));
        Ok(())
    }

    /// Takes over what the conversation before leaves to this turn.
    pub(super) fn go_on(&mut self) -> Result<(), Failure> {
        let Some(thread) = &self.thread else { return Ok(()) };
        let unknown = |approved: &&Approved| self.offered.get(&approved.name).is_none();
        if let Some(approved) = thread.approved.iter().find(unknown) {
            let problem = format!(
                "agrees to a call of `{}`, which is not among the `tools` of this request",
                approved.name.escape_debug()
            );
            return Err(super::kept::invalid("input", &problem));
        }
        let tools: Option<&dyn CallTool> = self.means.as_ref().map(|means| &*means.tools);
        let is_trusted = |name: &String| {
            let found = tools.and_then(|tools| tools.find(&self.asker.principal, name));
            found.is_some_and(|info| info.is_trusted)
        };
        let is_tainted = thread.is_tainted || !thread.ran.iter().all(is_trusted);
        self.calls_left = self.calls_left.min(thread.calls_max.unwrap_or(usize::MAX));
        if is_tainted {
            self.report.get_or_insert_default();
            self.taint();
        }
        Ok(())
    }

    /// Runs the calls that were agreed to before the model is asked.
    pub(super) async fn run_approved(&mut self) -> Result<(), Failure> {
        let approved = self.thread.as_mut().map(|thread| std::mem::take(&mut thread.approved));
        let Some(approved) = approved.filter(|approved| !approved.is_empty()) else {
            return Ok(());
        };
        let calls: Vec<Call> = approved.into_iter().map(Call::from).collect();
        let ids = calls.iter().map(|call| call.id.clone()).collect();
        if let Some(thread) = &mut self.thread {
            thread.agreed = ids;
        }
        let mut fates = self.fates_of_approved(&calls);
        self.claim(&calls, &mut fates).await?;
        let round = Round {
            message: self.take_last_words(),
            calls,
            fates,
            ends: false,
            reason: String::new(),
        };
        self.announce(&round);
        self.run_calls(&round).await;
        self.release(&round).await;
        if let Some(thread) = &mut self.thread {
            thread.agreed.clear();
        }
        Ok(())
    }

    fn fates_of_approved(&self, calls: &[Call]) -> Vec<Fate> {
        let circumstances = Circumstances {
            offered: &self.offered,
            principal: &self.asker.principal,
            narrow: self.narrow.as_ref(),
            calls_left: self.calls_left,
        };
        let (fates, _) = plan::decide(calls, &circumstances);
        let run = fates.iter().filter(|fate| matches!(fate, Fate::Run)).count();
        let mut left = self.calls_left.saturating_sub(run);
        let fates = fates.into_iter().map(|fate| match fate {
            // Somebody has agreed, and the client waits for nothing else.
            Fate::Approval | Fate::PutOff if left > 0 => {
                left -= 1;
                Fate::Run
            }
            Fate::Approval | Fate::PutOff => Fate::Refused(Failure::new(Code::Overloaded, plan::NO_MORE)),
            Fate::Run | Fate::Refused(_) | Fate::Back => fate,
        });
        fates.collect()
    }

    /// Has it written down that these calls are about to run, so that none of them runs again: not for a client that
    /// repeats its request, not for one that sends it twice at once, and not on another branch of the conversation.
    async fn claim(&self, calls: &[Call], fates: &mut [Fate]) -> Result<(), Failure> {
        let Some(thread) = &self.thread else { return Ok(()) };
        let is_claimed = |call: &Call, fate: &Fate| matches!(fate, Fate::Run) && is_issued(&call.id);
        let all = calls.iter().zip(fates.iter());
        let wanted = all.filter(|(call, fate)| is_claimed(call, fate));
        let wanted: BTreeSet<String> = wanted.map(|(call, _)| call.id.clone()).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let books = &self.asker.desk.books;
        let until = thread.kept_until;
        let first = books
            .shelf
            .claim(&self.asker.principal, wanted, books.clock.now(), until);
        let first = first.await?;
        for (call, fate) in calls.iter().zip(fates) {
            if is_claimed(call, fate) && !first.contains(&call.id) {
                let message = "It was agreed to before, and has run or may have run; it does not run twice.";
                *fate = Fate::Refused(
                    Failure::new(Code::Conflict, message).hint("Do not take it for undone: look at what is there."),
                );
            }
        }
        Ok(())
    }

    /// What was claimed and not let run may be agreed to again.
    async fn release(&self, round: &Round) {
        let all = round.calls.iter().zip(&round.fates);
        let claimed = all.filter(|(call, fate)| matches!(fate, Fate::Run) && is_issued(&call.id));
        let refused = claimed.filter(|(call, _)| self.refused.contains(&call.id));
        let refused: BTreeSet<String> = refused.map(|(call, _)| call.id.clone()).collect();
        if !refused.is_empty() {
            let books = &self.asker.desk.books;
            books.shelf.release(&self.asker.principal, refused).await;
        }
    }

    /// What the assistant said last, where it is to go on with it: many templates know no two of its messages in a row.
    fn take_last_words(&mut self) -> Map {
        let messages = self.chat.get_mut("messages").and_then(Value::as_array_mut);
        let is_open = |last: &mut Value| last["role"] == "assistant" && last.get("tool_calls").is_none();
        let last = messages.and_then(|messages| messages.pop_if(is_open));
        match last.unwrap_or_else(|| json!({ "role": "assistant", "content": null })) {
            Value::Object(message) => message,
            _ => Map::new(),
        }
    }

    /// Notes the calls that are about to run.
    pub(super) fn announce(&mut self, round: &Round) {
        let Some(thread) = &mut self.thread else { return };
        for (key, (call, fate)) in round.calls.iter().zip(&round.fates).enumerate() {
            if matches!(fate, Fate::Run | Fate::Refused(_))
                && let Some(mine) = self.offered.get(&call.name)
            {
                let approval = thread.agreed.contains(&call.id).then(|| call.id.clone());
                thread
                    .deeds
                    .push(Deed::Calls(errand(key, call, &mine.info.server, approval)));
            }
        }
    }

    /// Notes what became of a call.
    pub(super) fn note(&mut self, key: usize, call: &Call, shown: Shown) {
        let Some(thread) = &mut self.thread else { return };
        let server = self.offered.get(&call.name).map(|mine| mine.info.server.as_str());
        match (shown, server) {
            (Shown::Ended(result), Some(_)) => thread.deeds.push(Deed::Ended { key, result }),
            (Shown::Asked, Some(server)) => thread.deeds.push(Deed::Asks(errand(key, call, server, None))),
            (Shown::Nothing, _) | (_, None) => {}
        }
    }

    /// Tells the client what was noted.
    pub(super) async fn tell(&mut self, writer: &mut Writer) {
        let deeds = self.thread.as_mut().map(|thread| std::mem::take(&mut thread.deeds));
        for deed in deeds.into_iter().flatten() {
            writer.tell(deed).await;
        }
    }

    /// The calls of the last round that the client is to run. Of a response those that wait for approval are items of
    /// their own.
    pub(super) fn theirs(&self, round: &mut Round) -> Vec<Call> {
        let mut calls = round.theirs();
        if self.thread.is_some() {
            calls.retain(|call| self.offered.get(&call.name).is_none());
        }
        calls
    }

    /// Keeps the response where it is to be kept, and adds the last word to the last bytes. One that cannot be kept is
    /// an answer all the same; it says that it is not kept.
    pub(super) async fn seal(&mut self, mut bytes: Vec<u8>, writer: &mut Writer) -> Vec<u8> {
        let draft = self.thread.as_mut().and_then(|thread| thread.draft.take());
        let mut is_kept = false;
        if let (Some(draft), Some(response)) = (draft, writer.response()) {
            let books = &self.asker.desk.books;
            let (principal, now) = (&self.asker.principal, books.clock.now());
            let kept = books.shelf.keep(principal, draft, &self.asked, response, now);
            match kept.await {
                Ok(()) => is_kept = true,
                Err(error) => {
                    let failure = Failure::from(error);
                    tracing::warn!(error.code = failure.code.as_str(), "a response could not be kept");
                }
            }
        }
        bytes.append(&mut writer.last_word(is_kept));
        bytes
    }

    /// A response in one piece: what its stream would have told in the end.
    pub(super) async fn whole_response(self, begun: Begun, record: Record) -> Result<Vec<u8>, Failure> {
        let mut writer = Writer::silent(self.asked.clone(), !self.offered.is_empty());
        Box::pin(self.talk(begun, record, &mut writer)).await?;
        Ok(writer.into_whole())
    }
}

/// What a response shows of a call.
pub(super) enum Shown {
    Nothing,
    /// Somebody has to agree first.
    Asked,
    /// It came to this: an output, or an error in the form of the API.
    Ended(Result<String, Value>),
}

impl Shown {
    /// The gateway did not get the call done.
    pub(super) fn failed(failure: &Failure) -> Self {
        // JSON-RPC's "internal error": the API has no other numbers.
        let error = json!({ "type": "mcp_protocol_error", "code": -32603, "message": failure.sentence() });
        Self::Ended(Err(error))
    }

    /// The tool says that it failed.
    pub(super) fn tool_failed(text: &str) -> Self {
        let content = json!([{ "type": "text", "text": text }]);
        Self::Ended(Err(json!({ "type": "mcp_tool_execution_error", "content": content })))
    }
}

impl From<Approved> for Call {
    fn from(approved: Approved) -> Self {
        Self {
            id: approved.request,
            name: approved.name,
            written: approved.arguments,
        }
    }
}

fn errand(key: usize, call: &Call, server: &str, approval: Option<String>) -> Errand {
    Errand {
        key,
        server: server.to_owned(),
        name: call.name.clone(),
        arguments: call
            .arguments()
            .as_deref()
            .map_or_else(|| call.written.clone(), |object| object.get().to_owned()),
        approval,
    }
}
