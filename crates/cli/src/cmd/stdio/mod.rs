//! `forebay stdio`: an MCP server on standard input and output, for clients that start a command.
//!
//! Either a bridge to a gateway that runs elsewhere, or, only where that was asked for, a gateway in this very process.
//! Standard output carries messages and nothing else.

mod inside;

use crate::connect::Context;
use forebay_domain::{Code, Failure};
use forebay_mcp::{
    Scope,
    stdio::{BridgeTo, bridge},
};
use forebay_runtime::{Tasks, http, lifecycle};
use std::{io, net::SocketAddr, time::Duration};

const PATIENCE: Duration = Duration::from_secs(5);

/// Be an MCP server on standard input and output; what is asked goes to the gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples, for clients that start a command:
  {\"mcpServers\":{\"forebay\":{\"command\":\"forebay\",\"args\":[\"stdio\"],
    \"env\":{\"FOREBAY_URL\":\"http://127.0.0.1:8080\",\"FOREBAY_KEY\":\"fb_…\"}}}}
  {\"mcpServers\":{\"docs\":{\"command\":\"forebay\",\"args\":[\"stdio\",\"--server\",\"docs\"]}}}
  {\"mcpServers\":{\"forebay\":{\"command\":\"forebay\",\"args\":[\"stdio\",\"--serve\",\"--config\",\"/etc/forebay.yaml\"]}}}

With --serve the gateway runs inside this process and ends with it. It opens no port;
its client acts with the data directory's own key, or with the one that is given.")]
pub(crate) struct Args {
    /// Run the gateway inside this process instead of asking one that is running
    #[arg(long)]
    serve: bool,
    /// With --serve: listen here as well; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", requires = "serve")]
    listen: Option<SocketAddr>,
    /// Show one server by itself, under its own names: an upstream, or `forebay` for the built-in tools
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

impl Args {
    /// Whether a whole gateway is going to run here.
    pub(crate) fn serves(&self) -> bool {
        self.serve
    }

    fn scope(&self) -> Scope {
        match &self.server {
            Some(name) => Scope::Server(name.as_str().into()),
            None => Scope::Whole,
        }
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    if args.serves() {
        Box::pin(inside::run(args, context)).await
    } else {
        outside(&args, context).await
    }
}

/// Bridges to a gateway that is running.
async fn outside(args: &Args, context: &Context) -> Result<(), Failure> {
    let gateway = context.gateway()?;
    let key = gateway.key.ok_or_else(|| {
        Failure::new(
            Code::MissingCredentials,
            format!("There is no key for the gateway at {}.", gateway.url),
        )
        .hint("Set FOREBAY_KEY in the client's settings for this command.")
    })?;
    let mut url = gateway.url;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty();
        if let Some(server) = &args.server {
            path.extend(["servers", server]);
        }
        path.push("mcp");
    }
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
    outcome(told.await.unwrap_or(Ok(())))
}

fn outcome(ended: io::Result<()>) -> Result<(), Failure> {
    match ended {
        // The client closed its end, which is how it says goodbye.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(Code::Cancelled, "Standard output cannot be written.").caused_by(error)),
        Ok(()) => Ok(()),
    }
}
