//! One upstream as a source of the catalogue, and the loop that keeps it known: connect, list, judge, listen, again.
//!
//! What an upstream last offered stays listed while it is away, so that a dead one never takes a list down; calls to it
//! then say so. The loop can end at any line and start again.

use super::{
    config::Sharing,
    judge::{self, Judgement},
    listing,
    pins::Pins,
    pool::{Identity, Lane, Opener, Pool, gateway_caps},
    relay,
    settings::{Place, Settings},
};
use crate::{
    call::{CallContext, Emission, LogLevel, Outcome},
    catalogue::WeakCatalogue,
    client::{ClientFault, Heard, Hooks},
    source::{Change, Naming, Offer, Source, Wanted, Watched},
};
use arc_swap::ArcSwap;
use forebay_domain::{
    Code, Failure, Principal,
    port::BoxFuture,
    quarantine::{Kind, Why},
};
use forebay_runtime::{Clock, Entropy, Stop};
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value, json, value::RawValue};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// Even an upstream that never says that something changed is listed again after this long.
const RELIST_PERIOD: Duration = Duration::from_mins(5);
/// However often an upstream says that something changed, it is listed no more often than this.
const RELIST_PAUSE: Duration = Duration::from_secs(1);
const SWEEP_PERIOD: Duration = Duration::from_mins(1);
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// One that stayed well for so long starts again with the shortest pause.
const WELL_AFTER: Duration = Duration::from_mins(1);
/// The catalogue bounds every call; this only has to be longer.
const HOOKS_TIMEOUT: Duration = Duration::from_hours(24);
/// Resources that are watched at one upstream.
const WATCHED_MAX: usize = 10_000;

/// How an upstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not answered yet since the gateway started or the upstream was configured.
    Connecting,
    Ready,
    /// It was there, or should be, and is not.
    Unavailable,
    /// It is configured, and not to be used.
    Disabled,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Unavailable => "unavailable",
            Self::Disabled => "disabled",
        }
    }
}

/// What is known of an upstream beside its offer.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) state: State,
    pub(super) since: Timestamp,
    pub(super) version: Option<&'static str>,
    pub(super) modern: bool,
    pub(super) logs: bool,
    pub(super) server_info: Option<Box<RawValue>>,
    pub(super) listed_at: Option<Timestamp>,
    pub(super) trouble: Option<String>,
    pub(super) warnings: Vec<String>,
    pub(super) held: BTreeMap<(Kind, String), Why>,
}

pub(super) struct Upstream {
    pub(super) settings: Settings,
    pub(super) pool: Pool,
    offer: ArcSwap<Offer>,
    condition: Mutex<Condition>,
    watched: Mutex<BTreeSet<String>>,
    watches_changed: Notify,
    relist: Notify,
    /// Fires when the upstream is taken away.
    pub(super) gone: CancellationToken,
    pins: Pins,
    catalogue: WeakCatalogue,
    clock: Clock,
    entropy: Entropy,
}

/// What an upstream stands on, beside its settings.
pub(super) struct Ground {
    pub(super) opener: Opener,
    pub(super) pins: Pins,
    pub(super) catalogue: WeakCatalogue,
    pub(super) clock: Clock,
    pub(super) entropy: Entropy,
}

impl Upstream {
    pub(super) fn new(settings: Settings, ground: Ground) -> Self {
        let condition = Condition {
            state: if settings.config.enabled {
                State::Connecting
            } else {
                State::Disabled
            },
            since: ground.clock.now(),
            version: None,
            modern: false,
            logs: false,
            server_info: None,
            listed_at: None,
            trouble: None,
            warnings: Vec::new(),
            held: BTreeMap::new(),
        };
        Self {
            pool: Pool::new(settings.clone(), ground.opener),
            settings,
            offer: ArcSwap::default(),
            condition: Mutex::new(condition),
            watched: Mutex::default(),
            watches_changed: Notify::new(),
            relist: Notify::new(),
            gone: CancellationToken::new(),
            pins: ground.pins,
            catalogue: ground.catalogue,
            clock: ground.clock,
            entropy: ground.entropy,
        }
    }

    pub(super) fn condition(&self) -> Condition {
        self.lock().clone()
    }

    /// Lists it again soon: somebody decided about a definition, or wants to see what is new.
    pub(super) fn refresh(&self) {
        self.relist.notify_one();
    }

