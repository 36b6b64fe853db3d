//! What the gateway listens to on its own connection to an upstream. It is asked for anew when something else is wanted,
//! and nothing that was in force ends before its successor is and what was still on its way has arrived: no news falls
//! between two subscriptions. What both tell of is told twice.
//!
//! An upstream of the older era tells of its lists unasked, and is asked for each resource by itself.

use super::{
    pool::Lane,
    server::Upstream,
    watches::{AGREED_WAIT, Watches},
};
use crate::{
    client::{Connection, Hooks, Subscription},
    source::Source,
};
use forebay_runtime::Tasks;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json, value::RawValue};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

/// Subscriptions that are asked for at the same time.
const SUBSCRIBING_MAX: usize = 16;
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(30);
/// A subscription is read for so long after its successor is in force: each has a stream of its own, and what an upstream
/// wrote to the one may arrive after what it wrote to the other later.
const READ_ON: Duration = Duration::from_secs(1);
/// Subscriptions that are read on at the same time; of more the oldest ends at once.
const FORMER_MAX: usize = 3;
const SUBSCRIBE: &str = "resources/subscribe";
const UNSUBSCRIBE: &str = "resources/unsubscribe";

/// The subscriptions on one connection. They end with it.
pub(super) struct Listening {
    watches: Arc<Watches>,
    way: Way,
}

enum Way {
    Modern(Standing),
    Legacy(Legacy),
}

/// One subscription that names everything, and those before it for as long as they are needed.
struct Standing {
    connection: Connection,
    asked: BTreeSet<String>,
    current: Subscription,
    former: Former<Subscription>,
    /// Until when the answer to the current one is waited for.
    unanswered: Option<Instant>,
}

/// What was asked for before, the oldest first, each with the time when it ends: it has none until its successor is in force.
struct Former<T>(VecDeque<(T, Option<Instant>)>);

#[derive(Clone)]
struct Legacy {
    connection: Connection,
    name: String,
    watches: Arc<Watches>,
    tasks: Tasks,
    /// What the upstream was asked for. Whoever asks holds it, so that what is asked arrives in its order.
    asked: Arc<AsyncMutex<BTreeSet<String>>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.watches.nothing_is_agreed();
    }
}

impl Listening {
    pub(super) fn begin(upstream: &Upstream, lane: &Lane) -> Self {
        let (watches, connection) = (upstream.watches.clone(), lane.connection.clone());
        let way = if connection.version().is_modern() {
            Way::Modern(Standing::begin(connection, &watches))
        } else {
            let legacy = Legacy {
                connection,
                name: upstream.name().to_owned(),
                watches: watches.clone(),
                tasks: upstream.pool.tasks().clone(),
                asked: Arc::default(),
            };
            legacy.catch_up();
            Way::Legacy(legacy)
        };
        Self { watches, way }
    }

    /// Somebody wants to hear of something else.
    pub(super) fn turn(&mut self) {
        match &mut self.way {
            Way::Modern(standing) => standing.turn(&self.watches),
            Way::Legacy(legacy) => legacy.catch_up(),
        }
    }

    /// The upstream has said which part of a subscription is in force.
    pub(super) fn acknowledged(&mut self, params: &RawValue) {
        if let Way::Modern(standing) = &mut self.way {
            self.watches.agree(agreed(params), &standing.asked);
            standing.former.are_succeeded();
            standing.unanswered = None;
            standing.turn(&self.watches);
        }
    }

    /// Completes when an answer is overdue, or what was read on has been read for long enough.
    pub(super) async fn overdue(&self) {
        let next = match &self.way {
            Way::Modern(standing) => standing.unanswered.into_iter().chain(standing.former.next_end()).min(),
            Way::Legacy(_) => None,
        };
        match next {
            Some(moment) => tokio::time::sleep_until(moment).await,
            None => std::future::pending().await,
        }
    }

    /// What is overdue is not waited for any longer.
    pub(super) fn give_up_waiting(&mut self) {
        if let Way::Modern(standing) = &mut self.way {
            let now = Instant::now();
            standing.former.end(now);
            if standing.unanswered.is_some_and(|until| until <= now) {
                standing.unanswered = None;
                standing.turn(&self.watches);
            }
        }
    }
}

impl Standing {
    fn begin(connection: Connection, watches: &Watches) -> Self {
        let asked = watches.wanted();
        Self {
            current: connection.listen(&filter(&asked)),
            connection,
            asked,
            former: Former(VecDeque::new()),
            unanswered: Some(Instant::now() + AGREED_WAIT),
        }
    }

