//! What a test in another process can do to a fake: below `/_fake/`, in JSON.

use super::{Answer, Seen, Shared, Vendor, faults};
use serde_json::{Value, json};
use std::time::Duration;

const ADVANCE_SECONDS_MAX: f64 = 1e9;

pub(super) fn answer<V: Vendor>(shared: &Shared<V>, path: &str, seen: &Seen) -> Answer {
    let body = seen.json();
    let done = match (seen.method.as_str(), path) {
        ("GET", "state") => Ok(state(shared)),
        ("GET", "log") => Ok(log(shared)),
        ("POST", "faults") => plan(shared, &body),
        ("DELETE", "faults") => {
            shared.script.lock().unwrap().clear();
            Ok(json!({}))
        }
        ("POST", "open") => {
            shared.gate.add_permits(1);
            Ok(json!({}))
        }
        ("POST", "advance") => advance(shared, &body),
        ("POST", "set") => set(shared, &body),
        _ => Err("there are GET state, GET log, POST and DELETE faults, POST open, POST advance, POST set".to_owned()),
    };
    match done {
        Ok(value) => Answer::json(200, &value),
        Err(why) => Answer::json(400, &json!({ "error": why })),
    }
}

fn state<V: Vendor>(shared: &Shared<V>) -> Value {
    let now = shared.now();
    let mut vendor = shared.vendor.lock().unwrap();
    vendor.pass(now);
    json!({
        "now": now.to_string(),
        "created": vendor.created(),
        "live": vendor.live(),
        "requests": shared.log.borrow().len(),
    })
}

fn log<V: Vendor>(shared: &Shared<V>) -> Value {
    let log = shared.log.borrow();
    let rows = log.iter().map(|seen| {
        json!({
            "route": seen.route,
            "method": seen.method,
            "path": seen.path,
            "query": seen.query,
            "headers": seen.headers,
            "body": String::from_utf8_lossy(&seen.body),
        })
    });
    json!({ "requests": rows.collect::<Vec<_>>() })
}

fn plan<V: Vendor>(shared: &Shared<V>, body: &Value) -> Result<Value, String> {
    let (Some(route), Some(name)) = (body["route"].as_str(), body["fault"].as_str()) else {
        return Err("wanted: {\"route\": …, \"fault\": …, \"times\": 1 or null for always}".to_owned());
    };
    let times = match body.get("times") {
        None => Some(1),
        Some(Value::Null) => None,
        Some(times) => Some(
            times
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or("`times` is no number")?,
        ),
    };
    let vendor = shared.vendor.lock().unwrap();
    if route != "*" && !vendor.routes().iter().any(|known| known.name == route) {
        return Err(format!("there is no route {route}"));
    }
    let fault = faults::by_name(name, vendor.named_faults()).ok_or_else(|| format!("there is no fault {name}"))?;
    drop(vendor);
    shared.plan(route, fault, times);
    Ok(json!({}))
}

fn advance<V: Vendor>(shared: &Shared<V>, body: &Value) -> Result<Value, String> {
    let seconds = body["seconds"]
        .as_f64()
        .filter(|seconds| (0.0..=ADVANCE_SECONDS_MAX).contains(seconds));
    let seconds = seconds.ok_or("wanted: {\"seconds\": 3600}")?;
    *shared.ahead.lock().unwrap() += Duration::from_secs_f64(seconds);
    Ok(state(shared))
}

fn set<V: Vendor>(shared: &Shared<V>, body: &Value) -> Result<Value, String> {
    let name = body["name"].as_str().ok_or("wanted: {\"name\": …, \"value\": …}")?;
    shared.vendor.lock().unwrap().set(name, &body["value"])?;
    Ok(json!({}))
}
