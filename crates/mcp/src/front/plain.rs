//! `/api/v1/mcp`: plain JSON-RPC for clients that know nothing of sessions, streams or `Accept`.
//!
//! One POST, one JSON answer; batches are taken. A client may still speak a protocol version of its own, with
//! `initialize` or in `_meta`.

use super::{
    BATCH_MAX, Front, HttpIn,
    begun::Begun,
    parked::Ticket,
    running::{Next, Running},
    told::Hears,
};
use crate::{
    envelope::{self, Element, Incoming, Message, Refused, Request},
    era::{Version, unsupported},
    params::{Params, text},
    reply::Reply,
    rpc::{self, Answered, Dialect, array},
};
use bytes::Bytes;
use forebay_domain::Failure;
use futures_util::{StreamExt, future::Either, stream};
use http::StatusCode;

/// The version of clients that name none.
const DEFAULT: Version = Version::V2024_11_05;
/// Messages of one batch that run at the same time.
const BATCH_CONCURRENCY: usize = 8;

impl Front {
    /// `POST /api/v1/mcp`. Dropping the future cancels the call.
    pub async fn plain(&self, input: HttpIn<'_>) -> Reply {
        let begin = || {
            let (scope, principal) = (input.scope.clone(), input.principal.clone());
            Begun::new(Dialect::Plain(DEFAULT), scope, principal, input.trace)
        };
        match envelope::read(&input.body, BATCH_MAX) {
            Err(refused) => answer_refused(&refused).reply(),
            Ok(Incoming::One(Message::Request(request))) => self.answer_plain(request, begin()).await.reply(),
            Ok(Incoming::One(Message::Notification(_) | Message::Response(_))) => Reply::empty(StatusCode::ACCEPTED),
            Ok(Incoming::Batch(elements)) => {
                let admit = self.charge(&input.principal);
                match self.run_batch(elements, begin, admit, |_| {}).await {
                    Some(body) => Reply::json(StatusCode::OK, body),
                    None => Reply::empty(StatusCode::ACCEPTED),
                }
            }
        }
    }

    async fn answer_plain(&self, request: Request, mut begun: Begun) -> Answered {
        let (id, dialect) = (request.id.clone(), begun.dialect);
        if let Err(failure) = self.settle(&request, &mut begun) {
            return rpc::failed(Some(&id), &failure, dialect);
        }
        let dialect = begun.dialect;
        match self.run(begun, request).await {
            Ok((running, ticket)) => self.finish(running, ticket).await,
            Err(failure) => rpc::failed(Some(&id), &failure, dialect),
        }
    }

    fn settle(&self, request: &Request, begun: &mut Begun) -> Result<(), Failure> {
        let params = Params::read(request.params.as_ref())?;
        if let Dialect::Plain(default) = begun.dialect {
            begun.dialect = Dialect::Plain(version_of(request, &params, default)?);
        }
        begun.read(self, request, &params, Hears::AnswerOnly)
    }

    /// Drives a call to its end, or to where it needs answers that only another request can bring.
    async fn finish(&self, mut running: Running, ticket: Ticket) -> Answered {
        loop {
            match running.next().await {
                Next::Say(_) | Next::HangUp => {}
                Next::Ask => return self.park(running, &ticket),
                Next::End(answered) => return answered,
            }
        }
    }

    /// Answers a batch: an array of answers in the order of the requests, or nothing where none was asked for. `admit` is
    /// asked for each of its requests.
    pub(crate) async fn run_batch(
        &self,
        elements: Vec<Element>,
        begin: impl Fn() -> Begun,
        mut admit: impl FnMut() -> Result<(), Failure>,
        heed: impl Fn(Message),
    ) -> Option<Bytes> {
        let mut answers = Vec::with_capacity(elements.len());
        for element in elements {
            match element {
                Ok(Message::Request(request)) => answers.push(match admit() {
                    Ok(()) => Either::Left(self.answer_plain(request, begin())),
                    Err(failure) => {
                        let answered = rpc::failed(Some(&request.id), &failure, begin().dialect);
                        Either::Right(std::future::ready(answered))
                    }
                }),
                Ok(other) => heed(other),
                Err(refused) => {
                    let answered = answer_refused(&refused);
                    answers.push(Either::Right(std::future::ready(answered)));
                }
            }
        }
        let answers: Vec<Answered> = stream::iter(answers).buffered(BATCH_CONCURRENCY).collect().await;
        let texts = answers
            .iter()
            .filter_map(|answered| std::str::from_utf8(&answered.message).ok());
        (!answers.is_empty()).then(|| array(texts).into())
    }
}

fn answer_refused(refused: &Refused) -> Answered {
    rpc::failed(refused.id.as_ref(), &refused.failure, Dialect::Plain(DEFAULT))
}

/// The version that a request speaks: its handshake's, its own, or the oldest.
fn version_of(request: &Request, params: &Params<'_>, default: Version) -> Result<Version, Failure> {
    if request.method == "initialize" {
        return match params.protocol_version {
            None => Ok(default),
            Some(raw) => text("protocolVersion", Some(raw)).map(|asked| Version::negotiate(&asked)),
        };
    }
    match params.meta().version() {
        None => Ok(default),
        Some(named) => Version::parse(&named).ok_or_else(|| *unsupported(&named).failure),
    }
}
