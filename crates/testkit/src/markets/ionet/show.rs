//! What it shows of itself, in its own shapes.

use super::{Answer, Ask, Deployment, FEE_PERCENT, Hardware, IoNet, detail as refusal, invalid, stock::Id};
use jiff::Timestamp;
use serde_json::{Value, json};

const PAGE_SIZE_MAX: usize = 100;
const MICROS: f64 = 1e6;

/// Micro-dollars as the JSON number that people read.
#[expect(clippy::cast_precision_loss, reason = "a fake's amounts are small")]
fn usd(micros: i64) -> Value {
    json!(micros as f64 / MICROS)
}

fn row(hardware: &Hardware) -> Value {
    let id = hardware.id.json();
    let (supplier, second) = match &hardware.id {
        Id::Int(_) => ("internal", hardware.cards.to_string()),
        Id::Text(_) => ("external", hardware.place.iso2.to_owned()),
    };
    let first = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    json!({
        "id": format!("{first}__{second}"), "deploy_id": id, "name": hardware.name, "num_cards": hardware.cards,
        "supplier": supplier, "sold_out": hardware.is_sold_out, "price": usd(hardware.price),
        "vram_per_card": hardware.vram, "interconnect": null, "nvlink": false, "storage": hardware.storage,
        "vcpu": 39, "memory": 125, "location": hardware.place.iso2,
    })
}

pub(super) fn hardware(stock: &[Hardware]) -> Value {
    json!({ "hardware": stock.iter().map(row).collect::<Vec<_>>() })
}

pub(super) fn public_containers(stock: &[Hardware]) -> Value {
    let rows = stock
        .iter()
        .filter(|hardware| hardware.runs_containers)
        .map(|hardware| {
            let mut row = row(hardware);
            row["brand_name"] = json!("NVIDIA");
            row["available_replicas"] = json!(hardware.place.free);
            row
        });
    json!({ "hardware": rows.collect::<Vec<_>>() })
}

pub(super) fn containers_hardware(stock: &[Hardware]) -> Value {
    let rows = stock
        .iter()
        .filter(|hardware| hardware.runs_containers)
        .map(|hardware| {
            json!({
                "max_gpus_per_container": hardware.cards.min(8), "available": hardware.place.free,
                "hardware_id": hardware.id.json(), "hardware_name": hardware.name, "brand_name": "NVIDIA",
            })
        });
    let rows: Vec<Value> = rows.collect();
    json!({ "total": rows.len(), "hardware": rows })
}

fn asked<'a>(provider: &'a IoNet, ask: &Ask<'_>) -> Option<&'a Hardware> {
    let id = ask.seen.query("hardware_id")?;
    provider
        .stock
        .iter()
        .find(|hardware| hardware.id.is(id) && hardware.runs_containers)
}

fn number(ask: &Ask<'_>, name: &'static str) -> Result<i64, Answer> {
    let number = ask
        .seen
        .query(name)
        .and_then(|text| text.parse().ok())
        .filter(|number| *number >= 1);
    number.ok_or_else(|| {
        invalid(
            "int_parsing",
            &["query", name],
            "Input should be a valid integer, at least 1",
        )
    })
}

pub(super) fn places(provider: &IoNet, ask: &Ask<'_>) -> Answer {
    if let Err(answer) = number(ask, "hardware_qty") {
        return answer;
    }
    let Some(hardware) = asked(provider, ask) else {
        return refusal(404, "Hardware not found");
    };
    let free = if ask.special == Some("no-replicas") {
        0
    } else {
        hardware.place.free
    };
    let place = &hardware.place;
    provider.reply(&json!([
        { "id": 900, "iso2": "DE", "name": "Germany", "available_replicas": 0 },
        { "id": place.id.json(), "iso2": place.iso2, "name": place.name, "available_replicas": free },
    ]))
}

pub(super) fn price(provider: &IoNet, ask: &Ask<'_>) -> Answer {
    let numbers = ["duration_hours", "gpus_per_container", "replica_count"].map(|name| number(ask, name));
    let [Ok(hours), Ok(gpus), Ok(replicas)] = numbers else {
        let wrong = numbers.into_iter().find_map(Result::err);
        return wrong.unwrap_or_else(|| Answer::empty(500));
    };
    let places = ask
        .seen
        .query("location_ids")
        .and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok());
    let Some([place]) = places.as_deref() else {
        return invalid("json_invalid", &["query", "location_ids"], "Invalid JSON");
    };
    let Some(hardware) = asked(provider, ask) else {
        return refusal(404, "Hardware not found");
    };
    let is_there = *place == hardware.place.id.json() || *place == json!(hardware.place.iso2);
    if !is_there || hardware.place.free == 0 || ask.special == Some("no-replicas") {
        return refusal(400, "No available replicas in the given locations");
    }
    let (price, fee) = IoNet::hourly(hardware);
    let times = hours * replicas;
    provider.reply(&json!({
        "replica_count": replicas, "gpus_per_container": gpus, "available_replica_count": [hardware.place.free],
        "discount": 0, "ionet_fee": usd(fee * times), "ionet_fee_percent": FEE_PERCENT,
        "currency_conversion_fee": 0, "currency_conversion_fee_percent": 0,
        "total_cost_usdc": usd((price + fee) * times),
    }))
}

