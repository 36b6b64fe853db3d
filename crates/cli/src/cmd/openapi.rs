//! `forebay openapi`: the document that a gateway serves at `/openapi.json`.

use crate::printer::Printer;
use forebay_domain::Failure;

/// Print the OpenAPI document
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(printer: &mut Printer) -> Result<(), Failure> {
    printer.text(forebay_server::http::OPENAPI)
}
