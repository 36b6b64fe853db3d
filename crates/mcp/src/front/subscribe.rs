//! `subscriptions/listen` (2026-07-28): a request that stays open and tells what has changed.
//!
//! First comes what was agreed, then the news, each with the id of the request. When the gateway ends it in good order,
//! an empty result comes last.

use super::{
    Front,
    news::{Bell, Filter, List, Listening, meta},
    turn::Turn,
};
use crate::{
    client::ACKNOWLEDGED,
    envelope::{Id, Request},
    flight::{Flight, Landing},
    params::{Params, invalid},
    reply::{KEEP_ALIVE, Reply, event},
    rpc::{self, notification, object, succeeded},
    session::Owner,
};
use bytes::Bytes;
use forebay_domain::{Action, Failure};
use futures_util::{future::join_all, stream};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::sync::Arc;

/// Resources that one subscription may name.
const URIS_MAX: usize = 1000;
/// What the event of a subscription names, once it is settled what its client will be told.
const LISTEN: Action = Action::named("subscriptions:listen");

/// A subscription that is in force.
pub(crate) struct Subscription {
    front: Front,
    id: Id,
    turn: Turn,
    listening: Listening,
    opening: Option<Bytes>,
    ended: bool,
    _landing: Landing,
}

/// The filter as clients write it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Wanted {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
    resource_subscriptions: Vec<String>,
}

impl Front {
    /// Answers `subscriptions/listen` over HTTP.
    pub(crate) async fn answer_listen(&self, request: &Request, turn: Turn) -> Reply {
        match self.subscribe(request, turn).await {
            Ok(subscription) => Reply::events(stream::unfold(
                (subscription, super::stream::keep_alive()),
                |(mut subscription, mut keep_alive)| async move {
                    let next = tokio::select! {
                        biased;
                        message = subscription.next() => event(&message?),
                        _ = keep_alive.tick() => KEEP_ALIVE,
                    };
                    Some((next, (subscription, keep_alive)))
                },
            )),
            Err((failure, dialect)) => rpc::failed(Some(&request.id), &failure, dialect).reply(),
        }
    }

    /// Settles what a client will be told.
    pub(crate) async fn subscribe(
        &self,
        request: &Request,
        turn: Turn,
    ) -> Result<Subscription, (Failure, rpc::Dialect)> {
        let dialect = turn.dialect;
        let entry = self.note(&LISTEN, &turn);
        let result = self.try_subscribe(request, turn).await;
        entry.settle(&result);
        result.map_err(|failure| (failure, dialect))
    }

    async fn try_subscribe(&self, request: &Request, turn: Turn) -> Result<Subscription, Failure> {
        let landing = self.flights().take_off(Flight {
            session: turn.principal.session.clone(),
            owner: Owner::from(&turn.principal),
            id: request.id.clone(),
            cancel: turn.cancel.clone(),
        })?;
        let params = Params::read(request.params.as_ref())?;
        let wanted = wanted(params.notifications)?;
        let owner = Owner::from(&turn.principal);
        self.may_listen(&owner)?;
        let name: Arc<str> = format!("listener {}", self.next_number()).into();
        // Should anything go wrong from here on, what is watched by then is let go.
        let guard = turn.cancel.clone().drop_guard();
        let filter = self.honoured(&wanted, &turn, &name).await?;
        let opening = acknowledged(&request.id, &filter);
        let listening = self.begin_to_listen(owner, &turn.scope, filter, guard.disarm())?;
        Ok(Subscription {
            front: self.clone(),
            id: request.id.clone(),
            turn,
            listening,
            opening: Some(opening),
            ended: false,
            _landing: landing,
        })
    }

    /// The part of a filter that can be served: lists that this scope has, and resources that can be watched.
    async fn honoured(&self, wanted: &Wanted, turn: &Turn, name: &Arc<str>) -> Result<Filter, Failure> {
        let offered = self.offered(&turn.scope)?;
        let lists = [
            (List::Tools, wanted.tools_list_changed),
            (List::Prompts, wanted.prompts_list_changed && offered.prompts),
            (List::Resources, wanted.resources_list_changed && offered.resources),
        ];
        let mut filter = Filter {
            lists: lists
                .into_iter()
                .filter_map(|(list, has)| has.then_some(list))
                .collect(),
            ..Filter::default()
        };
        if offered.watches {
            // All at once: each waits a while for its source, and the sources wait for their upstreams.
            let uris = wanted.resource_subscriptions.iter();
            let watched = uris.map(|uri| async move {
                let watched = self.watch(&turn.principal, &turn.scope, uri, name, &turn.cancel);
                watched.await.is_ok().then(|| uri.clone())
            });
            filter.uris = join_all(watched).await.into_iter().flatten().collect();
        }
        Ok(filter)
    }
}

fn wanted(raw: Option<&RawValue>) -> Result<Wanted, Failure> {
    let raw = raw.ok_or_else(|| invalid("`notifications` is required.".to_owned()))?;
    let wanted: Wanted = serde_json::from_str(raw.get())
        .map_err(|fault| invalid(format!("`notifications` has the wrong shape: {fault}.")))?;
    if wanted.resource_subscriptions.len() > URIS_MAX {
        return Err(invalid(format!(
            "`resourceSubscriptions` names {URIS_MAX} resources at most."
        )));
    }
    Ok(wanted)
}

fn acknowledged(id: &Id, filter: &Filter) -> Bytes {
    let uris = Value::from(filter.uris.iter().map(String::as_str).collect::<Vec<_>>()).to_string();
    let mut agreed: Vec<(&str, &str)> = filter
        .lists
        .iter()
        .map(|list| {
            let name = match list {
                List::Tools => "toolsListChanged",
                List::Prompts => "promptsListChanged",
                List::Resources => "resourcesListChanged",
            };
            (name, "true")
        })
        .collect();
    if !filter.uris.is_empty() {
        agreed.push(("resourceSubscriptions", &uris));
    }
    let params = object(&[("_meta", &meta(id)), ("notifications", &object(&agreed))]);
    notification(ACKNOWLEDGED, Some(&params))
}

impl Subscription {
    /// The next message; nothing once it has ended.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(opening) = self.opening.take() {
            return Some(opening);
        }
        if self.ended {
            return None;
        }
        let bell: &Bell = &self.listening.listener.bell;
        tokio::select! {
            biased;
            () = self.turn.cancel.cancelled() => None,
            () = self.front.stopping() => {
                self.ended = true;
                let server = self.front.server().to_json();
                let meta = object(&[
                    ("io.modelcontextprotocol/subscriptionId", self.id.as_json()),
                    ("io.modelcontextprotocol/serverInfo", &server),
                ]);
                let result = object(&[("resultType", "\"complete\""), ("_meta", &meta)]);
                Some(succeeded(&self.id, &result).message)
            }
            news = bell.next() => Some(news.message(Some(&self.id))),
        }
    }
}
