//! Telling of contexts that have changed, to those who follow them.
//!
//! What this process changes is heard of at once. What other gateways and workers change is seen by looking: every few
//! seconds, at those contexts that somebody follows.

use super::{ContextServer, definitions::uri_of};
use crate::app::App;
use forebay_mcp::source::Change;
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// How often what others may have changed is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Contexts that are asked for at once.
const ASKED_MAX: usize = 200;

/// The contexts that somebody follows, each with when it had last changed, as far as was told; without a time, it is gone.
#[derive(Default)]
pub(super) struct Followed(Mutex<BTreeMap<String, Option<Timestamp>>>);

impl Followed {
    pub(super) fn begin(&self, id: &str, changed_at: Option<Timestamp>) {
        self.table().insert(id.to_owned(), changed_at);
    }

    pub(super) fn leave(&self, id: &str) {
        self.table().remove(id);
    }

    fn ids(&self) -> Vec<String> {
        self.table().keys().cloned().collect()
    }

    fn has(&self, id: &str) -> bool {
        self.table().contains_key(id)
    }

    /// Takes down how it stands with those that were asked for, and says which of them have changed since.
    fn note(&self, asked: &[String], stamps: &HashMap<String, Timestamp>) -> Vec<String> {
        let mut table = self.table();
        let mut changed = Vec::new();
        for id in asked {
            let Some(known) = table.get_mut(id) else { continue };
            let now = stamps.get(id).copied();
            if *known != now {
                *known = now;
                changed.push(id.clone());
            }
        }
        changed
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Option<Timestamp>>> {
        self.0.lock().expect("nobody panics while holding what is followed")
    }
}

/// Tells of changes for as long as the gateway runs.
pub(super) fn follow(server: &Arc<ContextServer>, app: &Arc<App>) {
    let (server, weak) = (server.clone(), Arc::downgrade(app));
    let mut news = app.contexts.news();
    app.tasks.spawn("contexts.news", |stop| async move {
        loop {
            tokio::select! {
                () = heard(&mut news, &server.followed) => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.draining() => return,
            }
            let Some(app) = weak.upgrade() else { return };
            look(&server, &app).await;
        }
    });
}

/// Completes when a context that somebody follows may have changed in this process.
async fn heard(news: &mut Receiver<String>, followed: &Followed) {
    loop {
        match news.recv().await {
            Ok(id) if !followed.has(&id) => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

async fn look(server: &ContextServer, app: &App) {
    for asked in server.followed.ids().chunks(ASKED_MAX) {
        let stamps = match app.contexts.stamps(asked).await {
            Ok(stamps) => stamps.into_iter().collect(),
            Err(error) => {
                tracing::debug!(%error, "it is not known which contexts have changed");
                return;
            }
        };
        for id in server.followed.note(asked, &stamps) {
            app.catalogue.announce(server, Change::Resource { uri: uri_of(&id) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once_and_so_is_the_end() {
        let followed = Followed::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        followed.begin("a", Some(at(1)));
        followed.begin("b", Some(at(1)));
        let asked = followed.ids();
        let note = |stamps: &[(&str, i64)]| {
            let stamps = stamps.iter().map(|(id, second)| ((*id).to_owned(), at(*second)));
            followed.note(&asked, &stamps.collect())
        };
        assert!(note(&[("a", 1), ("b", 1)]).is_empty());
        assert_eq!(note(&[("a", 2), ("b", 1)]), ["a"]);
        assert!(note(&[("a", 2), ("b", 1)]).is_empty());
        assert_eq!(note(&[("b", 1)]), ["a"]);
        assert!(note(&[("b", 1)]).is_empty());
        followed.leave("b");
        assert!(note(&[("b", 9)]).is_empty(), "nobody follows it any more");
    }
}
