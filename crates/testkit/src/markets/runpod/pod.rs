//! One pod, from its making to its end, and what it costs meanwhile.

use super::{Gpu, RunPod, catalog, problem};
use crate::markets::{Answer, Ask};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const PROVISIONING: SignedDuration = SignedDuration::from_secs(10);
const STARTING: SignedDuration = SignedDuration::from_secs(40);
const HOUR: i64 = 3_600;
const LOG_LINES_MAX: usize = 5_000;
/// Where nobody says how much.
const DISK_GB: u32 = 20;
const KEYS: [&str; 14] = [
    "name",
    "image",
    "gpu",
    "cpu",
    "cloud",
    "disk",
    "env",
    "ports",
    "args",
    "registry",
    "dataCenterIds",
    "mounts",
    "templateId",
    "startSsh",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Provisioning,
    Starting,
    Running,
    Exited,
    Error,
    Terminated,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "PROVISIONING",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Exited => "EXITED",
            Self::Error => "ERROR",
            Self::Terminated => "TERMINATED",
        }
    }
}

/// What seconds of one hour cost, each at the price of then: 3,600 times as much, and the disk 720 times that.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    pub(super) gpu: i64,
    pub(super) disk: i64,
}

impl Used {
    /// Of the GPU and of the disk, in micro-dollars.
    pub(super) fn cost(self) -> [i64; 2] {
        [self.gpu / HOUR, self.disk / HOUR / 720]
    }
}

#[derive(Debug, Clone)]
pub struct Pod {
    pub id: String,
    pub name: String,
    pub gpu: String,
    pub count: u32,
    pub cloud: &'static str,
    pub disk: u32,
    /// All that was sent.
    pub body: Value,
    pub status: Status,
    pub is_locked: bool,
    pub created_at: Timestamp,
    pub fails_boot: bool,
    /// Listings that do not show it yet.
    pub unseen: u32,
    place: Option<String>,
    /// Of an hour from now on, in micro-dollars times 720 for the disk.
    pub gpu_price: i64,
    pub(super) disk_price: i64,
    billed_until: Timestamp,
    /// By the second at which the hour begins.
    pub(super) used: BTreeMap<i64, Used>,
}

/// Micro-dollars as the JSON number that people read.
#[expect(clippy::cast_precision_loss, reason = "a fake's amounts are small")]
pub(super) fn usd(micros: i64) -> Value {
    json!(micros as f64 / 1e6)
}

impl Pod {
    /// Bills what passed, and walks on.
    pub(super) fn pass(&mut self, now: Timestamp) {
        self.bill(now);
        let age = now.duration_since(self.created_at);
        self.status = match self.status {
            Status::Provisioning | Status::Starting if age >= STARTING && self.fails_boot => Status::Error,
            Status::Provisioning | Status::Starting if age >= STARTING => Status::Running,
            Status::Provisioning if age >= PROVISIONING => Status::Starting,
            other => other,
        };
    }

    /// The GPU costs until it has exited, the disk until the end.
    fn bill(&mut self, now: Timestamp) {
        let until = now.as_second();
        let mut at = self.billed_until.as_second();
        while at < until && self.status != Status::Terminated {
            let hour = at - at.rem_euclid(HOUR);
            let end = until.min(hour + HOUR);
            let used = self.used.entry(hour).or_default();
            used.disk += self.disk_price * (end - at);
            if self.status != Status::Exited {
                used.gpu += self.gpu_price * (end - at);
            }
            at = end;
        }
        self.billed_until = now;
    }

    pub(super) fn end(&mut self, now: Timestamp) {
        self.bill(now);
        self.status = Status::Terminated;
    }

    /// What it has cost, in micro-dollars.
    pub fn cost(&self) -> i64 {
        self.used.values().map(|used| used.cost().iter().sum::<i64>()).sum()
    }

    /// Its bill says so many times as much for the GPU from now on, also of what was.
    pub fn multiply_bill(&mut self, factor: i64) {
        self.used.values_mut().for_each(|used| used.gpu *= factor);
    }

    pub(super) fn actions(&self) -> &'static [&'static str] {
        match self.status {
            _ if self.is_locked => &[],
            Status::Provisioning | Status::Starting | Status::Error => &["terminate"],
            Status::Running => &["stop", "restart", "terminate"],
            Status::Exited => &["start", "terminate"],
            Status::Terminated => &[],
        }
    }

    /// How whoever asked for it is told of it.
    fn made(&self, ask: &Ask<'_>) -> Answer {
        match ask.special {
            Some("error-with-id") => {
                let body = json!({ "title": "Internal Server Error", "status": 500, "podId": self.id });
                Answer::of(500, "application/problem+json", body.to_string())
            }
            Some("no-id") => Answer::json(201, &json!({ "name": self.name })),
            _ => Answer::json(201, &self.json(ask.now)),
        }
    }

    pub(super) fn json(&self, now: Timestamp) -> Value {
        let is_running = self.status == Status::Running;
        let uptime = now.duration_since(self.created_at).as_secs();
        let runtime = is_running.then(|| {
            json!({ "uptime": uptime, "gpus": [{ "util": 0, "memoryUtil": 0 }], "cpu": 1, "memory": 2, "ports": [] })
        });
        json!({
            "id": self.id, "name": self.name, "status": self.status.as_str(), "actions": self.actions(),
            "image": self.body["image"], "args": self.body["args"], "env": self.body["env"], "ports": self.body["ports"],
            "disk": self.disk, "mounts": null, "gpu": { "id": self.gpu, "count": self.count }, "cpu": null,
            "cloud": self.cloud, "dataCenterId": self.place, "ssh": null,
            "cost": usd(self.gpu_price + self.disk_price / 720), "locked": self.is_locked, "globalNetworking": false,
            "runtime": runtime, "createdAt": self.created_at.to_string(),
            "startedAt": is_running.then(|| (self.created_at + STARTING).to_string()),
        })
    }
}

