//! A tool call as a task: what a worker does with one row of the type `tools/call`.
//!
//! It adds nothing to [`Catalogue::call`] but patience: whoever may call the tool is decided when it runs, and what the
//! tool asks lies on the desk until somebody answers. The task's output is the tool's result as the protocol writes it.

use super::{desk::Desk, input::Input};
use crate::{
    call::{CallContext, Client, Complete, Emission, Outcome, RpcError},
    catalogue::{Call, Catalogue},
    front::ask_all,
    rpc::{self, Dialect},
};
use bytes::Bytes;
use forebay_domain::{
    Code, ErrorKind, Failure, Principal,
    event::Surface,
    port::{BoxFuture, RunTask, TaskRun, Via},
    task::{BODY_BYTES_MAX, Retry, Share, TaskFault, TypeLimits},
};
use serde_json::value::RawValue;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The type of these tasks.
pub const TYPE: &str = "tools/call";

/// How often a tool may ask before it has to answer.
const ROUNDS_MAX: usize = 16;
/// How long one may take, with the time in which people think about questions. A tool's own limit is shorter.
const TIME_MAX: Duration = Duration::from_hours(1);
/// Calls that run as tasks at one time in one process: some of them wait for people.
const CONCURRENCY: u32 = 64;

/// Runs tasks of the type `tools/call`.
pub struct CallTask {
    catalogue: Catalogue,
    desk: Desk,
}

impl CallTask {
    pub fn new(catalogue: &Catalogue, desk: &Desk) -> Self {
        Self {
            catalogue: catalogue.clone(),
            desk: desk.clone(),
        }
    }
}

impl RunTask for CallTask {
    fn task_type(&self) -> &str {
        TYPE
    }

    /// Nobody knows here whether a tool may be called twice, so it is not.
    fn limits(&self) -> TypeLimits {
        TypeLimits {
            concurrency: CONCURRENCY,
            timeout: TIME_MAX,
            retry: Retry::NEVER,
        }
    }

    /// It may wait for people.
    fn share(&self) -> Share {
        Share::Half
    }

    fn accept(&self, principal: &Principal, input: &[u8]) -> Result<(), Failure> {
        let input = Input::from_outside(input)?;
        self.catalogue
            .admits(principal, &input.around.scope, &input.name)
            .map(drop)
    }

    fn run<'a>(&'a self, run: TaskRun<'a>) -> BoxFuture<'a, Result<Bytes, TaskFault>> {
        Box::pin(async move { self.carry_out(run).await.map_err(fault) })
    }
}

impl CallTask {
    async fn carry_out(&self, run: TaskRun<'_>) -> Result<Bytes, Failure> {
        let input = Input::read(run.input)?;
        let sitting = self.desk.sit(run.id);
        let version = input.around.version;
        let shown = version.unwrap_or(crate::era::Version::LEGACY_NEWEST);
        let can_be_asked = input.around.desk.as_deref() == Some(self.desk.name());
        let caps = if can_be_asked {
            input.around.caps.clone()
        } else {
            // Nobody comes here for its questions: a tool that has any is to hear so at once.
            Arc::new(input.around.caps.without_questions())
        };
        let (mut client, mut said) = Client::listening(shown, caps);
        client.wants_progress = true;
        let cancel = CancellationToken::new();
        // Whatever drops this future takes the call back, that part of it too that somebody else finishes for us.
        let _ended = cancel.clone().drop_guard();
        let context = CallContext {
            via: Via {
                surface: Surface::Mcp,
                trace: run.trace,
                in_task: true,
            },
            cancel: cancel.clone(),
            deadline: None,
            client: client.clone(),
            retry: None,
            cost: None,
        };
        let mut call = pin!(self.pursue(run.principal, &input, context));
        let ended = loop {
            tokio::select! {
                biased;
                () = run.cancelled.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
                emission = next(&mut said) => match emission {
                    Emission::Question(question) => sitting.ask(question, client.thinking()),
                    Emission::Progress(params) => run.tell.tell(Bytes::from(params.get().to_owned())),
                    Emission::Log(_) | Emission::Notification { .. } | Emission::Hangup => {}
                },
                ended = &mut call => break ended,
            }
        };
        let dialect = version.map(Dialect::Streamable);
        match ended.and_then(bounded).map_err(|end| end.explained(&input)) {
            Ok(raw) => Ok(Bytes::from(raw.get().to_owned())),
            // Its client would have been told this as a result, and is told so now.
            Err(End::Failed(failure)) if dialect.is_some_and(|dialect| rpc::is_for_the_model(&failure, dialect)) => {
                Ok(Bytes::from(rpc::tool_error(&failure).get().to_owned()))
            }
            Err(End::Failed(failure)) => Err(failure),
            Err(End::Refused(error)) => Err(error.into()),
            Err(End::Cancelled) => Err(Failure::new(Code::Cancelled, "The call was taken back.")),
        }
    }

