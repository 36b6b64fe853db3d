//! `forebay budget`: what may be spent, by whom, in which time.

use super::spend::{enforcement, minutes};
use crate::{
    connect::Context,
    printer::{Printer, Table},
};
use clap::{Subcommand, ValueEnum};
use forebay_api::{BudgetInfo, BudgetQuery, BudgetRef, BudgetSet};
use forebay_domain::{
    Failure,
    ledger::{Enforcement, Scope},
    money::{Rounding, Usd},
};

/// Limits that are asked for at once.
const PAGE: u32 = 500;

/// See, set and remove limits on what is spent
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the limits that count for your tenant (of all tenants, for administrators)
    List {
        /// One tenant alone; another than your own, for administrators
        #[arg(long)]
        tenant: Option<String>,
    },
    Set(SetArgs),
    Remove(RemoveArgs),
}

/// Set a limit; one of the same scope, name and window is replaced
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay budget set 50 --window 60m                        $50 in any 60 minutes, for your tenant
  forebay budget set 20 --window 24h --scope key --id 9f8e7d6c5b4a3210
  forebay budget set 5 --window 24h --scope project         for each project of your tenant
  forebay budget set 800 --window 30d --soft                only tell")]
pub(crate) struct SetArgs {
    /// The most that may be spent within the window, in US dollars
    #[arg(value_name = "USD", value_parser = limit)]
    limit: Usd,
    /// How far back it looks: 60m, 24h, 7d
    #[arg(long, value_name = "TIME")]
    window: String,
    /// Tell when something goes beyond it, instead of refusing that
    #[arg(long)]
    soft: bool,
    #[command(flatten)]
    of: Of,
}

/// Remove a limit that was set with `forebay budget set`
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// How far back it looks: 60m, 24h, 7d
    #[arg(long, value_name = "TIME")]
    window: String,
    #[command(flatten)]
    of: Of,
}

/// For whom it counts.
#[derive(Debug, clap::Args)]
struct Of {
    /// What it counts
    #[arg(long, value_enum, default_value_t, value_name = "SCOPE")]
    scope: ScopeName,
    /// Which project, key or session [else each one of the tenant]
    #[arg(long)]
    id: Option<String>,
    /// The tenant [else that of the key in use]
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ScopeName {
    #[default]
    Tenant,
    Project,
    Key,
    Session,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Tenant => Self::Tenant,
            ScopeName::Project => Self::Project,
            ScopeName::Key => Self::Key,
            ScopeName::Session => Self::Session,
        }
    }
}

fn limit(text: &str) -> Result<Usd, String> {
    Usd::parse(text.trim_start_matches('$'), Rounding::Down).map_err(|fault| fault.to_string())
}

pub(crate) async fn run(command: Command, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        Command::List { tenant } => {
            let mut query = BudgetQuery {
                tenant,
                limit: Some(PAGE),
                after: None,
            };
            let mut budgets = Vec::new();
            loop {
                let page = client.budgets(&query).await?;
                budgets.extend(page.budgets);
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            printer.print(&budgets, |budgets| table(budgets))
        }
        Command::Set(args) => {
            let wanted = BudgetSet {
                scope: args.of.scope.into(),
                tenant: args.of.tenant,
                id: args.of.id,
                window: args.window,
                limit_usd: args.limit,
                enforcement: if args.soft {
                    Enforcement::Soft
                } else {
                    Enforcement::Hard
                },
            };
            let set = client.set_budget(&wanted).await?;
            printer.print(&set, |set| table(std::slice::from_ref(set)))
        }
        Command::Remove(args) => {
            let which = BudgetRef {
                scope: args.of.scope.into(),
                tenant: args.of.tenant,
                id: args.of.id,
                window: args.window,
            };
            let removed = client.remove_budget(&which).await?;
            printer.print(&removed, |removed| table(std::slice::from_ref(removed)))
        }
    }
}

fn table(budgets: &[BudgetInfo]) -> Table {
    let rows = budgets.iter().map(|budget| {
        let of = match (&budget.tenant, &budget.id) {
            (None, _) => "each".to_owned(),
            (Some(tenant), None) => tenant.clone(),
            (Some(tenant), Some(id)) => format!("{tenant}/{id}"),
        };
        [
            budget.scope.to_string(),
            of,
            minutes(budget.window_minutes),
            format!("${}", budget.limit_usd),
            enforcement(budget.enforcement).to_owned(),
            budget.origin.clone(),
        ]
    });
    Table::new(["scope", "of", "window", "limit", "enforcement", "origin"], rows)
}
