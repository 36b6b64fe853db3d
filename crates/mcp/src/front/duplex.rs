//! One pipe for everything: transports without requests and responses of their own (stdio, WebSocket, HTTP+SSE).
//!
//! Both eras are spoken; without headers, a message's own `_meta` says which. Requests run side by side in the task of
//! their connection; answers, notifications and questions share the way out. A reader that is slow loses progress and
//! notifications, never an answer. The connection ends with its key or token, its session, or its
//! reader.

use super::{
    BATCH_MAX, Front,
    begun::Begun,
    news::Bell,
    running::{Next, Running},
    taken_back,
    told::Hears,
};
use crate::{
    call::Client,
    envelope::{self, Element, Id, Incoming, Message, Request},
    era::{self, Era, Version},
    flight::{Flight, Landing},
    index::Scope,
    params::Params,
    rpc::{self, Dialect},
    session::{Busy, Outlet, Owner, Session, log::Weight},
};
use bytes::Bytes;
use forebay_domain::{Code, Failure, Principal, id::TraceId};
use forebay_runtime::Stop;
use futures_util::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};
use std::{collections::HashMap, pin::pin, sync::Arc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages that wait to be read by the gateway at most; whoever brings more waits.
const INCOMING_MAX: usize = 16;
/// Messages that wait to be taken by the client at most.
const OUTGOING_MAX: usize = 256;
/// Requests of one connection under way at once; further ones are refused. Answers and notifications always get in: what
/// is under way may be waiting for them.
const RUNNING_MAX: usize = 256;

/// The way into a connection. Cheap to clone; once all clones are gone, what is under way is finished and the
/// connection ends.
#[derive(Debug, Clone)]
pub struct DuplexHandle {
    incoming: mpsc::Sender<Bytes>,
    closed: CancellationToken,
}

impl DuplexHandle {
    /// Hands a message in, and waits while too many are under way.
    pub async fn receive(&self, message: Bytes) -> Result<(), Failure> {
        let gone = || Failure::new(Code::UnknownSession, "The connection has ended.").hint("Open a new one.");
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(gone()),
            sent = self.incoming.send(message) => sent.map_err(|_| gone()),
        }
    }

    /// Ends the connection at once, with all that is under way in it.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Completes when the connection has ended.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

/// The gateway's end of a connection.
struct Pipe {
    front: Front,
    scope: Scope,
    principal: Principal,
    trace: TraceId,
    out: mpsc::Sender<Bytes>,
    closed: CancellationToken,
    bell: Arc<Bell>,
    session: Option<(Arc<Session>, Busy)>,
    /// The requests under way, so that they can be taken back.
    cancels: HashMap<Id, CancellationToken>,
    running: FuturesUnordered<BoxFuture<'static, Option<Id>>>,
    /// Fires when nothing more can come in: then nobody could end a subscription.
    hung_up: CancellationToken,
    _landing: Landing,
}

impl Front {
    /// Opens a connection: the way in, and the messages that come out. Dropping these ends it.
    pub fn connect(
        &self,
        principal: Principal,
        scope: Scope,
        trace: TraceId,
    ) -> Result<(DuplexHandle, impl Stream<Item = Bytes> + Send + use<>), Failure> {
        self.admit(&scope)?;
        let (incoming, received) = mpsc::channel(INCOMING_MAX);
        let (out, outgoing) = mpsc::channel(OUTGOING_MAX);
        let closed = CancellationToken::new();
        let landing = self.flights().take_off(Flight {
            session: None,
            owner: Owner::from(&principal),
            id: Id::parse("0").expect("a whole number is an id"),
            cancel: closed.clone(),
        })?;
        let pipe = Pipe {
            front: self.clone(),
            scope,
            principal,
            trace,
            out,
            closed: closed.clone(),
            bell: Arc::default(),
            session: None,
            cancels: HashMap::new(),
            running: FuturesUnordered::new(),
            hung_up: CancellationToken::new(),
            _landing: landing,
        };
        self.tasks().spawn("mcp connection", |stop| pipe.serve(received, stop));
        let ends = closed.clone().drop_guard();
        let messages = stream::unfold((outgoing, ends), |(mut outgoing, ends)| async move {
            let message = outgoing.recv().await?;
            Some((message, (outgoing, ends)))
        });
        Ok((DuplexHandle { incoming, closed }, messages))
    }
}

impl Pipe {
    async fn serve(mut self, mut incoming: mpsc::Receiver<Bytes>, stop: Stop) {
        let closed = self.closed.clone();
        let (front, principal) = (self.front.clone(), self.principal.clone());
        let mut expired = pin!(front.expiry(&principal));
        let mut open = true;
        while open || !self.running.is_empty() {
            let ended = self.session.as_ref().map(|(session, _)| session.closed.clone());
            tokio::select! {
                biased;
                () = closed.cancelled() => break,
                () = &mut expired => break,
                () = fired(ended.as_ref()) => break,
                Some(done) = self.running.next() => {
                    done.and_then(|id| self.cancels.remove(&id));
                }
                () = stop.draining(), if open => open = false,
                () = tell(&self.out, &self.bell), if open => {}
                message = incoming.recv(), if open => {
                    open = message.is_some();
                    tokio::select! {
                        () = self.take(message) => {}
                        // The client may have left no room for a refusal.
                        () = closed.cancelled() => break,
                        () = &mut expired => break,
                    }
                },
            }
        }
        closed.cancel();
        if let Some((session, _)) = &self.session {
            self.front.sessions().close(session);
        }
    }

    /// Nothing more comes in: answers to questions neither, and nobody could end what only the client ends.
    fn hang_up(&self) {
        self.hung_up.cancel();
        if let Some((session, _)) = &self.session {
            session.questions.hang_up();
        }
    }

    async fn take(&mut self, message: Option<Bytes>) {
        let Some(message) = message else {
            return self.hang_up();
        };
        match envelope::read(&message, BATCH_MAX) {
            Err(refused) => self.refuse(refused.id.as_ref(), &refused.failure).await,
            Ok(Incoming::One(message)) => self.take_one(message).await,
            Ok(Incoming::Batch(elements)) => self.take_batch(elements).await,
        }
    }

    async fn take_one(&mut self, message: Message) {
        match message {
            Message::Request(request) => {
                let id = request.id.clone();
                if let Err(failure) = self.begin(request) {
                    self.refuse(Some(&id), &failure).await;
                }
            }
            other => heed(
                &self.front,
                self.session.as_ref().map(|(session, _)| &**session),
                &self.cancels,
                other,
            ),
        }
    }

    fn is_full(&self) -> bool {
        self.running.len() >= RUNNING_MAX
    }

    /// Batches were part of the oldest versions alone.
    async fn take_batch(&mut self, elements: Vec<Element>) {
        let session = self.session.as_ref().map(|(session, _)| session.clone());
        let Some(session) = session.filter(|session| session.version <= Version::V2025_03_26) else {
            let failure = Failure::new(Code::BatchNotSupported, "A batch is not accepted here.")
                .hint("Send one message at a time.");
            return self.refuse(None, &failure).await;
        };
        let (front, out) = (self.front.clone(), self.out.clone());
        let (scope, principal, trace) = (self.scope.clone(), self.principal.clone(), self.trace);
        let (is_full, cancels) = (self.is_full(), self.cancels.clone());
        let batch = async move {
            let begin = || {
                let dialect = Dialect::Streamable(session.version);
                let mut begun = Begun::new(dialect, scope.clone(), principal.clone(), trace);
                begun.join(session.clone());
                begun
            };
            let mut charge = front.charge(&principal);
            let admit = || if is_full { Err(full()) } else { charge() };
            let heed = |message| heed(&front, Some(&session), &cancels, message);
            if let Some(answers) = front.run_batch(elements, begin, admit, heed).await {
                // The client is gone where this cannot be sent.
                let _gone = out.send(answers).await;
            }
            None
        };
        if is_full {
            // Nothing of it runs; it is refused at once, and takes no room.
            batch.await;
        } else {
            self.running.push(batch.boxed());
        }
    }

    /// Begins a request. An error here is its answer.
    fn begin(&mut self, request: Request) -> Result<(), Failure> {
        if self.cancels.contains_key(&request.id) {
            let failure = Failure::new(Code::InvalidRequest, "A request of this id is under way already.");
            return Err(failure.hint("Give each request an id of its own."));
        }
        if self.is_full() {
            return Err(full());
        }
        let mut begun = self.settle(&request)?;
        let cancel = self.closed.child_token();
        begun.cancel = Some(cancel.clone());
        self.cancels.insert(request.id.clone(), cancel);
        let (front, out) = (self.front.clone(), self.out.clone());
        if request.method == "subscriptions/listen" && begun.dialect.is_modern() {
            let hung_up = self.hung_up.clone();
            let listening = async move {
                tokio::select! {
                    biased;
                    () = listen(&front, begun, &request, &out) => {}
                    () = hung_up.cancelled() => {}
                }
                Some(request.id)
            };
            self.running.push(listening.boxed());
        } else {
            self.running.push(work(front, begun, request, out).boxed());
        }
        Ok(())
    }

    fn settle(&mut self, request: &Request) -> Result<Begun, Failure> {
        let params = Params::read(request.params.as_ref())?;
        let trace = params.meta().trace().unwrap_or(self.trace);
        let dialect = Dialect::Streamable(Version::LEGACY_NEWEST);
        let mut begun = Begun::new(dialect, self.scope.clone(), self.principal.clone(), trace);
        match era::decide_by_body(request, &params).map_err(|refusal| *refusal.failure)? {
            Era::Modern(version) => begun.dialect = Dialect::Streamable(version),
            Era::Handshake => {
                let outlet = Outlet::Pipe(self.bell.clone());
                let session = self
                    .front
                    .open(&begun, &params, outlet)
                    .map_err(|refusal| *refusal.failure)?;
                let busy = self.front.sessions().busy(&session);
                if let Some((former, _)) = self.session.replace((session.clone(), busy)) {
                    self.front.sessions().close(&former);
                }
                begun.join(session);
            }
            Era::Legacy => match &self.session {
                Some((session, _)) => begun.join(session.clone()),
                None if request.method == "ping" => {}
                None => {
                    let failure = Failure::new(Code::InvalidRequest, "The handshake is missing.");
                    return Err(failure.hint(
                        "Begin with `initialize`, or send protocol version 2026-07-28 in the `_meta` of every request.",
                    ));
                }
            },
        }
        begun.read(&self.front, request, &params, Hears::Everything)?;
        Ok(begun)
    }

    async fn refuse(&mut self, id: Option<&Id>, failure: &Failure) {
        let answered = rpc::failed(id, failure, Dialect::Streamable(Version::LEGACY_NEWEST));
        // The client is gone where this cannot be sent.
        let _gone = self.out.send(answered.message).await;
    }
}

fn full() -> Failure {
    let message = format!("{RUNNING_MAX} requests of this connection are under way already.");
    Failure::new(Code::Overloaded, message).hint("Wait for an answer, then try again.")
}

/// Takes note of what needs no answer.
fn heed(front: &Front, session: Option<&Session>, cancels: &HashMap<Id, CancellationToken>, message: Message) {
    match message {
        Message::Request(_) => {}
        Message::Response(response) => {
            if let Some(session) = session {
                session.questions.answer(&response);
            }
        }
        Message::Notification(notification) => {
            if let Some(cancel) = taken_back(&notification).and_then(|id| cancels.get(&id)) {
                cancel.cancel();
            }
            if let Some(session) = session {
                front.heed(&notification, session);
            }
        }
    }
}

/// Serves one request to its end.
async fn work(front: Front, begun: Begun, request: Request, out: mpsc::Sender<Bytes>) -> Option<Id> {
    let (id, dialect) = (request.id.clone(), begun.dialect);
    let answer = match front.run(begun, request).await {
        Ok((mut running, ticket)) => match tell_all(&mut running, &out).await {
            Ended::Answered(answered) => answered,
            Ended::Asks => front.park(running, &ticket),
        },
        Err(failure) => rpc::failed(Some(&id), &failure, dialect),
    };
    // A request that was taken back gets no answer.
    if answer.failed != Some(Code::Cancelled) {
        let _gone = out.send(answer.message).await;
    }
    Some(id)
}

enum Ended {
    Answered(rpc::Answered),
    Asks,
}

async fn tell_all(running: &mut Running, out: &mpsc::Sender<Bytes>) -> Ended {
    loop {
        match running.next().await {
            Next::Say(said) => match said.weight {
                // Whoever does not read loses what can be lost.
                Weight::Progress | Weight::Notification => drop(out.try_send(said.message)),
                Weight::Vital => drop(out.send(said.message).await),
            },
            Next::HangUp => {}
            Next::Ask => return Ended::Asks,
            Next::End(answered) => return Ended::Answered(answered),
        }
    }
}

async fn listen(front: &Front, begun: Begun, request: &Request, out: &mpsc::Sender<Bytes>) {
    match front.subscribe(request, begun.turn(Client::nobody())).await {
        Ok(mut subscription) => {
            while let Some(message) = subscription.next().await {
                if out.send(message).await.is_err() {
                    return;
                }
            }
        }
        Err((failure, dialect)) => drop(
            out.send(rpc::failed(Some(&request.id), &failure, dialect).message)
                .await,
        ),
    }
}

/// Tells the next news of the session, once there is room for it.
async fn tell(out: &mpsc::Sender<Bytes>, bell: &Bell) {
    match out.reserve().await {
        Ok(room) => room.send(bell.next().await.message(None)),
        Err(_) => std::future::pending().await,
    }
}

async fn fired(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}
