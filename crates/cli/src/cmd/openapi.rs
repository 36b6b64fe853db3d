//! `forebay openapi`: the document that a gateway serves at `/openapi.json`, for `make schema`.

use crate::printer::Printer;
use forebay_domain::{Code, Failure};

/// Print the OpenAPI document
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(printer: &mut Printer) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&forebay_server::http::document())
        .map_err(|error| Failure::new(Code::InternalError, "the document is no JSON").caused_by(error))?;
    printer.text(&format!("{text}\n"))
}
