//! `forebay upstream show`.

use super::difference;
use crate::{
    connect::Context,
    printer::{Format, Printer, Table},
};
use forebay_api::UpstreamDetail;
use forebay_domain::{Code, Failure, quarantine::visible};

pub(super) async fn run(name: &str, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let detail = context.client()?.upstream(name).await?;
    if printer.format() != Format::Table {
        // What an upstream sent is raw JSON, which only JSON can write as it is.
        let plain = serde_json::to_value(&detail).map_err(|fault| {
            Failure::new(Code::UpstreamFailed, "What the gateway answered cannot be shown.").caused_by(fault)
        })?;
        return printer.print(&plain, |_| Table::of_one([]));
    }
    printer.print(&detail.upstream, |_| table(&detail))?;
    for waiting in &detail.waiting {
        printer.text(&format!("\n{}", difference::shown(waiting, difference::Colours::None)))?;
    }
    Ok(())
}

fn table(detail: &UpstreamDetail) -> Table {
    let upstream = &detail.upstream;
    let mut rows = vec![
        ("name", upstream.name.clone()),
        ("state", format!("{} since {}", upstream.state, upstream.since)),
        ("place", upstream.place.clone()),
        ("transport", upstream.transport.clone()),
        ("from", origin(&upstream.origin)),
        (
            "offers",
            format!(
                "{} tools, {} prompts, {} resources",
                upstream.tools, upstream.prompts, upstream.resources
            ),
        ),
        ("held", upstream.held.to_string()),
        ("connections", upstream.connections.to_string()),
    ];
    let listed_at = upstream.listed_at.map(|at| at.to_string());
    for (heading, value) in [
        ("protocol", &upstream.protocol_version),
        ("listed", &listed_at),
        ("trouble", &upstream.trouble),
    ] {
        rows.extend(value.as_ref().map(|value| (heading, visible(value))));
    }
    rows.extend(detail.tools.iter().map(|tool| ("tool", visible(tool))));
    rows.extend(upstream.warnings.iter().map(|warning| ("warning", visible(warning))));
    rows.extend(
        detail
            .log
            .iter()
            .map(|line| ("log", format!("{} {}", line.at, visible(&line.text)))),
    );
    Table::of_one(rows)
}

fn origin(word: &str) -> String {
    match word {
        "config" => "the configuration file".to_owned(),
        "api" => "`forebay upstream add`".to_owned(),
        other => other.to_owned(),
    }
}
