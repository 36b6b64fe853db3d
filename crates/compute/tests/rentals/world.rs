//! A gateway's rentals on a database, a fake provider, and one clock for all of them.

use forebay_compute::{
    MarketsConfig, Rentals, RentalsConfig, RentalsParts, Urls,
    market::{Wanted, local::AgentProgram},
    rental::{CreateOutcome, CreateRequest, Mode, Rental, RentalNews, Step, What},
};
use forebay_domain::{
    Failure, Principal,
    access::Role,
    event::Surface,
    id::TraceId,
    ledger::{BudgetRule, Enforcement, Scope, Standing, Window},
    market::{Offer, OfferId, Provider},
    money::Usd,
};
use forebay_runtime::{Clock, Entropy, Tasks, child::Launcher, http::trusted, secret::SecretReader};
use forebay_store::{Store, StoreParts};
use forebay_testkit::{
    db::TestDb,
    markets::{Fake, Fault, Vendor, faults, ionet, runpod, vast},
};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use tokio::sync::broadcast;

pub(crate) const MINUTE: Duration = Duration::from_mins(1);
pub(crate) const LOOK: Duration = Duration::from_secs(15);

pub(crate) fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

/// A provider that a test may meet.
pub(crate) trait Known: Vendor + Sized {
    const PROVIDER: Provider;
    /// The route that makes a machine.
    const CREATE: &str;
    /// The fault of that route that makes one and says that it failed, with its id.
    const MADE_IN_ERROR: &str;
    /// Its client keeps a list for a while, by the time of the runtime: that has to pass as well.
    const KEEPS_LISTS: bool = false;
    fn kind() -> Self;
    fn markets(url: &str) -> MarketsConfig;
}

impl Known for runpod::RunPod {
    const PROVIDER: Provider = Provider::RunPod;
    const CREATE: &str = "create";
    const MADE_IN_ERROR: &str = "error-with-id";

    fn kind() -> Self {
        Self::default()
    }

    fn markets(url: &str) -> MarketsConfig {
        let market = json!({ "api_key": { "env": "RUNPOD_KEY" }, "url": format!("{url}/v2") });
        serde_json::from_value(json!({ "runpod": market })).unwrap()
    }
}

impl Known for ionet::IoNet {
    const PROVIDER: Provider = Provider::IoNet;
    const CREATE: &str = "deploy";
    const MADE_IN_ERROR: &str = "error-with-id";

    fn kind() -> Self {
        Self::default()
    }

    fn markets(url: &str) -> MarketsConfig {
        serde_json::from_value(json!({ "ionet": { "api_key": { "env": "IONET_KEY" }, "url": url } })).unwrap()
    }
}

impl Known for vast::Vast {
    const PROVIDER: Provider = Provider::Vast;
    const CREATE: &str = "create";
    const MADE_IN_ERROR: &str = "error-with-contract";
    const KEEPS_LISTS: bool = true;

    fn kind() -> Self {
        Self::new(64)
    }

    fn markets(url: &str) -> MarketsConfig {
        serde_json::from_value(json!({ "vast": { "api_key": { "env": "VAST_KEY" }, "url": url } })).unwrap()
    }
}

pub(crate) struct World<V: Known> {
    pub db: TestDb,
    pub clock: Clock,
    pub fake: Fake<V>,
    pub config: RentalsConfig,
}

/// One process.
pub(crate) struct Gateway {
    pub rentals: Rentals,
    pub store: Store,
    tasks: Tasks,
    store_tasks: Tasks,
}

impl<V: Known> World<V> {
    pub(crate) async fn on(db: TestDb) -> Self {
        let clock = Clock::manual("2026-11-20T00:00:00Z".parse().unwrap());
        let fake = Fake::start_at(V::kind(), 0, clock.clone()).await.unwrap();
        Self {
            db,
            clock,
            fake,
            config: RentalsConfig::default(),
        }
    }

    pub(crate) async fn sqlite() -> Self {
        Self::on(TestDb::sqlite()).await
    }

    pub(crate) async fn gateway(&self) -> Gateway {
        self.gateway_with(Rentals::new).await
    }

    pub(crate) async fn dying_at(&self, step: Step) -> Gateway {
        self.gateway_with(|parts| Rentals::dying_at(parts, step)).await
    }

