//! All instances of the account, page by page, and whole or not at all.

use super::{Vast, ask::Route, broken, read};
use crate::market::{Machine, MarketFault, wire, wire::Call};
use http::Method;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};

/// Lists are limited hard, so one answer serves all who ask in this time.
const FRESH: Duration = Duration::from_secs(5);
/// The most that a page has.
const PAGE: &str = "25";
const PAGES_MAX: usize = 80;
/// A list that is short of instances may have changed while it was read, and is read anew at once, so many times in all.
const READINGS_MAX: usize = 3;
/// Of all pages together: they come one a second at best.
const WHOLE_MAX: Duration = Duration::from_mins(2);

/// The last list. Whoever asks while it is being read waits for it: that is the point of the lock, which is held for one
/// listing, and that is bounded.
#[derive(Debug, Default)]
pub(super) struct Listing {
    last: Mutex<Option<Last>>,
    /// Counts what was changed from here.
    changes: AtomicU64,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    changes: u64,
    machines: Vec<Machine>,
}

impl Listing {
    /// Something was made or destroyed: what was listed before is no longer so.
    pub(super) fn forget(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

impl Vast {
    pub(super) async fn list(&self) -> Result<Vec<Machine>, MarketFault> {
        let mut last = self.listing.last.lock().await;
        let changes = self.listing.changes.load(Ordering::SeqCst);
        if let Some(known) = &*last
            && known.changes == changes
            && known.at.elapsed() < FRESH
        {
            return Ok(known.machines.clone());
        }
        let at = Instant::now();
        let machines = timeout_at(at + WHOLE_MAX, self.all_of_them())
            .await
            .unwrap_or_else(|_| {
                let seconds = WHOLE_MAX.as_secs();
                Err(MarketFault::Unreachable(format!(
                    "it did not list all instances within {seconds} s"
                )))
            })?;
        *last = Some(Last {
            at,
            changes,
            machines: machines.clone(),
        });
        Ok(machines)
    }

    async fn all_of_them(&self) -> Result<Vec<Machine>, MarketFault> {
        for _ in 0..READINGS_MAX {
            if let Some(machines) = self.all_pages().await? {
                return Ok(machines);
            }
        }
        Err(broken("its list has fewer instances than it says that there are"))
    }

    /// Nothing where it is not whole.
    async fn all_pages(&self) -> Result<Option<Vec<Machine>>, MarketFault> {
        let (mut machines, mut seen) = (Vec::new(), BTreeSet::new());
        let mut token: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut call = Call::new(Method::GET, "/api/v1/instances/")
                .query("limit", PAGE)
                .query("order_by", r#"[{"col":"id","dir":"asc"}]"#);
            if let Some(token) = &token {
                call = call.query("after_token", token);
            }
            let body = self.ask(Route::List, call).await?;
            let page = read_page(&body)?;
            machines.extend(
                page.machines
                    .into_iter()
                    .filter(|machine| seen.insert(machine.id.clone())),
            );
            let Some(next) = page.next else {
                let is_whole = page.total.is_none_or(|total| total <= machines.len() as u64);
                return Ok(is_whole.then_some(machines));
            };
            if token.as_ref() == Some(&next) {
                return Err(broken("a page of its instances names itself as the next one"));
            }
            token = Some(next);
        }
        Err(broken("its list of instances has no end"))
    }
}

struct Page {
    machines: Vec<Machine>,
    next: Option<String>,
    total: Option<u64>,
}

/// A page is understood to its last row, or it is none: one that was left out would seem to be gone.
fn read_page(body: &Value) -> Result<Page, MarketFault> {
    let rows = body.get("instances").and_then(Value::as_array);
    let rows = rows.ok_or_else(|| broken("its list of instances is none"))?;
    let machines: Option<Vec<Machine>> = rows.iter().map(read::machine).collect();
    Ok(Page {
        machines: machines.ok_or_else(|| broken("an instance in its list has no id"))?,
        next: next_page(body)?,
        total: wire::unsigned(body, "total_instances"),
    })
}

/// By what the next page is asked for: a text, or a number.
pub(super) fn next_page(body: &Value) -> Result<Option<String>, MarketFault> {
    match body.get("next_token") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(token)) if !token.is_empty() => Ok(Some(token.clone())),
        Some(Value::Number(token)) => Ok(Some(token.to_string())),
        Some(_) => Err(broken("what it says of the next page is no token")),
    }
}
