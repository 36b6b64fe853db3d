//! `POST /api/v1/upstreams/{name}/approve`: lets definitions pass that wait for a decision.
//!
//! Whoever approves has looked at a text. If another text waits by then under the same name, it is not approved.

use crate::{
    app::App,
    door::Caller,
    http::{ApiError, body},
};
use axum::{
    Extension, Json,
    extract::{Path, State},
};
use forebay_api::{ApprovedDefinition, DefinitionRef, UpstreamApprove, UpstreamApproved};
use forebay_domain::{
    Code, Failure,
    quarantine::{DefinitionName, Fingerprint, render},
};
use forebay_mcp::upstream::{Chosen, Reviewed, Waiting};
use std::sync::Arc;

/// Approves the named definitions, or all that wait; or only says what would be approved.
#[utoipa::path(post, path = "/api/v1/upstreams/{name}/approve", tag = "upstreams", request_body = UpstreamApprove,
    params(("name" = String, Path, description = "the upstream's name")),
    responses((status = 200, body = UpstreamApproved), (status = 404, body = forebay_api::Problem),
        (status = 409, body = forebay_api::Problem)))]
pub(crate) async fn approve(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body::Json(wanted): body::Json<UpstreamApprove>,
) -> Result<Json<UpstreamApproved>, ApiError> {
    let approved = decide(&app, &caller, &name, &wanted).await;
    approved.map(Json).map_err(|failure| caller.problem(failure))
}

async fn decide(app: &App, caller: &Caller, name: &str, wanted: &UpstreamApprove) -> Result<UpstreamApproved, Failure> {
    let waiting = app.upstreams.show(name).await?.waiting;
    let chosen = choose(&waiting, wanted)?;
    if wanted.dry_run || chosen.is_empty() {
        let approved = chosen.into_iter().map(|one| ApprovedDefinition {
            kind: one.kind.as_str().to_owned(),
            name: one.name.clone(),
            difference: render(&one.changes),
        });
        return Ok(UpstreamApproved {
            approved: approved.collect(),
            dry_run: wanted.dry_run,
        });
    }
    let reviewed = chosen.into_iter().map(reviewed).collect::<Result<_, _>>()?;
    let approved = app
        .upstreams
        .approve(name, Chosen::These(reviewed), &caller.principal.subject)
        .await?;
    let approved = approved.into_iter().map(|one| ApprovedDefinition {
        kind: one.kind.as_str().to_owned(),
        name: one.name,
        difference: render(&one.changes),
    });
    Ok(UpstreamApproved {
        approved: approved.collect(),
        dry_run: false,
    })
}

/// By the text that waits now, so that one which comes in between does not pass in its place.
fn reviewed(waiting: &Waiting) -> Result<Reviewed, Failure> {
    let name = DefinitionName::try_from(waiting.name.as_str()).map_err(|fault| {
        Failure::new(Code::InternalError, "A definition waits whose name is none.").caused_by(fault)
    })?;
    Ok(Reviewed {
        kind: waiting.kind,
        name,
        fingerprint: Some(waiting.fingerprint),
    })
}

/// What is meant, of what waits.
fn choose<'a>(waiting: &'a [Waiting], wanted: &UpstreamApprove) -> Result<Vec<&'a Waiting>, Failure> {
    match (wanted.all, wanted.names.is_empty()) {
        (true, true) => Ok(waiting.iter().collect()),
        (false, false) => wanted.names.iter().map(|one| find(waiting, one)).collect(),
        (true, false) | (false, true) => {
            let failure = Failure::new(
                Code::InvalidRequest,
                "Name what is to be approved in `names`, or say `all`.",
            );
            Err(failure.hint(
                "Send `{\"names\": [{\"kind\": \"tool\", \"name\": \"TOOL\"}]}` (or the kind `prompt` or `instructions`), \
                 or `{\"all\": true}`.",
            ))
        }
    }
}

fn find<'a>(waiting: &'a [Waiting], wanted: &DefinitionRef) -> Result<&'a Waiting, Failure> {
    let look = "`forebay upstream show NAME` shows what waits.";
    let found = waiting
        .iter()
        .find(|one| one.kind.as_str() == wanted.kind && one.name == wanted.name)
        .ok_or_else(|| {
            let message = format!("No {} `{}` waits for a decision.", wanted.kind, wanted.name);
            Failure::new(Code::Conflict, message).hint(look)
        })?;
    match &wanted.fingerprint {
        Some(seen) if Fingerprint::parse(seen) != Some(found.fingerprint) => {
            let message = format!(
                "The {} `{}` has changed once more since it was looked at.",
                wanted.kind, wanted.name
            );
            Err(Failure::new(Code::Conflict, message).hint(format!("Nothing was approved. {look}")))
        }
        Some(_) | None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::quarantine::{Kind, inspect};
    use jiff::Timestamp;
    use serde_json::value::RawValue;

    fn waiting(name: &str) -> Waiting {
        let held = RawValue::from_string(format!(r#"{{"name":"{name}"}}"#)).unwrap();
        Waiting {
            kind: Kind::Tool,
            name: name.to_owned(),
            fingerprint: inspect(Kind::Tool, &held).unwrap().fingerprint,
            why: "first_seen".to_owned(),
            flags: Vec::new(),
            since: Timestamp::UNIX_EPOCH,
            approved: None,
            held,
            changes: Vec::new(),
        }
    }

    fn check(body: &str) -> Result<Vec<String>, Code> {
        let all = [waiting("add"), waiting("sub")];
        let seen = all[0].fingerprint.to_string();
        let wanted = serde_json::from_str(&body.replace("SEEN", &seen)).unwrap();
        let chosen = choose(&all, &wanted).map_err(|failure| failure.code)?;
        Ok(chosen.iter().map(|one| one.name.clone()).collect())
    }

    #[test]
    fn what_is_approved_is_what_was_looked_at() {
        let names = |names: &[&str]| Ok(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(check(r#"{"all":true}"#), names(&["add", "sub"]));
        assert_eq!(check(r#"{"names":[{"name":"sub"}]}"#), names(&["sub"]));
        for (body, expected) in [
            (r#"{"names":[{"name":"add","fingerprint":"SEEN"}]}"#, names(&["add"])),
            (
                r#"{"names":[{"name":"sub","fingerprint":"SEEN"}]}"#,
                Err(Code::Conflict),
            ),
            (r#"{"names":[{"name":"sub","fingerprint":"x"}]}"#, Err(Code::Conflict)),
            (r#"{"names":[{"kind":"prompt","name":"add"}]}"#, Err(Code::Conflict)),
            (r#"{"names":[{"name":"gone"}]}"#, Err(Code::Conflict)),
            ("{}", Err(Code::InvalidRequest)),
            (r#"{"all":true,"names":[{"name":"add"}]}"#, Err(Code::InvalidRequest)),
        ] {
            assert_eq!(check(body), expected, "{body}");
        }
    }
}