    /// Asks for what is wanted now, unless the upstream has an answer to give first.
    fn turn(&mut self, watches: &Watches) {
        let wanted = watches.wanted();
        if self.unanswered.is_some() || wanted == self.asked {
            return;
        }
        watches.only(&wanted);
        let successor = self.connection.listen(&filter(&wanted));
        self.former.push(std::mem::replace(&mut self.current, successor));
        self.asked = wanted;
        self.unanswered = Some(Instant::now() + AGREED_WAIT);
    }
}

impl<T> Former<T> {
    fn push(&mut self, one: T) {
        if self.0.len() == FORMER_MAX {
            self.0.pop_front();
        }
        self.0.push_back((one, None));
    }

    fn are_succeeded(&mut self) {
        let end = Instant::now() + READ_ON;
        for (_, ends) in &mut self.0 {
            ends.get_or_insert(end);
        }
    }

    fn next_end(&self) -> Option<Instant> {
        self.0.front().and_then(|(_, ends)| *ends)
    }

    fn end(&mut self, now: Instant) {
        self.0.retain(|(_, ends)| ends.is_none_or(|ends| ends > now));
    }
}

impl Legacy {
    /// Asks for what is wanted until that is what was asked for. It holds nothing up, so that an upstream that gives no
    /// answers does not either.
    fn catch_up(&self) {
        let this = self.clone();
        self.tasks.spawn("upstream-subscribe", move |stop| async move {
            tokio::select! {
                () = stop.draining() => {}
                () = this.connection.closed() => {}
                () = this.ask() => {}
            }
        });
    }

    async fn ask(&self) {
        let mut asked = self.asked.lock().await;
        loop {
            let wanted = self.watches.wanted();
            if wanted == *asked {
                return;
            }
            let gone = asked.difference(&wanted).map(|uri| (UNSUBSCRIBE, uri.clone()));
            let new = wanted.difference(&asked).map(|uri| (SUBSCRIBE, uri.clone()));
            let steps: Vec<_> = gone.chain(new).map(|step| self.step(step)).collect();
            self.watches.only(&wanted);
            stream::iter(steps)
                .buffer_unordered(SUBSCRIBING_MAX)
                .collect::<()>()
                .await;
            *asked = wanted;
        }
    }

    async fn step(&self, (method, uri): (&'static str, String)) {
        let params = crate::call::raw(&json!({"uri": uri}));
        let hooks = Hooks::within(SUBSCRIBE_WAIT);
        if let Err(fault) = self.connection.request(method, Some(&params), hooks).await {
            tracing::warn!(upstream.name = self.name, mcp.method = method, error = %fault, "no news of a resource");
        }
        if method == SUBSCRIBE {
            self.watches.answered(uri);
        }
    }
}

fn filter(wanted: &BTreeSet<String>) -> Box<RawValue> {
    crate::call::raw(&json!({
        "toolsListChanged": true,
        "promptsListChanged": true,
        "resourcesListChanged": true,
        "resourceSubscriptions": wanted,
    }))
}

/// The resources that an upstream has agreed to tell of.
fn agreed(params: &RawValue) -> BTreeSet<String> {
    let params: Value = serde_json::from_str(params.get()).unwrap_or_default();
    let uris = params["notifications"]["resourceSubscriptions"].as_array();
    let uris = uris.into_iter().flatten().filter_map(Value::as_str);
    uris.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(former: &Former<u8>) -> Vec<u8> {
        former.0.iter().map(|(one, _)| *one).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_before_is_read_until_a_while_after_its_successor_is_in_force() {
        let mut former = Former(VecDeque::new());
        former.push(1);
        tokio::time::advance(READ_ON * 9).await;
        former.end(Instant::now());
        assert_eq!(
            (former.next_end(), kept(&former)),
            (None, vec![1]),
            "its successor is not in force"
        );
        former.are_succeeded();
        let end = Instant::now() + READ_ON;
        tokio::time::advance(READ_ON / 2).await;
        former.push(2);
        former.end(Instant::now());
        former.are_succeeded();
        assert_eq!((former.next_end(), kept(&former)), (Some(end), vec![1, 2]));
        tokio::time::advance(READ_ON / 2).await;
        former.end(Instant::now());
        assert_eq!((former.next_end(), kept(&former)), (Some(end + READ_ON / 2), vec![2]));
    }

    #[test]
    fn what_is_read_on_is_bounded() {
        let mut former = Former(VecDeque::new());
        for number in 0..20 {
            former.push(number);
        }
        assert_eq!(kept(&former), [17, 18, 19]);
    }
}
