//! From a call to an HTTP answer: plain JSON where it ends soon, a stream of events where it does not.
//!
//! The stream drives the call itself, so when the client goes away the call is dropped with it. A comment every few
//! seconds keeps a silent call's connection alive.

use crate::{
    call::Emission,
    raw::with_member,
    reply::{KEEP_ALIVE, OPENING, Reply, event},
    rpc::{Answered, object},
};
use bytes::Bytes;
use forebay_domain::Code;
use futures_util::{FutureExt, Stream, future::BoxFuture, stream};
use serde_json::value::RawValue;
use std::{collections::VecDeque, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at},
};

/// A call that takes longer than this answers with a stream.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
pub(crate) const KEEP_ALIVE_PERIOD: Duration = Duration::from_secs(15);

/// A call that has begun.
pub(crate) struct Running {
    pub(crate) call: BoxFuture<'static, Answered>,
    /// Reports of progress and the token they go by, where the client wants any.
    pub(crate) progress: Option<(Box<str>, mpsc::Receiver<Emission>)>,
}

/// Which forms of an answer the client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepts {
    Json,
    JsonAndEvents,
}

/// Waits for the call, and switches to a stream when there is progress to tell or it takes long.
pub(crate) async fn answer(mut running: Running, accepts: Accepts) -> Reply {
    if accepts == Accepts::Json {
        return running.call.await.reply();
    }
    let first = tokio::select! {
        biased;
        step = next_step(&mut running.progress) => First::Step(step),
        answered = &mut running.call => First::Answer(answered),
        () = tokio::time::sleep(PATIENCE) => First::Nothing,
    };
    let mut live = Live {
        waiting: VecDeque::from([OPENING]),
        running,
        ended: false,
    };
    match first {
        First::Answer(answered) => {
            live.take_steps();
            if live.waiting.len() == 1 {
                return answered.reply();
            }
            live.end(&answered);
        }
        First::Step(step) => live.tell(step),
        First::Nothing => {}
    }
    Reply::events(live.into_stream())
}

enum First {
    Step(Emission),
    Answer(Answered),
    Nothing,
}

/// The next report; never, where none will come.
async fn next_step(progress: &mut Option<(Box<str>, mpsc::Receiver<Emission>)>) -> Emission {
    if let Some((_, steps)) = progress
        && let Some(step) = steps.recv().await
    {
        return step;
    }
    std::future::pending().await
}

/// An answer that is being streamed.
struct Live {
    waiting: VecDeque<Bytes>,
    running: Running,
    ended: bool,
}

impl Live {
    fn into_stream(self) -> impl Stream<Item = Bytes> + Send + 'static {
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE_PERIOD, KEEP_ALIVE_PERIOD);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        stream::unfold((self, keep_alive), |(mut live, mut keep_alive)| async move {
            while live.waiting.is_empty() {
                if live.ended {
                    return None;
                }
                tokio::select! {
                    biased;
                    step = next_step(&mut live.running.progress) => live.tell(step),
                    answered = &mut live.running.call => {
                        live.take_steps();
                        live.end(&answered);
                    }
                    _ = keep_alive.tick() => live.waiting.push_back(KEEP_ALIVE),
                }
            }
            let next = live.waiting.pop_front()?;
            Some((next, (live, keep_alive)))
        })
    }

    fn tell(&mut self, step: Emission) {
        if let (Some((token, _)), Emission::Progress(params)) = (&self.running.progress, &step) {
            self.waiting.push_back(event(notification(token, params).as_bytes()));
        }
    }

    /// What was reported just before the call ended comes before its answer.
    fn take_steps(&mut self) {
        while let Some(step) = next_step(&mut self.running.progress).now_or_never() {
            self.tell(step);
        }
    }

    /// The answer comes last. A request that was taken back gets none: the end of the stream is all there is to say.
    fn end(&mut self, answered: &Answered) {
        if answered.failed != Some(Code::Cancelled) {
            self.waiting.push_back(event(&answered.message));
        }
        self.ended = true;
    }
}

fn notification(token: &str, params: &RawValue) -> String {
    let params = with_member(params, "progressToken", token);
    object(&[
        ("jsonrpc", "\"2.0\""),
        ("method", "\"notifications/progress\""),
        ("params", params.get()),
    ])
}

/// The notifications of a session, for as long as it, its listener and `until` last.
pub(crate) fn listen<G: Send + 'static>(
    messages: mpsc::Receiver<Bytes>,
    until: impl Future<Output = ()> + Send + 'static,
    guard: G,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE_PERIOD, KEEP_ALIVE_PERIOD);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let state = (messages, Box::pin(until), keep_alive, Some(OPENING), guard);
    stream::unfold(
        state,
        |(mut messages, mut until, mut keep_alive, mut opening, guard)| async move {
            let next = if let Some(opening) = opening.take() {
                opening
            } else {
                tokio::select! {
                    biased;
                    () = &mut until => return None,
                    message = messages.recv() => event(&message?),
                    _ = keep_alive.tick() => KEEP_ALIVE,
                }
            };
            Some((next, (messages, until, keep_alive, opening, guard)))
        },
    )
}
