//! The loop that keeps an upstream known: connect, list, judge, listen, again. It can end at any line and start again.

use super::{
    held::Withheld,
    judge::{self, Judgement},
    listening::Listening,
    pool::{Identity, Lane, gateway_caps},
    server::{Offered, State, Upstream},
    vet::{Decided, Instructions},
};
use crate::{
    call::Emission,
    client::{ACKNOWLEDGED, Heard},
    source::{Change, Offer, Source},
};
use forebay_domain::{Code, Failure};
use forebay_runtime::{Entropy, Stop};
use serde_json::Value;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// Even an upstream that never says that something changed is listed again after this long.
const RELIST_PERIOD: Duration = Duration::from_mins(5);
/// Over HTTP, at most after this long: many tell of no changes there, and none of its end.
const POLL_PERIOD_MAX: Duration = Duration::from_mins(1);
/// However often an upstream says that something changed, it is listed no more often than this.
const RELIST_PAUSE: Duration = Duration::from_secs(1);
const SWEEP_PERIOD: Duration = Duration::from_mins(1);
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// One that stayed well for so long starts again with the shortest pause.
const WELL_AFTER: Duration = Duration::from_mins(1);
/// The gateway's own connection is replaced no more often than this because callers see something else.
const RENEW_PAUSE: Duration = Duration::from_secs(5);

/// Why attending to an upstream ended.
enum End {
    Trouble(Failure),
    /// A call found nobody there, and has said so.
    Lost,
    /// Its connection is old, and another is to be opened at once.
    Renew,
}

/// What something that an upstream said means for the loop.
#[derive(PartialEq, Eq)]
enum News {
    /// The lists have to be fetched again.
    Lists,
    Nothing,
}

