//! Providers that come and go at run time, and what people are told about all of them.

use crate::{
    config::ProviderConfig,
    find::Freshness,
    provider::{Ability, Connections, Kind},
    providers::{Providers, Running, State},
    secret::Origin,
    settings::{self, PROVIDERS_MAX, Settings},
};
use forebay_domain::{
    Code, Failure, Principal,
    context::{Context, ContextQuery, OnFailure, ProviderFailure, Strategy},
    id::SubjectId,
    port::Via,
};
use forebay_store::declared::{NewDeclared, Put};
use jiff::Timestamp;
use std::{
    collections::BTreeSet,
    sync::{MutexGuard, atomic::Ordering},
};

/// How often reading what is registered begins anew because somebody changed it meanwhile.
const SYNC_TRIES: usize = 3;

/// Whether a provider answers, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nobody asked it yet.
    Unasked,
    /// It answered when it was last asked.
    Answers,
    /// It failed when it was last asked.
    Fails,
    Disabled,
}

impl Condition {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unasked => "unasked",
            Self::Answers => "answers",
            Self::Fails => "fails",
            Self::Disabled => "disabled",
        }
    }
}

/// How one provider is.
#[derive(Debug, Clone)]
pub struct ProviderStatus {
    pub name: String,
    pub kind: Kind,
    /// Whether it was registered over the API, and so may be removed there.
    pub registered: bool,
    pub condition: Condition,
    /// The strategies that it can do.
    pub strategies: Vec<Strategy>,
    pub asked_at: Option<Timestamp>,
    pub trouble: Option<ProviderFailure>,
    /// What else there is to know: how many files it has.
    pub note: Option<String>,
    pub connections: Option<Connections>,
}

/// One provider with its settings, which name secrets by reference.
#[derive(Debug, Clone)]
pub struct ProviderDetail {
    pub status: ProviderStatus,
    pub config: ProviderConfig,
}

impl Providers {
    /// Registers a provider at run time. One that is there already is not changed: whoever asks for it under this name
    /// would be answered by another source without a word.
    pub async fn create(&self, name: &str, config: &ProviderConfig, by: SubjectId) -> Result<(), Failure> {
        let state = self.0.state.load_full();
        let settings = self.parsed(&state, name, config).map_err(as_params)?;
        if let Some(known) = state.running.get(name) {
            return Err(taken(name, known.origin));
        }
        if state.running.len() >= PROVIDERS_MAX {
            let message = format!("There are {PROVIDERS_MAX} providers already.");
            return Err(Failure::new(Code::Conflict, message).hint("Remove one first."));
        }
        let row = NewDeclared {
            name: name.to_owned(),
            config: serde_json::value::to_raw_value(&settings.config).expect("a configuration is JSON"),
            by,
            at: self.0.parts.clock.now(),
        };
        match self.0.parts.store.providers().put(&row).await? {
            Put::Created => {}
            Put::Taken => return Err(taken(name, Origin::Api)),
            Put::Full => return Err(Failure::new(Code::Conflict, "There are too many providers already.")),
        }
        self.change(|state| {
            self.0.changes.fetch_add(1, Ordering::SeqCst);
            self.run(state, settings, Origin::Api);
        });
        Ok(())
    }

    /// Takes away a provider that was registered at run time.
    pub async fn delete(&self, name: &str) -> Result<(), Failure> {
        let origin = self.0.state.load().running.get(name).map(|one| one.origin);
        if origin == Some(Origin::File) {
            let message = format!("`{name}` stands in the configuration file.");
            return Err(Failure::new(Code::Conflict, message).hint("Take it out there; the gateway notices."));
        }
        // Also one that does not run here: that another replica has just made, or that cannot be used any more.
        let is_gone = self.0.parts.store.providers().delete(name).await?;
        self.change(|state| {
            self.0.changes.fetch_add(1, Ordering::SeqCst);
            let is_registered = state.running.get(name).is_some_and(|one| one.origin == Origin::Api);
            if is_registered {
                self.end(state, name);
            }
        });
        if is_gone || origin.is_some() {
            Ok(())
        } else {
            Err(unknown())
        }
    }

    pub fn list(&self) -> Vec<ProviderStatus> {
        self.0.state.load().running.values().map(|one| status(one)).collect()
    }

