//! `forebay model test`, and `test-endpoint` as other gateways spell it: one question to a model with context and tools
//! of the gateway, and what came of each.

use super::dry_run;
use crate::{
    connect::Context,
    exit::exit_code,
    printer::{Format, Printer, Table, harmless},
    report,
};
use forebay_api::{
    Client,
    client::{ChatMessage, TurnAnswer, TurnReport, TurnRequest},
};
use forebay_domain::{Code, ErrorKind, Failure};
use forebay_runtime::Clock;
use serde::Serialize;
use std::{collections::BTreeSet, process::ExitCode};

/// Ask a model with context and tools of the gateway, and see what came of each
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay test-endpoint qwen --query 'Who leads the project Bluebird?' --context-providers notes
  forebay test-endpoint qwen --query \"What's the latest news about AI?\" --context-providers postgres,vector-store \\
    --tools web-search --strict

Exit codes: 0 it answered, and no provider or tool failed; 5 it did not, or one did. With --strict it is a failure too
where a provider found nothing or a tool was not called.")]
pub(crate) struct Args {
    /// The model
    name: String,
    /// The question
    #[arg(long, value_name = "TEXT")]
    query: String,
    /// Where to look for context
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    context_providers: Vec<String>,
    /// Which tools of the gateway the model may call
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    tools: Vec<String>,
    /// The most tokens that it may answer
    #[arg(long, value_name = "NUMBER")]
    max_tokens: Option<u32>,
    /// Fail also where a provider found nothing or a tool was not called
    #[arg(long)]
    strict: bool,
    /// Say what it would cost at most each time that the model is asked, without what context and tools add; ask nothing
    #[arg(long, conflicts_with = "strict")]
    dry_run: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Tested {
    model: String,
    answer: Option<String>,
    finish_reason: Option<String>,
    #[serde(flatten)]
    report: TurnReport,
    ms: u64,
    /// Empty where all went well.
    problems: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &Context, printer: &mut Printer) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    check_tools(&client, &args.tools).await?;
    let user = ChatMessage {
        role: "user",
        content: args.query,
    };
    let request = TurnRequest {
        model: args.name,
        messages: vec![user],
        providers: args.context_providers,
        tools: args.tools,
        max_tokens: args.max_tokens,
    };
    if args.dry_run {
        let told = dry_run::chat(request.body(), context, printer).await;
        return told.map(|()| ExitCode::SUCCESS);
    }
    let clock = Clock::system();
    let began = clock.monotonic();
    let answer = client.turn(&request).await?;
    let took = clock.monotonic().saturating_sub(began);
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let mut problems = failures(&request, &answer);
    if args.strict {
        problems.extend(omissions(&request, &answer));
    }
    let tested = Tested {
        model: request.model,
        answer: answer.content,
        finish_reason: answer.finish_reason,
        report: answer.report,
        ms,
        problems,
    };
    if printer.format() == Format::Table {
        printer.text(&format!(
            "{}\n\n",
            harmless(tested.answer.as_deref().unwrap_or_default())
        ))?;
    }
    printer.print(&tested, table)?;
    for problem in &tested.problems {
        report::say(&format!("error: {problem}"));
    }
    if tested.problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Ok(exit_code(ErrorKind::UpstreamFailed))
}

/// A tool that is not there would be taken for one of the client's own.
async fn check_tools(client: &Client, wanted: &[String]) -> Result<(), Failure> {
    if wanted.is_empty() {
        return Ok(());
    }
    let there: BTreeSet<String> = client.tools().await?.into_iter().map(|tool| tool.name).collect();
    match wanted.iter().find(|name| !there.contains(*name)) {
        None => Ok(()),
        Some(missing) => {
            let message = format!("The gateway has no tool `{missing}` that this key is shown.");
            Err(Failure::new(Code::UnknownTool, message).hint("`forebay tool list` lists them."))
        }
    }
}

fn failures(asked: &TurnRequest, answer: &TurnAnswer) -> Vec<String> {
    let mut problems = Vec::new();
    for provider in &answer.report.providers {
        if let Some(failure) = &provider.failure {
            problems.push(format!("provider `{}` failed: {}", provider.provider, failure.message));
        }
    }
    for name in &asked.tools {
        let calls = || answer.report.tools.iter().filter(|call| call.name == *name);
        // A model may call anew with better arguments.
        if let Some(last) = calls()
            .next_back()
            .filter(|_| !calls().any(|call| call.status == "success"))
        {
            let why = last
                .error
                .as_ref()
                .map_or(String::new(), |error| format!(": {}", error.message));
            problems.push(format!("tool `{name}` did not succeed ({}){why}", last.status));
        }
    }
    if let Some(why) = &answer.report.ended {
        problems.push(format!("the turn was ended before the model was done ({why})"));
    }
    if answer.content.as_deref().unwrap_or_default().trim().is_empty() {
        let calls = if answer.calls.is_empty() {
            String::new()
        } else {
            format!("; it calls {}", answer.calls.join(", "))
        };
        problems.push(format!("the model said nothing{calls}"));
    }
    problems
}

fn omissions(asked: &TurnRequest, answer: &TurnAnswer) -> Vec<String> {
    let found_nothing = answer.report.providers.iter();
    let found_nothing = found_nothing.filter(|provider| provider.failure.is_none() && provider.items == 0);
    let found_nothing = found_nothing.map(|provider| format!("provider `{}` found nothing", provider.provider));
    let not_called = asked
        .tools
        .iter()
        .filter(|name| !answer.report.tools.iter().any(|call| call.name == **name));
    let not_called = not_called.map(|name| format!("the model did not call `{name}`"));
    found_nothing.chain(not_called).collect()
}

fn table(tested: &Tested) -> Table {
    let report = &tested.report;
    let mut rows = vec![("model", tested.model.clone())];
    rows.extend(report.providers.iter().map(|provider| {
        let found = match &provider.failure {
            Some(failure) => format!("failed: {}", failure.message),
            None => format!("{} items by {}", provider.items, provider.strategy),
        };
        (
            "provider",
            format!("{}: {found}, {} ms", provider.provider, provider.ms),
        )
    }));
    rows.extend(report.context.iter().map(|item| {
        let title = item.title.as_ref().map_or(String::new(), |title| format!(" ({title})"));
        ("context", format!("{}: {}{title}", item.provider, item.source))
    }));
    rows.extend(report.tools.iter().map(|call| {
        let why = call
            .error
            .as_ref()
            .map_or(String::new(), |error| format!(": {}", error.message));
        ("tool", format!("{}: {}{why}, {} ms", call.name, call.status, call.ms))
    }));
    rows.push(("time", format!("{} ms", tested.ms)));
    rows.extend(report.trace_id.iter().map(|trace| ("trace", trace.clone())));
    Table::of_one(rows)
}
