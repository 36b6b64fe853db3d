//! How requests find their sessions: opened, found again, heard on and ended.
//!
//! A session that is in memory is used as it is. One that is only in the store, because another process opened it, is
//! brought back first; what it watched is watched again here, which nobody waits for.

use super::{Front, LAST_EVENT_ID, begun::Begun, not_allowed, refuse};
use crate::{
    accept::{accepted, not_acceptable},
    era::{self, Refusal, Version},
    index::Scope,
    params::{Params, declared, text},
    reply::Reply,
    session::{Found, Hello, Outlet, Session},
};
use forebay_domain::{Code, ErrorKind, Failure, Principal};
use http::{HeaderMap, StatusCode};
use std::{sync::Arc, time::Duration};

/// How long a source may take to say that it watches a resource of a session that has come back.
const WATCH_TIME_MAX: Duration = Duration::from_secs(30);

impl Front {
    /// Opens the session that a handshake on a pipe asks for.
    pub(crate) fn open(&self, begun: &Begun, params: &Params<'_>, outlet: Outlet) -> Result<Arc<Session>, Refusal> {
        let hello = hello(begun, params, outlet)?;
        self.sessions().open(&begun.principal, hello).map_err(unavailable)
    }

    /// Opens the session that a handshake asks for. Where it cannot be written down it is not opened: a client that was
    /// promised one would lose it with the first restart.
    pub(super) async fn open_kept(&self, begun: &Begun, params: &Params<'_>) -> Result<Arc<Session>, Refusal> {
        let hello = hello(begun, params, Outlet::Streams)?;
        let opened = self.sessions().open_kept(&begun.principal, hello).await;
        opened.map_err(unavailable)
    }

    /// The session that a legacy message names.
    pub(super) async fn session(
        &self,
        headers: &HeaderMap,
        principal: &Principal,
        scope: &Scope,
    ) -> Result<Arc<Session>, Refusal> {
        let Some(id) = headers.get(era::SESSION_ID) else {
            let failure = Failure::new(Code::InvalidRequest, "The header Mcp-Session-Id is missing.").hint(
                "Open a session with `initialize` and send its id, or send protocol version 2026-07-28 in every request.",
            );
            return Err(Refusal::bad(failure));
        };
        let id = id.to_str().unwrap_or_default();
        match self.sessions().find(id, principal, scope).await {
            Ok(Found::Here(session)) => Ok(session),
            Ok(Found::Back(session)) => {
                self.watch_again(&session, principal.clone());
                Ok(session)
            }
            Err(failure) => Err(unavailable(failure)),
        }
    }

    /// Takes up the subscriptions of a session that has come back.
    fn watch_again(&self, session: &Arc<Session>, principal: Principal) {
        let uris = session.subscribed();
        if uris.is_empty() {
            return;
        }
        let (front, session) = (self.clone(), session.clone());
        self.tasks().spawn("mcp session watches again", |stop| async move {
            let name: Arc<str> = session.id.as_str().into();
            for uri in uris {
                let watch = front.watch(&principal, &session.scope, &uri, &name, &session.closed);
                let watched = tokio::select! {
                    biased;
                    () = stop.draining() => return,
                    () = session.closed.cancelled() => return,
                    watched = tokio::time::timeout(WATCH_TIME_MAX, watch) => watched,
                };
                match watched {
                    Ok(Ok(())) => {}
                    Ok(Err(failure)) => tracing::debug!(error.code = %failure.code, "a resource is not watched again"),
                    Err(_) => tracing::debug!("a source takes too long to watch a resource again"),
                }
            }
        });
    }

    /// A GET: the notifications of a legacy session, or what is left of a stream whose connection broke.
    pub async fn get(&self, headers: &HeaderMap, principal: &Principal, scope: &Scope) -> Reply {
        match era::claims_modern(headers) {
            Ok(false) => {}
            Ok(true) => return not_allowed("GET"),
            Err(refusal) => return refuse(None, &refusal.failure, Some(refusal.status)),
        }
        if !accepted(headers).any(|essence| matches!(essence, "text/event-stream" | "*/*" | "text/*")) {
            return refuse(None, &not_acceptable("Send `Accept: text/event-stream`."), None);
        }
        match self.session(headers, principal, scope).await {
            Err(refusal) => refuse(None, &refusal.failure, Some(refusal.status)),
            Ok(session) => {
                let last_event = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
                match self.answer_get(&session, last_event).await {
                    Ok(reply) => reply,
                    Err(failure) => refuse(None, &failure, None),
                }
            }
        }
    }

    /// A DELETE: ends a legacy session and all that is under way in it. Answered once no replica would find it again.
    pub async fn delete(&self, headers: &HeaderMap, principal: &Principal, scope: &Scope) -> Reply {
        match era::claims_modern(headers) {
            Ok(false) => {}
            Ok(true) => return not_allowed("DELETE"),
            Err(refusal) => return refuse(None, &refusal.failure, Some(refusal.status)),
        }
        match self.session(headers, principal, scope).await {
            Ok(session) => match self.sessions().end_kept(&session).await {
                Ok(()) => Reply::empty(StatusCode::NO_CONTENT),
                Err(failure) => refuse(None, &failure, None),
            },
            Err(refusal) => refuse(None, &refusal.failure, Some(refusal.status)),
        }
    }

    /// Notes in the store which sessions are in use; to be called about each minute.
    pub async fn note_use(&self) -> Result<(), Failure> {
        self.sessions().note_use().await
    }
}

fn hello(begun: &Begun, params: &Params<'_>, outlet: Outlet) -> Result<Hello, Refusal> {
    let asked = params.protocol_version.map(|raw| text("protocolVersion", Some(raw)));
    let asked = asked.transpose().map_err(Refusal::bad)?;
    Ok(Hello {
        version: Version::negotiate(asked.as_deref().unwrap_or_default()),
        scope: begun.scope.clone(),
        caps: declared(params.capabilities),
        outlet,
    })
}

/// Why there is no session: because of its client, or because of us.
fn unavailable(failure: Failure) -> Refusal {
    let status = match failure.kind() {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Invalid | ErrorKind::Conflict => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::OverBudget
        | ErrorKind::RateLimited
        | ErrorKind::UpstreamFailed
        | ErrorKind::UpstreamTimedOut
        | ErrorKind::Unavailable
        | ErrorKind::Bug => StatusCode::SERVICE_UNAVAILABLE,
    };
    Refusal::new(status, failure)
}