impl Upstream {
    /// Keeps the upstream known until it is taken away or the gateway stops.
    pub(super) async fn keep(self: Arc<Self>, mut heard: Heard, stop: Stop) {
        let mut pause = PAUSE_FIRST;
        loop {
            let begun = self.clock.monotonic();
            let end = tokio::select! {
                biased;
                () = self.gone.cancelled() => break,
                () = stop.draining() => break,
                end = self.attend(&mut heard) => end,
            };
            if self.clock.monotonic().saturating_sub(begun) >= WELL_AFTER {
                pause = PAUSE_FIRST;
            }
            match end {
                End::Trouble(trouble) => self.note_trouble(&trouble),
                End::Lost => {}
                End::Renew => pause = RENEW_PAUSE,
            }
            tokio::select! {
                biased;
                () = self.gone.cancelled() => break,
                () = stop.draining() => break,
                () = self.relist.notified() => {}
                () = tokio::time::sleep(jittered(pause, &self.entropy)) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        // What is still under way ends with its own call; the connections go once nobody holds them.
        self.pool.release_where(|_| true);
    }

    /// Connects, lists and listens, until something goes wrong.
    async fn attend(&self, heard: &mut Heard) -> End {
        let lane = match self.pool.lane(&Identity::Gateway, &gateway_caps()).await {
            Ok(lane) => lane,
            Err(failure) => return End::Trouble(failure),
        };
        let end = tokio::select! {
            end = self.listen(&lane, heard) => end,
            () = lane.connection.closed() => {
                let message = format!("The upstream `{}` ended the connection.", self.name());
                End::Trouble(Failure::new(Code::UpstreamFailed, message))
            }
        };
        self.pool.forget(&Identity::Gateway, &lane).await;
        end
    }

    async fn listen(&self, lane: &Lane, heard: &mut Heard) -> End {
        if let Err(trouble) = self.list(lane).await {
            return End::Trouble(trouble);
        }
        let mut listening = Listening::begin(self, lane);
        let mut listed = Instant::now();
        let mut next_list = listed + self.relist_period();
        let mut next_sweep = Instant::now() + SWEEP_PERIOD;
        loop {
            tokio::select! {
                emission = heard.next() => {
                    let Some(emission) = emission else {
                        let message = "Nobody listens to the upstream any more.";
                        return End::Trouble(Failure::new(Code::UpstreamFailed, message));
                    };
                    if self.heed(emission, &mut listening) == News::Lists {
                        self.vet_anew();
                        next_list = next_list.min(Instant::now() + RELIST_PAUSE);
                    }
                }
                () = self.renew.notified() => return End::Renew,
                () = self.relist.notified() => {
                    self.vet_anew();
                    next_list = Instant::now();
                }
                () = self.doubts.notified() => {
                    if self.lock().state == State::Unavailable {
                        return End::Lost;
                    }
                    next_list = next_list.min(listed + RELIST_PAUSE);
                }
                () = self.watches.changed.notified() => listening.turn(),
                () = listening.overdue() => listening.give_up_waiting(),
                () = tokio::time::sleep_until(next_list) => {
                    if let Err(trouble) = self.list(lane).await {
                        return End::Trouble(trouble);
                    }
                    listed = Instant::now();
                    next_list = listed + self.relist_period();
                }
                () = tokio::time::sleep_until(next_sweep) => {
                    self.pool.sweep();
                    next_sweep = Instant::now() + SWEEP_PERIOD;
                }
            }
        }
    }

    /// Differs each time over HTTP, so that many are not asked at once.
    fn relist_period(&self) -> Duration {
        if self.is_child() {
            RELIST_PERIOD
        } else {
            jittered(POLL_PERIOD_MAX, &self.entropy)
        }
    }

    fn heed(&self, emission: Emission, listening: &mut Listening) -> News {
        let Emission::Notification { method, params } = emission else {
            // A question that belongs to no call is nobody's to answer; dropping it says so.
            return News::Nothing;
        };
        match method.as_str() {
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => News::Lists,
            ACKNOWLEDGED => {
                listening.acknowledged(&params);
                News::Nothing
            }
            "notifications/resources/updated" => {
                let params: Option<Value> = serde_json::from_str(params.get()).ok();
                let uri = params.and_then(|params| params["uri"].as_str().map(str::to_owned));
                if let (Some(uri), Some(catalogue)) = (uri, self.catalogue.upgrade()) {
                    catalogue.announce(self, Change::Resource { uri });
                }
                News::Nothing
            }
            _ => News::Nothing,
        }
    }

    /// From now on every connection shows its definitions again before it serves anything.
    fn vet_anew(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Fetches and judges the lists, and offers what may be offered.
    async fn list(&self, lane: &Lane) -> Result<(), Failure> {
        let Decided { seen, verdicts, held } = self.look(lane, Instructions::Shown).await?;
        let judgement = judge::offer(seen, &verdicts, self.settings.timeout);
        self.adopt(judgement, held, lane);
        Ok(())
    }

    fn adopt(&self, judgement: Judgement, held: Arc<Withheld>, lane: &Lane) {
        if self.lock().state == State::Unavailable {
            tracing::info!(upstream.name = self.name(), "upstream is there again");
        }
        let offered = Arc::new(Offered::from(judgement.offer));
        let before = self.offered.swap(offered.clone());
        {
            let mut condition = self.lock();
            if condition.state != State::Ready {
                condition.since = self.clock.now();
            }
            condition.state = State::Ready;
            condition.version = Some(lane.connection.version().as_str());
            condition.modern = lane.connection.version().is_modern();
            condition.logs = judgement.logs;
            condition.server_info = lane.connection.server_info().map(ToOwned::to_owned);
            condition.listed_at = Some(self.clock.now());
            condition.trouble = None;
            condition.warnings = judgement.warnings;
            condition.held = held;
        }
        let Some(catalogue) = self.catalogue.upgrade() else {
            return;
        };
        let changed = |change: &Change| listed(&before.offer, change) != listed(&offered.offer, change);
        catalogue.announce_all(self, Change::LISTS.into_iter().filter(changed));
    }

    /// A call found nobody there: from now on it counts as away, and the loop tries with its pauses.
    pub(super) fn lost(&self, trouble: &Failure) {
        if self.lock().state == State::Ready {
            self.note_trouble(trouble);
            self.doubts.notify_one();
        }
    }

    /// A call had trouble with the connection, or found that the server had forgotten it: what is there now may be
    /// another one, or nobody. A program's end is noticed without that.
    pub(super) fn doubt(&self) {
        if !self.is_child() {
            self.doubts.notify_one();
        }
    }

    fn note_trouble(&self, trouble: &Failure) {
        let mut condition = self.lock();
        if condition.state != State::Unavailable {
            condition.since = self.clock.now();
            tracing::warn!(upstream.name = self.name(), error.chain = %trouble.chain(), "upstream unavailable");
            // What comes back may be another one.
            self.vet_anew();
        }
        condition.state = State::Unavailable;
        condition.trouble = Some(trouble.message.clone());
    }
}

/// The definitions of one list.
fn listed<'a>(offer: &'a Offer, list: &Change) -> Vec<&'a str> {
    match list {
        Change::Tools => offer.tools.iter().map(|tool| tool.raw.get()).collect(),
        Change::Prompts => offer.prompts.iter().map(|prompt| prompt.raw.get()).collect(),
        Change::Resources => {
            let templates = offer.templates.iter().map(|template| template.raw.get());
            offer
                .resources
                .iter()
                .map(|one| one.raw.get())
                .chain(templates)
                .collect()
        }
        Change::Resource { .. } => Vec::new(),
    }
}

/// Between half of it and all of it, so that many that failed together do not come back together.
fn jittered(pause: Duration, entropy: &Entropy) -> Duration {
    let half = pause / 2;
    let span = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_millis(entropy.below(span))
}
