//! From a call to an HTTP answer: plain JSON where it ends soon, a stream of events where it does not.
//!
//! In the modern era the stream drives the call itself, so when the client goes away the call is dropped with it. A
//! legacy call that becomes a stream is driven by a task of its own, because its client may come back for the rest. A
//! comment every few seconds keeps a silent connection alive.

use super::{
    Front,
    follow::LIFE_PERIOD,
    parked::Ticket,
    running::{Next, Running},
    told::Said,
};
use crate::{
    era::Version,
    reply::{KEEP_ALIVE, OPENING, Reply, event},
    rpc::{self, Answered, Dialect},
    session::{
        Busy, Session,
        log::{Log, Reader},
        place::{Place, Use},
        streams::Found,
    },
};
use bytes::Bytes;
use forebay_domain::{Code, Failure};
use futures_util::{Stream, stream};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// A call that takes longer than this answers with a stream.
const PATIENCE: Duration = Duration::from_secs(1);
const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(15);

/// Which forms of an answer the client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepts {
    Json,
    JsonAndEvents,
}

enum First {
    Say(Said),
    HangUp,
    End(Answered),
    Nothing,
}

impl Front {
    /// Answers a modern request.
    pub(crate) async fn answer(&self, mut running: Running, ticket: Ticket, accepts: Accepts) -> Reply {
        let (front, patience) = (self.clone(), tokio::time::sleep(PATIENCE));
        tokio::pin!(patience);
        let first = loop {
            let next = tokio::select! {
                biased;
                next = running.next() => next,
                () = &mut patience, if accepts == Accepts::JsonAndEvents => break First::Nothing,
            };
            match next {
                Next::Say(said) if accepts == Accepts::JsonAndEvents => break First::Say(said),
                Next::Say(_) | Next::HangUp => {}
                Next::Ask => return self.park(running, &ticket).reply(),
                Next::End(answered) => break First::End(answered),
            }
        };
        let mut live = Live {
            front,
            waiting: VecDeque::from([OPENING]),
            running: Some((running, ticket)),
        };
        match first {
            First::End(answered) => return answered.reply(),
            First::Say(said) => live.waiting.push_back(event(&said.message)),
            First::HangUp | First::Nothing => {}
        }
        Reply::events(live.into_stream())
    }

    /// Answers a request of a legacy session.
    pub(crate) async fn answer_legacy(&self, mut running: Running, session: Arc<Session>, accepts: Accepts) -> Reply {
        if accepts == Accepts::Json {
            return finish(&mut running).await.reply();
        }
        let first = tokio::select! {
            biased;
            next = running.next() => match next {
                Next::Say(said) => First::Say(said),
                Next::End(answered) => First::End(answered),
                Next::HangUp => First::HangUp,
                Next::Ask => First::Nothing,
            },
            () = tokio::time::sleep(PATIENCE) => First::Nothing,
        };
        if let First::End(answered) = first {
            return answered.reply();
        }
        let log = match session.streams.open(running.id(), self.sessions().now_ms()) {
            Ok(log) => log,
            Err(failure) => {
                return rpc::failed(Some(running.id()), &failure, Dialect::Streamable(session.version)).reply();
            }
        };
        let opening = opening(&log, &session);
        let reply = self.read(log.read(0), [opening], Lasts::UntilItsEnd, &session).reply();
        match first {
            First::Say(said) => log.push(&said.message, said.weight),
            First::HangUp => hang_up(&log, &session),
            First::End(_) | First::Nothing => {}
        }
        self.host(running, log, session);
        reply
    }

