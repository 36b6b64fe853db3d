//! Runs a turn: asks, hears, calls, and asks again.

use super::{
    Means,
    block::Mark,
    bounds,
    calls::{self, Call},
    hear::{self, Chunks},
    hop::{Asker, Calling},
    offer::Offered,
    plan::{self, Circumstances, Fate},
    question::Question,
    report::Report,
    stream, taint, usage,
    usage::Sum,
    wish::{Execution, Wish},
    writer::{End, Writer},
};
use crate::{
    answer,
    dialect::{self, Asked, Gathered, Map},
    reading::Begun,
    record::Record,
};
use forebay_domain::{
    Code, Failure, Principal,
    event::Outcome,
    model::{Answer, AnswerForm},
};
use futures_util::future::ready;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::Instrument;

pub(crate) struct Turn {
    pub(super) asker: Asker,
    asked: Asked,
    pub(super) chat: Map,
    pub(super) means: Option<Means>,
    pub(super) offered: Offered,
    pub(super) mark: Mark,
    /// The caller as this turn acts for it, once it has read what others wrote.
    pub(super) narrow: Option<Principal>,
    pub(super) calls_left: usize,
    rounds_left: u32,
    pub(super) until: Instant,
    /// What the gateway did; `None` where it was asked to do nothing.
    pub(super) report: Option<Report>,
    usage: Sum,
}

/// What a hop came to.
struct Round {
    message: Map,
    calls: Vec<Call>,
    fates: Vec<Fate>,
    /// Whether the turn ends with it.
    ends: bool,
    reason: String,
}

impl Turn {
    /// A turn in which the gateway only translates.
    pub(crate) fn plain(question: Question, asker: Asker) -> Self {
        Self {
            mark: Mark::new(asker.desk.entropy.bytes()),
            asker,
            asked: question.asked,
            chat: question.chat,
            means: None,
            offered: Offered::default(),
            narrow: None,
            calls_left: bounds::CALLS_MAX,
            rounds_left: bounds::ROUNDS_MAX,
            until: Instant::now() + bounds::TIME_MAX,
            report: None,
            usage: Sum::default(),
        }
    }

    /// A turn with all that its request wants of the gateway.
    pub(crate) async fn prepare(mut question: Question, asker: Asker, means: Option<Means>) -> Result<Self, Failure> {
        let Wish { context, execution } = std::mem::take(&mut question.wish);
        let mut turn = Self::plain(question, asker);
        turn.means = means;
        let tools = turn.means.as_ref().map(|means| &*means.tools);
        let offered = Offered::take(&mut turn.chat, tools, &turn.asker.principal)?;
        if execution == Execution::Server {
            turn.offered = offered;
        }
        if !turn.offered.is_empty() {
            turn.check_choices()?;
        }
        if context.is_some() || !turn.offered.is_empty() {
            turn.report = Some(Report::default());
        }
        if let Some(wanted) = context {
            turn.inform(wanted).await?;
        }
        Ok(turn)
    }

    fn check_choices(&self) -> Result<(), Failure> {
        if self.chat.get("n").and_then(Value::as_u64).unwrap_or(1) == 1 {
            return Ok(());
        }
        let message = "`n` must be 1 where tools of the gateway take part.";
        Err(Failure::new(Code::InvalidRequest, message)
            .hint("Ask once for each answer.")
            .details(json!({ "param": "n" })))
    }

    /// Asks for the first time, and answers.
    pub(crate) async fn answer(self, mut record: Record) -> Result<Answer, Failure> {
        record.asked();
        let span = record.span().clone();
        match self.asker.ask(&self.chat, Calling::Allowed).instrument(span).await {
            Ok(begun) => self.answer_from(begun, record).await,
            Err(failure) => Err(closed(record, failure)),
        }
    }

    /// Answers with what has begun.
    pub(crate) async fn answer_from(self, begun: Begun, record: Record) -> Result<Answer, Failure> {
        if !self.asker.events {
            let body = self.whole(begun, record).await?;
            let body = futures_util::stream::once(ready(Ok(body.into())));
            return Ok(Answer {
                form: AnswerForm::Whole,
                body: Box::pin(body),
            });
        }
        let (sender, words) = stream::pipe();
        let mut writer = Writer::new(self.asked.clone(), sender, !self.offered.is_empty());
        let talks = async move {
            if let Err(failure) = self.talk(begun, record, &mut writer).await {
                writer.abort(failure).await;
            }
        };
        Ok(Answer {
            form: AnswerForm::Events,
            body: Box::pin(stream::body(talks, words)),
        })
    }

