//! All declared tools of a gateway: those of the configuration, and those created at run time.
//!
//! What is configured wins over what was created under the same name.

use super::{
    config::{self, Config, ToolConfig},
    shelf::{Shelf, Tools},
    tool::{Kit, Origin, Tool},
};
use crate::{
    catalogue::{Catalogue, WeakCatalogue},
    source::Change,
};
use forebay_domain::{Code, Failure, Principal};
use forebay_store::{Store, declared as kept};
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

/// Declared tools at most.
const TOOLS_MAX: usize = 500;

/// How often reading what is kept begins anew because somebody changed it meanwhile.
const SYNC_TRIES: usize = 3;

/// What the declared tools stand on.
pub struct DeclaredParts {
    pub catalogue: Catalogue,
    pub store: Store,
    pub kit: Kit,
}

/// All declared tools of this gateway. Cheap to clone.
#[derive(Clone)]
pub struct Declared(Arc<Inner>);

struct Inner {
    catalogue: WeakCatalogue,
    store: Store,
    kit: Kit,
    shelf: Arc<Shelf>,
    all: Mutex<Tools>,
    /// Counts what was created and deleted here.
    changes: AtomicU64,
}

/// A declared tool as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredTool {
    pub name: String,
    pub origin: Origin,
    /// As it was written, with references to secrets and no secrets.
    pub config: ToolConfig,
    /// Whether it is offered now.
    pub is_offered: bool,
}

impl Declared {
    /// Says why the section could not be used.
    pub fn check(config: &Config, kit: &Kit) -> Result<(), Failure> {
        config.onto(crate::tools::Config::default())?;
        parse_all(config, kit, &Tools::new()).map(drop)
    }

    /// Offers the tools of the configuration. Those created at run time come with [`Self::sync`].
    pub fn start(config: &Config, parts: DeclaredParts) -> Result<Self, Failure> {
        let catalogue = parts.catalogue.downgrade();
        let shelf = Arc::new(Shelf::new(catalogue.clone()));
        let this = Self(Arc::new(Inner {
            catalogue,
            store: parts.store,
            kit: parts.kit,
            shelf: shelf.clone(),
            all: Mutex::default(),
            changes: AtomicU64::new(0),
        }));
        *this.all() = parse_all(config, &this.0.kit, &Tools::new())?;
        shelf.show(&this.all());
        parts.catalogue.join(shelf);
        Ok(this)
    }

    /// Puts another configuration in force, or none of it where some of it cannot be used. To be called after
    /// [`Catalogue::reconfigure`], since a tool may be another spelling of a built-in one.
    pub fn reconfigure(&self, config: &Config) -> Result<(), Failure> {
        let mut all = self.all();
        let mut wanted = parse_all(config, &self.0.kit, &all)?;
        for (name, tool) in all.iter().filter(|(_, tool)| tool.origin == Origin::Api) {
            wanted.entry(name.clone()).or_insert_with(|| tool.clone());
        }
        *all = wanted;
        self.show(&all);
        Ok(())
    }

    /// Offers what is kept in the store, and no longer what is not; on one replica the effect of what was done on
    /// another.
    pub async fn sync(&self) -> Result<(), Failure> {
        for _ in 0..SYNC_TRIES {
            let before = self.0.changes.load(Ordering::SeqCst);
            let rows = self.0.store.declared().list().await?;
            let mut all = self.all();
            // Where somebody has created or deleted one since, what was read is old.
            if self.0.changes.load(Ordering::SeqCst) == before {
                self.adopt(&mut all, rows);
                return Ok(());
            }
        }
        Ok(())
    }

    fn adopt(&self, all: &mut Tools, rows: Vec<kept::StoredDeclared>) {
        let mut wanted: Tools = all
            .iter()
            .filter(|(_, tool)| tool.origin == Origin::File)
            .map(|(name, tool)| (name.clone(), tool.clone()))
            .collect();
        for row in rows.into_iter().take(TOOLS_MAX) {
            if wanted.contains_key(&row.name) {
                continue;
            }
            let config = serde_json::from_str::<ToolConfig>(row.config.get());
            let parsed = config
                .map_err(|fault| Failure::new(Code::InvalidConfig, fault.to_string()))
                .and_then(|config| reused(&row.name, &config, Origin::Api, &self.0.kit, all));
            match parsed {
                Ok(tool) => {
                    wanted.insert(row.name, tool);
                }
                Err(failure) => {
                    tracing::warn!(tool.name = %row.name, error.chain = %failure.chain(), "declared tool left out");
                }
            }
        }
        let is_same = wanted.len() == all.len()
            && wanted
                .iter()
                .all(|(name, tool)| all.get(name).is_some_and(|other| Arc::ptr_eq(tool, other)));
        if !is_same {
            *all = wanted;
            self.show(all);
        }
    }

