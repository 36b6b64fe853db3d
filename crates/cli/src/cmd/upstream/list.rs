//! `forebay upstream list`.

use crate::{
    connect::Context,
    printer::{Printer, Table},
};
use forebay_api::UpstreamInfo;
use forebay_domain::Failure;

pub(super) async fn run(context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let upstreams = context.client()?.upstreams().await?.upstreams;
    printer.print(&upstreams, |upstreams| table(upstreams))
}

fn table(upstreams: &[UpstreamInfo]) -> Table {
    let rows = upstreams.iter().map(|upstream| {
        [
            upstream.name.clone(),
            upstream.state.clone(),
            upstream.tools.to_string(),
            upstream.held.to_string(),
            upstream.warnings.len().to_string(),
            upstream.protocol_version.clone().unwrap_or_default(),
            upstream.place.clone(),
            upstream.trouble.clone().unwrap_or_default(),
        ]
    });
    let headings = [
        "name", "state", "tools", "held", "warnings", "protocol", "place", "trouble",
    ];
    Table::new(headings, rows)
}