    /// The answer in one piece.
    async fn whole(mut self, mut begun: Begun, mut record: Record) -> Result<Vec<u8>, Failure> {
        let mut said = String::new();
        let mut calling = Calling::Allowed;
        loop {
            let place = begun.place.clone();
            let mut answer = match hear::whole(begun, self.asker.desk.now_s()).await {
                Ok(answer) => answer,
                Err(failure) => return Err(closed(record, failure)),
            };
            match usage::read(&answer) {
                Some(usage) => record.used(usage),
                None => record.guess(answer::words(Value::from(answer.clone()).to_string().as_bytes())),
            }
            self.usage.add(answer.remove("usage").unwrap_or_default());
            if !self.offered.is_empty() {
                let (message, reason) = take_choice(&mut answer);
                let mut round = self.round(message, reason, calling);
                if round.needs_work() {
                    record.finish(Outcome::Ok);
                    self.carry_out(&mut round).await;
                }
                said.push_str(round.message.get("content").and_then(Value::as_str).unwrap_or_default());
                if !round.ends {
                    calling = self.calling();
                    record = self.asker.record();
                    let span = record.span().clone();
                    begun = match self.asker.ask(&self.chat, calling).instrument(span).await {
                        Ok(begun) => begun,
                        Err(failure) => return Err(closed(record, failure)),
                    };
                    continue;
                }
                put_choice(&mut answer, round, std::mem::take(&mut said));
            }
            answer.extend(self.last());
            let answer = dialect::chat_to_answer(answer, &self.asked);
            let answer = match answer.map_err(|broken| hear::failure(broken, &place)) {
                Ok(answer) => Value::from(answer).to_string().into_bytes(),
                Err(failure) => return Err(closed(record, failure)),
            };
            record.passed(answer.len());
            record.finish(Outcome::Ok);
            return Ok(answer);
        }
    }

    /// The answer as a stream.
    async fn talk(mut self, mut begun: Begun, mut record: Record, writer: &mut Writer) -> Result<(), Failure> {
        writer.begin().await;
        let mut calling = Calling::Allowed;
        loop {
            let mut chunks = Chunks::new(begun, self.asker.desk.now_s());
            let gathered = match self.pass_on(&mut chunks, &mut record, writer).await {
                Ok(gathered) => gathered,
                Err(failure) => return Err(closed(record, failure)),
            };
            let mut round = None;
            if !self.offered.is_empty() {
                let reason = gathered.finish_reason().unwrap_or("stop").to_owned();
                let mut this = self.round(gathered.message(), reason, calling);
                if this.needs_work() {
                    record.finish(Outcome::Ok);
                    self.work(&mut this, writer).await;
                }
                if !this.ends {
                    calling = self.calling();
                    record = self.asker.record();
                    let span = record.span().clone();
                    begun = match self.asker.ask(&self.chat, calling).instrument(span).await {
                        Ok(begun) => begun,
                        Err(failure) => return Err(closed(record, failure)),
                    };
                    continue;
                }
                round = Some(this);
            }
            let calls = round.as_mut().map(Round::theirs);
            let end = round.as_ref().zip(calls.as_ref()).map(|(round, calls)| End {
                calls,
                reason: &round.reason,
            });
            let last = self.last();
            return match writer.close(end, last, chunks.place()) {
                // The record closes before the client has it all: many hang up at once.
                Ok(bytes) => {
                    record.passed(bytes.len());
                    record.finish(Outcome::Ok);
                    writer.send(bytes).await;
                    Ok(())
                }
                Err(failure) => Err(closed(record, failure)),
            };
        }
    }

    /// Passes on what the model says, and keeps it.
    async fn pass_on(
        &mut self,
        chunks: &mut Chunks,
        record: &mut Record,
        writer: &mut Writer,
    ) -> Result<Gathered, Failure> {
        let mut gathered = Gathered::default();
        let mut used = Value::Null;
        while let Some(chunk) = chunks.next().await? {
            if !self.offered.is_empty() {
                gathered
                    .chunk(&chunk)
                    .map_err(|broken| hear::failure(broken, chunks.place()))?;
            }
            if let Some(usage) = usage::read(&chunk) {
                record.used(usage);
                used = chunk.get("usage").cloned().unwrap_or_default();
            }
            let sent = writer.chunk(chunk, chunks.place()).await?;
            if sent > 0 {
                record.chunk();
                record.passed(sent);
            }
        }
        self.usage.add(used);
        Ok(gathered)
    }

    /// What is told once, at the end.
    fn last(&self) -> Map {
        let mut last = Map::new();
        if let Some(usage) = self.usage.value() {
            last.insert("usage".to_owned(), usage);
        }
        if let Some(report) = &self.report {
            let ours = report.value(&self.usage, self.asker.via.trace);
            last.insert("forebay".to_owned(), ours);
        }
        last
    }

