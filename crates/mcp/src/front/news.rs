//! Who is told of what has changed: listening sessions, and the streams of `subscriptions/listen`.
//!
//! News are states, not messages: a listener that is slow finds each kind once, however often it happened. Of resources
//! only those are told that are [watched](watches).

mod watches;

use self::watches::Watches;
use super::Front;
use crate::{
    catalogue::Changed,
    envelope::Id,
    index::Scope,
    rpc::{notification, object},
    session::{Outlet, Owner, Session},
    source::Change,
};
use bytes::Bytes;
use forebay_domain::{Code, Failure};
use forebay_runtime::Stop;
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
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
/// How often what nobody needs any more is let go.
const SWEEP_PERIOD: Duration = Duration::from_secs(30);

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
    watches: Watches,
}

pub(crate) struct Listener {
    owner: Owner,
    scope: Scope,
    filter: Filter,
    pub(crate) bell: Bell,
    /// Fires when it is gone.
    pub(crate) gone: CancellationToken,
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

impl Newsroom {
    fn listeners(&self) -> MutexGuard<'_, HashMap<u64, Arc<Listener>>> {
        self.listeners
            .lock()
            .expect("nobody panics while holding the listeners")
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
            && !self.newsroom().watches.has(server, uri)
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

    async fn sweep(&self) {
        self.sessions().sweep();
        self.unwatch_forgotten().await;
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