    async fn gateway_with(&self, make: impl FnOnce(RentalsParts) -> Result<Rentals, Failure>) -> Gateway {
        let (tasks, store_tasks) = (Tasks::new(), Tasks::new());
        let parts = StoreParts {
            clock: self.clock.clone(),
            entropy: Entropy::system(),
            tasks: store_tasks.clone(),
        };
        let store = Store::open(self.db.url(), parts).await.unwrap();
        let key = |name: &str| match name {
            "RUNPOD_KEY" => Some(runpod::KEY.to_owned()),
            "IONET_KEY" => Some(ionet::KEY.to_owned()),
            "VAST_KEY" => Some(vast::KEY.to_owned()),
            _ => None,
        };
        let rentals = make(RentalsParts {
            markets: V::markets(&self.fake.url()),
            config: self.config.clone(),
            urls: Urls {
                public: Some("https://gateway.example.com".to_owned()),
                local: None,
            },
            store: store.clone(),
            clock: self.clock.clone(),
            entropy: Entropy::system(),
            secrets: SecretReader::new(key),
            http: trusted(),
            launcher: Launcher::new("/nowhere".into(), |_| None, tasks.clone(), self.clock.clone()),
            agent: AgentProgram {
                program: "/nowhere".to_owned(),
                args: Vec::new(),
            },
            tasks: tasks.clone(),
        })
        .unwrap();
        limit(&store, "100");
        Gateway {
            rentals,
            store,
            tasks,
            store_tasks,
        }
    }

    /// So much time passes, with a look at the provider each quarter of a minute and the money each minute.
    pub(crate) async fn pass(&self, gateway: &Gateway, time: Duration) {
        let looks = time.as_secs() / LOOK.as_secs();
        for look in 1..=looks {
            self.clock.advance(LOOK);
            if V::KEEPS_LISTS {
                advance(LOOK).await;
            }
            // That something fails is what many of these tests are about.
            gateway.rentals.reconcile(V::PROVIDER).await.ok();
            if look % 4 == 0 {
                gateway.rentals.accrue().await.ok();
            }
        }
    }
}

/// A client that keeps something for a while, or was told to wait, does so by its own time and not by this clock.
pub(crate) async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// A fault of this provider, by its name.
pub(crate) fn named<V: Known>(name: &str) -> Fault {
    faults::by_name(name, V::kind().named_faults()).unwrap()
}

/// What a tenant may spend in an hour, and in no other time.
pub(crate) fn limit(store: &Store, limit: &str) {
    store.ledger().configure(vec![BudgetRule {
        scope: Scope::Tenant,
        of: None,
        window: Window::new(60, usd(limit), Enforcement::Hard).unwrap(),
    }]);
}

impl Gateway {
    /// It ends where it stands; what was on its way to the database may arrive or not.
    pub(crate) async fn die(self) {
        self.tasks.stop().end();
        self.tasks.finished().await;
        self.store_tasks.shut_down(Duration::from_secs(20)).await;
    }

    pub(crate) async fn close(self) {
        self.die().await;
    }

    /// The offer that these tests rent.
    pub(crate) async fn offer(&self, gpu: &str) -> Offer {
        let wanted = Wanted {
            gpu: Some(gpu.to_owned()),
            disk_gb: 20,
            limit: 100,
            ..Wanted::default()
        };
        let report = self.rentals.offers(&wanted, None).await;
        let found = report.offers.first().cloned();
        found.unwrap_or_else(|| panic!("no {gpu} in {report:?}"))
    }

    pub(crate) async fn rent(&self, offer: &OfferId) -> Result<Rental, Failure> {
        self.create(wish(offer)).await
    }

    pub(crate) async fn create(&self, wish: CreateRequest) -> Result<Rental, Failure> {
        match self.rentals.create(&ann(), wish).await? {
            CreateOutcome::Rented(rental) => Ok(*rental),
            other => panic!("it was not rented: {other:?}"),
        }
    }

    pub(crate) async fn standing(&self) -> Standing {
        self.rentals.standings(&ann()).await.unwrap().remove(0)
    }

    pub(crate) async fn get(&self, id: &str) -> Rental {
        self.rentals.get(&ann(), id).await.unwrap()
    }
}

pub(crate) fn wish(offer: &OfferId) -> CreateRequest {
    CreateRequest {
        what: What::Offer(offer.clone()),
        image: None,
        disk_gb: None,
        ports: vec![8_000],
        env: BTreeMap::new(),
        lifetime: None,
        idle: None,
        idempotency_key: None,
        mode: Mode::Do,
        trace: TraceId::from_bytes([7; 16]).unwrap(),
        surface: Surface::Api,
    }
}

pub(crate) fn principal(subject: &str, role: Role) -> Principal {
    Principal {
        tenant: "acme".parse().unwrap(),
        project: None,
        subject: subject.parse().unwrap(),
        key: Some("k1".parse().unwrap()),
        session: None,
        role,
        grants: Vec::new(),
        shown: Vec::new(),
        good_until: None,
    }
}

pub(crate) fn ann() -> Principal {
    principal("ann", Role::User)
}

/// The news so far.
pub(crate) fn told(news: &mut broadcast::Receiver<RentalNews>) -> Vec<RentalNews> {
    std::iter::from_fn(|| news.try_recv().ok()).collect()
}
