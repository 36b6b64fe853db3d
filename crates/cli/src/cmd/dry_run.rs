//! `--dry-run` of what asks a model or calls a tool: what it would cost, and whether the limits would let it in.

use crate::{
    connect::Context,
    printer::{Printer, Table},
    report,
};
use forebay_api::{CostCheck, CostQuery};
use forebay_domain::Failure;
use serde_json::{Map, Value};

/// Of the body of a chat completion.
pub(super) async fn chat(body: Map<String, Value>, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let query = CostQuery {
        request: Some(body),
        tool: None,
    };
    ask(query, context, printer).await
}

/// Of one call.
pub(super) async fn call(tool: String, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let query = CostQuery {
        request: None,
        tool: Some(tool),
    };
    ask(query, context, printer).await
}

async fn ask(query: CostQuery, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    let check = context.client()?.cost(&query).await?;
    printer.print(&check, table)?;
    for warning in &check.warnings {
        report::say(&format!("warning: {warning}"));
    }
    Ok(())
}

fn table(check: &CostCheck) -> Table {
    let most = match check.most_usd {
        Some(most) => format!("${most}"),
        None => "nobody can say, and no limit counts".to_owned(),
    };
    let each = if check.kind == "tool" {
        "a call costs"
    } else {
        "each time at most"
    };
    Table::of_one([
        ("what", format!("{} {}", check.kind, check.name)),
        (each, most),
        ("limits", verdict(check.reason.as_deref())),
    ])
}

/// What the limits would say to something.
pub(super) fn verdict(reason: Option<&str>) -> String {
    match reason {
        None => "would be let in".to_owned(),
        Some(reason) => format!("would be refused: {reason}"),
    }
}