    /// What is to be done about what the model said.
    fn round(&self, mut message: Map, reason: String, calling: Calling) -> Round {
        let calls = calls::take(&mut message, &self.asker.desk.entropy);
        let circumstances = Circumstances {
            offered: &self.offered,
            principal: &self.asker.principal,
            narrow: self.narrow.as_ref(),
            calls_left: self.calls_left,
        };
        let mut round = Round {
            message,
            calls,
            fates: Vec::new(),
            ends: true,
            reason,
        };
        if calling == Calling::Over {
            // It calls all the same. Nobody asked for that, and nobody runs it.
            round.calls.clear();
        }
        let (fates, returns) = plan::decide(&round.calls, &circumstances);
        round.ends = returns || fates.is_empty();
        round.fates = fates;
        if returns {
            "tool_calls".clone_into(&mut round.reason);
        } else if round.ends && round.reason == "tool_calls" {
            "stop".clone_into(&mut round.reason);
        }
        round
    }

    /// Runs the calls of a round while the client of a stream is kept company.
    async fn work(&mut self, round: &mut Round, writer: &Writer) {
        let mut reminders = interval_at(Instant::now() + bounds::REMINDER, bounds::REMINDER);
        reminders.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = self.carry_out(round);
        tokio::pin!(work);
        loop {
            tokio::select! {
                () = &mut work => return,
                _ = reminders.tick() => writer.remind().await,
            }
        }
    }

    /// Runs the calls of a round, and puts them and their results into the conversation where it goes on.
    async fn carry_out(&mut self, round: &mut Round) {
        self.rounds_left = self.rounds_left.saturating_sub(1);
        let outcomes = self.outcomes(&round.calls, &round.fates, round.ends).await;
        if round.ends {
            return;
        }
        let mut message = round.message.clone();
        message.insert("tool_calls".to_owned(), round.calls.iter().map(Call::mended).collect());
        message.retain(|key, value| key == "content" || !value.is_null());
        let results = round.calls.iter().zip(outcomes);
        let results = results.map(|(call, text)| json!({ "role": "tool", "tool_call_id": call.id, "content": text }));
        if let Some(Value::Array(messages)) = self.chat.get_mut("messages") {
            messages.push(message.into());
            messages.extend(results);
        }
        // What the client chose, it chose for the first time.
        if self
            .chat
            .get("tool_choice")
            .is_some_and(|choice| choice != "auto" && choice != "none")
        {
            self.chat.remove("tool_choice");
        }
        if Instant::now() >= self.until {
            round.ends = true;
            "length".clone_into(&mut round.reason);
            self.ended("time");
        }
    }

    fn ended(&mut self, why: &'static str) {
        if let Some(report) = &mut self.report {
            report.ended = Some(why);
        }
    }

    /// Whether the model may go on calling.
    fn calling(&mut self) -> Calling {
        if self.rounds_left > 0 && self.calls_left > 0 {
            return Calling::Allowed;
        }
        self.ended(if self.rounds_left == 0 { "rounds" } else { "calls" });
        Calling::Over
    }

    /// The narrower caller of a turn that has read what others wrote.
    pub(super) fn taint(&mut self) {
        if self.narrow.is_none() {
            self.narrow = Some(taint::narrow(&self.asker.principal));
        }
    }
}

impl Round {
    /// Whether something is to be run, or to be told to the model or in the report.
    fn needs_work(&self) -> bool {
        !self.fates.iter().all(|fate| matches!(fate, Fate::Back))
    }

    /// The calls that go back to the client.
    fn theirs(&mut self) -> Vec<Call> {
        let calls = self.calls.drain(..).zip(&self.fates);
        let theirs = calls.filter(|(_, fate)| matches!(fate, Fate::Back | Fate::Approval));
        theirs.map(|(call, _)| call).collect()
    }
}

fn take_choice(answer: &mut Map) -> (Map, String) {
    let choice = answer.get_mut("choices").and_then(|choices| choices.get_mut(0));
    let Some(choice) = choice else {
        return (Map::new(), "stop".to_owned());
    };
    let reason = choice["finish_reason"].as_str().unwrap_or("stop").to_owned();
    match choice["message"].take() {
        Value::Object(message) => (message, reason),
        _ => (Map::new(), reason),
    }
}

/// The last message, with the words of all hops: those whose answer was streamed have heard them too.
fn put_choice(answer: &mut Map, mut round: Round, said: String) {
    let calls = round.theirs();
    let mut message = round.message;
    if !said.is_empty() {
        message.insert("content".to_owned(), said.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.iter().map(Call::value).collect());
    }
    let choice = answer.get_mut("choices").and_then(|choices| choices.get_mut(0));
    if let Some(choice) = choice {
        choice["message"] = message.into();
        choice["finish_reason"] = round.reason.into();
    }
}

fn closed(mut record: Record, failure: Failure) -> Failure {
    record.finish(Outcome::Failed(failure.code));
    failure
}