fn invalid(errors: &[String]) -> Answer {
    let body =
        json!({ "title": "Unprocessable Entity", "status": 422, "detail": "validation failed", "errors": errors });
    Answer::of(422, "application/problem+json", body.to_string())
}

/// What is wrong with a request for a pod.
fn faults(body: &Value) -> Vec<String> {
    let Some(fields) = body.as_object() else {
        return vec!["body: expected object".to_owned()];
    };
    let strangers = fields.keys().filter(|key| !KEYS.contains(&key.as_str()));
    let mut faults: Vec<String> = strangers
        .map(|key| format!("body.{key}: unexpected property"))
        .collect();
    for key in ["name", "image"] {
        if body[key].as_str().is_none_or(str::is_empty) {
            faults.push(format!("body.{key}: expected required property"));
        }
    }
    let is_number = |value: &Value| value.as_u64().is_some_and(|number| number >= 1);
    if !body["gpu"]["id"].is_string() || !is_number(&body["gpu"]["count"]) {
        faults.push("body.gpu: expected id and count".to_owned());
    }
    if !body["disk"].is_null() && !is_number(&body["disk"]) {
        faults.push("body.disk: expected a number of at least 1".to_owned());
    }
    let is_port = |port: &Value| {
        port.as_str()
            .is_some_and(|port| port.ends_with("/http") || port.ends_with("/tcp"))
    };
    if !body["ports"].as_array().is_none_or(|ports| ports.iter().all(is_port)) {
        faults.push("body.ports: expected port/protocol".to_owned());
    }
    let is_env = |env: &serde_json::Map<String, Value>| env.values().all(Value::is_string);
    if !body["env"].as_object().is_none_or(is_env) {
        faults.push("body.env: expected texts".to_owned());
    }
    if !body["args"].is_null() && !body["args"].is_string() {
        faults.push("body.args: expected string".to_owned());
    }
    faults
}

/// A number of a body, or what it is where nobody says.
fn number(value: &Value, otherwise: u32) -> u32 {
    let said = value.as_u64().map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    said.unwrap_or(otherwise)
}

/// Whoever asked for data centres asked for none that has such a GPU.
struct Nowhere;

/// The first of the wanted data centres that has such a GPU; nothing where it is the same to whoever asks.
fn placed(body: &Value, gpu: &Gpu) -> Result<Option<String>, Nowhere> {
    let Some(wanted) = body["dataCenterIds"].as_array() else {
        return Ok(None);
    };
    let known = |place: &Value| gpu.places.iter().find(|known| *place == json!(known));
    let place = wanted.iter().find_map(known).ok_or(Nowhere)?;
    Ok(Some((*place).to_owned()))
}

impl RunPod {
    pub(super) fn create(&mut self, ask: &Ask<'_>) -> Answer {
        let body = ask.seen.json();
        let faults = faults(&body);
        if !faults.is_empty() {
            return invalid(&faults);
        }
        let cloud = ["COMMUNITY", "SECURE"][usize::from(body["cloud"] != "COMMUNITY")];
        let count = number(&body["gpu"]["count"], u32::MAX);
        let Some(gpu) = self.gpus.iter_mut().find(|gpu| body["gpu"]["id"] == json!(gpu.id)) else {
            return problem(404, "Not Found", "GPU type not found");
        };
        let has_room = ask.special != Some("no-room");
        let Some(place) = placed(&body, gpu).ok().filter(|_| has_room && gpu.take(cloud, count)) else {
            let words = "There are no longer any instances available with the requested specifications. \
                         Please refresh and try again.";
            return problem(400, "Bad Request", words);
        };
        self.ever += 1;
        let disk = number(&body["disk"], DISK_GB);
        let pod = Pod {
            id: format!("pod{:011x}", self.ever),
            name: body["name"].as_str().unwrap_or_default().to_owned(),
            gpu: gpu.id.clone(),
            count,
            cloud,
            disk,
            status: Status::Provisioning,
            is_locked: false,
            created_at: ask.now,
            fails_boot: self.fails_boot,
            unseen: self.list_lag,
            place,
            gpu_price: gpu.price[catalog::index(cloud)] * i64::from(count),
            disk_price: self.disk_price * i64::from(disk),
            billed_until: ask.now,
            used: BTreeMap::new(),
            body,
        };
        let answer = pod.made(ask);
        self.pods.push(pod);
        answer
    }
}

/// The log of its container, as events.
pub(super) fn log(pod: &Pod, ask: &Ask<'_>) -> Answer {
    let tail = ask.seen.query("tail").map_or(Ok(100), str::parse::<usize>);
    let Ok(tail @ 0..=LOG_LINES_MAX) = tail else {
        return invalid(&["query.tail: expected a number from 0 to 5000".to_owned()]);
    };
    let first = 41 - tail.min(40);
    let lines = (first..=40).map(|line| {
        let data =
            json!({ "source": "container", "line": format!("line {line} of {}", pod.name), "ts": pod.created_at });
        format!("id: {}\ndata: {data}\n\n", pod.created_at)
    });
    Answer::of(200, "text/event-stream", lines.collect::<String>())
}
