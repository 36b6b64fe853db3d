//! `forebay man`: the manual, as roff.

use super::Cli;
use crate::printer::Printer;
use clap::CommandFactory;
use clap_mangen::Man;
use forebay_domain::{Code, Failure};
use std::path::PathBuf;

/// Print the manual page, or write one for each command
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay man | man -l -
  forebay man --dir ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// Write a page for each command into this folder
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, printer: &mut Printer) -> Result<(), Failure> {
    let unwritable = |error: std::io::Error| {
        Failure::new(Code::InvalidRequest, format!("The manual cannot be written: {error}."))
            .hint("Choose a folder that you may write to.")
    };
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir).map_err(unwritable)?;
        return clap_mangen::generate_to(Cli::command(), dir).map_err(unwritable);
    }
    let mut page = Vec::new();
    Man::new(Cli::command()).render(&mut page).map_err(unwritable)?;
    printer.text(&String::from_utf8_lossy(&page))
}
