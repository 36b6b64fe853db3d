//! Who is told of what has changed: listening sessions, and the streams of `subscriptions/listen`.
//!
//! News are states, not messages: a listener that is slow finds each kind once, however often it happened. A source is
//! asked to watch a resource while somebody is interested in it, and to stop when nobody is any more; one that takes the
//! place of another of its name is asked anew.

use super::Front;
use crate::{
    catalogue::Changed,
    envelope::Id,
    index::Scope,
    rpc::{notification, object},
    session::{Outlet, Owner, Session},
    source::{Change, Source, Watched},
};
use bytes::Bytes;
use forebay_domain::{Code, Failure, Principal};
use forebay_runtime::Stop;
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};
use tokio::{
    sync::{
        Notify,
        broadcast::{self, error::RecvError},
    },
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

/// Streams of `subscriptions/listen` at once, over all clients.
const LISTENERS_MAX: usize = 8192;
/// Streams of `subscriptions/listen` of one principal at once.
const LISTENERS_PER_PRINCIPAL_MAX: usize = 100;
/// Resources that are watched at once, over all clients.
const WATCHED_MAX: usize = 65_536;
/// Interests of one principal in resources, over all its sessions and listeners.
const WATCHES_PER_PRINCIPAL_MAX: usize = 1000;
/// How often what nobody needs any more is let go.
const SWEEP_PERIOD: Duration = Duration::from_secs(30);
/// How long a source may take to begin watching anew, or to stop.
const WATCH_TIME_MAX: Duration = Duration::from_secs(5);

/// One thing that has changed, as clients are told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    List(List),
    Resource(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum List {
    Tools,
    Prompts,
    Resources,
}

impl List {
    pub(crate) const ALL: [Self; 3] = [Self::Tools, Self::Prompts, Self::Resources];

    fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
        }
    }
}

impl From<&Change> for News {
    fn from(change: &Change) -> Self {
        match change {
            Change::Tools => Self::List(List::Tools),
            Change::Prompts => Self::List(List::Prompts),
            Change::Resources => Self::List(List::Resources),
            Change::Resource { uri } => Self::Resource(uri.clone()),
        }
    }
}

impl News {
    /// The notification, for the subscription of that id where there is one.
    pub(crate) fn message(&self, subscription: Option<&Id>) -> Bytes {
        let meta = subscription.map(meta);
        let mut params: Vec<(&str, &str)> = Vec::new();
        params.extend(meta.as_deref().map(|meta| ("_meta", meta)));
        match self {
            Self::List(list) => {
                let params = (!params.is_empty()).then(|| object(&params));
                notification(
                    &format!("notifications/{}/list_changed", list.as_str()),
                    params.as_deref(),
                )
            }
            Self::Resource(uri) => {
                let uri = Value::from(uri.as_str()).to_string();
                params.push(("uri", &uri));
                notification("notifications/resources/updated", Some(&object(&params)))
            }
        }
    }
}

/// The `_meta` of what belongs to a subscription.
pub(crate) fn meta(subscription: &Id) -> String {
    format!(r#"{{"io.modelcontextprotocol/subscriptionId":{subscription}}}"#)
}

/// Wakes one listener, and holds what there is to tell it.
#[derive(Default)]
pub(crate) struct Bell {
    waiting: Mutex<Waiting>,
    rung: Notify,
}

#[derive(Default)]
struct Waiting {
    lists: BTreeSet<List>,
    uris: BTreeSet<String>,
}

impl Bell {
    pub(crate) fn ring(&self, news: &News) {
        let mut waiting = self.lock();
        match news {
            News::List(list) => waiting.lists.insert(*list),
            News::Resource(uri) => waiting.uris.insert(uri.clone()),
        };
        drop(waiting);
        self.rung.notify_one();
    }

    /// The next piece of news. Dropping this future loses nothing.
    pub(crate) async fn next(&self) -> News {
        loop {
            if let Some(news) = self.take() {
                return news;
            }
            self.rung.notified().await;
        }
    }

    fn take(&self) -> Option<News> {
        let mut waiting = self.lock();
        let list = waiting.lists.pop_first().map(News::List);
        list.or_else(|| waiting.uris.pop_first().map(News::Resource))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nobody panics while holding news")
    }
}

/// What one listener wants to hear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) lists: BTreeSet<List>,
    pub(crate) uris: BTreeSet<String>,
}

