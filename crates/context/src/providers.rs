//! All providers of a gateway: those of the configuration and those registered at run time.
//!
//! What is configured wins over what was registered under the same name. Readers see a snapshot; whoever changes
//! something makes the next one.

use crate::{
    cache::Cache,
    config::{Config, ContextConfig},
    kinds::{Ground, http::ANSWER_BYTES_MAX},
    metrics::Metrics,
    provider::{Kind, Provider},
    record::Books,
    secret::Origin,
    settings::{self, Settings},
};
use arc_swap::ArcSwap;
use forebay_domain::{
    Failure,
    context::ProviderFailure,
    port::{AskModel, CallTool},
};
use forebay_runtime::{
    Clock, Entropy, Tasks,
    http::{Guarded, LookUp, Rules, Schemes},
    secret::SecretReader,
};
use forebay_store::{Store, passages::Passages};
use jiff::Timestamp;
use reqwest::Client;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// Questions that one provider answers at once; the rest wait, as long as they may.
const AT_ONCE_MAX: usize = 32;
/// Longer than any provider's own time limit.
const GUARDED_DEADLINE: Duration = Duration::from_secs(150);

/// What all providers stand on.
#[derive(Clone)]
pub struct ProvidersParts {
    pub store: Store,
    /// For embeddings.
    pub models: Arc<dyn AskModel>,
    pub tools: Arc<dyn CallTool>,
    /// The client for what the operator configured. It must not follow redirects.
    pub http: Client,
    /// How names are looked up that somebody else chose; the machine's way where there is none.
    pub look_up: Option<LookUp>,
    pub secrets: SecretReader,
    pub clock: Clock,
    pub entropy: Entropy,
    pub tasks: Tasks,
    pub metrics: Metrics,
}

/// All providers of this gateway. Cheap to clone.
#[derive(Clone)]
pub struct Providers(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) parts: ProvidersParts,
    pub(crate) books: Books,
    pub(crate) state: ArcSwap<State>,
    /// Held by whoever makes the next state.
    writing: Mutex<()>,
    generations: AtomicU64,
    /// Counts what was registered and removed here.
    pub(crate) changes: AtomicU64,
    /// Those that are registered and cannot be used.
    pub(crate) left_out: Mutex<BTreeSet<String>>,
}

/// What is in force.
pub(crate) struct State {
    /// What the section says without its providers.
    pub(crate) section: Config,
    pub(crate) context: ContextConfig,
    pub(crate) cache: Option<Cache>,
    pub(crate) ground: Ground,
    pub(crate) running: BTreeMap<String, Arc<Running>>,
}

/// One provider in force.
pub(crate) struct Running {
    pub(crate) settings: Settings,
    pub(crate) origin: Origin,
    /// None where it is not enabled.
    pub(crate) provider: Option<Arc<dyn Provider>>,
    /// No other provider, and no other settings of this one, ever has the same.
    pub(crate) generation: u64,
    pub(crate) permits: Semaphore,
    pub(crate) fares: Mutex<Fares>,
}

/// How it was when it was last asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fares {
    pub(crate) asked_at: Option<Timestamp>,
    pub(crate) trouble: Option<ProviderFailure>,
}

impl Running {
    pub(crate) fn worked(&self, at: Timestamp) {
        let before = std::mem::replace(
            &mut *self.fares(),
            Fares {
                asked_at: Some(at),
                trouble: None,
            },
        );
        if before.trouble.is_some() {
            tracing::info!(provider.name = %self.settings.name, "provider answers again");
        }
    }

    pub(crate) fn failed(&self, at: Timestamp, failure: &ProviderFailure) {
        let now = Fares {
            asked_at: Some(at),
            trouble: Some(failure.clone()),
        };
        let before = std::mem::replace(&mut *self.fares(), now);
        if before.trouble.is_none() {
            tracing::warn!(provider.name = %self.settings.name, error.code = %failure.code, "provider failed");
        }
    }

    pub(crate) fn fares(&self) -> MutexGuard<'_, Fares> {
        self.fares.lock().expect("nobody panics while holding how it fares")
    }
}

impl Providers {
    /// Says why the section could not be used.
    pub fn check(config: &Config, secrets: &SecretReader) -> Result<(), Failure> {
        settings::parse_all(config, secrets).map(drop)
    }

    /// Starts the configured providers. Those registered at run time come with [`Self::sync`].
    pub fn new(parts: ProvidersParts, config: &Config) -> Result<Self, Failure> {
        let section = Config::default();
        let state = State {
            context: section.context.clone(),
            cache: None,
            ground: ground(&parts, &section),
            section,
            running: BTreeMap::new(),
        };
        let this = Self(Arc::new(Inner {
            books: Books {
                events: parts.store.events().clone(),
                metrics: parts.metrics.clone(),
                clock: parts.clock.clone(),
            },
            state: ArcSwap::from_pointee(state),
            writing: Mutex::new(()),
            generations: AtomicU64::new(1),
            changes: AtomicU64::new(0),
            left_out: Mutex::default(),
            parts,
        }));
        this.reconfigure(config)?;
        let swept = this.clone();
        this.0
            .parts
            .tasks
            .spawn("context_sweep", move |_| async move { swept.sweep().await });
        Ok(this)
    }

