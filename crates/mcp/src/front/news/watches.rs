//! Resources that somebody is interested in, and the sources that watch them.
//!
//! A source is asked to watch a resource while somebody is interested in it, and to stop when nobody is any more; one that
//! takes the place of another of its name is asked anew. What a resource says is told elsewhere, by [`super`].

use super::Front;
use crate::{
    index::Scope,
    session::Owner,
    source::{Source, Watched},
};
use forebay_domain::{Code, Failure, Principal};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// Resources that are watched at once, over all clients.
const WATCHED_MAX: usize = 65_536;
/// Interests of one principal in resources, over all its sessions and listeners.
const WATCHES_PER_PRINCIPAL_MAX: usize = 1000;
/// How long a source may take to begin watching anew, or to stop.
const WATCH_TIME_MAX: Duration = Duration::from_secs(5);

/// Every resource that is watched, for whom.
#[derive(Default)]
pub(super) struct Watches(Mutex<Table>);

#[derive(Default)]
struct Table {
    resources: HashMap<Watch, Watching>,
    /// How many interests each principal has that has any.
    owners: HashMap<Owner, usize>,
}

/// Those who are interested in a resource, and the source that was asked to watch it.
#[derive(Default)]
struct Watching {
    holders: Vec<Holder>,
    asked: Option<Weak<dyn Source>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Watch {
    server: String,
    uri: String,
}

/// Somebody who is interested in a resource.
struct Holder {
    owner: Owner,
    name: Arc<str>,
    gone: CancellationToken,
}

impl Watch {
    fn of(server: &str, uri: &str) -> Self {
        Self {
            server: server.to_owned(),
            uri: uri.to_owned(),
        }
    }
}

impl Table {
    /// Forgets those who are gone; what nobody is interested in any more stays, for its source to be told.
    fn dismiss_gone(&mut self) {
        for Watching { holders, .. } in self.resources.values_mut() {
            dismiss(&mut self.owners, holders, |holder| holder.gone.is_cancelled());
        }
    }

