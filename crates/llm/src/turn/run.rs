//! Runs a turn: asks, hears, calls, and asks again.

use super::{
    Means,
    block::Mark,
    bounds::Bounds,
    hear::{self, Chunks},
    hop::{Asker, Calling},
    kept::{Thread, mark_of},
    offer::Offered,
    question::Question,
    report::{self, Report},
    round::{accompanied, take_choice},
    stream, usage,
    usage::Sum,
    wish::{Execution, Wish},
    writer::{End, Writer},
};
use crate::{
    answer,
    dialect::{self, Asked, Gathered, Map},
    money::Spent,
    reading::Begun,
    record::Record,
};
use forebay_domain::{Code, Failure, Principal, event::Outcome, model::Answer};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use tokio::time::Instant;
use tracing::Instrument;

pub(crate) struct Turn {
    pub(super) asker: Asker,
    pub(super) asked: Asked,
    pub(super) chat: Map,
    pub(super) means: Option<Means>,
    pub(super) offered: Offered,
    pub(super) mark: Mark,
    /// The caller as this turn acts for it, once it has read what others wrote.
    pub(super) narrow: Option<Principal>,
    pub(super) bounds: Arc<Bounds>,
    pub(super) calls_left: usize,
    pub(super) rounds_left: u32,
    pub(super) until: Instant,
    /// What the gateway did; `None` where it was asked to do nothing.
    pub(super) report: Option<Report>,
    /// What a response has that a chat has not.
    pub(super) thread: Option<Thread>,
    /// The tools whose calls may have changed something: nobody is to repeat them unawares.
    pub(super) changed: BTreeSet<String>,
    /// The ids of the calls that were not let run.
    pub(super) refused: BTreeSet<String>,
    usage: Sum,
    /// What the hops and the tools so far came to.
    pub(super) spent: Spent,
}

impl Turn {
    /// A turn in which the gateway only translates.
    pub(crate) fn plain(question: Question, asker: Asker) -> Self {
        let bounds = asker.desk.settings.load().turns.clone();
        Self {
            mark: match question.thread {
                Some(_) => mark_of(&question.asked.id),
                None => Mark::new(asker.desk.entropy.bytes()),
            },
            asker,
            asked: question.asked,
            chat: question.chat,
            means: None,
            offered: Offered::default(),
            narrow: None,
            calls_left: bounds.calls_max,
            rounds_left: bounds.rounds_max,
            until: Instant::now() + bounds.time_max,
            bounds,
            report: None,
            thread: question.thread,
            changed: BTreeSet::new(),
            refused: BTreeSet::new(),
            usage: Sum::default(),
            spent: Spent::default(),
        }
    }

