//! A request whose era, caller and session are settled, and how it becomes a running call.

use super::{
    Front,
    parked::Ticket,
    running::Running,
    told::{Hears, Manner, Told},
    turn::{Again, Turn},
};
use crate::{
    call::{Client, ClientCaps},
    envelope::Request,
    era::{Version, named_target},
    flight::Flight,
    index::Scope,
    params::Params,
    rpc::{Dialect, Ending},
    session::{Owner, Session},
};
use forebay_domain::{Failure, Principal, id::TraceId};
use futures_util::FutureExt;
use std::{pin::pin, sync::Arc};
use tokio_util::sync::CancellationToken;

pub(crate) struct Begun {
    pub(crate) dialect: Dialect,
    pub(crate) scope: Scope,
    pub(crate) principal: Principal,
    pub(crate) trace: TraceId,
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) caps: Arc<ClientCaps>,
    pub(crate) manner: Manner,
    pub(crate) again: Option<Again>,
    /// What takes it back, where its connection knows.
    pub(crate) cancel: Option<CancellationToken>,
    /// What the request is about, for the methods that may ask their client for more.
    pub(crate) target: Option<String>,
}

impl Begun {
    /// A request that is known to be somebody's, and nothing else yet.
    pub(crate) fn new(dialect: Dialect, scope: Scope, principal: Principal, trace: TraceId) -> Self {
        Self {
            dialect,
            scope,
            principal,
            trace,
            session: None,
            caps: Arc::default(),
            manner: Manner::default(),
            again: None,
            cancel: None,
            target: None,
        }
    }

    pub(crate) fn join(&mut self, session: Arc<Session>) {
        self.principal.session = Some(session.id.clone());
        self.caps = session.caps.clone();
        self.dialect = Dialect::Streamable(session.version);
        self.session = Some(session);
    }

    /// Takes from the params what says how its client wants to be told things, and whether it comes back with answers.
    pub(crate) fn read(
        &mut self,
        front: &Front,
        request: &Request,
        params: &Params<'_>,
        hears: Hears,
    ) -> Result<(), Failure> {
        let meta = params.meta();
        self.manner = Manner {
            hears,
            token: meta.progress_token(),
            level: self.session.as_ref().map(|session| session.level()),
        };
        if !self.dialect.is_modern() {
            return Ok(());
        }
        self.caps = meta.caps();
        self.manner.level = meta.log_level()?;
        self.target = named_target(&request.method, params).map(String::from);
        if self.target.is_some() && (params.request_state.is_some() || params.input_responses.is_some()) {
            let ticket = self.ticket(request);
            let verify = |raw| {
                let text = crate::params::text("requestState", Some(raw))?;
                front.states().verify(&text, ticket.about())
            };
            self.again = Some(Again {
                responses: params.input_responses.map(ToOwned::to_owned),
                state: params.request_state.map(verify).transpose()?,
            });
        }
        Ok(())
    }

    pub(crate) fn ticket(&self, request: &Request) -> Ticket {
        Ticket {
            owner: Owner::from(&self.principal),
            scope: self.scope.clone(),
            method: request.method.clone(),
            target: self.target.clone().unwrap_or_default(),
            dialect: self.dialect,
        }
    }

    /// A token that fires when this request is taken back, or its session ends.
    fn cancel(&self) -> CancellationToken {
        match (&self.cancel, &self.session) {
            (Some(cancel), _) => cancel.clone(),
            (None, Some(session)) => session.closed.child_token(),
            (None, None) => CancellationToken::new(),
        }
    }

    pub(crate) fn turn(self, client: Client) -> Turn {
        Turn {
            cancel: self.cancel(),
            dialect: self.dialect,
            scope: self.scope,
            principal: self.principal,
            trace: self.trace,
            client,
            session: self.session,
            again: self.again,
        }
    }

    pub(crate) fn run(self, front: Front, request: Request) -> Running {
        let (client, told) = self.client(&request.method);
        let (id, dialect) = (request.id.clone(), self.dialect);
        let turn = self.turn(client);
        let cancel = turn.cancel.clone();
        let call = async move { front.fly(&request, &turn).await }.boxed();
        Running::new(id, dialect, cancel, call, told)
    }

    /// The client as the call sees it, and its ears where it has any.
    fn client(&self, method: &str) -> (Client, Option<Told>) {
        let version = self.dialect.version();
        // A modern client is asked by way of an answer, which it can always hear.
        let reachable = self.dialect.is_modern() || self.manner.hears == Hears::Everything;
        if !reachable || !may_tell(method) {
            let mut nobody = Client::nobody();
            nobody.version = version;
            nobody.caps = self.caps.clone();
            return (nobody, None);
        }
        let (mut client, receiver) = Client::listening(version, self.caps.clone());
        if self.manner.hears == Hears::Everything {
            client.wants_progress = self.manner.token.is_some();
            client.log_level = self.manner.level;
        }
        let session = self.session.clone().filter(|_| version < Version::V2026_07_28);
        let told = Told::new(receiver, client.clone(), self.manner.clone(), session);
        (client, Some(told))
    }
}

/// The methods whose sources may have something to say on the way.
fn may_tell(method: &str) -> bool {
    matches!(
        method,
        "tools/call" | "tasks/result" | "prompts/get" | "resources/read" | "completion/complete"
    )
}

impl Front {
    /// The call that a request begins, or takes up again.
    pub(crate) async fn run(&self, begun: Begun, request: Request) -> Result<(Running, Ticket), Failure> {
        let ticket = begun.ticket(&request);
        if let Some(again) = &begun.again
            && let Some(super::state::State::Parked(number)) = &again.state
        {
            let mut running = self.fetch(number).await?;
            let (id, manner, taken_back) = (request.id.clone(), begun.manner.clone(), begun.cancel.clone());
            running.resume(id, manner, taken_back, again.responses.as_deref());
            return Ok((running, ticket));
        }
        Ok((begun.run(self.clone(), request), ticket))
    }

    /// Serves a request as a flight that others can cancel.
    async fn fly(&self, request: &Request, turn: &Turn) -> Ending {
        let _busy = turn.session.as_ref().map(|session| self.sessions().busy(session));
        let _landing = self.flights().take_off(Flight {
            session: turn.principal.session.clone(),
            owner: Owner::from(&turn.principal),
            id: request.id.clone(),
            cancel: turn.cancel.clone(),
        })?;
        let mut served = pin!(self.serve(request, turn));
        tokio::select! {
            biased;
            ending = &mut served => ending,
            () = self.expiry(&turn.principal) => {
                turn.cancel.cancel();
                served.await
            }
        }
    }

    /// Completes when the key or the token of this caller stops being good.
    pub(super) async fn expiry(&self, principal: &Principal) {
        match principal.good_until {
            Some(until) => self.states().clock().reaches(until).await,
            None => std::future::pending().await,
        }
    }
}