impl Filter {
    fn wants(&self, news: &News) -> bool {
        match news {
            News::List(list) => self.lists.contains(list),
            News::Resource(uri) => self.uris.contains(uri),
        }
    }
}

/// Everybody who listens, and every resource that is watched for them.
#[derive(Default)]
pub(crate) struct Newsroom {
    listeners: Mutex<HashMap<u64, Arc<Listener>>>,
    watched: Mutex<Watches>,
}

#[derive(Default)]
struct Watches {
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

pub(crate) struct Listener {
    owner: Owner,
    scope: Scope,
    filter: Filter,
    pub(crate) bell: Bell,
    /// Fires when it is gone.
    pub(crate) gone: CancellationToken,
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

/// Takes its listener off the list when dropped.
pub(crate) struct Listening {
    front: Front,
    number: u64,
    pub(crate) listener: Arc<Listener>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.listener.gone.cancel();
        self.front.newsroom().listeners().remove(&self.number);
    }
}

impl Watches {
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

impl Newsroom {
    fn listeners(&self) -> MutexGuard<'_, HashMap<u64, Arc<Listener>>> {
        self.listeners
            .lock()
            .expect("nobody panics while holding the listeners")
    }

    fn watched(&self) -> MutexGuard<'_, Watches> {
        self.watched
            .lock()
            .expect("nobody panics while holding what is watched")
    }

    /// Whether anybody is interested in a resource of that server.
    fn watches(&self, server: &str, uri: &str) -> bool {
        let watch = Watch {
            server: server.to_owned(),
            uri: uri.to_owned(),
        };
        self.watched().resources.contains_key(&watch)
    }

