//! `forebay upstream add`: a server that is reached by URL, without a restart.

use super::done;
use crate::{cmd::Global, connect::Context, printer::Printer};
use clap::ValueEnum;
use forebay_api::UpstreamRegister;
use forebay_domain::{Code, Failure};
use serde_json::json;

/// Add an upstream MCP server that is reached by URL, or change one that was added
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay upstream add docs https://docs.example.com/mcp
  forebay upstream add docs https://docs.example.com/mcp --bearer-env FOREBAY_UPSTREAM_DOCS --hold-first-seen

Commands to run are named in the configuration file alone, under `upstreams:`.")]
pub(crate) struct Args {
    /// What it is to be called; its tools are then NAME__TOOL
    name: String,
    /// Where it speaks MCP over HTTP [else what --url says; the gateway is then that of FOREBAY_URL or of the data
    /// directory]
    #[arg(value_name = "URL")]
    place: Option<String>,
    /// Send it the bearer token that stands in this variable of the gateway; its name begins with FOREBAY_UPSTREAM_
    #[arg(long, value_name = "VAR")]
    bearer_env: Option<String>,
    /// Which protocol it speaks [else found out]
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,
    /// Hold what it defines until it is approved, also what it defines at first
    #[arg(long)]
    hold_first_seen: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// Whatever it answers to
    Auto,
    /// 2026-07-28
    Modern,
    /// 2025-11-25 and older
    Legacy,
    /// 2024-11-05 over HTTP+SSE
    Sse,
}

impl Protocol {
    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Modern => "modern",
            Self::Legacy => "legacy",
            Self::Sse => "sse",
        }
    }
}

pub(super) async fn run(args: Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let (url, context) = &place(args.place, context)?;
    let wanted = UpstreamRegister {
        name: args.name,
        url: url.clone(),
        auth: args.bearer_env.map(|name| json!({"bearer": {"env": name}})),
        protocol: args.protocol.map(|protocol| protocol.word().to_owned()),
        quarantine: args.hold_first_seen.then(|| json!({"first_seen": "hold"})),
        ..UpstreamRegister::default()
    };
    let added = context.client()?.register_upstream(&wanted).await?;
    done(&added, "added; `forebay upstream show` tells when it is ready", printer)
}

/// The server's address, and which gateway is asked. Whoever gives one address alone means the server's: of the gateway
/// there is one that is meant anyway.
fn place(named: Option<String>, context: &Context) -> Result<(String, Context), Failure> {
    let missing = || {
        Failure::new(Code::InvalidRequest, "The server's address is missing.")
            .hint("Write `forebay upstream add NAME https://…/mcp`.")
    };
    let global = &context.global;
    let (place, url) = match named {
        Some(place) => (place, global.url.clone()),
        None => (global.url.clone().ok_or_else(missing)?, None),
    };
    let global = Global { url, ..global.clone() };
    Ok((place, Context::new(global, context.env.clone())))
}
