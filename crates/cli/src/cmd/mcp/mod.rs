//! `forebay mcp`: brings this gateway into the files of MCP clients, and out of them again.
//!
//! One entry of one file is changed at a time, after its difference was shown; everything else in the file stays as it
//! is, byte for byte. Clients themselves are neither started nor asked.

mod approval;
mod client;
mod diff;
mod document;
mod entry;
mod export;
mod file;
mod install;
mod keys;
mod list;
mod plan;
mod uninstall;

use crate::{
    connect::Context,
    printer::{Printer, Table},
    report,
};
use clap::Subcommand;
use client::McpClient;
use forebay_domain::{Code, Failure};
use serde::Serialize;
use std::path::Path;

/// How often an edit begins anew because somebody else wrote to the file meanwhile.
const ROUNDS_MAX: usize = 5;

/// Bring the gateway into MCP clients: Claude Desktop, Claude Code, Cursor, VS Code, Crush
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Install(Box<install::Args>),
    Uninstall(uninstall::Args),
    Export(Box<export::Args>),
    List(list::Args),
}

pub(crate) async fn run(command: Command, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    match command {
        Command::Install(args) => install::run(*args, context, printer).await,
        Command::Uninstall(args) => uninstall::run(args, context, printer).await,
        Command::Export(args) => export::run(&args, context, printer),
        Command::List(args) => list::run(&args, context, printer),
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Done {
    Added,
    Updated,
    Removed,
    /// Removed, and the file is what it was before the install.
    Restored,
    /// It was right already.
    Nothing,
    /// It would have been changed.
    DryRun,
}

impl Done {
    fn words(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Updated => "updated",
            Self::Removed => "removed",
            Self::Restored => "removed; the file is as it was before",
            Self::Nothing => "nothing to do",
            Self::DryRun => "nothing was written",
        }
    }
}

/// What scripts read.
#[derive(Debug, Serialize)]
struct Outcome {
    client: McpClient,
    name: String,
    file: String,
    done: Done,
    /// Where the former version of the file is.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<String>,
    /// The id of the key that stands in the file now.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The id of a key that was ended because no file holds it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
}

impl Outcome {
    fn print(&self, printer: &mut Printer) -> Result<(), Failure> {
        printer.print(self, |outcome| {
            let mut rows = vec![
                ("client", outcome.client.title().to_owned()),
                ("name", outcome.name.clone()),
                ("file", outcome.file.clone()),
                ("done", outcome.done.words().to_owned()),
            ];
            let more = [
                ("backup", &outcome.backup),
                ("key", &outcome.key),
                ("revoked", &outcome.revoked),
            ];
            rows.extend(
                more.into_iter()
                    .filter_map(|(name, value)| Some((name, value.clone()?))),
            );
            Table::of_one(rows)
        })
    }
}

fn say_begins_anew(file: &Path) {
    report::say(&format!(
        "{} was changed by somebody else meanwhile; beginning anew with what stands there now.",
        file.display()
    ));
}

fn never_still(file: &Path) -> Failure {
    let message = format!(
        "{} was changed by somebody else {ROUNDS_MAX} times in a row.",
        file.display()
    );
    Failure::new(Code::Conflict, message).hint("Close the client, and try again.")
}

/// An entry of that name is there, and leads to something else.
fn not_ours(file: &Path, name: &str, hint: &str) -> Failure {
    let message = format!(
        "{} has an entry `{name}` that does not lead to Forebay.",
        file.display()
    );
    Failure::new(Code::Conflict, message).hint(hint)
}