    /// Hands a legacy call to a task of its own: whether anybody reads its stream does not concern it.
    fn host(&self, mut running: Running, log: Arc<Log>, session: Arc<Session>) {
        let front = self.clone();
        let held = self.sessions().shelf().holds();
        self.tasks().spawn("mcp call", |_| async move {
            let mut life = interval_at(Instant::now() + LIFE_PERIOD, LIFE_PERIOD);
            life.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let next = tokio::select! {
                    biased;
                    next = running.next() => next,
                    _ = life.tick() => {
                        log.show_life();
                        continue;
                    }
                };
                match next {
                    Next::Say(said) => log.push(&said.message, said.weight),
                    Next::HangUp => hang_up(&log, &session),
                    Next::Ask => {}
                    Next::End(answered) => {
                        // A request that was taken back gets no answer: the end of the stream is all there is to say.
                        let told = answered.failed != Some(Code::Cancelled);
                        log.end(told.then_some(&*answered.message), front.sessions().now_ms());
                        drop(held);
                        return;
                    }
                }
            }
        });
    }

    /// The events of a stream, behind what comes first.
    fn read(
        &self,
        reader: Reader,
        before: impl Into<VecDeque<Bytes>>,
        lasts: Lasts,
        session: &Arc<Session>,
    ) -> Reading {
        Reading {
            front: self.clone(),
            before: before.into(),
            reader,
            keep_alive: keep_alive(),
            lasts,
            _busy: self.sessions().busy(session),
        }
    }

    /// The stream on which the gateway speaks first, or what is left of another one where an event of it is named: from
    /// memory, or from the store where another process drove it or nobody does any more.
    pub(crate) async fn answer_get(&self, session: &Arc<Session>, last_event: Option<&str>) -> Result<Reply, Failure> {
        let place = last_event.and_then(Place::parse);
        if let Some(place) = &place {
            match session.streams.find(place) {
                Some(Found::Call(log, after)) => {
                    return Ok(self
                        .read(log.read(after), [OPENING], Lasts::UntilItsEnd, session)
                        .reply());
                }
                Some(Found::Listener(log, after)) => {
                    return Ok(self
                        .read(log.read(after), [OPENING], Lasts::UntilDrained, session)
                        .reply());
                }
                None => {}
            }
            if place.stream.used() == Use::Call
                && let Some(reply) = self.follow(session, place.clone()).await?
            {
                return Ok(reply);
            }
        }
        // What is not there any more cannot be resumed; what comes from now on can be heard. It listens before the store
        // is asked for what came earlier, so that nothing is said in between.
        let reader = session.streams.listen(self.sessions().now_ms());
        let opening = opening(&reader.log, session);
        let mut reading = self.read(reader, [opening], Lasts::UntilDrained, session);
        if let Some(place) = place.filter(|place| place.stream.used() == Use::Listener) {
            for missed in self.recall(session, &place).await?.into_iter().rev() {
                reading.before.push_front(missed);
            }
        }
        Ok(reading.reply())
    }
}

/// How a new stream begins. Clients of older versions could not read an event without a message.
fn opening(log: &Log, session: &Session) -> Bytes {
    if session.version >= Version::V2025_11_25 {
        log.priming()
    } else {
        OPENING
    }
}

/// Lets go of the connection, where the client's version says that it comes back.
fn hang_up(log: &Log, session: &Session) {
    if session.version >= Version::V2025_11_25 {
        log.hang_up();
    }
}

/// Drives a call to its end, for a client that hears nothing else.
pub(crate) async fn finish(running: &mut Running) -> Answered {
    loop {
        if let Next::End(answered) = running.next().await {
            return answered;
        }
    }
}

pub(crate) fn keep_alive() -> Interval {
    let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE_PERIOD, KEEP_ALIVE_PERIOD);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keep_alive
}

/// How long a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasts {
    UntilItsEnd,
    /// One that belongs to no call ends when the gateway drains.
    UntilDrained,
}

/// A reader of a legacy stream and its connection.
struct Reading {
    front: Front,
    before: VecDeque<Bytes>,
    reader: Reader,
    keep_alive: Interval,
    lasts: Lasts,
    _busy: Busy,
}

impl Reading {
    fn reply(self) -> Reply {
        Reply::events(stream::unfold(self, |mut reading| async move {
            let next = reading.next().await?;
            Some((next, reading))
        }))
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(before) = self.before.pop_front() {
            return Some(before);
        }
        tokio::select! {
            biased;
            frame = self.reader.next() => frame,
            () = self.front.stopping(), if self.lasts == Lasts::UntilDrained => None,
            _ = self.keep_alive.tick() => Some(KEEP_ALIVE),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.reader.leave(self.front.sessions().now_ms());
    }
}

/// A modern answer that is being streamed.
struct Live {
    front: Front,
    waiting: VecDeque<Bytes>,
    running: Option<(Running, Ticket)>,
}

impl Live {
    fn into_stream(self) -> impl Stream<Item = Bytes> + Send + 'static {
        stream::unfold((self, keep_alive()), |(mut live, mut keep_alive)| async move {
            while live.waiting.is_empty() {
                let (running, _) = live.running.as_mut()?;
                let next = tokio::select! {
                    biased;
                    next = running.next() => next,
                    _ = keep_alive.tick() => {
                        live.waiting.push_back(KEEP_ALIVE);
                        continue;
                    }
                };
                match next {
                    Next::Say(said) => live.waiting.push_back(event(&said.message)),
                    Next::HangUp => {}
                    Next::Ask => {
                        let (running, ticket) = live.running.take()?;
                        let answered = live.front.park(running, &ticket);
                        live.waiting.push_back(event(&answered.message));
                    }
                    Next::End(answered) => {
                        live.running = None;
                        if answered.failed != Some(Code::Cancelled) {
                            live.waiting.push_back(event(&answered.message));
                        }
                    }
                }
            }
            let next = live.waiting.pop_front()?;
            Some((next, (live, keep_alive)))
        })
    }
}