    /// A turn with all that its request wants of the gateway.
    pub(crate) async fn prepare(mut question: Question, asker: Asker, means: Option<Means>) -> Result<Self, Failure> {
        let Wish { context, execution } = std::mem::take(&mut question.wish);
        let mut turn = Self::plain(question, asker);
        turn.means = means;
        let tools = turn.means.as_ref().map(|means| &*means.tools);
        let mut offered = Offered::take(&mut turn.chat, tools, &turn.asker.principal)?;
        turn.offer_servers(&mut offered)?;
        if execution == Execution::Server {
            turn.offered = offered;
        }
        if !turn.offered.is_empty() {
            turn.check_choices()?;
        }
        if context.is_some() || !turn.offered.is_empty() {
            turn.report = Some(Report::default());
        }
        turn.go_on()?;
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
    pub(crate) async fn answer(mut self, mut record: Record) -> Result<Answer, Failure> {
        if let Err(failure) = self.run_approved().await {
            return Err(self.closed(record, failure));
        }
        let span = record.span().clone();
        let asked = self.asker.ask(&self.chat, Calling::Allowed, &mut record);
        match asked.instrument(span).await {
            Ok(begun) => self.answer_from(begun, record).await,
            Err(failure) => Err(self.closed(record, failure)),
        }
    }

    /// Answers with what has begun.
    pub(crate) async fn answer_from(self, begun: Begun, record: Record) -> Result<Answer, Failure> {
        if !self.asker.events {
            let body = match self.thread {
                Some(_) => self.whole_response(begun, record).await?,
                None => self.whole(begun, record).await?,
            };
            return Ok(Answer::Whole(body.into()));
        }
        let (sender, words) = stream::pipe();
        let mut writer = Writer::new(self.asked.clone(), sender, !self.offered.is_empty());
        let talks = async move {
            if let Err(failure) = Box::pin(self.talk(begun, record, &mut writer)).await {
                writer.abort(failure).await;
            }
        };
        Ok(Answer::Events(Box::pin(stream::body(talks, words))))
    }

    /// The answer in one piece.
    async fn whole(mut self, mut begun: Begun, mut record: Record) -> Result<Vec<u8>, Failure> {
        let mut said = String::new();
        let mut calling = Calling::Allowed;
        loop {
            let place = begun.place.clone();
            let mut answer = match hear::whole(begun, self.asker.desk.now_s()).await {
                Ok(answer) => answer,
                Err(failure) => return Err(self.closed(record, failure)),
            };
            if let Some(usage) = usage::read(&answer) {
                record.used(usage);
            } else {
                let text = Value::from(answer.clone()).to_string();
                record.guess(answer::words(text.as_bytes()));
                record.said(|| answer::said(text.as_bytes()));
            }
            self.spent.add(record.cost());
            self.usage.add(answer.remove("usage").unwrap_or_default());
            if !self.offered.is_empty() {
                let (message, reason) = take_choice(&mut answer);
                let round = self.round(message, reason, calling);
                if round.needs_work() {
                    record.finish(Outcome::Ok);
                    self.carry_out(&round).await;
                }
                said.push_str(round.message.get("content").and_then(Value::as_str).unwrap_or_default());
                if !round.ends {
                    (begun, record, calling) = self.ask_again().await?;
                    continue;
                }
                round.put(&mut answer, std::mem::take(&mut said));
            }
            answer.extend(self.last());
            let answer = dialect::chat_to_answer(answer, &self.asked);
            let answer = match answer.map_err(|broken| hear::failure(broken, &place)) {
                Ok(answer) => Value::from(answer).to_string().into_bytes(),
                Err(failure) => return Err(self.closed(record, failure)),
            };
            record.passed(answer.len());
            record.finish(Outcome::Ok);
            return Ok(answer);
        }
    }

    /// The answer as a stream, or as a response that its writer puts together.
    pub(super) async fn talk(
        mut self,
        mut begun: Begun,
        mut record: Record,
        writer: &mut Writer,
    ) -> Result<(), Failure> {
        writer.begin().await;
        self.tell(writer).await;
        let mut calling = Calling::Allowed;
        loop {
            let mut chunks = Chunks::new(begun, self.asker.form(), self.asker.desk.now_s());
            let gathered = match self.pass_on(&mut chunks, &mut record, writer).await {
                Ok(gathered) => gathered,
                Err(failure) => return Err(self.closed(record, failure)),
            };
            let mut round = None;
            if !self.offered.is_empty() {
                let reason = gathered.finish_reason().unwrap_or("stop").to_owned();
                let this = self.round(gathered.message(), reason, calling);
                if this.needs_work() {
                    record.finish(Outcome::Ok);
                    self.announce(&this);
                    self.tell(writer).await;
                    let every = self.bounds.keep_alive;
                    accompanied(self.carry_out(&this), every, writer).await;
                    self.tell(writer).await;
                }
                if !this.ends {
                    let every = self.bounds.keep_alive;
                    (begun, record, calling) = accompanied(self.ask_again(), every, writer).await?;
                    continue;
                }
                round = Some(this);
            }
            let calls = round.as_mut().map(|round| self.theirs(round));
            let end = round.as_ref().zip(calls.as_ref()).map(|(round, calls)| End {
                calls,
                reason: &round.reason,
            });
            let last = self.last();
            return match writer.close(end, last, chunks.place()) {
                // The record closes before the client has it all: many hang up at once.
                Ok(bytes) => {
                    let bytes = self.seal(bytes, writer).await;
                    record.passed(bytes.len());
                    record.finish(Outcome::Ok);
                    writer.send(bytes).await;
                    Ok(())
                }
                Err(failure) => Err(self.closed(record, failure)),
            };
        }
    }

    /// Asks the model once more, with what its tools have answered.
    async fn ask_again(&mut self) -> Result<(Begun, Record, Calling), Failure> {
        let calling = self.calling();
        let mut record = self.asker.record();
        let span = record.span().clone();
        let asked = self.asker.ask(&self.chat, calling, &mut record);
        match asked.instrument(span).await {
            Ok(begun) => Ok((begun, record, calling)),
            Err(failure) => Err(self.closed(record, failure)),
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
        loop {
            record.waits(true);
            let Some(chunk) = chunks.next().await? else { break };
            record.waits(false);
            if !self.offered.is_empty() {
                gathered
                    .chunk(&chunk)
                    .map_err(|broken| hear::failure(broken, chunks.place()))?;
            }
            if let Some(usage) = usage::read(&chunk) {
                record.used(usage);
                used = chunk.get("usage").cloned().unwrap_or_default();
            } else if !self.asker.events {
                record.guess(answer::words(Value::from(chunk.clone()).to_string().as_bytes()));
            }
            record.said(|| answer::said(Value::from(chunk.clone()).to_string().as_bytes()));
            let sent = writer.chunk(chunk, chunks.place()).await?;
            if sent > 0 {
                record.chunk();
                record.passed(sent);
            }
        }
        self.usage.add(used);
        self.spent.add(record.cost());
        Ok(gathered)
    }

    /// What is told once, at the end.
    fn last(&self) -> Map {
        let mut last = Map::new();
        if let Some(usage) = self.usage.value() {
            last.insert("usage".to_owned(), usage);
        }
        if let Some(report) = &self.report {
            let ours = report.value(&self.usage, &self.spent, self.asker.via.trace);
            last.insert("forebay".to_owned(), ours);
        }
        last
    }

    /// The end of the turn, by a failure.
    fn closed(&self, mut record: Record, failure: Failure) -> Failure {
        record.finish(Outcome::Failed(failure.code));
        report::after(failure, &self.changed)
    }
}
