//! A request whose era, caller and session are settled, and how it becomes a running call.

use crate::{
    call::{Client, ClientCaps},
    envelope::Request,
    era::Version,
    flight::Flight,
    front::Front,
    method::Turn,
    rpc::{self, Answered, Dialect},
    session::Session,
    stream::Running,
};
use forebay_domain::{Principal, id::TraceId};
use futures_util::FutureExt;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub(crate) struct Begun {
    pub(crate) version: Version,
    pub(crate) principal: Principal,
    pub(crate) trace: TraceId,
    pub(crate) session: Option<Arc<Session>>,
    /// The id of the session that this very request opened.
    pub(crate) opened: Option<String>,
    /// The token under which the client wants progress reported.
    pub(crate) token: Option<Box<str>>,
}

impl Begun {
    pub(crate) fn join(&mut self, session: Arc<Session>) {
        self.principal.session = Some(session.id.clone());
        self.session = Some(session);
    }

    pub(crate) fn into_running(self, front: Front, request: Request) -> Running {
        let dialect = Dialect::Streamable(self.version);
        self.run(front, request, dialect)
    }

    pub(crate) fn run(self, front: Front, request: Request, dialect: Dialect) -> Running {
        let (client, progress) = match self.token {
            Some(token) => {
                let (mut client, receiver) = Client::listening(self.version, Arc::new(ClientCaps::default()));
                client.wants_progress = true;
                (client, Some((token, receiver)))
            }
            None => (Client::nobody(), None),
        };
        let cancel = self
            .session
            .as_ref()
            .map_or_else(CancellationToken::new, |session| session.closed.child_token());
        let turn = Turn {
            dialect,
            principal: self.principal,
            trace: self.trace,
            cancel,
            client,
        };
        let session = self.session;
        let call = async move { front.fly(&request, turn, session).await }.boxed();
        Running { call, progress }
    }
}

impl Front {
    /// Serves a request as a flight that others can cancel.
    async fn fly(&self, request: &Request, turn: Turn, session: Option<Arc<Session>>) -> Answered {
        let _busy = session.as_ref().map(|session| self.sessions().busy(session));
        let flight = Flight {
            session: turn.principal.session.clone(),
            key: turn.principal.key.clone(),
            id: request.id.clone(),
            cancel: turn.cancel.clone(),
        };
        let result = match self.flights().take_off(flight) {
            Ok(_landing) => self.serve(request, &turn).await,
            Err(failure) => Err(failure),
        };
        match result {
            Ok(result) => rpc::succeeded(&request.id, &result),
            Err(failure) => rpc::failed(Some(&request.id), &failure, turn.dialect),
        }
    }
}
