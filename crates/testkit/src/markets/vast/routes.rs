//! What the fake vast.ai is asked, how often it may be, and what can go wrong with it alone.

use crate::markets::{Answer, Fault, Named, Route};
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

/// Paths end in a slash. Those without a parameter come before those that would fit them too.
pub const ROUTES: &[Route] = &[
    Route::new("user", "GET", "/api/v0/users/current/"),
    // The official client leaves the slash out here.
    Route::new("user", "GET", "/api/v0/users/current"),
    Route::new("gpu_names", "GET", "/api/v0/gpu_names/unique/"),
    Route::new("search", "POST", "/api/v0/bundles/"),
    Route::new("search_asks", "PUT", "/api/v0/search/asks/"),
    Route::new("create", "PUT", "/api/v0/asks/{}/"),
    Route::new("list", "GET", "/api/v1/instances/"),
    Route::new("filters", "GET", "/api/v0/instances/filters/"),
    Route::new("contracts", "POST", "/api/v0/contracts/fetch/"),
    Route::new("rises", "GET", "/api/v0/instances/pending-price-increases/"),
    Route::new("accept", "PUT", "/api/v0/instances/accept-price-increase/"),
    Route::new("reject", "PUT", "/api/v0/instances/reject-price-increase/"),
    Route::new("show", "GET", "/api/v0/instances/{}/"),
    Route::new("destroy", "DELETE", "/api/v0/instances/{}/"),
    Route::new("destroy_many", "DELETE", "/api/v0/instances/"),
    Route::new("change", "PUT", "/api/v0/instances/{}/"),
    Route::new("reboot", "PUT", "/api/v0/instances/reboot/{}/"),
    Route::new("bid", "PUT", "/api/v0/instances/bid_price/{}/"),
    Route::new("prepay", "PUT", "/api/v0/instances/prepay/{}/"),
    Route::new("deposit", "GET", "/api/v0/instances/balance/{}/"),
    Route::new("request_logs", "PUT", "/api/v0/instances/request_logs/{}/"),
    Route::new("exec", "PUT", "/api/v0/instances/command/{}/"),
    // Where a log lies once it is there; no part of the API.
    Route::new("log", "GET", "/_s3/{}"),
    Route::new("charges", "GET", "/api/v0/charges/"),
    Route::new("invoices", "GET", "/api/v1/invoices/"),
    Route::new("ssh_list", "GET", "/api/v0/ssh/"),
    Route::new("ssh_add", "POST", "/api/v0/ssh/"),
];

/// How often a route may be asked, as documented.
pub(super) fn threshold(route: &str) -> Option<(usize, Duration)> {
    let every = |ms| Some((1, Duration::from_millis(ms)));
    match route {
        "search" => Some((10, Duration::from_mins(1))),
        "create" => every(4_500),
        "show" => every(2_000),
        "destroy" | "deposit" => every(3_000),
        "list" | "change" | "reboot" | "charges" | "invoices" | "ssh_add" => every(1_000),
        "bid" => every(5_500),
        _ => None,
    }
}

