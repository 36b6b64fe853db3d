//! Names and URIs that an upstream shares with somebody else, so that the whole does not have them as its own: told of
//! each upstream that has one, and in the log when they begin.
//!
//! Nothing is settled here. Who keeps a name, if anybody does, the index has decided.

use super::judge::bound;
use crate::{
    catalogue::{Changed, WeakCatalogue},
    index::{Clash, Index, Listed, Scope},
    source::{Change, Naming},
};
use forebay_runtime::Stop;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// What an upstream shares, by name or URI: with whom. Those whose own names became one share it with themselves.
type Shared<'a> = BTreeMap<&'a str, &'a str>;

/// Names and URIs that are claimed twice, by those who claim them.
type Claims = BTreeMap<[String; 2], BTreeSet<String>>;

/// Which definitions of this upstream are not in the whole because of what they are called, and who keeps that name.
pub(super) fn remarks(index: &Index, server: &str) -> Vec<String> {
    let shared: Shared<'_> = index
        .clashes
        .iter()
        .filter_map(|clash| Some((clash.name.as_str(), partner(clash, server)?)))
        .collect();
    let own = index.view(&Scope::Server(server.into()));
    let Some(own) = own.filter(|_| !shared.is_empty()) else {
        return Vec::new();
    };
    let mut subjects = named("tool", server, &own.tools, &shared);
    subjects.extend(named("prompt", server, &own.prompts, &shared));
    let uris = shared
        .iter()
        .filter(|(uri, _)| own.resources.contains_key(**uri) || own.templates.contains_key(**uri));
    subjects.extend(uris.map(|(uri, other)| (format!("the URI `{uri}`, which `{other}` has too,"), *other)));
    let remark = |(subject, other)| {
        let keeper = keeper(index, other).map_or("nobody".to_owned(), |name| format!("`{name}`"));
        format!("{subject} is kept by {keeper}, so only `/servers/{server}/mcp` offers what it stands for")
    };
    let mut remarks: Vec<String> = subjects.into_iter().map(remark).collect();
    bound(&mut remarks);
    remarks
}

/// With whom a server shares this name, where it does.
fn partner<'a>(clash: &'a Clash, server: &str) -> Option<&'a str> {
    let [first, second] = &clash.servers;
    match (first == server, second == server) {
        (true, _) => Some(second),
        (false, true) => Some(first),
        (false, false) => None,
    }
}

/// The definitions whose exposed name is shared, in words, and with whom.
fn named<'a, T>(
    kind: &str,
    server: &str,
    own: &BTreeMap<String, Arc<Listed<T>>>,
    shared: &Shared<'a>,
) -> Vec<(String, &'a str)> {
    let mut bearers: BTreeMap<&str, (&'a str, Vec<String>)> = BTreeMap::new();
    for (name, listed) in own {
        if let Some(&other) = shared.get(listed.exposed.as_str()) {
            let (_, names) = bearers.entry(&listed.exposed).or_insert((other, Vec::new()));
            names.push(format!("the {kind} `{name}`"));
        }
    }
    bearers
        .into_iter()
        // Where only one of this kind bears it, two of another kind do.
        .filter(|(_, (other, names))| *other != server || names.len() > 1)
        .map(|(exposed, (other, names))| (format!("the name `{exposed}` of {}", names.join(" and ")), other))
        .collect()
}

/// What is the gateway's own stays so; of two upstreams neither has it.
fn keeper<'a>(index: &Index, other: &'a str) -> Option<&'a str> {
    let (source, _) = index.view(&Scope::Server(other.into()))?.sources.first()?;
    match source.naming() {
        Naming::Bare => Some(other),
        Naming::Prefixed => None,
    }
}

/// Logs what begins to be claimed twice, until the gateway drains.
pub(super) async fn tell(catalogue: WeakCatalogue, mut changes: Receiver<Changed>, stop: Stop) {
    let mut known = Claims::new();
    loop {
        let heard = tokio::select! {
            biased;
            () = stop.draining() => return,
            heard = changes.recv() => heard,
        };
        match heard {
            Ok(Changed {
                change: Change::Resource { .. },
                ..
            }) => {}
            Ok(_) | Err(RecvError::Lagged(_)) => {
                let Some(catalogue) = catalogue.upgrade() else { return };
                let mut now = Claims::new();
                for clash in catalogue.clashes() {
                    now.entry(clash.servers).or_default().insert(clash.name);
                }
                tell_new(&known, &now);
                known = now;
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// One line for those two, however much it is: the names are theirs to choose, and stand where people look them up.
fn tell_new(known: &Claims, now: &Claims) {
    for (servers, names) in now {
        let new = known
            .get(servers)
            .map_or(names.len(), |before| names.difference(before).count());
        if new > 0 {
            let [first, second] = servers;
            tracing::warn!(
                upstream.name = second,
                upstream.other = first,
                count = new,
                "names that two definitions claim; `forebay upstream show` has them"
            );
        }
    }
}