    /// Creates a tool at run time. Its name is either in the configuration or said beside it.
    pub async fn create(&self, name: &str, config: &ToolConfig, by: &Principal) -> Result<DeclaredTool, Failure> {
        let mut config = config.clone();
        if config.name.take().is_some_and(|own| own != name) {
            return Err(Failure::new(Code::InvalidParams, "The tool has two names."));
        }
        let tool = Tool::parse(name, &config, Origin::Api, &self.0.kit).map_err(as_params)?;
        {
            let all = self.all();
            if let Some(other) = all.get(name) {
                return Err(taken(name, other.origin));
            }
            if all.len() >= TOOLS_MAX {
                let message = format!("There are {TOOLS_MAX} declared tools already.");
                return Err(Failure::new(Code::Conflict, message).hint("Delete one first."));
            }
        }
        if let Some(builtin) = tool.builtin()
            && tool.listed(&self.0.catalogue).is_none()
        {
            let message = format!("`{name}` means the built-in tool `{builtin}`, which is not offered here.");
            return Err(Failure::new(Code::Conflict, message)
                .hint("Configure it in the configuration file, or give the tool an `endpoint` of its own."));
        }
        let row = kept::NewDeclared {
            name: name.to_owned(),
            config: serde_json::value::to_raw_value(&config).expect("a configuration is JSON"),
            by: by.subject.clone(),
            at: self.0.kit.clock.now(),
        };
        match self.0.store.declared().put(&row).await? {
            kept::Put::Created => {}
            kept::Put::Taken => return Err(taken(name, Origin::Api)),
            kept::Put::Full => {
                return Err(Failure::new(
                    Code::Conflict,
                    "There are too many declared tools already.",
                ));
            }
        }
        let mut all = self.all();
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        all.insert(name.to_owned(), Arc::new(tool));
        self.show(&all);
        drop(all);
        self.get(name)
    }

    /// Deletes a tool that was created at run time.
    pub async fn delete(&self, name: &str) -> Result<(), Failure> {
        let origin = self.all().get(name).ok_or_else(unknown)?.origin;
        if origin == Origin::File {
            let message = format!("`{name}` stands in the configuration file.");
            return Err(Failure::new(Code::Conflict, message).hint("Take it out there; the gateway notices."));
        }
        self.0.store.declared().delete(name).await?;
        let mut all = self.all();
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        if all.get(name).is_some_and(|tool| tool.origin == Origin::Api) {
            all.remove(name);
        }
        self.show(&all);
        Ok(())
    }

    pub fn list(&self) -> Vec<DeclaredTool> {
        self.all().values().map(|tool| self.seen(tool)).collect()
    }

    pub fn get(&self, name: &str) -> Result<DeclaredTool, Failure> {
        let all = self.all();
        all.get(name).map(|tool| self.seen(tool)).ok_or_else(unknown)
    }

    fn seen(&self, tool: &Tool) -> DeclaredTool {
        DeclaredTool {
            name: tool.name.clone(),
            origin: tool.origin,
            config: tool.config.clone(),
            is_offered: tool.config.is_enabled() && tool.listed(&self.0.catalogue).is_some(),
        }
    }

    /// Shows these tools to everybody.
    fn show(&self, all: &Tools) {
        self.0.shelf.show(all);
        if let Some(catalogue) = self.0.catalogue.upgrade() {
            catalogue.announce(self.0.shelf.as_ref(), Change::Tools);
        }
    }

    fn all(&self) -> MutexGuard<'_, Tools> {
        self.0.all.lock().expect("nobody panics while holding the tools")
    }
}

/// The tools of the configuration, but those entries that are about built-in ones.
fn parse_all(config: &Config, kit: &Kit, before: &Tools) -> Result<Tools, Failure> {
    if config.0.len() > TOOLS_MAX {
        let message = format!("`mcp.tools` has {} entries; {TOOLS_MAX} are the most.", config.0.len());
        return Err(Failure::new(Code::InvalidConfig, message));
    }
    let own = config
        .0
        .iter()
        .filter(|(name, _)| config::builtin(name) != Some(name.as_str()));
    own.map(|(name, tool)| Ok((name.clone(), reused(name, tool, Origin::File, kit, before)?)))
        .collect()
}

/// The tool as it is already, where nothing about it changed: what was used of its allowance stays used.
fn reused(name: &str, config: &ToolConfig, origin: Origin, kit: &Kit, before: &Tools) -> Result<Arc<Tool>, Failure> {
    let same = before
        .get(name)
        .filter(|tool| tool.origin == origin && tool.config == *config);
    match same {
        Some(tool) => Ok(tool.clone()),
        None => Tool::parse(name, config, origin, kit).map(Arc::new),
    }
}

fn taken(name: &str, origin: Origin) -> Failure {
    let message = match origin {
        Origin::File => format!("`{name}` stands in the configuration file."),
        Origin::Api => format!("There is a tool `{name}` already."),
    };
    Failure::new(Code::Conflict, message).hint("Choose another name, or take that one away first.")
}

fn unknown() -> Failure {
    Failure::new(Code::UnknownTool, "There is no declared tool of that name.")
}

/// What is wrong with a tool in a request is the request's fault.
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