/// What only this provider does wrong. Those of `create` alone are named so.
pub const FAULTS: &[Named] = &[
    Named::new("auth-404", "answers 404 \"Invalid user key\"", || {
        let body = json!({ "success": false, "error": "auth_error", "msg": "Invalid user key" });
        Fault::Instead(Answer::json(404, &body))
    }),
    Named::new("auth-401", "answers 401 \"Invalid user key\"", || {
        let body = json!({ "error": "auth_error", "msg": "Invalid user key" });
        Fault::Instead(Answer::json(401, &body))
    }),
    Named::new("auth-403", "answers 403 \"This action requires login.\"", || {
        let body = json!({ "success": false, "error": "auth_error", "msg": "This action requires login." });
        Fault::Instead(Answer::json(403, &body))
    }),
    Named::new("429-text", "answers 429 as text", || {
        Fault::Instead(Answer::text(429, "API requests too frequent: endpoint threshold=3.0"))
    }),
    Named::new("429-detail", "answers 429 as {\"detail\"}", || {
        let body = json!({ "detail": "API requests too frequent endpoint threshold=4.5" });
        Fault::Instead(Answer::json(429, &body))
    }),
    Named::new("429-header", "answers 429 with Retry-After: 2.5", || {
        let answer = Answer::text(429, "API requests too frequent: endpoint threshold=1.0");
        Fault::Instead(answer.header("retry-after", "2.5"))
    }),
    Named::new("429-body", "answers 429 with retry_after: 3 in its body", || {
        let body = json!({ "detail": "API requests too frequent endpoint threshold=2.0", "retry_after": 3 });
        Fault::Instead(Answer::json(429, &body))
    }),
    Named::new("429-quota", "answers that the searches of the day are used up", || {
        Fault::Special("quota")
    }),
    Named::new(
        "done-json-500",
        "does it and answers 500 with an error in JSON that names nothing",
        || {
            let body = json!({ "success": false, "error": "internal_error", "msg": "error 500/3999: try again" });
            Fault::Afterwards(Answer::json(500, &body))
        },
    ),
    Named::new("bare-404", "answers 404 without saying of what", || {
        Fault::Instead(Answer::json(
            404,
            &json!({ "success": false, "message": "404 page not found" }),
        ))
    }),
    Named::new(
        "error-with-contract",
        "create: makes it, stopped, and answers an error that names it",
        || Fault::Special("error-with-contract"),
    ),
    Named::new(
        "without-id",
        "create: makes it and answers success without its id",
        || Fault::Special("without-id"),
    ),
    Named::new(
        "success-false",
        "create: answers 200 with success: false, makes nothing",
        || Fault::Special("success-false"),
    ),
    Named::new("no-credit", "create: answers insufficient_credit", || {
        Fault::Special("no-credit")
    }),
    Named::new("gone-400", "create: answers no_such_ask as 400", || {
        Fault::Special("gone-400")
    }),
    Named::new("gone-404", "create: answers no_such_ask as 404 invalid_args", || {
        Fault::Special("gone-404")
    }),
    Named::new("gone-410", "create: answers no_such_ask as 410", || {
        Fault::Special("gone-410")
    }),
    Named::new("same-token", "list: every page names itself as the next one", || {
        Fault::Special("same-token")
    }),
    Named::new("short-page", "list: leaves the last row of a page out", || {
        Fault::Special("short-page")
    }),
    Named::new("null-list", "list: answers null instead of the instances", || {
        Fault::Special("null-list")
    }),
    Named::new(
        "not-found",
        "destroy: an unknown id is not_found instead of no_such_instance",
        || Fault::Special("not-found"),
    ),
];

/// What can be set from outside.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("key", "the key that is good from now on"),
    ("credit", "what the account had before anything was charged, in USD"),
    ("list_lag", "new machines are missing from so many lists"),
    ("boot_step_ms", "how long null, created and loading last, each"),
    (
        "fate",
        "what becomes of new machines: runs, exits, goes-offline, stays-loading, bad-image",
    ),
    (
        "endpoint",
        "where the first port of new machines is really reached, such as 127.0.0.1:9000",
    ),
    ("loose_filters", "numeric filters of a search are not applied"),
    ("forgets_disk", "prices leave the disk out"),
    ("gone_status", "how a slot that is taken is refused: 410, 400 or 404"),
    ("enforces_rates", "requests above the documented rates get a 429"),
    ("charges_are_late", "charges are not there yet"),
    (
        "charge_days_missing",
        "the charges of so many days, the last ones, are not there yet",
    ),
    ("charge_page", "most charges that a page has"),
    ("number_tokens", "the token of the next page of charges is a number"),
    ("log_lag", "so often a log is not there before it is"),
    ("log", "the log of every machine"),
    ("outbid", "the id of a machine that is stopped since somebody bids more"),
    (
        "lose_gpu",
        "the id of a machine that is stopped, and whose GPU somebody else has: a start is queued",
    ),
    (
        "free_gpu",
        "the id of a machine whose GPU is free again: what was queued starts",
    ),
];

/// The searches of the day are used up until midnight.
pub(super) fn quota(now: Timestamp) -> Answer {
    let midnight = (now.as_second().div_euclid(86_400) + 1) * 86_400;
    let body = json!({ "success": false, "error": "search_quota_exceeded", "msg": "Daily search quota exceeded." });
    Answer::json(429, &body).header("X-RateLimit-Reset", &midnight.to_string())
}
