//! `GET /api/v1/billing/transactions`: the movements of money, as JSON or as CSV for a spreadsheet.

use crate::{
    app::App,
    billing,
    door::Caller,
    http::{ApiError, page},
};
use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use forebay_api::{TransactionInfo, TransactionList, TransactionQuery};
use forebay_domain::{Code, Failure};
use http::{HeaderMap, HeaderValue, header};
use std::{borrow::Cow, sync::Arc};

const CSV: &str = "text/csv; charset=utf-8";
/// The page behind this one, where the form of the answer has no room for it.
const NEXT: &str = "x-next";

const COLUMNS: [&str; 17] = [
    "id",
    "at",
    "kind",
    "purpose",
    "name",
    "amount_usd",
    "held_usd",
    "tenant",
    "project",
    "key",
    "session",
    "subject",
    "hold_id",
    "trace_id",
    "estimated",
    "above_hold",
    "lapsed",
];

/// What was held, spent and given back, the newest first: the caller's own, for operators their tenant's.
#[utoipa::path(get, path = "/api/v1/billing/transactions", tag = "money", params(TransactionQuery),
    responses((status = 200, content((TransactionList = "application/json"), (String = "text/csv"))),
        (status = 403, body = forebay_api::Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    page::Query(query): page::Query<TransactionQuery>,
) -> Result<Response, ApiError> {
    let answered = async {
        let form = form(query.format.as_deref(), &headers)?;
        let page = billing::page(&app, &caller.principal, &query).await?;
        Ok(match form {
            Form::Json => Json(page).into_response(),
            Form::Csv => csv(&page),
        })
    };
    let answered: Result<_, Failure> = answered.await;
    answered.map_err(|failure| caller.problem(failure))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
}

/// The parameter says it, or else the header.
fn form(asked: Option<&str>, headers: &HeaderMap) -> Result<Form, Failure> {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match asked {
        Some("json") => Ok(Form::Json),
        Some("csv") => Ok(Form::Csv),
        Some(_) => Err(Failure::new(Code::InvalidRequest, "`format` is `json` or `csv`.")),
        None => {
            let first = accepted
                .split(',')
                .map(|one| one.split(';').next().unwrap_or_default().trim());
            let mut known = first.filter(|media| ["application/json", "text/csv", "*/*"].contains(media));
            Ok(if known.next() == Some("text/csv") {
                Form::Csv
            } else {
                Form::Json
            })
        }
    }
}

fn csv(page: &TransactionList) -> Response {
    let mut text = COLUMNS.join(",") + "\r\n";
    for one in &page.transactions {
        text.push_str(&cells(one).iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(","));
        text.push_str("\r\n");
    }
    let mut response = ([(header::CONTENT_TYPE, HeaderValue::from_static(CSV))], text).into_response();
    let headers = response.headers_mut();
    let file = HeaderValue::from_static("attachment; filename=\"transactions.csv\"");
    headers.insert(header::CONTENT_DISPOSITION, file);
    if let Some(next) = page.next.as_deref().and_then(|next| HeaderValue::from_str(next).ok()) {
        headers.insert(NEXT, next);
    }
    response
}

fn cells(one: &TransactionInfo) -> [Cow<'_, str>; COLUMNS.len()] {
    let optional = |text: &'_ Option<String>| Cow::Owned(plain(text.as_deref().unwrap_or_default()).into_owned());
    [
        plain(&one.id),
        one.at.to_string().into(),
        plain(&one.kind),
        plain(&one.purpose),
        plain(&one.name),
        // Numbers of our own: a minus in front of one is no formula.
        one.amount_usd.to_string().into(),
        one.held_usd.to_string().into(),
        plain(&one.tenant),
        optional(&one.project),
        optional(&one.key),
        optional(&one.session),
        optional(&one.subject),
        optional(&one.hold_id),
        plain(&one.trace_id),
        one.estimated.to_string().into(),
        one.above_hold.to_string().into(),
        one.lapsed.to_string().into(),
    ]
}

/// A text that no spreadsheet takes for a formula.
fn plain(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        format!("'{text}").into()
    } else {
        text.into()
    }
}

/// A cell after RFC 4180.
fn quoted(cell: &str) -> Cow<'_, str> {
    if cell.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\"")).into()
    } else {
        cell.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_or_two_cells() {
        for (text, cell) in [
            ("qwen", "qwen"),
            ("=HYPERLINK(\"http://evil\")", "\"'=HYPERLINK(\"\"http://evil\"\")\""),
            ("@sum(1)", "'@sum(1)"),
            ("-1+1", "'-1+1"),
            ("+x", "'+x"),
            ("\tx", "'\tx"),
            ("a,b", "\"a,b\""),
            ("a\r\nb", "\"a\r\nb\""),
        ] {
            assert_eq!(quoted(&plain(text)), cell, "{text}");
        }
    }

    #[test]
    fn the_form_is_asked_for_by_parameter_or_header() {
        let with = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            headers
        };
        assert_eq!(form(None, &HeaderMap::new()).unwrap(), Form::Json);
        assert_eq!(form(None, &with("text/csv")).unwrap(), Form::Csv);
        assert_eq!(form(None, &with("text/html, text/csv;q=0.9, */*")).unwrap(), Form::Csv);
        assert_eq!(form(None, &with("*/*, text/csv")).unwrap(), Form::Json);
        assert_eq!(form(Some("json"), &with("text/csv")).unwrap(), Form::Json);
        assert!(form(Some("xml"), &HeaderMap::new()).is_err());
    }
}
