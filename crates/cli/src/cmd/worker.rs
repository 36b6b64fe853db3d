//! `forebay worker`: works on the tasks of gateways that run elsewhere, on the same PostgreSQL database.

use super::serve::{self, Wanted};
use crate::{config::FlagValue, connect::Context};
use forebay_domain::Failure;
use forebay_runtime::lifecycle;
use forebay_server::Opens;
use serde_json::Value;
use std::{net::SocketAddr, num::NonZeroU32, process::ExitCode};

/// Work on durable tasks beside a gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay worker --config forebay.yaml
  forebay worker --config forebay.yaml --workers 64 --metrics 127.0.0.1:9101

It takes the configuration of the gateways, and needs their PostgreSQL database. It listens nowhere. SIGTERM or Ctrl-C
finishes what runs, within `server.drain_seconds`, and gives the rest back; a second one ends at once.")]
pub(crate) struct Args {
    /// So many tasks run at one time, whatever `tasks.workers` says
    #[arg(long, value_name = "COUNT", default_value = "16")]
    workers: NonZeroU32,
    /// Serve metrics there, without a key [else nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    // From here on no signal ends the process in its default way.
    let signals = lifecycle::signals();
    let workers = FlagValue {
        flag: "--workers",
        path: &["tasks", "workers"],
        value: args.workers.get().into(),
    };
    // The gateway of the same file may listen for metrics itself.
    let metrics = FlagValue {
        flag: "--metrics",
        path: &["metrics", "listen"],
        value: args.metrics.map_or(Value::Null, |address| address.to_string().into()),
    };
    let wanted = Wanted {
        opens: Opens::Work,
        flags: vec![workers, metrics],
    };
    let started = Box::pin(serve::start(wanted, context)).await?;
    Ok(serve::code(started.run(signals).await))
}
