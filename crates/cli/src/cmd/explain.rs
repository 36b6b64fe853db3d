//! `forebay explain`: why something is allowed or not, what happened under a trace, where a request to a model would
//! go, what an error code means.

use super::audit;
use crate::{
    connect::Context,
    printer::{Format, Printer, Table},
};
use forebay_api::{Explanation, RouteExplanation};
use forebay_domain::{Code, Failure};
use serde_json::json;

/// `(code, page)`, made from `docs/errors/` when this was built.
const PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));

/// Say why something is allowed or not, what happened under a trace, or what an error code means
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay explain tool:calculator                   may my key do this, by which rule, and do lists show it?
  forebay explain keys:write --as 4f1c0a9e2b7d6358  may that key?
  forebay explain route qwen                        to which backend would a request go now, and why?
  forebay explain --trace 4bf92f3577b34da6a3ce929d0e0e4736
  forebay explain insufficient_scope                what does this error mean?")]
pub(crate) struct Args {
    /// An action such as `tool:calculator`, `model:qwen` or `keys:write`; or an error code
    #[arg(
        value_name = "ACTION|CODE",
        required_unless_present = "trace",
        conflicts_with = "trace"
    )]
    what: Option<String>,
    /// With `route`: the model
    #[arg(value_name = "MODEL", requires = "what", conflicts_with = "key_id")]
    model: Option<String>,
    /// Explain for the key of this id instead of one's own
    #[arg(long = "as", value_name = "KEYID", conflicts_with = "trace")]
    key_id: Option<String>,
    /// What was decided and done under this trace; every answer carries its own as `x-trace-id`
    #[arg(long, value_name = "ID")]
    trace: Option<String>,
}

pub(crate) async fn run(args: Args, context: &Context, printer: &mut Printer) -> Result<(), Failure> {
    if let Some(trace) = &args.trace {
        let told = context.client()?.explain_trace(trace).await?;
        return printer.print(&told, |told| audit::table(&told.events));
    }
    let what = args.what.unwrap_or_default();
    match (what.as_str(), &args.model) {
        ("route", Some(model)) => {
            let told = context.client()?.explain_route(model).await?;
            return printer.print(&told, route);
        }
        ("route", None) => {
            return Err(
                Failure::new(Code::InvalidRequest, "A route leads to a model, and none is named.")
                    .hint("For example `forebay explain route qwen`; `forebay model list` lists them."),
            );
        }
        (_, Some(model)) => {
            return Err(Failure::new(
                Code::InvalidRequest,
                format!("One thing is explained at a time: `{model}` is one too many."),
            )
            .hint("Only `route` takes a second word, a model's name."));
        }
        (_, None) => {}
    }
    if what.contains(':') {
        let told = context.client()?.explain(&what, args.key_id.as_deref()).await?;
        return printer.print(&told, table);
    }
    page(&what, printer)
}

/// What clients of OpenAI's API see in the place of a code of ours: the one that is behind it most often, whose page names
/// the others.
const OPENAI: &[(&str, Code)] = &[
    ("model_not_found", Code::UnknownModel),
    ("rate_limit_exceeded", Code::RateLimited),
];

fn page(code: &str, printer: &mut Printer) -> Result<(), Failure> {
    let written = code.to_lowercase();
    let ours = OPENAI.iter().find(|(theirs, _)| *theirs == written);
    let wanted = ours.map_or(written.as_str(), |(_, ours)| ours.as_str());
    let Some((code, page)) = PAGES.iter().find(|(known, _)| *known == wanted) else {
        let scored = PAGES
            .iter()
            .map(|(known, _)| (strsim::normalized_damerau_levenshtein(wanted, known), known));
        let nearest = scored.max_by(|a, b| a.0.total_cmp(&b.0)).map_or("", |(_, known)| known);
        let message = format!("`{code}` is neither an action nor an error code.");
        return Err(Failure::new(Code::InvalidRequest, message).hint(format!(
            "An action looks like `tool:calculator`; the nearest error code is `{nearest}`."
        )));
    };
    if printer.format() == Format::Table {
        return printer.text(page);
    }
    printer.print(&json!({ "code": code, "page": page }), |_| {
        Table::of_one([("code", (*code).to_owned())])
    })
}

fn table(told: &Explanation) -> Table {
    let verdict = if told.allowed { "yes" } else { "no" };
    let mut rows = vec![
        ("action", told.action.clone()),
        ("allowed", verdict.to_owned()),
        ("because", told.reason.clone()),
        ("who", format!("{}/{}", told.tenant, told.subject)),
        ("role", told.role.clone()),
        (
            "grants",
            if told.grants.is_empty() {
                "none".to_owned()
            } else {
                told.grants.join(" ")
            },
        ),
    ];
    if told.exists == Some(false) {
        rows.push(("there is", "no such tool here now".to_owned()));
    }
    if !told.shown.is_empty() {
        let only = format!("only {} and `search_tools`", told.shown.join(" "));
        rows.push(("lists show", only));
    }
    if told.is_shown == Some(false) {
        let left_out = "no: lists leave this tool out for this key, which forbids nothing";
        rows.push(("listed", left_out.to_owned()));
    }
    if let Some(limit) = &told.limit {
        let left = format!(
            "{} of {} requests left, whole again in {} s",
            limit.remaining, limit.per_minute, limit.reset_s
        );
        rows.push(("limit", left));
    }
    Table::of_one(rows)
}

/// One line for each backend, of the model and of its fallbacks.
fn route(told: &RouteExplanation) -> Table {
    let rows = told.steps.iter().flat_map(|step| {
        step.backends.iter().map(|backend| {
            let takes = step.chosen == Some(backend.backend);
            [
                step.model.clone(),
                backend.backend.to_string(),
                if takes { "takes it" } else { "" }.to_owned(),
                backend.state.clone(),
                backend.in_flight.to_string(),
                backend.reason.clone(),
                backend.url.clone().unwrap_or_default(),
            ]
        })
    });
    Table::new(["model", "backend", "", "state", "in flight", "why", "at"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_a_page() {
        let pages: BTreeSet<&str> = PAGES.iter().map(|(code, _)| *code).collect();
        let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(pages, codes);
    }

    #[test]
    fn each_code_of_openais_leads_to_a_page_that_names_whatever_else_it_may_be() {
        for (theirs, ours) in OPENAI {
            let shown = |page: &str| page.contains(&format!("code `{theirs}` |"));
            let (_, page) = PAGES.iter().find(|(code, _)| *code == ours.as_str()).unwrap();
            assert!(shown(page), "{theirs}");
            let others = PAGES
                .iter()
                .filter(|(code, page)| *code != ours.as_str() && shown(page));
            for (other, _) in others {
                assert!(page.contains(&format!("`{other}`")), "{theirs}: {other}");
            }
        }
    }
}
