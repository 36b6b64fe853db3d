//! RunPod as version 2 of its REST API answers: pods paid by the second, and nothing that keeps one from being made
//! twice.
//!
//! Written from `reference/runpod_api.md`.

mod bill;
mod catalog;
mod pod;

pub use catalog::Gpu;
pub use pod::{Pod, Status};

use super::{Answer, Ask, Fault, Named, Route, Vendor};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The key that it lets in, unless another one is given.
pub const KEY: &str = "rpa_FAKE";
/// Requests in a minute.
const LIMIT: usize = 600;
const WINDOW_SECONDS: i64 = 60;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Catalog,
    ReadPods,
    WritePods,
    Billing,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Catalog, Self::ReadPods, Self::WritePods, Self::Billing];

    fn of(route: &str) -> Self {
        match route {
            "gpus" | "gpu" | "cpus" | "data-centers" => Self::Catalog,
            "list" | "get" | "log" => Self::ReadPods,
            "bill" => Self::Billing,
            _ => Self::WritePods,
        }
    }
}

/// The provider.
pub struct RunPod {
    pub key: String,
    /// What its key may do.
    pub scopes: BTreeSet<Scope>,
    pub gpus: Vec<Gpu>,
    pub pods: Vec<Pod>,
    /// What a GB of disk costs in a month, in micro-dollars.
    pub disk_price: i64,
    /// How many listings do not show a new pod yet.
    pub list_lag: u32,
    /// Hours by which bills lag behind.
    pub bill_lag: i64,
    /// Requests that it answers in a minute.
    pub limit: usize,
    /// Whether the next pods fail instead of running.
    pub fails_boot: bool,
    /// Whether pods that are no more stay in the list.
    pub keeps_terminated: bool,
    ever: usize,
    asked: Vec<Timestamp>,
}

const ROUTES: &[Route] = &[
    Route::new("gpus", "GET", "/v2/catalog/gpus"),
    Route::new("gpu", "GET", "/v2/catalog/gpus/{}"),
    Route::new("cpus", "GET", "/v2/catalog/cpus"),
    Route::new("data-centers", "GET", "/v2/catalog/datacenters"),
    Route::new("create", "POST", "/v2/pods"),
    Route::new("list", "GET", "/v2/pods"),
    Route::new("get", "GET", "/v2/pods/{}"),
    Route::new("change", "PATCH", "/v2/pods/{}"),
    Route::new("destroy", "DELETE", "/v2/pods/{}"),
    Route::new("action", "POST", "/v2/pods/{}/action"),
    Route::new("log", "GET", "/v2/pods/{}/logs"),
    Route::new("bill", "GET", "/v2/billing/pods"),
];

const FAULTS: &[Named] = &[
    Named::new("problem-500", "does it and answers 500 with a problem", || {
        Fault::Afterwards(problem(500, "Internal Server Error", "An unexpected error occurred"))
    }),
    Named::new("error-with-id", "makes the pod and answers 500 with its id", || {
        Fault::Special("error-with-id")
    }),
    Named::new("no-id", "makes the pod and does not say under which id", || {
        Fault::Special("no-id")
    }),
    Named::new("no-room", "nobody has such a machine free", || {
        Fault::Special("no-room")
    }),
    Named::new("no-credit", "402, the account has too little credit", || {
        Fault::Instead(problem(
            402,
            "Payment Required",
            "Your balance is too low to rent this pod",
        ))
    }),
    Named::new("no-credit-400", "400 with the same words", || {
        Fault::Instead(problem(400, "Bad Request", "Your balance is too low to rent this pod"))
    }),
    Named::new("locked-out", "401, whatever the key", || {
        Fault::Instead(problem(401, "Unauthorized", "Invalid API key"))
    }),
    Named::new("forbidden", "403, the key may not do this", || {
        Fault::Instead(problem(
            403,
            "Forbidden",
            "The API key lacks access to the requested resource",
        ))
    }),
    Named::new("moved", "404 as for a version of the API that is no more", || {
        Fault::Instead(problem(404, "Not Found", "Not found"))
    }),
    Named::new("rate-limited", "429 with Retry-After and RateLimit", || {
        Fault::Instead(too_many(7))
    }),
    Named::new("rate-limited-bare", "429 without a word", || {
        Fault::Instead(Answer::empty(429))
    }),
    Named::new("locked", "409, the pod is locked", || {
        Fault::Instead(problem(409, "Conflict", "Pod is locked"))
    }),
    Named::new("half", "a list that shows every second pod", || Fault::Special("half")),
    Named::new("bad-row", "a list with a row that has no id", || {
        Fault::Special("bad-row")
    }),
];

