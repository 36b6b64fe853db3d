//! `forebay spend`: what is spent, and what may still be.

use super::dry_run::judged;
use crate::{
    connect::Context,
    printer::{Printer, Table},
    report,
};
use forebay_api::{SpendingCheck, SpendingInfo, SpendingQuery};
use forebay_domain::Failure;

/// Show what is spent, held and left in each window that counts for you
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay spend
  forebay spend --can 3.00        ask whether $3 more could be spent now; exit code 6 where not
  forebay spend --tenant acme --project search
  forebay spend -o json | jq '.windows[].remaining_usd'")]
pub(crate) struct Args {
    /// Ask whether so many US dollars more could be spent now; nothing is set aside
    #[arg(long, value_name = "USD")]
    can: Option<String>,
    /// Another tenant's, for administrators
    #[arg(long)]
    tenant: Option<String>,
    /// A project's
    #[arg(long)]
    project: Option<String>,
    /// An API key's, by its id
    #[arg(long = "of-key", value_name = "ID")]
    of_key: Option<String>,
}

pub(crate) async fn run(args: Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let query = SpendingQuery {
        tenant: args.tenant,
        project: args.project,
        key: args.of_key,
        estimated_cost: args.can,
    };
    let told = context.client()?.spending(&query).await?;
    printer.print(&told, table)?;
    if told.windows.is_empty() {
        report::say("No limit counts here. `forebay budget set` makes one.");
    }
    let can = |check: &SpendingCheck| judged(check.reason.as_deref(), &check.warnings);
    told.check.as_ref().map_or(Ok(()), can)
}

fn table(told: &SpendingInfo) -> Table {
    let rows = told.windows.iter().map(|window| {
        [
            format!("{} {}", window.scope, window.id),
            minutes(window.window_minutes),
            format!("${}", window.limit_usd),
            format!("${}", window.spent_usd),
            format!("${}", window.held_usd),
            format!("${}", window.remaining_usd),
            format!("{} ({})", window.status, enforcement(window.enforcement)),
        ]
    });
    let burn = [
        "running now".to_owned(),
        String::new(),
        String::new(),
        format!("${}/h", told.burn_usd_per_hour),
        String::new(),
        String::new(),
        String::new(),
    ];
    Table::new(
        ["of", "window", "limit", "spent", "held", "left", "status"],
        rows.chain([burn]),
    )
}

/// A window as people write it.
pub(super) fn minutes(minutes: u32) -> String {
    match minutes {
        whole if whole % 1_440 == 0 => format!("{}d", whole / 1_440),
        whole if whole % 60 == 0 => format!("{}h", whole / 60),
        other => format!("{other}m"),
    }
}

pub(super) fn enforcement(enforcement: forebay_domain::ledger::Enforcement) -> &'static str {
    use forebay_domain::ledger::Enforcement::{Hard, Soft};
    match enforcement {
        Hard => "hard",
        Soft => "soft",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_shown_as_they_are_written() {
        for (count, shown) in [(60, "1h"), (1_440, "1d"), (90, "90m"), (10_080, "7d"), (1, "1m")] {
            assert_eq!(minutes(count), shown);
        }
    }
}
