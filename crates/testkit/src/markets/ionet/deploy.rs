//! A request for a deployment, judged as strictly as io.net's own schema does.

use super::{Answer, Ask, Deployment, Hardware, IoNet, Phase, detail, invalid};
use jiff::Timestamp;
use serde_json::{Value, json};

const KEYS: [&str; 8] = [
    "resource_private_name",
    "duration_hours",
    "gpus_per_container",
    "hardware_id",
    "location_ids",
    "node_pool_id",
    "container_config",
    "registry_config",
];
const CONTAINER_KEYS: [&str; 6] = [
    "replica_count",
    "traffic_port",
    "entrypoint",
    "args",
    "env_variables",
    "secret_env_variables",
];
const REGISTRY_KEYS: [&str; 3] = ["image_url", "registry_username", "registry_secret"];

/// Refuses what the schema does not know.
pub(super) fn unknown_key(body: &Value, known: &[&str], at: &[&str]) -> Option<Answer> {
    let mut path = vec!["body"];
    path.extend_from_slice(at);
    let Some(fields) = body.as_object() else {
        return Some(invalid(
            "model_attributes_type",
            &path,
            "Input should be a valid dictionary",
        ));
    };
    let stranger = fields.keys().find(|key| !known.contains(&key.as_str()))?;
    path.push(stranger);
    Some(invalid("extra_forbidden", &path, "Extra inputs are not permitted"))
}

fn missing(body: &Value, required: &[&str], at: &[&str]) -> Option<Answer> {
    let lacking = required.iter().find(|key| body.get(**key).is_none_or(Value::is_null))?;
    let mut path = vec!["body"];
    path.extend_from_slice(at);
    path.push(lacking);
    Some(invalid("missing", &path, "Field required"))
}

fn fault(body: &Value) -> Option<Answer> {
    let (container, registry) = (&body["container_config"], &body["registry_config"]);
    let required = [
        "resource_private_name",
        "gpus_per_container",
        "hardware_id",
        "container_config",
        "registry_config",
    ];
    let is_above_zero = |key: &str| body[key].as_i64().is_none_or(|number| number > 0);
    unknown_key(body, &KEYS, &[])
        .or_else(|| missing(body, &required, &[]))
        .or_else(|| unknown_key(container, &CONTAINER_KEYS, &["container_config"]))
        .or_else(|| missing(container, &["replica_count", "traffic_port"], &["container_config"]))
        .or_else(|| unknown_key(registry, &REGISTRY_KEYS, &["registry_config"]))
        .or_else(|| missing(registry, &["image_url"], &["registry_config"]))
        .or_else(|| {
            let has_place = body["location_ids"].as_array().is_some_and(|ids| ids.len() == 1);
            let is_placed = has_place ^ body["node_pool_id"].is_string();
            let words = "exactly one of location_ids (with one id) and node_pool_id";
            (!is_placed).then(|| invalid("value_error", &["body", "location_ids"], words))
        })
        .or_else(|| {
            let words = "Input should be greater than 0";
            (!is_above_zero("duration_hours")).then(|| invalid("greater_than", &["body", "duration_hours"], words))
        })
}

impl IoNet {
    pub(super) fn deploy(&mut self, ask: &Ask<'_>) -> Answer {
        let body = ask.seen.json();
        if let Some(answer) = fault(&body) {
            return answer;
        }
        let Some(hardware) = self.asked_hardware(&body) else {
            return detail(404, "Hardware not found");
        };
        if hardware.place.free == 0 || hardware.is_sold_out || !hardware.runs_containers {
            return detail(400, "No available replicas for the requested hardware");
        }
        let hours = body["duration_hours"].as_i64().unwrap_or(1);
        let (price, fee) = Self::hourly(&hardware);
        let cost = (price + fee) * hours;
        if cost > self.credit {
            return detail(402, "Insufficient credits");
        }
        self.credit -= cost;
        let id = self.next_id();
        let stocked = self.stock.iter_mut().find(|known| known.id == hardware.id);
        if let Some(stocked) = stocked {
            stocked.place.free -= 1;
        }
        let deployment = self.deployment_of(&id, &body, hardware, hours, cost, ask.now);
        self.deployments.push(deployment);
        match ask.special {
            Some("payment-required-id") => {
                Answer::json(200, &json!({ "status": "payment_required", "deployment_id": id }))
            }
            Some("error-with-id") => Answer::json(500, &json!({ "detail": "Internal error", "deployment_id": id })),
            Some("no-id") => Answer::json(200, &json!({ "status": "deployment requested" })),
            _ => Answer::json(200, &json!({ "status": "deployment requested", "deployment_id": id })),
        }
    }

    /// A deployment that was there before anybody looked, on the first of the stock.
    pub fn add(&mut self, name: &str, now: Timestamp) {
        let body = json!({ "resource_private_name": name, "container_config": { "traffic_port": 80 } });
        let (hardware, id) = (self.stock[0].clone(), self.next_id());
        self.deployments
            .push(self.deployment_of(&id, &body, hardware, 1, 0, now));
    }

    fn next_id(&self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.deployments.len() + 1)
    }

    fn asked_hardware(&self, body: &Value) -> Option<Hardware> {
        let place = &body["location_ids"][0];
        let fits = |known: &&Hardware| {
            let is_there = *place == known.place.id.json() || *place == json!(known.place.iso2) || place.is_null();
            known.id.json() == body["hardware_id"] && is_there && json!(known.cards) == body["gpus_per_container"]
        };
        self.stock.iter().find(fits).cloned()
    }

    fn deployment_of(
        &self,
        id: &str,
        body: &Value,
        hardware: Hardware,
        hours: i64,
        paid: i64,
        now: Timestamp,
    ) -> Deployment {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut config = body["container_config"].clone();
        let secrets = config
            .as_object_mut()
            .and_then(|fields| fields.remove("secret_env_variables"));
        Deployment {
            id: id.to_owned(),
            name: text(&body["resource_private_name"]),
            hardware,
            phase: Phase::Requested,
            created_at: now,
            started_at: None,
            finished_at: None,
            hours,
            paid,
            refunded: 0,
            config,
            image: text(&body["registry_config"]["image_url"]),
            secrets: secrets
                .and_then(|secrets| serde_json::from_value(secrets).ok())
                .unwrap_or_default(),
            fails_boot: self.fails_boot,
            unseen: self.list_lag,
        }
    }
}
