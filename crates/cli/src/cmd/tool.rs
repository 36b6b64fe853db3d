//! `forebay tool`: the tools that a key may call, calling one, and those that were declared.

use super::{declare, dry_run};
use crate::{
    connect::Context,
    exit::exit_code,
    printer::{Format, Printer, Table, harmless},
    report,
};
use clap::Subcommand;
use forebay_api::{
    DeclaredToolList, ToolRef,
    client::{ToolInfo, ToolResult},
};
use forebay_domain::{Code, ErrorKind, Failure, json};
use forebay_runtime::Clock;
use serde::Serialize;
use serde_json::Value;
use std::{io::Read, process::ExitCode};

/// The longest arguments read from standard input.
const ARGUMENTS_BYTES_MAX: u64 = 16 << 20;

/// List, call, declare and delete tools
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tools that the key may call
    List,
    /// Call a tool
    #[command(after_help = "Examples:
  forebay tool call calculator '{\"expression\":\"6 * 7\"}'
  jq -n '{path:\"notes.txt\"}' | forebay tool call file_reader - -o json")]
    Call {
        /// The tool's name
        name: String,
        /// Its arguments, a JSON object; `-` reads it from standard input
        #[arg(value_name = "JSON", default_value = "{}")]
        arguments: String,
        /// Say what a call costs and whether the limits would let it in; call nothing. What the tool spends by itself
        /// (machines, models, other tools) is not in it
        #[arg(long)]
        dry_run: bool,
    },
    /// Call a tool once, and say how it went
    #[command(after_help = "Examples:
  forebay tool test calculator --arguments '{\"expression\":\"6 * 7\"}'

Exit codes: 0 it answered; 5 it failed, or there is none of that name.")]
    Test {
        /// The tool's name
        name: String,
        /// Its arguments, a JSON object; `-` reads it from standard input
        #[arg(long, value_name = "JSON", default_value = "{}")]
        arguments: String,
        /// Say what the call costs and whether the limits would let it in; call nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List the tools that were declared, with what they reach
    Declared,
    Create(declare::Args),
    /// Delete a tool that was made with `forebay tool create`
    Delete {
        /// The tool's name
        name: String,
    },
}

pub(crate) async fn run(command: Command, context: &Context, printer: &mut Printer) -> Result<ExitCode, Failure> {
    match command {
        Command::List => {
            let tools = context.client()?.tools().await?;
            printer.print(&tools, |tools| table(tools)).map(|()| ExitCode::SUCCESS)
        }
        Command::Call {
            name,
            arguments,
            dry_run,
        } => {
            let arguments = read(arguments)?;
            if dry_run {
                return dry_run::call(name, context, printer).await.map(|()| ExitCode::SUCCESS);
            }
            let result = context.client()?.call_tool(&name, &arguments).await?;
            show(&result, printer)
        }
        Command::Test {
            name,
            arguments,
            dry_run,
        } => {
            let arguments = read(arguments)?;
            if dry_run {
                return dry_run::call(name, context, printer).await.map(|()| ExitCode::SUCCESS);
            }
            test(name, arguments, context, printer).await
        }
        Command::Declared => {
            let declared = context.client()?.declared_tools().await?;
            let table = |declared: &DeclaredToolList| {
                let rows = declared.tools.iter().map(|tool| {
                    let url = tool.config["endpoint"]["url"].as_str().unwrap_or_default();
                    let offered = if tool.offered { "offered" } else { "not offered" };
                    [
                        tool.name.clone(),
                        tool.origin.clone(),
                        offered.to_owned(),
                        url.to_owned(),
                    ]
                });
                Table::new(["name", "origin", "state", "url"], rows)
            };
            printer.print(&declared, table).map(|()| ExitCode::SUCCESS)
        }
        Command::Create(args) => declare::run(args, context, printer).await.map(|()| ExitCode::SUCCESS),
        Command::Delete { name } => {
            let gone = context.client()?.delete_tool(&name).await?;
            let table = |gone: &ToolRef| Table::of_one([("name", gone.name.clone()), ("done", "deleted".to_owned())]);
            printer.print(&gone, table).map(|()| ExitCode::SUCCESS)
        }
    }
}

/// What is printed of a test.
#[derive(Debug, Serialize)]
struct Tested {
    name: String,
    ok: bool,
    ms: u64,
    result: ToolResult,
}

async fn test(name: String, arguments: Value, context: &Context, printer: &mut Printer) -> Result<ExitCode, Failure> {
    let (client, clock) = (context.client()?, Clock::system());
    let began = clock.monotonic();
    let result = client.call_tool(&name, &arguments).await?;
    let took = clock.monotonic().saturating_sub(began);
    let tested = Tested {
        name,
        ok: !result.is_error,
        ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        result,
    };
    printer.print(&tested, |tested| {
        Table::of_one([
            ("tool", tested.name.clone()),
            ("state", if tested.ok { "works" } else { "failed" }.to_owned()),
            ("time", format!("{} ms", tested.ms)),
            ("said", text(&tested.result)),
        ])
    })?;
    Ok(if tested.ok {
        ExitCode::SUCCESS
    } else {
        exit_code(ErrorKind::UpstreamFailed)
    })
}

fn text(result: &ToolResult) -> String {
    result.content.iter().map(words).collect::<Vec<_>>().join("\n")
}

fn table(tools: &[ToolInfo]) -> Table {
    let rows = tools.iter().map(|tool| {
        let description = tool.description.as_deref().unwrap_or_default();
        let first = description.split_once(". ").map_or(description, |(first, _)| first);
        [tool.name.clone(), first.trim_end_matches('.').to_owned()]
    });
    Table::new(["name", "description"], rows)
}

fn read(arguments: String) -> Result<Value, Failure> {
    let mut text = arguments;
    if text == "-" {
        text.clear();
        std::io::stdin()
            .take(ARGUMENTS_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| {
                Failure::new(
                    Code::MalformedJson,
                    "The arguments on standard input are no text in UTF-8.",
                )
                .caused_by(error)
            })?;
    }
    json::check_strict(text.as_bytes())?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::new(Code::MalformedJson, "The arguments are not JSON.").caused_by(error))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(
            Failure::new(Code::InvalidArguments, "The arguments have to be a JSON object.")
                .hint("Write them as '{\"name\": value}'; `forebay tool list -o json` shows each tool's schema."),
        )
    }
}

/// A tool that ran and failed has failed for the shell too.
fn show(result: &ToolResult, printer: &mut Printer) -> Result<ExitCode, Failure> {
    if !result.is_error {
        match printer.format() {
            Format::Table => printer.text(&format!("{}\n", text(result)))?,
            Format::Json | Format::Yaml => printer.print(result, |_| Table::of_one([]))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    if printer.format() != Format::Table {
        printer.print(result, |_| Table::of_one([]))?;
    }
    report::say(&format!("error: the tool failed: {}", text(result)));
    Ok(exit_code(ErrorKind::UpstreamFailed))
}

/// A block of content as text; what is no text is named.
fn words(block: &Value) -> String {
    if let Some(text) = block.get("text").and_then(Value::as_str) {
        return harmless(text);
    }
    let kind = block.get("type").and_then(Value::as_str).unwrap_or("content");
    format!("({kind}; use -o json to see it)")
}