/// An error in its form.
fn problem(status: u16, title: &str, detail: &str) -> Answer {
    let body = json!({ "title": title, "status": status, "detail": detail });
    Answer::of(status, "application/problem+json", body.to_string())
}

fn too_many(seconds: i64) -> Answer {
    problem(429, "Too Many Requests", "Rate limit exceeded")
        .header("retry-after", &seconds.to_string())
        .header("ratelimit", &format!("\"default\";r=0;t={seconds}"))
}

fn no_pod() -> Answer {
    problem(404, "Not Found", "Pod not found")
}

impl Default for RunPod {
    fn default() -> Self {
        Self {
            key: KEY.to_owned(),
            scopes: Scope::ALL.into(),
            gpus: catalog::usual(),
            pods: Vec::new(),
            disk_price: 100_000,
            list_lag: 0,
            bill_lag: 0,
            limit: LIMIT,
            fails_boot: false,
            keeps_terminated: false,
            ever: 0,
            asked: Vec::new(),
        }
    }
}

impl RunPod {
    /// With so many kinds of GPU.
    pub fn with_offers(count: usize) -> Self {
        Self {
            gpus: catalog::many(count),
            ..Self::default()
        }
    }

    pub fn pod(&mut self, id: &str) -> Option<&mut Pod> {
        self.pods
            .iter_mut()
            .find(|pod| pod.id == id && pod.status != Status::Terminated)
    }

    /// Counts the request, or refuses it.
    fn count(&mut self, now: Timestamp) -> Option<Answer> {
        let age = |at: &Timestamp| now.duration_since(*at).as_secs();
        self.asked.retain(|at| age(at) < WINDOW_SECONDS);
        if self.asked.len() >= self.limit {
            let oldest = self.asked.first().map_or(0, age);
            return Some(too_many((WINDOW_SECONDS - oldest).max(1)));
        }
        self.asked.push(now);
        None
    }

    fn with_limit(&self, answer: Answer) -> Answer {
        if answer.headers.iter().any(|(name, _)| name == "ratelimit") {
            return answer;
        }
        let left = self.limit - self.asked.len().min(self.limit);
        answer
            .header("ratelimit", &format!("\"default\";r={left};t={WINDOW_SECONDS}"))
            .header(
                "ratelimit-policy",
                &format!("\"default\";q={};w={WINDOW_SECONDS}", self.limit),
            )
    }

    fn done(&mut self, ask: &Ask<'_>) -> Answer {
        let id = ask.parameters.first().map_or("", String::as_str);
        match ask.seen.route {
            "gpus" => catalog::list(&self.gpus, ask),
            "gpu" => catalog::one(&self.gpus, id, ask),
            "cpus" => Answer::json(200, &json!({ "cpus": [] })),
            "data-centers" => catalog::data_centers(&self.gpus),
            "create" => self.create(ask),
            "list" => self.list(ask),
            "bill" => bill::show(self, ask),
            "destroy" => self.destroy(id, ask.now),
            "action" => self.act(id, ask),
            route => match self.pod(id) {
                None => no_pod(),
                Some(pod) if route == "log" => pod::log(pod, ask),
                Some(pod) => Answer::json(200, &pod.json(ask.now)),
            },
        }
    }

