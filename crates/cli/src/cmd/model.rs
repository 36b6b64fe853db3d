//! `forebay model`: the models that a key may ask.

use super::test_endpoint;
use crate::{
    connect::Context,
    printer::{Printer, Table},
};
use clap::Subcommand;
use forebay_domain::Failure;

/// List and test models
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the models that the key may ask
    List,
    Test(test_endpoint::Args),
}

pub(crate) async fn list(context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let models = context.client()?.models().await?;
    printer.print(&models, |models| {
        Table::new(["name"], models.iter().map(|name| [name.clone()]))
    })
}
