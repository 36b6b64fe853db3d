//! Searching the fake vast.ai: filters, order, and never more than 64 offers.

use super::{Vast, failure};
use crate::markets::{Answer, Ask};
use serde_json::{Value, json};
use std::{cmp::Ordering, collections::BTreeSet};

/// The most that one search shows, whatever its limit.
const SHOWN_MAX: usize = 64;
/// The disk that prices contain where nobody says.
const DISK_GB_DEFAULT: u64 = 8;
/// Keys of a search that filter nothing.
const OPTIONS: &[&str] = &["type", "order", "limit", "allocated_storage", "disable_bundling"];
const OPERATORS: &[&str] = &["eq", "neq", "gt", "gte", "lt", "lte", "in", "notin"];

impl Vast {
    pub(super) fn gpu_names(&self) -> Answer {
        let names: BTreeSet<&str> = self.offers.iter().map(|offer| offer.gpu).collect();
        Answer::json(200, &json!({ "gpu_names": names }))
    }

    pub(super) fn search(&self, _ask: &Ask<'_>, query: &Value) -> Answer {
        let Some(query) = query.as_object() else {
            return Answer::json(
                400,
                &json!({ "error": "invalid_request", "msg": "Error in query parameters" }),
            );
        };
        let disk_gb = query.get("allocated_storage").and_then(Value::as_f64).unwrap_or(-1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "gigabytes of a test"
        )]
        let disk_gb = if disk_gb < 0.0 { DISK_GB_DEFAULT } else { disk_gb as u64 };
        let disk_gb = if self.forgets_disk { 0 } else { disk_gb };
        let mut rows: Vec<Value> = self.offers.iter().map(|offer| offer.row(disk_gb)).collect();
        for (key, filter) in query.iter().filter(|(key, _)| !OPTIONS.contains(&key.as_str())) {
            let known = key == "verified" || rows.first().is_none_or(|row| row.get(key).is_some());
            let Some(filter) = filter
                .as_object()
                .filter(|filter| known && filter.keys().all(|operator| OPERATORS.contains(&operator.as_str())))
            else {
                let message = format!("Error in query parameters: {key} is not a valid search key");
                return Answer::json(400, &json!({ "error": "invalid_request", "msg": message }));
            };
            if self.has_loose_filters && is_loose(key, filter.values()) {
                continue;
            }
            rows.retain(|row| filter.iter().all(|(operator, wanted)| fits(row, key, operator, wanted)));
        }
        sort(&mut rows, &query.get("order").cloned().unwrap_or_default());
        let limit = query.get("limit").and_then(Value::as_u64).unwrap_or(u64::MAX);
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX).min(SHOWN_MAX));
        if rows.iter().any(|row| row["id"].is_null()) {
            return failure(500, "internal", "an offer without an id");
        }
        Answer::json(200, &json!({ "offers": rows }))
    }
}

fn is_loose<'a>(key: &str, mut wanted: impl Iterator<Item = &'a Value>) -> bool {
    key != "dph_total" && key != "ask_contract_id" && wanted.all(Value::is_number)
}

fn fits(row: &Value, key: &str, operator: &str, wanted: &Value) -> bool {
    let is_verified = json!(row["verification"] == "verified");
    let value = match key {
        "verified" => &is_verified,
        // One looks an offer up by its contract; by its id nothing is ever found.
        "id" => return false,
        _ => &row[key],
    };
    let order = |wanted: &Value| compare(value, wanted);
    let among = || {
        wanted
            .as_array()
            .is_some_and(|all| all.iter().any(|one| same(value, one)))
    };
    match operator {
        "eq" => same(value, wanted),
        "neq" => !same(value, wanted),
        "gt" => order(wanted) == Some(Ordering::Greater),
        "gte" => matches!(order(wanted), Some(Ordering::Greater | Ordering::Equal)),
        "lt" => order(wanted) == Some(Ordering::Less),
        "lte" => matches!(order(wanted), Some(Ordering::Less | Ordering::Equal)),
        "in" => among(),
        _ => !among(),
    }
}

/// What is null is false where that is asked.
fn same(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Null, Value::Bool(wanted)) => !wanted,
        _ => compare(value, wanted) == Some(Ordering::Equal) || value == wanted,
    }
}

fn compare(value: &Value, wanted: &Value) -> Option<Ordering> {
    // The official client sends numbers as texts.
    let wanted = wanted.as_f64().or_else(|| wanted.as_str()?.parse().ok())?;
    value.as_f64()?.partial_cmp(&wanted)
}

fn sort(rows: &mut [Value], order: &Value) {
    for by in order.as_array().into_iter().flatten().rev() {
        let (Some(key), is_down) = (by[0].as_str(), by[1] == "desc") else {
            continue;
        };
        rows.sort_by(|one, other| {
            let ordering = compare(&one[key], &other[key]).unwrap_or(Ordering::Equal);
            if is_down { ordering.reverse() } else { ordering }
        });
    }
}
