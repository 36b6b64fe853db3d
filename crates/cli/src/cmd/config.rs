//! `forebay config`: the schema, a check without starting anything, and what is in force.

use crate::{
    config::{Mistakes, Schema, Shown},
    connect::Context,
    printer::{Format, Printer, Table},
    report,
};
use clap::Subcommand;
use forebay_domain::Failure;
use serde_json::Value;
use std::path::PathBuf;

/// Look at the configuration
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the JSON Schema of forebay.yaml
    Schema,
    /// Check a configuration without starting anything: says `ok`, or all mistakes
    #[command(after_help = "Examples:
  forebay config validate forebay.yaml
  forebay config validate --no-secrets forebay.yaml   elsewhere than where it will run")]
    Validate {
        /// The file [else the one that `serve` would take]
        file: Option<PathBuf>,
        /// Do not look at the secrets, key files and folders that it refers to
        #[arg(long)]
        no_secrets: bool,
    },
    /// Show the configuration as it is in force: file, environment and defaults together
    Show {
        /// Where each value comes from
        #[arg(long)]
        origin: bool,
    },
}

pub(crate) fn run(command: &Command, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    match command {
        Command::Schema => printer.text(&schema()),
        Command::Validate { file, no_secrets } => validate(file.as_ref(), *no_secrets, context, printer),
        Command::Show { origin } => show(*origin, context, printer),
    }
}

/// As it is printed, and as it is kept in `schema/`.
pub(crate) fn schema() -> String {
    format!("{:#}\n", Schema::of_config().as_json())
}

fn validate(file: Option<&PathBuf>, no_secrets: bool, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let mut sources = context.sources();
    if let Some(file) = file {
        sources.named = Some(file.clone());
    }
    let checked: Result<_, Mistakes> = if no_secrets {
        sources.load_without_secrets()
    } else {
        sources.load()
    };
    let loaded = checked?;
    if !no_secrets {
        loaded.config.app().check(&context.env.secrets())?;
    }
    for advice in loaded.config.app().advice() {
        report::say(&format!("warning: {advice}"));
    }
    match loaded.file {
        Some(file) => report::say(&format!("{} has no mistakes", file.display())),
        None => report::say("there is no configuration file; the defaults have no mistakes"),
    }
    printer.text("ok\n")
}

fn show(origin: bool, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let loaded = context.sources().load_without_secrets()?;
    if origin {
        return printer.print(&loaded.shown(), |shown| {
            Table::new(
                ["key", "value", "origin"],
                shown.iter().map(|one| [one.key.clone(), text(one), one.origin.clone()]),
            )
        });
    }
    if printer.format() == Format::Table {
        return printer.print(&loaded.shown(), |shown| {
            Table::new(["key", "value"], shown.iter().map(|one| [one.key.clone(), text(one)]))
        });
    }
    printer.print(&loaded.effective(), |_| Table::of_one([]))
}

fn text(shown: &Shown) -> String {
    match &shown.value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
