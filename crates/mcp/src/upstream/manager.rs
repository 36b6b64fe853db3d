//! All upstreams of a gateway: those of the configuration and those registered at run time, each with its loop.
//!
//! What is configured wins over what was registered under the same name. Taking one away ends its connections and its
//! processes; what was approved of it stays known until it is forgotten.

use super::{
    clashes,
    config::{Config, UpstreamConfig},
    pins::{Approved, Pins},
    pool::{Identity, Opener},
    server::{Ground, Upstream},
    settings::{self, Kit, Origin, Settings, UPSTREAMS_MAX},
    status::{UpstreamDetail, UpstreamStatus},
};
use crate::{catalogue::Catalogue, client::mailbox};
use forebay_domain::{
    Code, Failure,
    id::{KeyId, SubjectId},
    quarantine::ServerName,
};
use forebay_runtime::{
    Tasks,
    child::{Launcher, Logs},
};
use forebay_store::{
    Store,
    mcp::{
        pins::Chosen,
        upstreams::{NewUpstream, Put},
    },
};
use serde_json::value::RawValue;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

/// What all upstreams stand on.
#[derive(Clone)]
pub struct UpstreamsParts {
    pub catalogue: Catalogue,
    pub store: Store,
    pub tasks: Tasks,
    pub launcher: Launcher,
    pub kit: Kit,
    /// The raw `Implementation` object with which the gateway introduces itself.
    pub client_info: Box<RawValue>,
}

/// All upstreams of this gateway. Cheap to clone.
#[derive(Clone)]
pub struct Upstreams(Arc<Inner>);

struct Inner {
    parts: UpstreamsParts,
    pins: Pins,
    running: Mutex<BTreeMap<ServerName, Running>>,
    /// Counts what was registered and removed here.
    changes: AtomicU64,
}

/// How often reading what is registered begins anew because somebody changed it meanwhile.
const SYNC_TRIES: usize = 3;

struct Running {
    upstream: Arc<Upstream>,
    origin: Origin,
    logs: Logs,
}

impl Upstreams {
    /// Says why the section could not be used.
    pub fn check(config: &Config, kit: &Kit) -> Result<(), Failure> {
        settings::parse_all(config, kit).map(drop)
    }

    /// Starts the loops of the configured upstreams. Those registered at run time come with [`Self::sync`].
    pub fn start(config: &Config, parts: UpstreamsParts) -> Result<Self, Failure> {
        let (catalogue, news) = (parts.catalogue.downgrade(), parts.catalogue.changes());
        let this = Self(Arc::new(Inner {
            pins: Pins::new(&parts.store),
            running: Mutex::default(),
            changes: AtomicU64::new(0),
            parts,
        }));
        this.reconfigure(config)?;
        let tasks = &this.0.parts.tasks;
        tasks.spawn("upstream clashes", move |stop| clashes::tell(catalogue, news, stop));
        Ok(this)
    }

