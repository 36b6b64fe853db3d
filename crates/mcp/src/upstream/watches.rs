//! Which resources of an upstream somebody listens to, and which of them the upstream has agreed to tell of.

use crate::source::Watched;
use forebay_domain::{Code, Failure};
use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// Resources that are watched at one upstream.
const WATCHED_MAX: usize = 10_000;
/// Whoever subscribes waits so long for the upstream to agree: what changes from then on is told. One that never says
/// anything holds nobody up for longer, and is asked for the next subscription all the same.
pub(super) const AGREED_WAIT: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Watches {
    wanted: Mutex<BTreeSet<String>>,
    agreed: watch::Sender<BTreeSet<String>>,
    /// Somebody wants to hear of something else than before.
    pub(super) changed: Notify,
}

impl Watches {
    /// Everything that somebody wants to hear of.
    pub(super) fn wanted(&self) -> BTreeSet<String> {
        self.lock().clone()
    }

    pub(super) fn set(&self, name: &str, uri: &str, watched: Watched) -> Result<(), Failure> {
        let mut wanted = self.lock();
        let changed = match watched {
            Watched::Yes if wanted.len() >= WATCHED_MAX && !wanted.contains(uri) => {
                let message = format!("{WATCHED_MAX} resources of `{name}` are watched already.");
                return Err(Failure::new(Code::Overloaded, message));
            }
            Watched::Yes => wanted.insert(uri.to_owned()),
            Watched::No => wanted.remove(uri),
        };
        drop(wanted);
        if changed {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// The connection on which something was agreed is gone.
    pub(super) fn nothing_is_agreed(&self) {
        self.agreed.send_replace(BTreeSet::new());
    }

    /// The upstream is about to be asked for exactly these: what else was agreed ends with that.
    pub(super) fn only(&self, asked: &BTreeSet<String>) {
        self.agreed
            .send_modify(|agreed| agreed.retain(|uri| asked.contains(uri)));
    }

    /// The upstream has agreed to tell of these, of those that it was asked for.
    pub(super) fn agree(&self, mut uris: BTreeSet<String>, asked: &BTreeSet<String>) {
        uris.retain(|uri| asked.contains(uri));
        self.agreed.send_replace(uris);
    }

    /// The upstream has answered what it was asked about this one.
    pub(super) fn answered(&self, uri: String) {
        self.agreed.send_modify(|agreed| {
            agreed.insert(uri);
        });
    }

    /// Until the upstream has agreed to tell of this one, for a while.
    pub(super) async fn agreed(&self, uri: &str) {
        let mut agreed = self.agreed.subscribe();
        let agreed = agreed.wait_for(|agreed| agreed.contains(uri));
        if tokio::time::timeout(AGREED_WAIT, agreed).await.is_err() {
            tracing::debug!(
                mcp.resource.uri = uri,
                "an upstream does not say whether it tells of a resource"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.wanted.lock().expect("nobody panics while holding what is wanted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn set(uris: &[&str]) -> BTreeSet<String> {
        uris.iter().map(|uri| (*uri).to_owned()).collect()
    }

    #[tokio::test]
    async fn whoever_subscribes_waits_until_the_upstream_agrees() {
        let watches = Watches::default();
        let both = set(&["a:1", "a:2"]);
        watches.set("up", "a:1", Watched::Yes).unwrap();
        watches.set("up", "a:2", Watched::Yes).unwrap();
        let mut first = Box::pin(watches.agreed("a:1"));
        assert_eq!(first.as_mut().now_or_never(), None);
        watches.agree(set(&["a:1", "b:1"]), &both);
        first.await;
        assert_eq!(
            watches.agreed("a:2").now_or_never(),
            None,
            "the other one is not agreed"
        );
        assert_eq!(watches.agreed("b:1").now_or_never(), None, "nobody has asked for that");
        watches.answered("a:2".to_owned());
        watches.agreed("a:2").await;
        // What was given up and is wanted again is in force until the upstream is asked for something else.
        watches.set("up", "a:2", Watched::No).unwrap();
        watches.set("up", "a:2", Watched::Yes).unwrap();
        watches.agreed("a:2").await;
        watches.only(&set(&["a:1"]));
        assert_eq!(watches.agreed("a:2").now_or_never(), None);
        watches.agreed("a:1").await;
        watches.nothing_is_agreed();
        assert_eq!(watches.agreed("a:1").now_or_never(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_never_says_anything_holds_nobody_up_for_long() {
        let watches = Watches::default();
        watches.set("up", "a:1", Watched::Yes).unwrap();
        let begun = tokio::time::Instant::now();
        watches.agreed("a:1").await;
        assert_eq!(begun.elapsed().as_secs(), AGREED_WAIT.as_secs());
    }

    #[test]
    fn what_is_watched_is_bounded() {
        let watches = Watches::default();
        for number in 0..WATCHED_MAX {
            watches.set("up", &format!("a:{number}"), Watched::Yes).unwrap();
        }
        let refused = watches.set("up", "a:more", Watched::Yes).unwrap_err();
        assert_eq!(refused.code, Code::Overloaded);
        watches.set("up", "a:1", Watched::Yes).unwrap();
        watches.set("up", "a:0", Watched::No).unwrap();
        watches.set("up", "a:more", Watched::Yes).unwrap();
        assert_eq!(watches.wanted().len(), WATCHED_MAX);
    }
}
