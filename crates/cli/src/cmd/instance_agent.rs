//! `forebay instance-agent`: what runs on a rented machine. The gateway's own start script starts it there.

use crate::connect::Context;
use forebay_compute::{
    agent::{self, AgentFault, AgentParts},
    rental::DIR_VARIABLE,
};
use forebay_domain::{Code, Failure};
use forebay_runtime::{Entropy, Secret, Stop, http, lifecycle};
use futures_util::StreamExt;
use std::path::PathBuf;

/// Report a rented machine to its gateway, and stay (started by the machine itself)
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
        dir: context.env.get(DIR_VARIABLE).map(PathBuf::from),
        entropy: Entropy::system(),
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
