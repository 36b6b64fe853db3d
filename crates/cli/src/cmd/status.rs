//! `forebay status`: how the gateway is.

use crate::{
    connect::Context,
    printer::{Printer, Table},
};
use forebay_api::Status;
use forebay_domain::Failure;

/// Show how the gateway is
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let status = context.client()?.status().await?;
    printer.print(&status, table)
}

fn table(status: &Status) -> Table {
    let store = if status.store.healthy {
        "healthy"
    } else {
        "does not answer"
    };
    let mut rows = vec![
        ("version", status.version.clone()),
        ("up for", format!("{} s", status.uptime_s)),
        ("store", format!("{}, {store}", status.store.engine)),
        ("models", status.models.join(" ")),
        ("sessions", status.mcp_sessions.to_string()),
        ("config of", status.config.loaded_at.to_string()),
    ];
    rows.extend(status.surfaces.iter().map(|url| ("open", url.clone())));
    if let Some(error) = &status.config.last_error {
        rows.push(("not taken", error.clone()));
    }
    Table::of_one(rows)
}