    /// Keeps the upstream known until it is taken away or the gateway stops.
    pub(super) async fn keep(self: Arc<Self>, mut heard: Heard, stop: Stop) {
        let mut pause = PAUSE_FIRST;
        loop {
            let begun = self.clock.monotonic();
            let trouble = tokio::select! {
                biased;
                () = self.gone.cancelled() => break,
                () = stop.draining() => break,
                trouble = self.attend(&mut heard) => trouble,
            };
            if self.clock.monotonic().saturating_sub(begun) >= WELL_AFTER {
                pause = PAUSE_FIRST;
            }
            self.note_trouble(&trouble);
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
        self.pool.close_where(|_| true);
    }

    /// Connects, lists and listens, until something goes wrong.
    async fn attend(&self, heard: &mut Heard) -> Failure {
        let lane = match self.pool.lane(&Identity::Gateway, &gateway_caps()).await {
            Ok(lane) => lane,
            Err(fault) => return fault.into_failure(self.name()),
        };
        let trouble = tokio::select! {
            trouble = self.listen(&lane, heard) => trouble,
            () = lane.connection.closed() => {
                Failure::new(Code::UpstreamFailed, format!("The upstream `{}` ended the connection.", self.name()))
            }
        };
        self.pool.forget(&Identity::Gateway, &lane).await;
        trouble
    }

    async fn listen(&self, lane: &Lane, heard: &mut Heard) -> Failure {
        if let Err(trouble) = self.list(lane).await {
            return trouble;
        }
        let mut subscription = self.subscribe(lane, &BTreeSet::new()).await;
        let mut subscribed = self.watched().clone();
        let mut next_list = Instant::now() + RELIST_PERIOD;
        let mut next_sweep = Instant::now() + SWEEP_PERIOD;
        loop {
            tokio::select! {
                emission = heard.next() => match emission {
                    Some(emission) => if self.heed(emission) {
                        next_list = next_list.min(Instant::now() + RELIST_PAUSE);
                    },
                    None => return Failure::new(Code::UpstreamFailed, "Nobody listens to the upstream any more."),
                },
                () = self.relist.notified() => next_list = Instant::now(),
                () = self.watches_changed.notified() => {
                    let before = std::mem::replace(&mut subscribed, self.watched().clone());
                    subscription = self.subscribe(lane, &before).await;
                }
                () = tokio::time::sleep_until(next_list) => {
                    if let Err(trouble) = self.list(lane).await {
                        return trouble;
                    }
                    next_list = Instant::now() + RELIST_PERIOD;
                }
                () = tokio::time::sleep_until(next_sweep) => {
                    self.pool.sweep();
                    next_sweep = Instant::now() + SWEEP_PERIOD;
                }
            }
            let _kept = &subscription;
        }
    }

    /// True where the lists have to be fetched again.
    fn heed(&self, emission: Emission) -> bool {
        let Emission::Notification { method, params } = emission else {
            // A question that belongs to no call is nobody's to answer; dropping it says so.
            return false;
        };
        match method.as_str() {
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => true,
            "notifications/resources/updated" => {
                let params: Option<Value> = serde_json::from_str(params.get()).ok();
                let uri = params.and_then(|params| params["uri"].as_str().map(str::to_owned));
                if let (Some(uri), Some(catalogue)) = (uri, self.catalogue.upgrade()) {
                    catalogue.announce(self, Change::Resource { uri });
                }
                false
            }
            _ => false,
        }
    }

    /// Asks for news of the watched resources, and of the lists where the upstream has to be asked for that.
    async fn subscribe(&self, lane: &Lane, before: &BTreeSet<String>) -> Option<crate::client::Subscription> {
        let wanted = self.watched().clone();
        if self.lock().modern {
            let filter = json!({
                "toolsListChanged": true,
                "promptsListChanged": true,
                "resourcesListChanged": true,
                "resourceSubscriptions": wanted,
            });
            return Some(lane.connection.listen(&crate::call::raw(&filter)));
        }
        let steps = [
            ("resources/unsubscribe", before.difference(&wanted)),
            ("resources/subscribe", wanted.difference(before)),
        ];
        for (method, uris) in steps {
            for uri in uris {
                let params = crate::call::raw(&json!({"uri": uri}));
                let hooks = Hooks::within(Duration::from_secs(30));
                if let Err(fault) = lane.connection.request(method, Some(&params), hooks).await {
                    tracing::debug!(upstream.name = self.name(), error = %fault, "subscription refused");
                }
            }
        }
        None
    }

    /// Fetches and judges the lists, and offers what may be offered.
    async fn list(&self, lane: &Lane) -> Result<(), Failure> {
        let listing = listing::fetch(&lane.connection)
            .await
            .map_err(|fault| fault.into_failure(self.name()))?;
        let logs = listing.logs;
        let seen = judge::look(listing);
        let (name, now) = (&self.settings.name, self.clock.now());
        let verdicts = self
            .pins
            .decide(name, self.settings.policy, seen.judged.clone(), now)
            .await?;
        let mut judgement = judge::offer(seen, &verdicts, self.settings.timeout);
        judgement.offer.instructions = lane.connection.instructions().map(|text| {
            let (clean, _) = forebay_domain::quarantine::clean_text(text);
            clean.into_owned()
        });
        self.adopt(judgement, lane, logs);
        Ok(())
    }

    fn adopt(&self, judgement: Judgement, lane: &Lane, logs: bool) {
        let offer = Arc::new(judgement.offer);
        let before = self.offer.swap(offer.clone());
        {
            let mut condition = self.lock();
            if condition.state != State::Ready {
                condition.since = self.clock.now();
            }
            condition.state = State::Ready;
            condition.version = Some(lane.connection.version().as_str());
            condition.modern = lane.connection.version().is_modern();
            condition.logs = logs;
            condition.server_info = lane.connection.server_info().map(ToOwned::to_owned);
            condition.listed_at = Some(self.clock.now());
            condition.trouble = None;
            condition.warnings = judgement.warnings;
            condition.held = judgement.held;
        }
        let Some(catalogue) = self.catalogue.upgrade() else {
            return;
        };
        let raws = |offer: &Offer| {
            let text = |raw: &RawValue| raw.get().to_owned();
            let tools: Vec<_> = offer.tools.iter().map(|tool| text(&tool.raw)).collect();
            let prompts: Vec<_> = offer.prompts.iter().map(|prompt| text(&prompt.raw)).collect();
            let resources = offer.resources.iter().map(|resource| text(&resource.raw));
            let resources: Vec<_> = resources
                .chain(offer.templates.iter().map(|one| text(&one.raw)))
                .collect();
            [tools, prompts, resources]
        };
        let changes = [Change::Tools, Change::Prompts, Change::Resources];
        let (old, new) = (raws(&before), raws(&offer));
        for (index, change) in changes.into_iter().enumerate() {
            if old[index] != new[index] {
                catalogue.announce(self, change);
            }
        }
    }

    fn note_trouble(&self, trouble: &Failure) {
        let mut condition = self.lock();
        if condition.state != State::Unavailable {
            condition.since = self.clock.now();
            tracing::warn!(upstream.name = self.name(), error.chain = %trouble.chain(), "upstream unavailable");
        }
        condition.state = State::Unavailable;
        condition.trouble = Some(trouble.message.clone());
    }

    async fn relay(&self, principal: &Principal, wanted: Wanted<'_>, context: CallContext) -> Result<Outcome, Failure> {
        let (modern, logs) = {
            let condition = self.lock();
            (condition.modern, condition.logs)
        };
        let shared = modern || self.settings.sharing == Sharing::Shared;
        let (identity, caps) = if shared {
            (Identity::Gateway, gateway_caps())
        } else {
            (
                Identity::of(principal, &context.client.caps),
                context.client.caps.for_upstreams(),
            )
        };
        let out = relay::outgoing(wanted, &context);
        let repeats = self.may_repeat(wanted);
        let mut again = true;
        loop {
            let lane = match self.pool.lane(&identity, &caps).await {
                Ok(lane) => lane,
                Err(fault) => return Err(fault.into_failure(self.name())),
            };
            if logs && !modern {
                self.ask_for_logs(&lane, context.client.log_level).await;
            }
            let mut hooks = relay::hooks(&context, HOOKS_TIMEOUT, self.traceparent(&context));
            if modern {
                hooks.headers = self.param_headers(wanted);
            }
            let answer = lane.connection.request(out.method, Some(&out.params), hooks).await;
            let lost = match &answer {
                Err(ClientFault::SessionExpired | ClientFault::Unreachable { .. }) => again,
                Err(ClientFault::Broken { .. }) => again && repeats,
                Ok(_) | Err(_) => false,
            };
            if !lost {
                return relay::outcome(answer, self.name());
            }
            again = false;
            self.pool.forget(&identity, &lane).await;
        }
    }

    /// Whether a request whose end nobody saw may be made again.
    fn may_repeat(&self, wanted: Wanted<'_>) -> bool {
        match wanted {
            Wanted::Tool { name, .. } => {
                let offer = self.offer.load();
                let tool = offer.tools.iter().find(|tool| tool.name == name);
                tool.is_some_and(|tool| tool.hints.may_repeat())
            }
            Wanted::Resource { .. } | Wanted::Prompt { .. } | Wanted::Completion { .. } => true,
        }
    }

    /// A legacy server logs at a level that is set for the whole connection.
    async fn ask_for_logs(&self, lane: &Lane, wanted: Option<LogLevel>) {
        let Some(level) = wanted.filter(|level| lane.wants(*level)) else {
            return;
        };
        let params = crate::call::raw(&json!({"level": level.as_str()}));
        let hooks = Hooks::within(Duration::from_secs(10));
        if let Err(fault) = lane.connection.request("logging/setLevel", Some(&params), hooks).await {
            tracing::debug!(upstream.name = self.name(), error = %fault, "log level refused");
        }
    }

    fn traceparent(&self, context: &CallContext) -> String {
        format!("00-{}-{}-01", context.via.trace, hex::encode(self.entropy.bytes::<8>()))
    }

    /// `Mcp-Param-*`, which a modern upstream wants beside the arguments that its schema marks.
    fn param_headers(&self, wanted: Wanted<'_>) -> Vec<(HeaderName, HeaderValue)> {
        let Wanted::Tool { name, arguments, .. } = wanted else {
            return Vec::new();
        };
        let offer = self.offer.load();
        let Some(tool) = offer
            .tools
            .iter()
            .find(|tool| tool.name == name && !tool.headers.is_empty())
        else {
            return Vec::new();
        };
        let arguments: Value = serde_json::from_str(arguments.get()).unwrap_or_default();
        tool.headers.iter().filter_map(|mark| mark.of(&arguments)).collect()
    }

    fn watched(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.watched.lock().expect("nobody panics while holding the watched")
    }

    fn lock(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().expect("nobody panics while holding a condition")
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        self.settings.place.to_string()
    }

    pub(super) fn is_child(&self) -> bool {
        matches!(self.settings.place, Place::Child(_))
    }
}

impl Source for Upstream {
    fn name(&self) -> &str {
        self.settings.name.as_str()
    }

