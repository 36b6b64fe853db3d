//! `forebay audit`: who did what, and whether the record is whole.

use crate::{
    connect::Context,
    exit::exit_code,
    printer::{Printer, Table},
    report,
};
use clap::Subcommand;
use forebay_api::{Client, ClientError, EventInfo, EventList, EventQuery};
use forebay_domain::{ErrorKind, Failure};
use std::{process::ExitCode, time::Duration};

const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
const PAGE: u32 = 500;

/// Read the record of who did what, and check that it is whole
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the newest audit events, oldest of them first
    #[command(after_help = "Examples:
  forebay audit tail -n 50
  forebay audit tail --follow -o json | jq .action
  forebay audit tail --all --tenant acme")]
    Tail(TailArgs),
    /// Check the hash chain over all audit events
    Verify,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    /// How many
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Go on with what happens from now on
    #[arg(short, long)]
    follow: bool,
    /// Only those of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Every request and how it ended, not only what was decided before something changed
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(command: Command, context: &Context, printer: &mut Printer) -> Result<ExitCode, Failure> {
    match command {
        Command::Tail(args) => tail(args, context, printer).await.map(|()| ExitCode::SUCCESS),
        Command::Verify => verify(context, printer).await,
    }
}

async fn tail(args: TailArgs, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let client = context.client()?;
    let mut query = EventQuery {
        limit: Some(args.limit),
        tenant: args.tenant.clone(),
        tail: true,
        ..EventQuery::default()
    };
    let mut page = read(&client, &query, &args).await?;
    page.events.reverse();
    if !args.follow {
        return printer.print(&page.events, |events| table(events));
    }
    query.tail = false;
    query.limit = Some(PAGE);
    loop {
        printer.follow(&page.events, table)?;
        if printer.is_closed() {
            return Ok(());
        }
        if page.events.is_empty() {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        query.after = Some(page.next);
        page = read(&client, &query, &args).await?;
    }
}

async fn read(client: &Client, query: &EventQuery, args: &TailArgs) -> Result<EventList, ClientError> {
    if args.all {
        client.events(query).await
    } else {
        client.audit(query).await
    }
}

async fn verify(context: &Context, printer: &mut Printer) -> Result<ExitCode, Failure> {
    let report = context.client()?.verify_audit().await?;
    printer.print(&report, |report| {
        let state = if report.ok { "whole" } else { "broken" };
        Table::of_one([
            ("audit trail", state.to_owned()),
            ("chains", report.chains.to_string()),
            ("events", report.rows.to_string()),
            ("fault", report.fault.clone().unwrap_or_else(|| "none".to_owned())),
        ])
    })?;
    if report.ok {
        return Ok(ExitCode::SUCCESS);
    }
    report::say("error: the audit trail is broken: an event was changed, moved or taken out of the database");
    Ok(exit_code(ErrorKind::Conflict))
}

/// Events as people read them.
pub(super) fn table(events: &[EventInfo]) -> Table {
    let rows = events.iter().map(|event| {
        let who = match (&event.tenant, &event.subject) {
            (Some(tenant), Some(subject)) => format!("{tenant}/{subject}"),
            _ => "-".to_owned(),
        };
        let times = if event.count > 1 {
            format!("{} ×{}", event.outcome, event.count)
        } else {
            event.outcome.clone()
        };
        [
            event.at.to_string(),
            who,
            event.surface.clone(),
            event.action.clone(),
            times,
            event.cost_usd.map_or_else(|| "-".to_owned(), |cost| format!("${cost}")),
            event.trace_id.clone(),
        ]
    });
    Table::new(["at", "who", "surface", "action", "outcome", "cost", "trace"], rows)
}