    fn of(&self, owner: &Owner) -> usize {
        self.owners.get(owner).copied().unwrap_or_default()
    }
}

fn dismiss(owners: &mut HashMap<Owner, usize>, holders: &mut Vec<Holder>, leaves: impl Fn(&Holder) -> bool) {
    for holder in holders.extract_if(.., |holder| leaves(holder)) {
        if let Entry::Occupied(mut own) = owners.entry(holder.owner) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

impl Watches {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("nobody panics while holding what is watched")
    }

    /// Whether anybody is interested in a resource of that server.
    pub(super) fn has(&self, server: &str, uri: &str) -> bool {
        self.table().resources.contains_key(&Watch::of(server, uri))
    }

    /// Notes an interest. True where it is the first one.
    fn hold(&self, watch: &Watch, holder: Holder, source: &Arc<dyn Source>) -> Result<bool, Failure> {
        let mut watched = self.table();
        let refused = |message: String, hint: &'static str| Err(Failure::new(Code::Overloaded, message).hint(hint));
        let known = watched.resources.get(watch);
        if known.is_some_and(|known| known.holders.iter().any(|other| other.name == holder.name)) {
            return Ok(false);
        }
        if known.is_none() && watched.resources.len() >= WATCHED_MAX {
            let message = format!("{WATCHED_MAX} resources are watched already.");
            return refused(message, "Try again later.");
        }
        if watched.of(&holder.owner) >= WATCHES_PER_PRINCIPAL_MAX {
            // Whoever is gone counts no longer; sources hear of that with the next sweep.
            watched.dismiss_gone();
        }
        if watched.of(&holder.owner) >= WATCHES_PER_PRINCIPAL_MAX {
            let message = format!("This key listens to {WATCHES_PER_PRINCIPAL_MAX} resources already.");
            return refused(message, "Unsubscribe from some, or end a session.");
        }
        let Table { resources, owners } = &mut *watched;
        *owners.entry(holder.owner.clone()).or_default() += 1;
        let Watching { holders, asked } = resources.entry(watch.clone()).or_default();
        let first = holders.is_empty();
        if first {
            *asked = Some(Arc::downgrade(source));
        }
        holders.push(holder);
        Ok(first)
    }

    /// Forgets an interest. True where it was the last one.
    fn release(&self, watch: &Watch, name: &str) -> bool {
        let mut watched = self.table();
        let Table { resources, owners } = &mut *watched;
        let Some(Watching { holders, .. }) = resources.get_mut(watch) else {
            return false;
        };
        dismiss(owners, holders, |holder| &*holder.name == name);
        let last = holders.is_empty();
        if last {
            resources.remove(watch);
        }
        last
    }

    /// Forgets the interests of all who are gone, and says what nobody is interested in any more.
    fn forget_gone(&self) -> Vec<Watch> {
        let mut watched = self.table();
        watched.dismiss_gone();
        let forgotten = watched
            .resources
            .extract_if(|_, watching| watching.holders.is_empty())
            .map(|(watch, _)| watch);
        forgotten.collect()
    }

    /// The resources that another source of the same name was asked to watch, which from now on is this one.
    fn hand_over(&self, source: &Arc<dyn Source>) -> Vec<String> {
        let mut handed = Vec::new();
        let mut watched = self.table();
        let of_it = watched.resources.iter_mut();
        for (watch, watching) in of_it.filter(|(watch, _)| watch.server == source.name()) {
            let same = watching.asked.as_ref().is_some_and(|asked| is_same(asked, source));
            if !same {
                watching.asked = Some(Arc::downgrade(source));
                handed.push(watch.uri.clone());
            }
        }
        handed
    }
}

impl Front {
    /// Asks the source of a resource to watch it, where nobody has asked yet.
    pub(crate) async fn watch(
        &self,
        principal: &Principal,
        scope: &Scope,
        uri: &str,
        name: &Arc<str>,
        gone: &CancellationToken,
    ) -> Result<(), Failure> {
        let source = self.catalogue().resource(principal, scope, uri)?;
        source.admits(principal, uri).await?;
        let watch = Watch::of(source.name(), uri);
        let holder = Holder {
            owner: Owner::from(principal),
            name: name.clone(),
            gone: gone.clone(),
        };
        if self.newsroom().watches.hold(&watch, holder, &source)?
            && let Err(failure) = source.watch(uri, Watched::Yes).await
        {
            self.newsroom().watches.release(&watch, name);
            return Err(failure);
        }
        // Whoever comes second waits as well: the first may have come a moment ago.
        source.in_force(uri).await;
        Ok(())
    }

    /// One who was interested in a resource is no longer.
    pub(crate) async fn unwatch(&self, principal: &Principal, scope: &Scope, uri: &str, name: &str) {
        let Ok(source) = self.catalogue().resource(principal, scope, uri) else {
            // The source has gone; the next sweep forgets what was left of it.
            return;
        };
        let watch = Watch::of(source.name(), uri);
        if self.newsroom().watches.release(&watch, name) {
            tell_source(&source, uri, Watched::No).await;
        }
    }

    /// Asks a source that has taken the place of another to watch what the other did.
    pub(super) fn watch_anew(&self, server: &str) {
        let Some(source) = self.source(server) else {
            return;
        };
        let uris = self.newsroom().watches.hand_over(&source);
        if uris.is_empty() {
            return;
        }
        self.tasks().spawn("mcp source watches anew", |stop| async move {
            for uri in uris {
                tokio::select! {
                    biased;
                    () = stop.draining() => return,
                    () = tell_source(&source, &uri, Watched::Yes) => {}
                }
            }
        });
    }

    /// Tells the sources of what nobody is interested in any more.
    pub(super) async fn unwatch_forgotten(&self) {
        for watch in self.newsroom().watches.forget_gone() {
            if let Some(source) = self.source(&watch.server) {
                tell_source(&source, &watch.uri, Watched::No).await;
            }
        }
    }

    fn source(&self, server: &str) -> Option<Arc<dyn Source>> {
        let index = self.catalogue().index();
        let view = index.view(&Scope::Server(server.into()))?;
        view.sources.first().map(|(source, _)| source.clone())
    }
}

/// Whether two sources are one; their names say nothing about that.
fn is_same(asked: &Weak<dyn Source>, source: &Arc<dyn Source>) -> bool {
    std::ptr::addr_eq(asked.as_ptr(), Arc::as_ptr(source))
}

async fn tell_source(source: &Arc<dyn Source>, uri: &str, watched: Watched) {
    match tokio::time::timeout(WATCH_TIME_MAX, source.watch(uri, watched)).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => tracing::debug!(error.chain = %failure.chain(), "a source did not heed what to watch"),
        Err(_) => tracing::debug!(server = source.name(), "a source takes too long to hear what to watch"),
    }
}
