//! `forebay instance-agent`: what runs on a rented machine. The gateway's own start script starts it there.

use crate::connect::Context;
use forebay_compute::agent::{self, AgentFault, AgentParts};
use forebay_domain::{Code, Failure};
use forebay_runtime::{Secret, Stop, http, lifecycle};
use futures_util::StreamExt;

/// Report a rented machine to its gateway, once, and stay (started by the machine itself)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let of = |name: &str| {
        context.env.get(name).ok_or_else(|| {
            Failure::new(Code::InvalidConfig, format!("{name} is not set."))
                .hint("A machine that was rented by a gateway has it.")
        })
    };
    let parts = AgentParts {
        url: of("FOREBAY_URL")?.to_owned(),
        token: Secret::new(of("FOREBAY_TOKEN")?.to_owned()),
        http: http::trusted(),
    };
    let (stop, mut signals) = (Stop::new(), lifecycle::signals());
    let mut agent = std::pin::pin!(agent::run(parts, stop.clone()));
    let ended = tokio::select! {
        ended = &mut agent => ended,
        _ = signals.next() => {
            stop.drain();
            agent.await
        }
    };
    ended.map_err(|fault| match fault {
        AgentFault::Refused(_) => Failure::new(Code::InvalidToken, fault.to_string()),
    })
}