    /// Notes an interest. True where it is the first one.
    fn hold(&self, watch: &Watch, holder: Holder, source: &Arc<dyn Source>) -> Result<bool, Failure> {
        let mut watched = self.watched();
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
        let Watches { resources, owners } = &mut *watched;
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
        let mut watched = self.watched();
        let Watches { resources, owners } = &mut *watched;
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
        let mut watched = self.watched();
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
        let mut watched = self.watched();
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

/// Whether one more may listen.
fn has_room(listeners: &HashMap<u64, Arc<Listener>>, owner: &Owner) -> Result<(), Failure> {
    let refused = |message: String, hint: &'static str| Err(Failure::new(Code::Overloaded, message).hint(hint));
    if listeners.len() >= LISTENERS_MAX {
        let message = format!("{LISTENERS_MAX} clients listen already.");
        return refused(message, "Try again later.");
    }
    let own = listeners.values().filter(|listener| listener.owner == *owner);
    if own.count() >= LISTENERS_PER_PRINCIPAL_MAX {
        let message = format!("{LISTENERS_PER_PRINCIPAL_MAX} clients with this key listen already.");
        return refused(message, "End one of their subscriptions.");
    }
    Ok(())
}

impl Front {
    /// Whether one more of this principal may listen, before anything is watched for it.
    pub(crate) fn may_listen(&self, owner: &Owner) -> Result<(), Failure> {
        has_room(&self.newsroom().listeners(), owner)
    }

    /// Begins to listen for one `subscriptions/listen`.
    pub(crate) fn begin_to_listen(
        &self,
        owner: Owner,
        scope: &Scope,
        filter: Filter,
        gone: CancellationToken,
    ) -> Result<Listening, Failure> {
        let mut listeners = self.newsroom().listeners();
        has_room(&listeners, &owner)?;
        let listener = Arc::new(Listener {
            owner,
            scope: scope.clone(),
            filter,
            bell: Bell::default(),
            gone,
        });
        let number = self.next_number();
        listeners.insert(number, listener.clone());
        Ok(Listening {
            front: self.clone(),
            number,
            listener,
        })
    }

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
        let watch = Watch {
            server: source.name().to_owned(),
            uri: uri.to_owned(),
        };
        let holder = Holder {
            owner: Owner::from(principal),
            name: name.clone(),
            gone: gone.clone(),
        };
        if self.newsroom().hold(&watch, holder, &source)?
            && let Err(failure) = source.watch(uri, Watched::Yes).await
        {
            self.newsroom().release(&watch, name);
            return Err(failure);
        }
        Ok(())
    }

    /// One who was interested in a resource is no longer.
    pub(crate) async fn unwatch(&self, principal: &Principal, scope: &Scope, uri: &str, name: &str) {
        let Ok(source) = self.catalogue().resource(principal, scope, uri) else {
            // The source has gone; the next sweep forgets what was left of it.
            return;
        };
        let watch = Watch {
            server: source.name().to_owned(),
            uri: uri.to_owned(),
        };
        if self.newsroom().release(&watch, name) {
            tell_source(&source, uri, Watched::No).await;
        }
    }

    /// Tells everybody that all lists may have changed.
    pub fn lists_changed(&self) {
        let prompts = self.offered(&Scope::Whole).is_ok_and(|offered| offered.prompts);
        for list in List::ALL {
            if list != List::Prompts || prompts {
                self.spread(&News::List(list), None);
            }
        }
    }

    fn spread(&self, news: &News, server: Option<&str>) {
        if let (News::Resource(uri), Some(server)) = (news, server)
            && !self.newsroom().watches(server, uri)
        {
            // A server may talk about its resources as much as it likes: where nobody asked, nobody is looked for.
            return;
        }
        let now_ms = self.sessions().now_ms();
        for session in self.sessions().all() {
            if shows(&session.scope, server) && wants(&session, news) {
                match &session.outlet {
                    Outlet::Streams => session.streams.tell(&news.message(None), now_ms),
                    Outlet::Pipe(bell) => bell.ring(news),
                }
            }
        }
        for listener in self.newsroom().listeners().values() {
            if shows(&listener.scope, server) && listener.filter.wants(news) {
                listener.bell.ring(news);
            }
        }
    }

    /// Carries news from the catalogue to whoever listens, until the gateway drains.
    pub(crate) async fn carry_news(self, mut changes: broadcast::Receiver<Changed>, stop: Stop) {
        let mut sweep = tokio::time::interval(SWEEP_PERIOD);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.draining() => return,
                heard = changes.recv() => match heard {
                    Ok(news) => {
                        if news.change == Change::Resources {
                            self.watch_anew(&news.server);
                        }
                        self.spread(&News::from(&news.change), Some(&news.server));
                    }
                    Err(RecvError::Lagged(_)) => self.lists_changed(),
                    Err(RecvError::Closed) => return,
                },
                _ = sweep.tick() => self.sweep().await,
            }
        }
    }

    /// Asks a source that has taken the place of another to watch what the other did.
    fn watch_anew(&self, server: &str) {
        let Some(source) = self.source(server) else {
            return;
        };
        let uris = self.newsroom().hand_over(&source);
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

    fn source(&self, server: &str) -> Option<Arc<dyn Source>> {
        let index = self.catalogue().index();
        let view = index.view(&Scope::Server(server.into()))?;
        view.sources.first().map(|(source, _)| source.clone())
    }

    async fn sweep(&self) {
        self.sessions().sweep();
        for watch in self.newsroom().forget_gone() {
            if let Some(source) = self.source(&watch.server) {
                tell_source(&source, &watch.uri, Watched::No).await;
            }
        }
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

/// Whether news of a server concern a scope; news of no server in particular concern all.
fn shows(scope: &Scope, server: Option<&str>) -> bool {
    match (scope, server) {
        (Scope::Whole, _) | (_, None) => true,
        (Scope::Server(name), Some(server)) => **name == *server,
    }
}

fn wants(session: &Session, news: &News) -> bool {
    match news {
        News::List(_) => true,
        News::Resource(uri) => session.is_subscribed(uri),
    }
}