impl IoNet {
    pub(super) fn list(&mut self, ask: &Ask<'_>) -> Answer {
        let size = ask.seen.query("page_size").map_or(Ok(20), str::parse);
        let page = ask.seen.query("page").map_or(Ok(self.first_page), str::parse);
        let (Ok(size @ 1..=PAGE_SIZE_MAX), Ok(page)) = (size, page) else {
            return invalid("int_parsing", &["query", "page"], "Input should be a valid integer");
        };
        let Some(page) = usize::checked_sub(page, self.first_page) else {
            return invalid(
                "greater_than_equal",
                &["query", "page"],
                "Input should be greater than or equal to 1",
            );
        };
        let wanted = ask.seen.query("status").map(str::to_ascii_lowercase);
        let mut rows = Vec::new();
        for deployment in &mut self.deployments {
            if deployment.unseen > 0 {
                deployment.unseen -= 1;
            } else if wanted.as_deref().is_none_or(|wanted| wanted == deployment.status()) {
                rows.push(deployment.clone());
            }
        }
        let total = rows.len() + usize::from(ask.special == Some("short"));
        let shown = rows.iter().skip(page * size).take(size);
        let shown: Vec<Value> = shown.map(|deployment| listed(self, deployment, ask.now)).collect();
        self.reply(&json!({ "deployments": shown, "total": total, "statuses": ["running", "completed"] }))
    }
}

fn status(provider: &IoNet, deployment: &Deployment) -> String {
    let status = deployment.status();
    if !provider.has_odd_case {
        return status.to_owned();
    }
    let (first, rest) = status.split_at(1);
    first.to_ascii_uppercase() + rest
}

/// Minutes served and left, and the share of them in percent.
#[expect(clippy::cast_precision_loss, reason = "a fake's times are short")]
fn times(deployment: &Deployment, now: Timestamp) -> (Value, Value, Value) {
    let (served, bought) = (deployment.served(now), deployment.hours * 3_600);
    let percent = served as f64 * 100.0 / bought as f64;
    let minutes = |seconds: i64| match seconds % 60 {
        0 => json!(seconds / 60),
        _ => json!(seconds as f64 / 60.0),
    };
    (minutes(served), minutes(bought - served), json!(percent))
}

fn listed(provider: &IoNet, deployment: &Deployment, now: Timestamp) -> Value {
    let (served, remaining, percent) = times(deployment, now);
    json!({
        "id": deployment.id, "status": status(provider, deployment), "name": deployment.name,
        "completed_percent": percent, "hardware_quantity": 1, "brand_name": "NVIDIA",
        "hardware_name": deployment.hardware.name, "compute_minutes_served": served,
        "compute_minutes_remaining": remaining, "created_at": deployment.created_at.to_string(),
    })
}

pub(super) fn detail(provider: &IoNet, deployment: &Deployment, now: Timestamp) -> Value {
    let (served, remaining, percent) = times(deployment, now);
    let mut config = deployment.config.clone();
    config["image_url"] = json!(deployment.image);
    config["secret_env_keys"] = json!(deployment.secrets.keys().collect::<Vec<_>>());
    let place = &deployment.hardware.place;
    let back = if provider.shows_net { deployment.refunded } else { 0 };
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    json!({
        "id": deployment.id, "status": status(provider, deployment), "created_at": deployment.created_at.to_string(),
        "started_at": time(deployment.started_at), "finished_at": time(deployment.finished_at),
        "amount_paid": usd(deployment.paid - back), "completed_percent": percent,
        "total_gpus": deployment.hardware.cards, "gpus_per_container": deployment.hardware.cards,
        "total_containers": 1, "hardware_name": deployment.hardware.name, "hardware_id": deployment.hardware.id.json(),
        "locations": [{ "id": place.id.json(), "iso2": place.iso2, "name": place.name }], "brand_name": "NVIDIA",
        "compute_minutes_served": served, "compute_minutes_remaining": remaining, "container_config": config,
    })
}

fn container_id(deployment: &Deployment) -> String {
    let tail = &deployment.id[deployment.id.len() - 4..];
    format!("c-{tail}")
}

pub(super) fn containers(provider: &IoNet, deployment: &Deployment, now: Timestamp) -> Value {
    let id = container_id(deployment);
    let url = deployment
        .is_healthy(now)
        .then(|| format!("https://{id}.worker.example"));
    let worker = json!({
        "device_id": "6d0c", "container_id": id, "hardware": deployment.hardware.name, "brand_name": "NVIDIA",
        "created_at": deployment.created_at.to_string(), "uptime_percent": 100,
        "gpus_per_container": deployment.hardware.cards, "status": status(provider, deployment),
        "container_events": [], "public_url": url,
    });
    json!({ "total": 1, "workers": [worker] })
}

/// The log of its container, as events.
pub(super) fn log(deployment: &Deployment, ask: &Ask<'_>) -> Answer {
    if ask.parameters.get(1) != Some(&container_id(deployment)) {
        return refusal(404, "Container not found");
    }
    let stream = ask.seen.query("stream").unwrap_or("stdout");
    let lines = (1..=40).map(|line| format!("data: {stream} line {line} of {}\n\n", deployment.name));
    Answer::of(200, "text/event-stream", lines.collect::<String>())
}