    /// Calls the tool until it has answered.
    async fn pursue(&self, principal: &Principal, input: &Input<'_>, context: CallContext) -> Result<Complete, End> {
        let arguments: &RawValue = serde_json::from_str(&input.arguments).expect("it was read as an object");
        let mut retry = input.around.again.clone();
        for _ in 0..ROUNDS_MAX {
            let call = Call {
                scope: &input.around.scope,
                tool: &input.name,
                arguments,
                params: Some(&input.params),
            };
            let context = CallContext {
                retry: retry.take(),
                ..context.clone()
            };
            let client = context.client.clone();
            match self.catalogue.call(principal, call, context).await? {
                Outcome::Complete(complete) => return Ok(complete),
                Outcome::InputRequired(raw) => retry = Some(ask_all(&raw, &client).await?),
                Outcome::Refused(error) => return Err(End::Refused(error)),
                Outcome::Cancelled => return Err(End::Cancelled),
            }
        }
        let message = format!("`{}` asked {ROUNDS_MAX} times and never answered.", input.name);
        Err(Failure::new(Code::UpstreamFailed, message).into())
    }
}

/// Why a call has no result.
enum End {
    Failed(Failure),
    /// An error of somebody else's making, which is no result of a tool.
    Refused(RpcError),
    Cancelled,
}

impl End {
    /// Says why the tool could not ask, where its client could have been asked.
    fn explained(self, input: &Input<'_>) -> Self {
        match self {
            Self::Failed(failure)
                if failure.code == Code::MissingClientCapability && input.around.caps.has_questions() =>
            {
                let hint =
                    "The task runs in a process that its client does not speak to. Call the tool without a task.";
                Self::Failed(failure.hint(hint))
            }
            Self::Failed(_) | Self::Refused(_) | Self::Cancelled => self,
        }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What was refused before it began may be tried again, where the tool may be begun again at all.
fn fault(failure: Failure) -> TaskFault {
    match failure.kind() {
        ErrorKind::Unavailable | ErrorKind::RateLimited => TaskFault::passing(failure),
        _ => TaskFault::lasting(failure),
    }
}

/// A result, if it is one that a task can keep.
fn bounded(complete: Complete) -> Result<Box<RawValue>, End> {
    let size = complete.raw.get().len();
    if size > BODY_BYTES_MAX {
        let message = format!("The result has {size} bytes; a task keeps at most {BODY_BYTES_MAX}.");
        let failure = Failure::new(Code::ResultTooLarge, message);
        return Err(failure.hint("Ask for less, or call the tool directly.").into());
    }
    Ok(complete.raw)
}

/// The next thing that a call says; never, once it can say no more.
async fn next(said: &mut mpsc::Receiver<Emission>) -> Emission {
    match said.recv().await {
        Some(emission) => emission,
        None => std::future::pending().await,
    }
}
