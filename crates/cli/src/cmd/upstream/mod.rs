//! `forebay upstream`: the MCP servers behind the gateway, and deciding about their definitions.
//!
//! Nothing is judged here: the gateway says what waits and why, people say what passes.

mod add;
mod approve;
mod difference;
mod list;
mod show;

use crate::{
    connect::Context,
    printer::{Printer, Table},
};
use clap::Subcommand;
use forebay_api::UpstreamRef;
use forebay_domain::Failure;

/// See, add and remove upstream MCP servers, and approve what they define
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the upstreams and how they are
    List,
    /// Show one upstream: how it is, its warnings, what waits for a decision, what its command last said
    Show {
        /// The upstream's name
        name: String,
    },
    Add(add::Args),
    /// Take away an upstream that was added with `forebay upstream add`
    Remove {
        /// The upstream's name
        name: String,
    },
    Approve(approve::Args),
    /// Forget what was approved of an upstream, also of one that was removed: its definitions are new from then on
    Forget {
        /// The upstream's name
        name: String,
    },
    /// Have an upstream listed again now, or reached again
    Refresh {
        /// The upstream's name
        name: String,
    },
}

pub(crate) async fn run(command: Command, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    match command {
        Command::List => list::run(context, printer).await,
        Command::Show { name } => show::run(&name, context, printer).await,
        Command::Add(args) => add::run(args, context, printer).await,
        Command::Remove { name } => {
            let removed = context.client()?.remove_upstream(&name).await?;
            done(&removed, "removed", printer)
        }
        Command::Approve(args) => approve::run(args, context, printer).await,
        Command::Forget { name } => {
            let forgotten = context.client()?.forget_upstream(&name).await?;
            printer.print(&forgotten, |forgotten| {
                Table::of_one([
                    ("name", forgotten.name.clone()),
                    ("forgotten", forgotten.forgotten.to_string()),
                ])
            })
        }
        Command::Refresh { name } => {
            let refreshed = context.client()?.refresh_upstream(&name).await?;
            done(&refreshed, "looked at again", printer)
        }
    }
}

fn done(upstream: &UpstreamRef, what: &str, printer: &mut Printer) -> Result<(), Failure> {
    printer.print(upstream, |upstream| {
        Table::of_one([("name", upstream.name.clone()), ("done", what.to_owned())])
    })
}
