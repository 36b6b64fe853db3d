//! Fake providers of machines, as unkind as the real ones.
//!
//! A [`Fake`] is one provider on port 0. What it knows and does is its [`Vendor`]: plain state and answers, without HTTP
//! and without a clock of its own. Around that the frame listens, keeps what it was sent, and does to each request what
//! the script of [`Fault`]s says: it hangs up before or after, answers something else, cuts, stalls or never ends.
//! Bills run by the fake's clock, so that an hour passes when a test says so.
//!
//! Everything that a test can do to a fake can be done over HTTP as well, below `/_fake/` (see `docs/fakes.md`).

mod answer;
mod control;
pub mod faults;
pub mod ionet;
mod line;
pub mod runpod;
mod serve;
pub mod vast;

pub use answer::{Answer, Ask, Route, Seen};
pub use faults::{Fault, Named, Spec};

use faults::Script;
use forebay_runtime::{Clock, Tasks};
use jiff::Timestamp;
use line::Listening;
use serde_json::Value;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

/// When a fake's own clock begins.
pub const START: &str = "2026-11-20T00:00:00Z";

/// What one provider knows and does. No HTTP, no clock, no randomness: the same requests get the same answers.
pub trait Vendor: Send + 'static {
    /// Every request that it understands. The first that fits counts.
    fn routes(&self) -> &'static [Route];

    /// Faults that only this provider has.
    fn named_faults(&self) -> &'static [Named];

    /// Does what is asked, and says what the provider says. A fault of its own is `ask.special`.
    fn answer(&mut self, ask: &Ask<'_>) -> Answer;

    /// It is this late now: bills what ran until then, ends what has an end. Called before each answer.
    fn pass(&mut self, now: Timestamp);

    /// How many machines were ever made.
    fn created(&self) -> usize;

    /// How many machines there are now.
    fn live(&self) -> usize;

    /// Sets something by name, for whoever is not in this process.
    fn set(&mut self, name: &str, value: &Value) -> Result<(), String>;

    /// The names that [`Self::set`] knows, and what they mean.
    fn settings(&self) -> &'static [(&'static str, &'static str)];
}

/// A running fake provider. Dropping it ends it.
pub struct Fake<V: Vendor> {
    address: SocketAddr,
    shared: Arc<Shared<V>>,
    tasks: Tasks,
}

struct Shared<V> {
    vendor: Mutex<V>,
    script: Mutex<Script>,
    clock: Clock,
    /// What was added to the clock by hand.
    ahead: Mutex<Duration>,
    gate: Semaphore,
    log: watch::Sender<Vec<Seen>>,
    is_down: Arc<AtomicBool>,
}

impl<V: Vendor> Fake<V> {
    /// On a free port, with a clock that stands still at [`START`].
    pub async fn start(vendor: V) -> Self {
        let clock = Clock::manual(START.parse().expect("a time"));
        Self::start_at(vendor, 0, clock).await.expect("a free port")
    }

    /// With somebody else's clock, such as that of what is tested.
    pub async fn start_at(vendor: V, port: u16, clock: Clock) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            vendor: Mutex::new(vendor),
            script: Mutex::default(),
            clock,
            ahead: Mutex::default(),
            gate: Semaphore::new(0),
            log: watch::Sender::default(),
            is_down: Arc::default(),
        });
        let tasks = Tasks::new();
        let listening = Listening::new(listener, shared.is_down.clone());
        tasks.spawn("fake provider", |_| serve::run(listening, shared.clone()));
        Ok(Self { address, shared, tasks })
    }

    /// The base address, as a configuration names it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request of this route meets this fault.
    pub fn fault(&self, route: &str, fault: Fault) {
        self.faults(route, fault, Some(1));
    }

    /// So many requests of this route meet this fault; all of them from now on where there is no number. Faults of one
    /// route come one after another, so that a [`Fault::Pass`] before lets some through.
    pub fn faults(&self, route: &str, fault: Fault, times: Option<u32>) {
        let known = route == "*" || self.with(|vendor| vendor.routes().iter().any(|known| known.name == route));
        assert!(known, "there is no route {route}");
        self.shared.plan(route, fault, times);
    }

    pub fn no_more_faults(&self) {
        self.shared.script.lock().unwrap().clear();
    }

    /// Lets one held request go on.
    pub fn open_gate(&self) {
        self.shared.gate.add_permits(1);
    }

    /// From now on every connection ends without an answer; or no longer.
    pub fn set_down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, Ordering::SeqCst);
    }

    /// So much time passes at once, for this provider.
    pub fn advance(&self, by: Duration) {
        *self.shared.ahead.lock().unwrap() += by;
        let now = self.now();
        self.with(|vendor| vendor.pass(now));
    }

    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// Looks into the provider, or changes it.
    pub fn with<T>(&self, work: impl FnOnce(&mut V) -> T) -> T {
        work(&mut self.shared.vendor.lock().unwrap())
    }

    /// Every request so far, answered or not.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.log.borrow().clone()
    }

    /// Those of one route.
    pub fn seen_at(&self, route: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.route == route);
        seen
    }

    /// Waits until so many requests of this route have come.
    pub async fn asked(&self, route: &str, count: usize) {
        let mut log = self.shared.log.subscribe();
        let enough = |log: &Vec<Seen>| log.iter().filter(|seen| seen.route == route).count() >= count;
        log.wait_for(enough)
            .await
            .expect("the sender lives as long as the fake");
    }

    pub fn created(&self) -> usize {
        self.with(|vendor| vendor.created())
    }

    pub fn live(&self) -> usize {
        self.with(|vendor| vendor.live())
    }
}

impl<V: Vendor> Shared<V> {
    fn plan(&self, route: &str, fault: Fault, times: Option<u32>) {
        self.script.lock().unwrap().push(route, fault, times);
    }

    fn now(&self) -> Timestamp {
        self.clock.now() + *self.ahead.lock().unwrap()
    }
}

impl<V: Vendor> Drop for Fake<V> {
    fn drop(&mut self) {
        self.set_down(true);
        self.tasks.stop().end();
    }
}
