//! `forebay task`: what is done later, and what became of it.

mod watch;

use crate::{
    connect::Context,
    exit::{exit_code, worst},
    printer::{Printer, Table},
    report,
};
use clap::Subcommand;
use forebay_api::{Client, TaskInfo, TaskQuery};
use forebay_domain::{Code, ErrorKind, Failure};
use std::{process::ExitCode, time::Duration};
use tokio::time::sleep;

/// How many tasks a page of the list holds.
const PAGE: u32 = 100;
/// One wait at the gateway.
const WAIT: Duration = Duration::from_mins(1);
/// The wait of whoever has asked too often, where nobody says how long.
const RATE_LIMITED: Duration = Duration::from_secs(1);

/// See, cancel and repeat what is done later
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(ListArgs),
    /// Show one task with its input and output
    Show {
        id: String,
    },
    /// Cancel tasks; what runs is asked to end. One that is refused keeps no other back
    Cancel {
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Queue tasks again that have failed. One that is refused keeps no other back
    Requeue {
        #[arg(required = true)]
        ids: Vec<String>,
        /// Show which would be queued again, and refuse the others; queue nothing
        #[arg(long)]
        dry_run: bool,
    },
    Watch(WatchArgs),
}

/// List tasks, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay task list --status running
  forebay task list --status dead -o json | jq -r '.[].id' | xargs -r forebay task requeue")]
pub(crate) struct ListArgs {
    /// Only those that are pending, scheduled, running, completed, failed, cancelled or dead
    #[arg(long)]
    status: Option<String>,
    /// Only those of this type, such as mcp.add_prompt
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// How many at most
    #[arg(short = 'n', long, default_value_t = 100)]
    limit: u32,
}

/// Follow one task to its end, or everything that is not over as it changes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay task watch 0192…       until it is over; exit code 0 if it completed, else 5
  forebay task watch             the newest, and all that are not over, until Ctrl-C")]
pub(crate) struct WatchArgs {
    /// The task [else all that are not over]
    id: Option<String>,
}

pub(crate) async fn run(command: Command, context: &Context, printer: &mut Printer) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    let done = ExitCode::SUCCESS;
    match command {
        Command::List(args) => {
            let tasks = pages(&client, &args).await?;
            printer.print(&tasks, |tasks| table(tasks)).map(|()| done)
        }
        Command::Show { id } => {
            let task = client.task(&id).await?;
            printer.print(&task, whole).map(|()| done)
        }
        Command::Cancel { ids } => each(&ids, async |id| client.cancel_task(id).await, printer).await,
        Command::Requeue { ids, dry_run: true } => each(&ids, async |id| requeuable(&client, id).await, printer).await,
        Command::Requeue { ids, dry_run: false } => each(&ids, async |id| client.requeue_task(id).await, printer).await,
        Command::Watch(WatchArgs { id: Some(id) }) => watch_one(&client, &id, printer).await,
        Command::Watch(WatchArgs { id: None }) => watch::all(&client, printer).await.map(|()| done),
    }
}

async fn pages(client: &Client, args: &ListArgs) -> Result<Vec<TaskInfo>, Failure> {
    let mut found: Vec<TaskInfo> = Vec::new();
    let mut query = TaskQuery {
        status: args.status.clone(),
        kind: args.kind.clone(),
        limit: Some(args.limit.min(PAGE)),
        cursor: None,
    };
    let wanted = usize::try_from(args.limit).unwrap_or(usize::MAX);
    loop {
        let page = client.tasks(&query).await?;
        found.extend(page.tasks);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() || found.len() >= wanted {
            found.truncate(wanted);
            return Ok(found);
        }
    }
}

/// Does something to each of these tasks, and tells what became of them: of those that were refused at once, and of the
/// others in the end. What would be refused for all of them ends it.
async fn each<E: Into<Failure>>(
    ids: &[String],
    act: impl AsyncFn(&str) -> Result<TaskInfo, E>,
    printer: &mut Printer,
) -> Result<ExitCode, Failure> {
    let (mut tasks, mut refused) = (Vec::new(), Vec::new());
    for (number, id) in ids.iter().enumerate() {
        match patiently(async || act(id).await).await {
            Ok(task) => tasks.push(task),
            Err(mut failure) => {
                failure.message = format!("{id}: {}", failure.message);
                report::failure(&failure);
                refused.push(failure.kind());
                if concerns_all(failure.kind()) {
                    let left = ids.len() - number - 1;
                    report::say(&format!("{left} more were not tried"));
                    break;
                }
            }
        }
    }
    printer.print(&tasks, |tasks| table(tasks))?;
    Ok(worst(refused))
}

fn concerns_all(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::Unavailable
    )
}

/// The task as it is, where it may be queued again.
async fn requeuable(client: &Client, id: &str) -> Result<TaskInfo, Failure> {
    let task = client.task(id).await?;
    if task.may_be_requeued() {
        return Ok(task);
    }
    let message = format!(
        "Only a task that failed can be queued again, and this is {}.",
        task.status
    );
    Err(Failure::new(Code::Conflict, message))
}

/// Asks again where it was asked too often.
async fn patiently<T, E: Into<Failure>>(ask: impl AsyncFn() -> Result<T, E>) -> Result<T, Failure> {
    loop {
        match ask().await.map_err(E::into) {
            Err(failure) if failure.kind() == ErrorKind::RateLimited => {
                sleep(failure.retry_after.unwrap_or(RATE_LIMITED)).await;
            }
            answer => return answer,
        }
    }
}

async fn watch_one(client: &Client, id: &str, printer: &mut Printer) -> Result<ExitCode, Failure> {
    loop {
        let task = client.await_task(id, WAIT).await?;
        if !task.is_over() {
            report::say(&format!("{}: {}, {} attempts", task.id, task.status, task.attempts));
            continue;
        }
        let is_done = task.status == "completed";
        printer.print(&task, whole)?;
        return Ok(if is_done {
            ExitCode::SUCCESS
        } else {
            exit_code(ErrorKind::Conflict)
        });
    }
}

fn table(tasks: &[TaskInfo]) -> Table {
    let rows = tasks.iter().map(|task| {
        [
            task.id.clone(),
            task.kind.clone(),
            task.status.clone(),
            task.priority.0.as_str().to_owned(),
            format!("{}/{}", task.attempts, task.attempts_max),
            task.created_at.to_string(),
            task.error.as_ref().map_or_else(String::new, |error| error.code.clone()),
        ]
    });
    Table::new(
        ["id", "type", "status", "priority", "attempts", "created", "error"],
        rows,
    )
}

fn whole(task: &TaskInfo) -> Table {
    let text = |value: &Option<serde_json::Value>| value.as_ref().map_or_else(String::new, ToString::to_string);
    let time = |at: Option<jiff::Timestamp>| at.map_or_else(String::new, |at| at.to_string());
    let error = task
        .error
        .as_ref()
        .map(|error| format!("{}: {}", error.code, error.message));
    Table::of_one([
        ("id", task.id.clone()),
        ("type", task.kind.clone()),
        ("status", task.status.clone()),
        ("priority", task.priority.0.as_str().to_owned()),
        ("attempts", format!("{} of {}", task.attempts, task.attempts_max)),
        ("created", task.created_at.to_string()),
        ("may run at", task.run_at.to_string()),
        ("started", time(task.started_at)),
        ("completed", time(task.completed_at)),
        ("kept until", time(task.expires_at)),
        ("input", text(&task.input)),
        ("output", text(&task.output)),
        ("error", error.unwrap_or_default()),
    ])
}