    fn naming(&self) -> Naming {
        Naming::Prefixed
    }

    fn offer(&self) -> Arc<Offer> {
        self.offer.load_full()
    }

    fn withheld(&self, tool: &str) -> Option<Failure> {
        let why = self.lock().held.get(&(Kind::Tool, tool.to_owned())).cloned()?;
        let what = match why {
            Why::FirstSeen => "was never approved",
            Why::Changed => "has changed since it was approved",
            Why::Flagged(_) => "carries something hidden or suspicious",
            Why::TooMany => "is one of too many",
        };
        let message = format!("The definition of `{tool}` of `{}` {what}, so it is held.", self.name());
        let hint = format!(
            "`forebay upstream approve {}` shows the difference and lets it pass.",
            self.name()
        );
        Some(Failure::new(Code::ToolHeld, message).hint(hint))
    }

    fn serve<'a>(
        &'a self,
        principal: &'a Principal,
        wanted: Wanted<'a>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(self.relay(principal, wanted, context))
    }

    fn watch<'a>(&'a self, uri: &'a str, watched: Watched) -> BoxFuture<'a, Result<(), Failure>> {
        let changed = {
            let mut all = self.watched();
            match watched {
                Watched::Yes if all.len() >= WATCHED_MAX => {
                    let message = format!("{WATCHED_MAX} resources of `{}` are watched already.", self.name());
                    return Box::pin(std::future::ready(Err(Failure::new(Code::Overloaded, message))));
                }
                Watched::Yes => all.insert(uri.to_owned()),
                Watched::No => all.remove(uri),
            }
        };
        if changed {
            self.watches_changed.notify_one();
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Between half of it and all of it, so that many that failed together do not come back together.
fn jittered(pause: Duration, entropy: &Entropy) -> Duration {
    let half = pause / 2;
    let span = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_millis(entropy.below(span))
}
