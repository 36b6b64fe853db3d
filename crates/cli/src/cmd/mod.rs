//! The tree of commands. Each command is one file; what all of them take stands here.

mod audit;
mod budget;
mod chat;
mod child_guard;
mod completions;
mod config;
mod declare;
mod doctor;
mod dry_run;
mod explain;
mod gpu;
mod instance_agent;
mod key;
mod man;
mod mcp;
mod model;
mod openapi;
mod provider;
mod serve;
mod setting;
mod spend;
mod status;
mod stdio;
mod task;
mod test_endpoint;
mod tool;
mod upstream;
mod worker;

use crate::{
    connect::Context,
    env::Env,
    printer::{Format, Printer},
};
use clap::{Args, Parser, Subcommand};
use forebay_domain::{Code, Failure};
use std::{path::PathBuf, process::ExitCode};
use tokio::runtime::{Builder, Runtime};

const EXAMPLES: &str = "\
Examples:
  forebay serve                                   start a gateway on 127.0.0.1:8080
  forebay key create --role user --tenant acme    make a key for somebody
  forebay chat 'What is the capital of France?'   ask a model
  forebay tool call calculator '{\"expression\":\"6 * 7\"}'
  forebay spend                                   see what is spent, and what is left
  forebay gpu list --min-vram 24                  find a machine to rent
  forebay task list --status running              see what is being done
  forebay doctor                                  check the installation

Exit codes: 0 done; 1 invalid input or configuration; 3 not allowed; 4 gateway or database not there;
5 refused or failed; 6 over budget; 70 a bug of ours. `forebay explain CODE` tells more about an error.";

/// One gate in front of all AI compute.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Where the gateway is [else FOREBAY_URL, or where the data directory's own gateway listens]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The API key or token to use [else FOREBAY_KEY, or the data directory's admin.key]
    #[arg(long, global = true, value_name = "KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// How data is printed
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) output: Format,
    /// The data directory [else FOREBAY_DATA, or forebay/ in XDG_DATA_HOME or ~/.local/share]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The configuration file [else FOREBAY_CONFIG, ./forebay.yaml, or forebay.yaml in the data directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Worker(worker::Args),
    #[command(subcommand)]
    Config(config::Command),
    #[command(subcommand)]
    Key(key::Command),
    Spend(spend::Args),
    #[command(subcommand)]
    Budget(budget::Command),
    #[command(subcommand)]
    Gpu(gpu::Command),
    #[command(subcommand)]
    Task(task::Command),
    #[command(subcommand)]
    Audit(audit::Command),
    Explain(explain::Args),
    Chat(chat::Args),
    #[command(subcommand)]
    Tool(tool::Command),
    #[command(subcommand)]
    Provider(provider::Command),
    /// The same as `forebay provider create`
    CreateProvider(provider::Create),
    /// The same as `forebay tool create`
    CreateTool(declare::Args),
    /// The same as `forebay model test`
    TestEndpoint(test_endpoint::Args),
    #[command(subcommand)]
    Upstream(upstream::Command),
    #[command(subcommand)]
    Mcp(mcp::Command),
    #[command(subcommand)]
    Model(model::Command),
    Status(status::Args),
    Doctor(doctor::Args),
    Stdio(stdio::Args),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    Openapi(openapi::Args),
    #[command(hide = true)]
    ChildGuard(child_guard::Args),
    #[command(hide = true)]
    InstanceAgent(instance_agent::Args),
}

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli, env: Env, printer: &mut Printer) -> Result<ExitCode, Failure> {
    let context = Context::new(cli.global, env);
    let done = ExitCode::SUCCESS;
    match cli.command {
        Command::Serve(args) => runtime(&mut Builder::new_multi_thread())?.block_on(serve::run(args, &context)),
        Command::Worker(args) => runtime(&mut Builder::new_multi_thread())?.block_on(worker::run(args, &context)),
        Command::Config(command) => config::run(&command, &context, printer).map(|()| done),
        Command::Key(command) => light()?.block_on(key::run(command, &context, printer)).map(|()| done),
        Command::Spend(args) => light()?.block_on(spend::run(args, &context, printer)).map(|()| done),
        Command::Budget(command) => light()?
            .block_on(budget::run(command, &context, printer))
            .map(|()| done),
        Command::Gpu(command) => light()?.block_on(gpu::run(command, &context, printer)).map(|()| done),
        Command::Task(command) => light()?.block_on(task::run(command, &context, printer)),
        Command::Audit(command) => light()?.block_on(audit::run(command, &context, printer)),
        Command::Explain(args) => light()?.block_on(explain::run(args, &context, printer)).map(|()| done),
        Command::Chat(args) => light()?.block_on(chat::run(args, &context, printer)).map(|()| done),
        Command::Tool(command) => light()?.block_on(tool::run(command, &context, printer)),
        Command::Provider(command) => light()?
            .block_on(provider::run(command, &context, printer))
            .map(|()| done),
        Command::CreateProvider(args) => light()?
            .block_on(provider::create(args, &context, printer))
            .map(|()| done),
        Command::CreateTool(args) => light()?.block_on(declare::run(args, &context, printer)).map(|()| done),
        Command::Upstream(command) => light()?
            .block_on(upstream::run(command, &context, printer))
            .map(|()| done),
        Command::Mcp(command) => light()?.block_on(mcp::run(command, &context, printer)).map(|()| done),
        Command::TestEndpoint(args) | Command::Model(model::Command::Test(args)) => {
            light()?.block_on(test_endpoint::run(args, &context, printer))
        }
        Command::Model(model::Command::List) => light()?.block_on(model::list(&context, printer)).map(|()| done),
        Command::Status(args) => light()?.block_on(status::run(args, &context, printer)).map(|()| done),
        Command::Doctor(args) => light()?.block_on(doctor::run(args, &context, printer)),
        Command::Stdio(args) => {
            let runtime = if args.serves() {
                runtime(&mut Builder::new_multi_thread())?
            } else {
                light()?
            };
            let ended = runtime.block_on(stdio::run(args, &context));
            // A read of standard input may hang for ever; nobody waits for it.
            runtime.shutdown_background();
            ended.map(|()| done)
        }
        Command::Completions(args) => completions::run(&args, printer).map(|()| done),
        Command::Man(args) => man::run(&args, printer).map(|()| done),
        Command::Openapi(openapi::Args {}) => openapi::run(printer).map(|()| done),
        Command::ChildGuard(args) => child_guard::run(&args),
        Command::InstanceAgent(instance_agent::Args {}) => {
            light()?.block_on(instance_agent::run(&context)).map(|()| done)
        }
    }
}

/// A runtime for a command that asks a few things and ends.
fn light() -> Result<Runtime, Failure> {
    runtime(&mut Builder::new_current_thread())
}

fn runtime(builder: &mut Builder) -> Result<Runtime, Failure> {
    builder.enable_all().build().map_err(|error| {
        Failure::new(
            Code::Overloaded,
            "The operating system grants no threads or file descriptors.",
        )
        .hint("Check `ulimit -a`.")
        .caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn check(command: &clap::Command) {
            assert!(
                command.get_about().is_some(),
                "{} has no description",
                command.get_name()
            );
            command
                .get_subcommands()
                .filter(|inner| inner.get_name() != "help")
                .for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn what_every_command_takes_may_stand_anywhere() {
        for words in [
            "forebay --url http://a key list",
            "forebay key list --url http://a",
            "forebay key --url http://a list",
        ] {
            let cli = Cli::try_parse_from(words.split(' ')).unwrap();
            assert_eq!(cli.global.url.as_deref(), Some("http://a"), "{words}");
        }
    }
}
