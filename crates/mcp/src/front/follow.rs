//! Streams that this process does not drive: what the store has of them, and what is still to come.
//!
//! A call's stream ends with its answer, which is marked as such. Until it does, whoever drives it shows a sign of life
//! each minute; where none comes, the process that ran the call is gone, and its client is told that nobody will answer.
//! So it is where the store has nothing of the stream: it was swept away, or its process was killed before it wrote
//! anything, and the stream's name says which request waits. A gateway that shares its database with nobody knows that at once. Nothing is written here, so that a call which is
//! alive all the same can still be answered.

use super::{Front, stream::keep_alive};
use crate::{
    envelope::Id,
    reply::{KEEP_ALIVE, OPENING, Reply, event, numbered_event},
    rpc::{self, Dialect},
    session::{
        Busy, Session,
        place::{Kind, Place},
    },
};
use bytes::Bytes;
use forebay_domain::{Code, Failure};
use forebay_store::mcp::streams::Replay;
use futures_util::stream;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::Interval;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often the store is asked for more.
const LOOK_PERIOD: Duration = Duration::from_millis(500);
/// How often a call that runs shows that it does. Kept messages are swept away later than that.
pub(super) const LIFE_PERIOD: Duration = Duration::from_mins(1);
/// Looks in vain after which a call is given up that another gateway may be running: more than two signs of life.
const LOOKS_MAX: u32 = 300;
/// The same where there is no other gateway: what was said last may still be on its way into the store.
const LOOKS_ALONE_MAX: u32 = 4;

/// A stream that is read from the store.
struct Following {
    front: Front,
    session: Arc<Session>,
    /// The last event that was taken.
    place: Place,
    request: Option<Id>,
    waiting: VecDeque<Bytes>,
    /// Something of it was found.
    known: bool,
    ended: bool,
    looks_in_vain: u32,
    keep_alive: Interval,
    /// Somebody else has come back for the same stream.
    replaced: CancellationToken,
    _done: DropGuard,
    _busy: Busy,
}

impl Front {
    /// What came after a place of a listener's stream; what is still to come is said on another one.
    pub(super) async fn recall(&self, session: &Session, place: &Place) -> Result<Vec<Bytes>, Failure> {
        let replay = self.sessions().shelf().since(&session.id, place).await?;
        tell_gap(&replay);
        let mut frames = Vec::new();
        for kept in &replay.events {
            if let Some((Kind::Message, message)) = Kind::unwrap(&kept.message) {
                frames.push(frame(place, kept.seq, message));
            }
        }
        Ok(frames)
    }

    /// The rest of a call's stream; nothing where the store has none of it and nobody can say what it was about.
    pub(super) async fn follow(&self, session: &Arc<Session>, place: Place) -> Result<Option<Reply>, Failure> {
        let whole = self.sessions().shelf().whole(&session.id, &place.stream).await?;
        let request = place.stream.request();
        if whole.events.is_empty() && request.is_none() {
            return Ok(None);
        }
        let replaced = session.streams.follow(&place.stream)?;
        let mut following = Following {
            front: self.clone(),
            session: session.clone(),
            place,
            request,
            waiting: VecDeque::from([OPENING]),
            known: false,
            ended: false,
            looks_in_vain: 0,
            keep_alive: keep_alive(),
            _done: replaced.clone().drop_guard(),
            replaced,
            _busy: self.sessions().busy(session),
        };
        let first = whole.events.first().map_or(0, |kept| kept.seq);
        if first > following.place.seq.saturating_add(1) {
            tell_gap(&Replay {
                whole: false,
                ..whole.clone()
            });
        }
        following.take(&whole);
        Ok(Some(Reply::events(stream::unfold(
            following,
            |mut following| async move {
                let next = following.next().await?;
                Some((next, following))
            },
        ))))
    }
}

impl Following {
    /// Takes what is new of a replay; what its reader has seen tells about the stream all the same.
    fn take(&mut self, replay: &Replay) {
        self.known |= !replay.events.is_empty();
        for kept in &replay.events {
            let Some((kind, message)) = Kind::unwrap(&kept.message) else {
                continue;
            };
            let is_new = kept.seq > self.place.seq;
            match kind {
                Kind::Alive => {
                    let told = std::str::from_utf8(message).ok().and_then(Id::parse);
                    self.request = told.or(self.request.take());
                }
                Kind::Message | Kind::End => {
                    if is_new && !message.is_empty() {
                        self.waiting.push_back(frame(&self.place, kept.seq, message));
                    }
                    self.ended |= kind == Kind::End;
                }
            }
            if is_new {
                self.place.seq = kept.seq;
                self.looks_in_vain = 0;
            }
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                biased;
                () = self.session.closed.cancelled() => return None,
                () = self.replaced.cancelled() => return None,
                () = self.front.stopping() => return None,
                _ = self.keep_alive.tick() => return Some(KEEP_ALIVE),
                () = tokio::time::sleep(LOOK_PERIOD) => {}
            }
            self.look().await?;
        }
    }

    /// One look into the store. Where it cannot be asked the stream breaks off, and its client comes back.
    async fn look(&mut self) -> Option<()> {
        let kept = self.front.sessions().shelf();
        self.looks_in_vain += 1;
        let looks_max = if kept.is_lost(&self.place.stream) {
            LOOKS_ALONE_MAX
        } else {
            LOOKS_MAX
        };
        let replay = kept.since(&self.session.id, &self.place).await.ok()?;
        tell_gap(&replay);
        self.take(&replay);
        if !self.ended && self.looks_in_vain >= looks_max {
            self.ended = true;
            self.waiting.extend(self.lost());
        }
        Some(())
    }

    /// What is said to a client whose call nobody drives any more.
    fn lost(&self) -> Option<Bytes> {
        let request = self.request.as_ref()?;
        let message = if self.known {
            "The gateway was restarted while this ran; it may have run."
        } else {
            "No answer of this is kept: it was too long ago, or the gateway was restarted while this ran. It may have run."
        };
        let failure =
            Failure::new(Code::CallLost, message).hint("Look whether it had its effect before you call again.");
        let dialect = Dialect::Streamable(self.session.version);
        Some(event(&rpc::failed(Some(request), &failure, dialect).message))
    }
}

fn frame(place: &Place, seq: u64, message: &[u8]) -> Bytes {
    let stream = place.stream.clone();
    numbered_event(&Place { stream, seq }.event_id(), message)
}

fn tell_gap(replay: &Replay) {
    if !replay.whole {
        tracing::info!("a client came back for messages of which some are not kept any more");
    }
}
