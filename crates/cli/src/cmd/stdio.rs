//! `forebay stdio`: an MCP server on standard input and output, for clients that start a command.

use crate::connect::Context;
use forebay_domain::{Code, Failure};
use forebay_mcp::stdio::{BridgeTo, bridge};
use forebay_runtime::{Tasks, http, lifecycle};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// Be an MCP server on standard input and output; what is asked goes to the gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, for clients that start a command:
  {\"mcpServers\":{\"forebay\":{\"command\":\"forebay\",\"args\":[\"stdio\"],
    \"env\":{\"FOREBAY_URL\":\"http://127.0.0.1:8080\",\"FOREBAY_KEY\":\"fb_…\"}}}}")]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &Context) -> Result<(), Failure> {
    let gateway = context.gateway()?;
    let key = gateway.key.ok_or_else(|| {
        Failure::new(
            Code::MissingCredentials,
            format!("There is no key for the gateway at {}.", gateway.url),
        )
        .hint("Set FOREBAY_KEY in the client's settings for this command.")
    })?;
    let mut url = gateway.url;
    let path = format!("{}/mcp", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let to = BridgeTo {
        url,
        key,
        client: http::trusted(),
    };
    let tasks = Tasks::new();
    let (tell, told) = tokio::sync::oneshot::channel();
    tasks.spawn("stdio", |stop| async move {
        let ended = bridge(tokio::io::stdin(), tokio::io::stdout(), to, stop.clone()).await;
        // Standard input is at its end: nothing else keeps the process.
        stop.drain();
        let _nobody_waits = tell.send(ended);
    });
    lifecycle::run(&tasks, PATIENCE).await;
    let ended = told.await.unwrap_or(Ok(()));
    match ended {
        // The client closed its end, which is how it says goodbye.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(Code::Cancelled, "Standard output cannot be written.").caused_by(error)),
        Ok(()) => Ok(()),
    }
}
