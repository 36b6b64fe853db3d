//! What something would cost, and whether the limits would let it in: nothing is spent.

use crate::{
    connect::Context,
    printer::{Printer, Table},
    report,
};
use forebay_api::{CostCheck, CostQuery};
use forebay_domain::{Code, Failure};
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
    judged(check.reason.as_deref(), &check.warnings)
}

/// Whoever asks what the limits would say gets that as an exit code too: that of what would be refused.
pub(super) fn judged(reason: Option<&str>, warnings: &[String]) -> Result<(), Failure> {
    warn(warnings);
    match reason {
        None => Ok(()),
        Some(reason) => Err(Failure::new(
            Code::SpendingLimitExceeded,
            format!("It would be refused: {reason}."),
        )),
    }
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

/// Soft limits refuse nothing.
pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        report::say(&format!("warning: {warning}"));
    }
}

/// What the limits would say to something.
pub(super) fn verdict(reason: Option<&str>) -> String {
    match reason {
        None => "would be let in".to_owned(),
        Some(reason) => format!("would be refused: {reason}"),
    }
}