    pub fn get(&self, name: &str) -> Result<ProviderDetail, Failure> {
        let one = self.known(name)?;
        Ok(ProviderDetail {
            status: status(&one),
            config: one.settings.config.clone(),
        })
    }

    /// Asks one provider, and no cache. That it fails is what the report is for.
    pub async fn test(
        &self,
        principal: &Principal,
        name: &str,
        query: &str,
        strategy: Option<Strategy>,
        via: Via,
    ) -> Result<Context, Failure> {
        let query = ContextQuery {
            providers: vec![name.to_owned()],
            query: query.to_owned(),
            strategy,
            items_max: None,
            tokens_max: None,
            on_failure: Some(OnFailure::Continue),
        };
        self.ask(principal, &query, via, Freshness::Anew).await
    }

    /// Runs what is registered in the store, and ends what no longer is; on one replica the effect of what was done on
    /// another.
    pub async fn sync(&self) -> Result<(), Failure> {
        for _ in 0..SYNC_TRIES {
            let before = self.0.changes.load(Ordering::SeqCst);
            let stored = self.0.parts.store.providers().list().await?;
            let state = self.0.state.load_full();
            let (mut wanted, mut left_out) = (Vec::new(), BTreeSet::new());
            for row in stored {
                let parsed = serde_json::from_str::<ProviderConfig>(row.config.get())
                    .map_err(|fault| Failure::new(Code::InvalidConfig, fault.to_string()))
                    .and_then(|config| self.parsed(&state, &row.name, &config));
                match parsed {
                    Ok(settings) => wanted.push(settings),
                    Err(failure) => {
                        left_out.insert(row.name.clone());
                        // Told once, and not at each pass.
                        if !self.left_out().contains(&row.name) {
                            tracing::warn!(provider.name = %row.name, error = failure.chain(), "provider left out");
                        }
                    }
                }
            }
            *self.left_out() = left_out;
            // Where somebody has registered or removed one since, what was read is old.
            let adopted = self.change(|state| {
                let is_current = self.0.changes.load(Ordering::SeqCst) == before;
                if is_current {
                    self.adopt(state, wanted, Origin::Api);
                }
                is_current
            });
            if adopted {
                return Ok(());
            }
        }
        Ok(())
    }

    fn left_out(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.left_out.lock().expect("nobody panics while holding names")
    }

    fn parsed(&self, state: &State, name: &str, config: &ProviderConfig) -> Result<Settings, Failure> {
        let folder = state.section.secrets_dir.as_ref();
        settings::parse(name, config, Origin::Api, &self.0.parts.secrets, folder)
    }

    fn known(&self, name: &str) -> Result<std::sync::Arc<Running>, Failure> {
        let state = self.0.state.load();
        state.running.get(name).cloned().ok_or_else(unknown)
    }
}

fn status(one: &Running) -> ProviderStatus {
    let fares = one.fares().clone();
    let provider = one.provider.as_ref();
    let condition = match (provider, &fares.trouble, fares.asked_at) {
        (None, _, _) => Condition::Disabled,
        (Some(_), Some(_), _) => Condition::Fails,
        (Some(_), None, Some(_)) => Condition::Answers,
        (Some(_), None, None) => Condition::Unasked,
    };
    let strategies = provider.map_or(Vec::new(), |provider| match provider.ability() {
        Ability::Keyword => vec![Strategy::Keyword],
        Ability::Semantic => vec![Strategy::SemanticSearch],
        Ability::Both => Strategy::ALL.to_vec(),
    });
    ProviderStatus {
        name: one.settings.name.clone(),
        kind: one.settings.kind,
        registered: one.origin == Origin::Api,
        condition,
        strategies,
        asked_at: fares.asked_at,
        trouble: fares.trouble,
        note: provider.and_then(|provider| provider.note()),
        connections: provider.and_then(|provider| provider.connections()),
    }
}

fn unknown() -> Failure {
    Failure::new(Code::UnknownProvider, "There is no provider of that name.")
        .hint("`forebay provider list` shows what there is.")
}

fn taken(name: &str, origin: Origin) -> Failure {
    match origin {
        Origin::File => Failure::new(Code::Conflict, format!("`{name}` stands in the configuration file."))
            .hint("Change it there, or choose another name."),
        Origin::Api => Failure::new(Code::Conflict, format!("There is a provider `{name}` already."))
            .hint("Delete it first, or choose another name."),
    }
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
