//! The gateway inside: everything that `forebay serve` runs, for the one client at the other end of standard input.
//!
//! The client passes the door like everybody else, with the key of the data directory or the one that was given.

use super::{Args, outcome};
use crate::{cmd::serve, connect::Context};
use forebay_domain::{Code, Failure, Principal, id::TraceId};
use forebay_mcp::stdio;
use forebay_runtime::lifecycle;
use forebay_server::{Gateway, Opens};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    if context.global.url.is_some() {
        let failure = Failure::new(
            Code::InvalidConfig,
            "--serve runs a gateway of its own, and --url names another.",
        );
        return Err(failure.hint("Leave one of them out."));
    }
    // From here on no signal ends the process in its default way.
    let signals = lifecycle::signals();
    let opens = if args.listen.is_some() {
        Opens::Listeners
    } else {
        Opens::Nothing
    };
    let flags = args.listen.iter().map(serve::listen_flag).collect();
    let started = Box::pin(serve::start(serve::Wanted { opens, flags }, context)).await?;
    let talking = talk(&started.gateway, &args, context).await;
    let (told, failed) = match talking {
        Ok(told) => (Some(told), Ok(())),
        Err(failure) => {
            started.gateway.tasks().stop().drain();
            (None, Err(failure))
        }
    };
    started.run(signals).await;
    failed?;
    match told {
        Some(told) => outcome(told.await.unwrap_or(Ok(()))),
        None => Ok(()),
    }
}

/// Lets the client in and serves it; the gateway drains when that has ended.
async fn talk(
    gateway: &Gateway,
    args: &Args,
    context: &Context,
) -> Result<tokio::sync::oneshot::Receiver<std::io::Result<()>>, Failure> {
    let principal = principal(gateway, context).await?;
    let app = &gateway.app;
    let trace = TraceId::new(app.clock.now(), app.entropy.bytes());
    let (handle, messages) = app.front.connect(principal, args.scope(), trace)?;
    let (tell, told) = tokio::sync::oneshot::channel();
    gateway.tasks().spawn("stdio", |stop| async move {
        let ended = stdio::serve(tokio::io::stdin(), tokio::io::stdout(), handle, messages).await;
        stop.drain();
        let _nobody_waits = tell.send(ended);
    });
    Ok(told)
}

async fn principal(gateway: &Gateway, context: &Context) -> Result<Principal, Failure> {
    let key = context.local_key()?;
    let bearer = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
        .map_err(|_| Failure::new(Code::InvalidKey, "The key is malformed.").hint("Check that it was copied whole."))?;
    let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
    gateway.app.door.authenticate(&headers).await
}
