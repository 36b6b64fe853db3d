//! The whole offer at one moment: every tool, prompt and resource under the name by which callers know it.
//!
//! An index is made anew whenever a source changes, and never altered. Looking something up costs the same however much
//! there is. Where two sources would give one name two meanings, neither is offered; built-in servers win.

use crate::{
    raw::with_member,
    source::{Naming, Offer, Prompt, Resource, Source, Template, Tool},
};
use forebay_domain::quarantine::{ServerName, exposed_name};
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::Arc,
};

/// Which part of the catalogue a caller has before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Scope {
    /// Everything: `/mcp`.
    #[default]
    Whole,
    /// One server, by the server's own names: `/servers/{name}/mcp`.
    Server(Arc<str>),
}

/// One thing on offer, with the source that serves it.
pub(crate) struct Listed<T> {
    /// The name in the whole catalogue, which grants, limits and events know. A URI for resources.
    pub(crate) exposed: String,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) item: Arc<T>,
    /// The definition with its exposed name.
    pub(crate) raw: Box<RawValue>,
}

type Table<T> = BTreeMap<String, Arc<Listed<T>>>;

/// What one scope shows, by the names of that scope.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) tools: Table<Tool>,
    pub(crate) prompts: Table<Prompt>,
    pub(crate) resources: Table<Resource>,
    pub(crate) templates: Table<Template>,
    pub(crate) sources: Vec<(Arc<dyn Source>, Arc<Offer>)>,
}

#[derive(Default)]
pub(crate) struct Index {
    whole: View,
    servers: HashMap<Arc<str>, View>,
    /// Names that two sources claimed: what they are, and by whom.
    pub(crate) clashes: Vec<Clash>,
}

/// A name with two meanings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    pub name: String,
    pub servers: [String; 2],
}

impl Index {
    pub(crate) fn new(sources: &[Arc<dyn Source>]) -> Self {
        let mut index = Self::default();
        // Built-in servers come first, and so keep what they have.
        let (bare, prefixed): (Vec<_>, Vec<_>) = sources.iter().partition(|source| source.naming() == Naming::Bare);
        for source in bare.into_iter().chain(prefixed) {
            index.add(source);
        }
        index
    }

    pub(crate) fn view(&self, scope: &Scope) -> Option<&View> {
        match scope {
            Scope::Whole => Some(&self.whole),
            Scope::Server(name) => self.servers.get(name),
        }
    }

    fn add(&mut self, source: &Arc<dyn Source>) {
        let offer = source.offer();
        let mut own = View::default();
        for tool in &offer.tools {
            let Some([whole, bare]) = listings(source, tool, &tool.name, &tool.raw) else {
                continue;
            };
            own.tools.insert(tool.name.clone(), bare);
            self.claim(|view| &mut view.tools, whole);
        }
        for prompt in &offer.prompts {
            let Some([whole, bare]) = listings(source, prompt, &prompt.name, &prompt.raw) else {
                continue;
            };
            own.prompts.insert(prompt.name.clone(), bare);
            self.claim(|view| &mut view.prompts, whole);
        }
        // A URI means the same wherever it stands, so it has no prefix. Of two servers with one URI the first one in the
        // order of names answers in the whole, and each answers under its own path.
        for resource in &offer.resources {
            let listed = as_it_is(source, resource, &resource.uri, &resource.raw);
            own.resources.insert(resource.uri.clone(), listed.clone());
            self.whole.resources.entry(resource.uri.clone()).or_insert(listed);
        }
        for template in &offer.templates {
            let listed = as_it_is(source, template, &template.template, &template.raw);
            own.templates.insert(template.template.clone(), listed.clone());
            self.whole.templates.entry(template.template.clone()).or_insert(listed);
        }
        self.whole.sources.push((source.clone(), offer.clone()));
        own.sources.push((source.clone(), offer));
        self.servers.insert(source.name().into(), own);
    }

    fn claim<T>(&mut self, table: impl Fn(&mut View) -> &mut Table<T>, listed: Arc<Listed<T>>) {
        if self.clashes.iter().any(|clash| clash.name == listed.exposed) {
            return;
        }
        match table(&mut self.whole).entry(listed.exposed.clone()) {
            Entry::Vacant(place) => {
                place.insert(listed);
            }
            Entry::Occupied(place) => {
                let first = place.get();
                self.clashes.push(Clash {
                    name: listed.exposed.clone(),
                    servers: [first.source.name().to_owned(), listed.source.name().to_owned()],
                });
                if first.source.naming() == Naming::Prefixed {
                    place.remove();
                }
            }
        }
    }
}

/// The two listings of one item: in the whole catalogue, and in its own server's scope. None for a name that cannot
/// be offered at all.
fn listings<T>(source: &Arc<dyn Source>, item: &Arc<T>, name: &str, raw: &RawValue) -> Option<[Arc<Listed<T>>; 2]> {
    let exposed = match source.naming() {
        Naming::Bare => name.to_owned(),
        Naming::Prefixed => exposed_name(&ServerName::try_from(source.name()).ok()?, name).ok()?,
    };
    let whole = match source.naming() {
        Naming::Bare => raw.to_owned(),
        Naming::Prefixed => with_member(raw, "name", &serde_json::Value::from(exposed.as_str()).to_string()),
    };
    let listing = |raw| {
        Arc::new(Listed {
            exposed: exposed.clone(),
            source: source.clone(),
            item: item.clone(),
            raw,
        })
    };
    Some([listing(whole), listing(raw.to_owned())])
}

/// A listing whose name is the same everywhere.
fn as_it_is<T>(source: &Arc<dyn Source>, item: &Arc<T>, uri: &str, raw: &RawValue) -> Arc<Listed<T>> {
    Arc::new(Listed {
        exposed: uri.to_owned(),
        source: source.clone(),
        item: item.clone(),
        raw: raw.to_owned(),
    })
}