    /// Puts another configuration in force, or none of it where some of it cannot be used.
    pub fn reconfigure(&self, config: &Config) -> Result<(), Failure> {
        let wanted = settings::parse_all(config, &self.0.parts.secrets)?;
        let section = Config {
            providers: crate::config::ProvidersConfig::default(),
            ..config.clone()
        };
        self.change(|state| {
            let is_same_ground = state.section.allow_addresses == section.allow_addresses
                && state.section.secrets_dir == section.secrets_dir;
            if !is_same_ground {
                state.ground = ground(&self.0.parts, &section);
            }
            let is_same_cache = state.context.cache_enabled == section.context.cache_enabled
                && state.context.cache_ttl == section.context.cache_ttl
                && state.context.cache_bytes_max == section.context.cache_bytes_max
                && state.cache.is_some();
            if !is_same_cache {
                let context = &section.context;
                let made = || Cache::new(context.cache_bytes_max.get(), context.cache_ttl.0);
                state.cache = context.cache_enabled.then(made);
            }
            state.context = section.context.clone();
            state.section = section;
            self.adopt(state, wanted, Origin::File);
            if !is_same_ground {
                self.renew(state);
            }
        });
        Ok(())
    }

    /// Runs those of one origin, and ends all others of that origin. What the file names wins.
    pub(crate) fn adopt(&self, state: &mut State, wanted: Vec<Settings>, origin: Origin) {
        let is_wanted = |name: &String| wanted.iter().any(|settings| settings.name == *name);
        let gone: Vec<String> = state
            .running
            .iter()
            .filter(|(name, one)| one.origin == origin && !is_wanted(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.end(state, &name);
        }
        for settings in wanted {
            let known = state.running.get(&settings.name);
            if origin == Origin::Api && known.is_some_and(|one| one.origin == Origin::File) {
                continue;
            }
            let is_same = known.is_some_and(|one| one.origin == origin && one.settings.is_same(&settings));
            if !is_same {
                self.run(state, settings, origin);
            }
        }
    }

    /// Makes all anew that stand on what has changed beneath them.
    fn renew(&self, state: &mut State) {
        let all: Vec<(Settings, Origin)> = state
            .running
            .values()
            .filter(|one| one.settings.kind != Kind::Files)
            .map(|one| (one.settings.clone(), one.origin))
            .collect();
        for (settings, origin) in all {
            self.run(state, settings, origin);
        }
    }

    pub(crate) fn run(&self, state: &mut State, settings: Settings, origin: Origin) {
        let before = state.running.get(&settings.name);
        if before.is_some_and(|one| one.settings.kind == Kind::Files) && settings.kind != Kind::Files {
            self.end(state, &settings.name);
        }
        let name = settings.name.clone();
        let provider = settings
            .config
            .enabled
            .then(|| settings.source.build(&name, &state.ground));
        let running = Running {
            settings,
            origin,
            provider,
            generation: self.0.generations.fetch_add(1, Ordering::SeqCst),
            permits: Semaphore::new(AT_ONCE_MAX),
            fares: Mutex::default(),
        };
        state.running.insert(name, Arc::new(running));
    }

    pub(crate) fn end(&self, state: &mut State, name: &str) {
        let Some(one) = state.running.remove(name) else { return };
        self.0.books.metrics.forget(name);
        match (&one.provider, one.settings.kind) {
            (Some(provider), _) => provider.forget(),
            (None, Kind::Files) => {
                let (passages, index) = (self.0.parts.store.passages(), name.to_owned());
                self.0.parts.tasks.spawn("context_forget", move |_| async move {
                    forget(&passages, &index).await;
                });
            }
            (None, _) => {}
        }
    }

    /// Removes the indexes of providers that left the configuration while no gateway ran. One that is disabled keeps its
    /// own. A replica that still runs with another configuration makes anew what it misses.
    async fn sweep(&self) {
        let passages = self.0.parts.store.passages();
        let names = match passages.names().await {
            Ok(names) => names,
            Err(fault) => {
                let error = Failure::from(fault).chain();
                tracing::warn!(error, "indexes of providers that are gone may stay behind");
                return;
            }
        };
        for name in names {
            // Looked at anew each time: the configuration may have changed meanwhile.
            let state = self.0.state.load_full();
            let is_kept = state
                .running
                .get(&name)
                .is_some_and(|one| one.settings.kind == Kind::Files);
            if !is_kept {
                forget(&passages, &name).await;
            }
        }
    }

    /// Makes the next state out of the one in force.
    pub(crate) fn change<T>(&self, edit: impl FnOnce(&mut State) -> T) -> T {
        let writing = self.0.writing.lock().expect("nobody panics while making a state");
        let now = self.0.state.load();
        let mut next = State {
            section: now.section.clone(),
            context: now.context.clone(),
            cache: now.cache.clone(),
            ground: now.ground.clone(),
            running: now.running.clone(),
        };
        let done = edit(&mut next);
        self.0.state.store(Arc::new(next));
        drop(writing);
        done
    }
}

/// Removes an index whose provider is gone.
pub(crate) async fn forget(passages: &Passages, index: &str) {
    if let Err(fault) = passages.remove_index(index).await {
        let error = Failure::from(fault).chain();
        tracing::warn!(provider.name = %index, error, "the index of a provider stays behind");
    }
}

fn ground(parts: &ProvidersParts, section: &Config) -> Ground {
    let rules = Rules {
        schemes: Schemes::HttpAndHttps,
        allow: section.allow_addresses.clone(),
        body_bytes_max: ANSWER_BYTES_MAX,
        deadline: GUARDED_DEADLINE,
    };
    Ground {
        store: parts.store.clone(),
        models: parts.models.clone(),
        tools: parts.tools.clone(),
        client: parts.http.clone(),
        guarded: match &parts.look_up {
            Some(look_up) => Guarded::with_look_up(rules, look_up.clone()),
            None => Guarded::new(rules),
        },
        allow: section.allow_addresses.clone(),
        clock: parts.clock.clone(),
        entropy: parts.entropy.clone(),
        tasks: parts.tasks.clone(),
    }
}
