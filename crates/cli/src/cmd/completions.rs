//! `forebay completions`: what a shell needs to complete this command line.

use super::Cli;
use crate::printer::Printer;
use clap::CommandFactory;
use clap_complete::Shell;
use forebay_domain::Failure;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay completions bash > ~/.local/share/bash-completion/completions/forebay
  forebay completions zsh > ~/.zfunc/_forebay
  forebay completions fish > ~/.config/fish/completions/forebay.fish")]
pub(crate) struct Args {
    shell: Shell,
}

pub(crate) fn run(args: &Args, printer: &mut Printer) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "forebay", &mut script);
    printer.text(&String::from_utf8_lossy(&script))
}
