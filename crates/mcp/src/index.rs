//! The whole offer at one moment: every tool, prompt and resource under the name by which callers know it.
//!
//! An index is made anew whenever a source changes, and never altered. Looking something up costs the same however much
//! there is. Where two upstreams would give one name or one URI two meanings, neither is offered in the whole, and that is
//! noted as a clash; under its own path each still has it. What built-in servers have, nobody takes from them: neither a
//! name nor a URI, be it listed or within one of their templates.
//!
//! URIs bear no prefix, so whose a URI is has to be found out ([`View::owner`]). It refuses to guess: of two upstreams
//! whose templates both fit, neither is asked.

use crate::{
    raw::with_member,
    source::{Naming, Offer, Prompt, Resource, Source, Template, Tool},
    template::matches,
};
use forebay_domain::quarantine::{ServerName, exposed_name};
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    sync::Arc,
};
use url::Url;

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

/// Whose a URI is.
pub(crate) enum Owner {
    One(Arc<dyn Source>),
    Nobody,
    /// The templates of several upstreams fit, and nobody can say which of them is meant.
    Several,
}

#[derive(Default)]
pub(crate) struct Index {
    whole: View,
    servers: HashMap<Arc<str>, View>,
    /// Names and URIs that are nobody's in the whole, because two upstreams claimed them.
    contested: HashSet<(Sort, String)>,
    /// Names that two sources claimed: what they are, and by whom.
    pub(crate) clashes: Vec<Clash>,
}

/// What a name names: a tool and a prompt of one name do not clash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sort {
    Tool,
    Prompt,
    Resource,
    Template,
}

/// A name or URI with two meanings.
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

    /// Whether there is a tool of that name, or may be as soon as its server is reached.
    pub(crate) fn may_have_tool(&self, name: &str) -> bool {
        let is_told = |server: &str| self.servers.get(server).is_some_and(|view| !view.tools.is_empty());
        let is_awaited = || name.split_once("__").is_some_and(|(server, _)| !is_told(server));
        self.whole.tools.contains_key(name) || is_awaited()
    }

    fn add(&mut self, source: &Arc<dyn Source>) {
        let offer = source.offer();
        let mut own = View::default();
        for tool in &offer.tools {
            let Some([whole, bare]) = listings(source, tool, &tool.name, &tool.raw) else {
                continue;
            };
            own.tools.insert(tool.name.clone(), bare);
            self.claim(Sort::Tool, |view| &mut view.tools, whole);
        }
        for prompt in &offer.prompts {
            let Some([whole, bare]) = listings(source, prompt, &prompt.name, &prompt.raw) else {
                continue;
            };
            own.prompts.insert(prompt.name.clone(), bare);
            self.claim(Sort::Prompt, |view| &mut view.prompts, whole);
        }
        for resource in &offer.resources {
            let listed = as_it_is(source, resource, &resource.uri, &resource.raw);
            own.resources.insert(resource.uri.clone(), listed.clone());
            self.claim_resource(listed);
        }
        for template in &offer.templates {
            let listed = as_it_is(source, template, &template.template, &template.raw);
            own.templates.insert(template.template.clone(), listed.clone());
            self.claim(Sort::Template, |view| &mut view.templates, listed);
        }
        self.whole.sources.push((source.clone(), offer.clone()));
        own.sources.push((source.clone(), offer));
        self.servers.insert(source.name().into(), own);
    }

    /// A resource of an upstream that lies within a template of a built-in server would never be read there.
    fn claim_resource(&mut self, listed: Arc<Listed<Resource>>) {
        let builtin = match listed.source.naming() {
            Naming::Bare => None,
            Naming::Prefixed => self.whole.builtin(&listed.exposed),
        };
        match builtin {
            Some(builtin) => self.clashes.push(Clash {
                name: listed.exposed.clone(),
                servers: [builtin.name().to_owned(), listed.source.name().to_owned()],
            }),
            None => self.claim(Sort::Resource, |view| &mut view.resources, listed),
        }
    }

    fn claim<T>(&mut self, sort: Sort, table: impl Fn(&mut View) -> &mut Table<T>, listed: Arc<Listed<T>>) {
        let contested = (sort, listed.exposed.clone());
        if self.contested.contains(&contested) {
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
                    self.contested.insert(contested);
                }
            }
        }
    }
}

impl View {
    /// Whose this URI is: a built-in server's before anybody else's; then that of the upstream which lists it, or whose
    /// template alone fits. Where there is but one server, it may have resources that it does not list.
    pub(crate) fn owner(&self, uri: &str) -> Owner {
        if let Some(builtin) = self.builtin(uri) {
            return Owner::One(builtin.clone());
        }
        if let Some(listed) = self.resources.get(uri) {
            return Owner::One(listed.source.clone());
        }
        let mut fitting = self
            .templates
            .values()
            .filter(|listed| matches(&listed.item.template, uri))
            .map(|listed| &listed.source);
        match (fitting.next(), self.sources.as_slice()) {
            (Some(first), _) if fitting.all(|other| other.name() == first.name()) => Owner::One(first.clone()),
            (Some(_), _) => Owner::Several,
            (None, [(only, _)]) => Owner::One(only.clone()),
            (None, _) => Owner::Nobody,
        }
    }

    /// The built-in server whose URI this is, however it is spelled.
    fn builtin(&self, uri: &str) -> Option<&Arc<dyn Source>> {
        let is_bare = |source: &Arc<dyn Source>| source.naming() == Naming::Bare;
        let spelled = spelled(uri);
        [uri, &*spelled].into_iter().find_map(|uri| {
            let listed = self.resources.get(uri).map(|listed| &listed.source);
            listed.filter(|source| is_bare(source)).or_else(|| {
                let mut templates = self.templates.values().filter(|listed| is_bare(&listed.source));
                let fits = templates.find(|listed| matches(&listed.item.template, uri));
                fits.map(|listed| &listed.source)
            })
        })
    }
}

/// The URI as everybody would write it, since `FILE:/a` and `file:///a` are one. A text that is no URI stays as it is.
fn spelled(uri: &str) -> Cow<'_, str> {
    Url::parse(uri).map_or(Cow::Borrowed(uri), |url| Cow::Owned(url.into()))
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