    fn list(&mut self, ask: &Ask<'_>) -> Answer {
        let mut shown = Vec::new();
        let keeps_terminated = self.keeps_terminated;
        for pod in &mut self.pods {
            if pod.unseen > 0 {
                pod.unseen -= 1;
            } else if keeps_terminated || pod.status != Status::Terminated {
                shown.push(pod.json(ask.now));
            }
        }
        match ask.special {
            Some("half") => shown = shown.into_iter().step_by(2).collect(),
            Some("bad-row") => shown.push(json!({ "status": "RUNNING" })),
            _ => {}
        }
        Answer::json(200, &json!({ "pods": shown }))
    }

    fn destroy(&mut self, id: &str, now: Timestamp) -> Answer {
        let Some(pod) = self.pod(id) else {
            return no_pod();
        };
        if pod.is_locked {
            return problem(409, "Conflict", "Pod is locked");
        }
        pod.end(now);
        let (gpu, cloud, count) = (pod.gpu.clone(), pod.cloud, pod.count);
        if let Some(gpu) = self.gpus.iter_mut().find(|known| known.id == gpu) {
            gpu.give_back(cloud, count);
        }
        Answer::empty(204)
    }

    fn act(&mut self, id: &str, ask: &Ask<'_>) -> Answer {
        let body = ask.seen.json();
        let action = body["action"].as_str().unwrap_or_default();
        let Some(pod) = self.pod(id) else {
            return no_pod();
        };
        if !pod.actions().contains(&action) {
            return problem(409, "Conflict", "The action is not allowed in the pod's state");
        }
        match action {
            "terminate" => return self.destroy(id, ask.now),
            "stop" => pod.status = Status::Exited,
            _ => pod.status = Status::Running,
        }
        Answer::json(200, &pod.json(ask.now))
    }
}

impl Vendor for RunPod {
    fn routes(&self) -> &'static [Route] {
        ROUTES
    }

    fn named_faults(&self) -> &'static [Named] {
        FAULTS
    }

    fn answer(&mut self, ask: &Ask<'_>) -> Answer {
        let key = format!("Bearer {}", self.key);
        if ask.seen.header("authorization") != Some(key.as_str()) {
            return problem(401, "Unauthorized", "Invalid API key");
        }
        if let Some(refusal) = self.count(ask.now) {
            return self.with_limit(refusal);
        }
        if !self.scopes.contains(&Scope::of(ask.seen.route)) {
            return problem(403, "Forbidden", "The API key lacks access to the requested resource");
        }
        let answer = self.done(ask);
        self.with_limit(answer)
    }

    fn pass(&mut self, now: Timestamp) {
        for pod in &mut self.pods {
            pod.pass(now);
        }
    }

    fn created(&self) -> usize {
        self.ever
    }

    fn live(&self) -> usize {
        self.pods.iter().filter(|pod| pod.status != Status::Terminated).count()
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let number = || value.as_u64().ok_or_else(|| format!("{name} is a number"));
        let small = |number: u64| u32::try_from(number).map_err(|_| format!("{name} is too much"));
        let yes = || value.as_bool().ok_or_else(|| format!("{name} is true or false"));
        match name {
            "key" => value.as_str().ok_or("key is a text")?.clone_into(&mut self.key),
            "list_lag" => self.list_lag = small(number()?)?,
            "bill_lag" => self.bill_lag = i64::from(small(number()?)?),
            "limit" => self.limit = usize::try_from(number()?).map_err(|_| "limit is too much")?,
            "fails_boot" => self.fails_boot = yes()?,
            "keeps_terminated" => self.keeps_terminated = yes()?,
            "read_only" => {
                self.scopes = Scope::ALL.into();
                if yes()? {
                    self.scopes.remove(&Scope::WritePods);
                }
            }
            _ => return Err(format!("there is no setting {name}")),
        }
        Ok(())
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("key", "the key that it lets in"),
            ("list_lag", "how many listings do not show a new pod yet"),
            ("bill_lag", "hours by which bills lag behind"),
            ("limit", "requests that it answers in a minute"),
            ("fails_boot", "new pods fail instead of running"),
            ("keeps_terminated", "pods that are no more stay in the list"),
            ("read_only", "the key may read pods and not write them"),
        ]
    }
}