    /// Puts another configuration in force, or none of it where some of it cannot be used.
    pub fn reconfigure(&self, config: &Config) -> Result<(), Failure> {
        let wanted = settings::parse_all(config, &self.0.parts.kit)?;
        let mut running = self.running();
        let gone: Vec<ServerName> = running
            .iter()
            .filter(|(name, one)| one.origin == Origin::File && !wanted.iter().any(|settings| settings.name == **name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.end(&mut running, &name);
        }
        for settings in wanted {
            self.run(&mut running, settings, Origin::File);
        }
        Ok(())
    }

    /// Runs what is registered in the store, and ends what no longer is; on one replica the effect of what was done on
    /// another.
    pub async fn sync(&self) -> Result<(), Failure> {
        for _ in 0..SYNC_TRIES {
            let before = self.0.changes.load(Ordering::SeqCst);
            let wanted = self.registered().await?;
            let mut running = self.running();
            // Where somebody has registered or removed one since, what was read is old.
            if self.0.changes.load(Ordering::SeqCst) == before {
                self.adopt(&mut running, wanted);
                return Ok(());
            }
        }
        Ok(())
    }

    /// What the store has, as far as it can be used.
    async fn registered(&self) -> Result<Vec<Settings>, Failure> {
        let stored = self.0.parts.store.upstreams().list().await?;
        let mut wanted = Vec::new();
        for row in stored {
            let parsed = serde_json::from_str::<UpstreamConfig>(row.config.get())
                .map_err(|fault| Failure::new(Code::InvalidConfig, fault.to_string()))
                .and_then(|config| settings::parse(row.name.as_str(), &config, Origin::Api, &self.0.parts.kit));
            match parsed {
                Ok(settings) => wanted.push(settings),
                Err(failure) => {
                    tracing::warn!(upstream.name = %row.name, error.chain = %failure.chain(), "upstream left out");
                }
            }
        }
        Ok(wanted)
    }

    fn adopt(&self, running: &mut BTreeMap<ServerName, Running>, wanted: Vec<Settings>) {
        let gone: Vec<ServerName> = running
            .iter()
            .filter(|(name, one)| one.origin == Origin::Api && !wanted.iter().any(|settings| settings.name == **name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.end(running, &name);
        }
        for settings in wanted {
            if running.get(&settings.name).is_none_or(|one| one.origin == Origin::Api) {
                self.run(running, settings, Origin::Api);
            }
        }
    }

    /// Registers an upstream at run time, or changes one that was.
    pub async fn register(&self, name: &str, config: &UpstreamConfig, by: SubjectId) -> Result<(), Failure> {
        let settings = settings::parse(name, config, Origin::Api, &self.0.parts.kit).map_err(as_params)?;
        {
            let running = self.running();
            if running
                .get(&settings.name)
                .is_some_and(|one| one.origin == Origin::File)
            {
                let message = format!("`{name}` stands in the configuration file.");
                return Err(Failure::new(Code::Conflict, message).hint("Change it there, or choose another name."));
            }
            if running.len() >= UPSTREAMS_MAX && !running.contains_key(&settings.name) {
                let message = format!("There are {UPSTREAMS_MAX} upstreams already.");
                return Err(Failure::new(Code::Conflict, message).hint("Remove one first."));
            }
        }
        let row = NewUpstream {
            name: settings.name.clone(),
            tenant: None,
            config: serde_json::value::to_raw_value(config).expect("a configuration is JSON"),
            by,
            at: self.0.parts.kit.clock.now(),
        };
        let put = self.0.parts.store.upstreams().put(&row).await?;
        match put {
            Put::Created | Put::Replaced => {}
            Put::Taken => {
                let message = format!("`{name}` belongs to another tenant.");
                return Err(Failure::new(Code::Conflict, message).hint("Choose another name."));
            }
            Put::Full => return Err(Failure::new(Code::Conflict, "There are too many upstreams already.")),
        }
        let mut running = self.running();
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        self.run(&mut running, settings, Origin::Api);
        Ok(())
    }

    /// Takes away an upstream that was registered at run time.
    pub async fn remove(&self, name: &str) -> Result<(), Failure> {
        let name = self.known(name)?;
        if self.running().get(&name).is_some_and(|one| one.origin == Origin::File) {
            let message = format!("`{name}` stands in the configuration file.");
            return Err(Failure::new(Code::Conflict, message).hint("Take it out there; the gateway notices."));
        }
        self.0.parts.store.upstreams().remove(&name).await?;
        let mut running = self.running();
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        self.end(&mut running, &name);
        Ok(())
    }

    pub fn list(&self) -> Vec<UpstreamStatus> {
        let index = self.0.parts.catalogue.index();
        let status = |one: &Running| UpstreamStatus::of(&one.upstream, one.origin, &index);
        self.running().values().map(status).collect()
    }

    pub async fn show(&self, name: &str) -> Result<UpstreamDetail, Failure> {
        let name = self.known(name)?;
        let waiting = self.0.pins.waiting(&name).await?;
        let running = self.running();
        let one = running.get(&name).ok_or_else(unknown)?;
        Ok(UpstreamDetail {
            status: UpstreamStatus::of(&one.upstream, one.origin, &self.0.parts.catalogue.index()),
            config: one.upstream.settings.config.clone(),
            waiting,
            logs: one.logs.lines(),
        })
    }

    /// Lets held definitions pass: those that somebody looked at, or all that wait. Answers which. The server is asked
    /// before, since what was looked at may not be what it lists by now.
    pub async fn approve(&self, name: &str, chosen: Chosen, by: &SubjectId) -> Result<Vec<Approved>, Failure> {
        let name = self.known(name)?;
        let upstream = self.running().get(&name).map(|one| one.upstream.clone());
        if let Some(upstream) = upstream {
            upstream.look_now().await;
        }
        let now = self.0.parts.kit.clock.now();
        let approved = self.0.pins.approve(&name, chosen, by, now).await?;
        self.refresh(name.as_str())?;
        Ok(approved)
    }

    /// Forgets what was decided about an upstream, also about one that is gone: all that it defines is new from then on.
    /// Answers how many definitions that were.
    pub async fn forget(&self, name: &str) -> Result<u64, Failure> {
        let name = ServerName::try_from(name).map_err(|_| unknown())?;
        let forgotten = self.0.pins.forget(&name).await?;
        let running = self.running();
        match running.get(&name) {
            Some(one) => one.upstream.refresh(),
            None if forgotten == 0 => return Err(unknown()),
            None => {}
        }
        Ok(forgotten)
    }

    /// Lists an upstream again now, or tries again to reach it.
    pub fn refresh(&self, name: &str) -> Result<(), Failure> {
        let name = self.known(name)?;
        let running = self.running();
        running.get(&name).ok_or_else(unknown)?.upstream.refresh();
        Ok(())
    }

    /// Ends the connections that a revoked key opened.
    pub fn close_key(&self, key: &KeyId) {
        for one in self.running().values() {
            one.upstream.pool.release_where(
                |identity| matches!(identity, Identity::Caller { owner, .. } if owner.key() == Some(key)),
            );
        }
    }

    fn run(&self, running: &mut BTreeMap<ServerName, Running>, settings: Settings, origin: Origin) {
        let same = running
            .get(&settings.name)
            .is_some_and(|one| one.origin == origin && one.upstream.settings.is_same(&settings));
        if same {
            return;
        }
        self.end(running, &settings.name.clone());
        let enabled = settings.config.enabled;
        let parts = &self.0.parts;
        let (listener, heard) = mailbox();
        let logs = Logs::new();
        let upstream = Arc::new(Upstream::new(
            settings,
            Ground {
                opener: Opener {
                    launcher: parts.launcher.clone(),
                    tasks: parts.tasks.clone(),
                    clock: parts.kit.clock.clone(),
                    client_info: parts.client_info.clone(),
                    listener,
                    logs: logs.clone(),
                },
                pins: self.0.pins.clone(),
                catalogue: parts.catalogue.downgrade(),
                clock: parts.kit.clock.clone(),
                entropy: parts.kit.entropy.clone(),
            },
        ));
        if enabled {
            parts.catalogue.join(upstream.clone());
            let keeper = upstream.clone();
            parts.tasks.spawn("upstream", move |stop| keeper.keep(heard, stop));
        }
        let name = upstream.settings.name.clone();
        running.insert(name, Running { upstream, origin, logs });
    }

    fn end(&self, running: &mut BTreeMap<ServerName, Running>, name: &ServerName) {
        if let Some(one) = running.remove(name) {
            one.upstream.gone.cancel();
            self.0.parts.catalogue.leave(name.as_str());
        }
    }

    fn known(&self, name: &str) -> Result<ServerName, Failure> {
        let name = ServerName::try_from(name).map_err(|_| unknown())?;
        if self.running().contains_key(&name) {
            Ok(name)
        } else {
            Err(unknown())
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<ServerName, Running>> {
        self.0
            .running
            .lock()
            .expect("nobody panics while holding the upstreams")
    }
}

fn unknown() -> Failure {
    Failure::new(Code::UnknownUpstream, "There is no upstream of that name.")
        .hint("`forebay upstream list` shows what there is.")
}

/// What is wrong with a configuration in a request is the request's fault.
fn as_params(failure: Failure) -> Failure {
    Failure {
        code: if failure.code == Code::InvalidConfig {
            Code::InvalidParams
        } else {
            failure.code
        },
        ..failure
    }
}
