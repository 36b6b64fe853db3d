//! `forebay upstream approve`: shows what would pass, asks, and lets exactly that pass.
//!
//! What is approved is the text that was shown: should another one wait by the time of the answer, the gateway refuses.

use super::difference::{Colours, shown};
use crate::{
    connect::Context,
    printer::{Printer, Table},
    report,
};
use forebay_api::{DefinitionRef, UpstreamApprove, UpstreamApproved, WaitingDefinition};
use forebay_domain::{Code, Failure};
use std::io::{self, BufRead, IsTerminal, Read, Write};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1024;

/// Let definitions of an upstream pass that are new or have changed: tools, prompts and its instructions
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay upstream approve docs                  show all that waits, and ask
  forebay upstream approve docs search --dry-run show what would change, and do nothing
  forebay upstream approve docs instructions     approve what it says to the model as a whole
  forebay upstream approve docs --all --yes      approve all that waits, without asking")]
pub(crate) struct Args {
    /// The upstream's name
    name: String,
    /// The tools and prompts to approve, by the upstream's own names, or `instructions` for what it says to the model;
    /// resources are never held [else all that wait]
    #[arg(value_name = "DEFINITION", conflicts_with = "all")]
    definitions: Vec<String>,
    /// All that wait
    #[arg(long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    if args.yes && !args.all && args.definitions.is_empty() {
        let failure = Failure::new(Code::InvalidRequest, "Nobody is asked, and nothing is named.");
        return Err(failure.hint("Name the definitions, or add --all."));
    }
    let client = context.client()?;
    let waiting = chosen(client.upstream(&args.name).await?.waiting, &args)?;
    show(&waiting, context);
    let count = waiting.len();
    let approved = if waiting.is_empty() || args.dry_run {
        nothing(&waiting, args.dry_run)
    } else {
        if !args.yes {
            ask(count, &args)?;
        }
        let names = waiting.into_iter().map(|one| DefinitionRef {
            kind: one.kind,
            name: one.name,
            fingerprint: Some(one.fingerprint),
        });
        let wanted = UpstreamApprove {
            names: names.collect(),
            ..UpstreamApprove::default()
        };
        client.approve_upstream(&args.name, &wanted).await?
    };
    printer.print(&approved, table)?;
    if approved.approved.len() == count {
        return Ok(());
    }
    let message = "Something else waits by now than what was shown, and was not approved.";
    Err(Failure::new(Code::Conflict, message).hint("Run it again to see it."))
}

/// Of what waits, that which is meant.
fn chosen(waiting: Vec<WaitingDefinition>, args: &Args) -> Result<Vec<WaitingDefinition>, Failure> {
    for name in &args.definitions {
        if !waiting.iter().any(|one| one.name == *name) {
            let message = format!("Nothing of the name `{name}` waits for a decision.");
            let hint = format!("`forebay upstream show {}` shows what waits.", args.name);
            return Err(Failure::new(Code::Conflict, message).hint(hint));
        }
    }
    let is_meant = |one: &WaitingDefinition| args.definitions.is_empty() || args.definitions.contains(&one.name);
    Ok(waiting.into_iter().filter(is_meant).collect())
}

fn show(waiting: &[WaitingDefinition], context: &Context) {
    let colours = if io::stderr().is_terminal() && context.env.get("NO_COLOR").is_none() {
        Colours::Ansi
    } else {
        Colours::None
    };
    for one in waiting {
        report::say(&shown(one, colours));
    }
    if waiting.is_empty() {
        report::say("Nothing waits for a decision.");
    }
}

/// What would be approved, where nothing is.
fn nothing(waiting: &[WaitingDefinition], dry_run: bool) -> UpstreamApproved {
    let approved = waiting.iter().map(|one| forebay_api::ApprovedDefinition {
        kind: one.kind.clone(),
        name: one.name.clone(),
        difference: one.difference.clone(),
    });
    UpstreamApproved {
        approved: approved.collect(),
        dry_run,
    }
}

/// Fails where the answer is no, or where nobody can be asked: letting somebody else's text pass takes a decision.
fn ask(count: usize, args: &Args) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = "Nothing was approved: without a terminal nobody can be asked.";
        let hint = if args.all || !args.definitions.is_empty() {
            "Look at the difference, then add --yes."
        } else {
            "Look at the difference, then add --all --yes, or name the definitions and add --yes."
        };
        return Err(Failure::new(Code::InvalidRequest, message).hint(hint));
    }
    let these = if count == 1 {
        "this".to_owned()
    } else {
        format!("these {count}")
    };
    // Where the question cannot be shown it cannot be answered either.
    let _unheard = write!(io::stderr(), "Approve {these}? [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    report::say("");
    Err(Failure::new(Code::Cancelled, "Nothing was approved.").hint("Answer `y`, or run it with --yes."))
}

fn table(approved: &UpstreamApproved) -> Table {
    let what = if approved.dry_run {
        "would be approved"
    } else {
        "approved"
    };
    let rows = approved
        .approved
        .iter()
        .map(|one| [one.kind.clone(), one.name.clone(), what.to_owned()]);
    Table::new(["kind", "name", "done"], rows)
}
