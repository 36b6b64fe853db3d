//! io.net as it answers: containers that are paid for whole hours before they begin, and end by themselves.
//!
//! Written from `reference/ionet_api.md`. Where that says that nobody knows, a setting says which way it is.

mod deploy;
mod machine;
mod show;
mod stock;

pub use machine::{Deployment, Phase};
pub use stock::{Hardware, Id, Place};

use super::{Answer, Ask, Fault, Named, Route, Vendor};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The key that it lets in, unless another one is given.
pub const KEY: &str = "io-v2-fake";
/// What an account has at first, in micro-dollars.
const CREDIT: i64 = 1_000_000_000;
/// What io.net adds to the price of hardware.
const FEE_PERCENT: i64 = 10;

/// The provider.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is something that can be one way or the other"
)]
pub struct IoNet {
    pub key: String,
    pub stock: Vec<Hardware>,
    pub deployments: Vec<Deployment>,
    /// In micro-dollars.
    pub credit: i64,
    /// The number of the first page: its specifications say 0 and 1.
    pub first_page: usize,
    /// How many listings do not show a new deployment yet.
    pub list_lag: u32,
    /// How a wrong key is refused: 401 or 403.
    pub auth_status: u16,
    /// Whether statuses come as `Running`.
    pub has_odd_case: bool,
    /// Whether what was paid is shown without what was given back.
    pub shows_net: bool,
    /// Whether the next deployments fail instead of running.
    pub fails_boot: bool,
    /// Whether GETs come without their envelope.
    pub is_bare: bool,
}

const ROUTES: &[Route] = &[
    Route::new("hardware", "GET", "/enterprise/v1/io-cloud/vmaas/hardware"),
    Route::new("public-hardware", "GET", "/v1/io-cloud/vmaas/hardware"),
    Route::new("public-container-hardware", "GET", "/v1/io-cloud/caas/hardware"),
    Route::new(
        "container-hardware",
        "GET",
        "/enterprise/v1/io-cloud/caas/hardware/max-gpus-per-container",
    ),
    Route::new("places", "GET", "/enterprise/v1/io-cloud/caas/available-replicas"),
    Route::new("price", "GET", "/enterprise/v1/io-cloud/caas/price"),
    Route::new("deploy", "POST", "/enterprise/v1/io-cloud/caas/deploy"),
    Route::new("list", "GET", "/enterprise/v1/io-cloud/caas/deployments"),
    Route::new("get", "GET", "/enterprise/v1/io-cloud/caas/deployment/{}"),
    Route::new("change", "PATCH", "/enterprise/v1/io-cloud/caas/deployment/{}"),
    Route::new("destroy", "DELETE", "/enterprise/v1/io-cloud/caas/deployment/{}"),
    Route::new("extend", "POST", "/enterprise/v1/io-cloud/caas/deployment/{}/extend"),
    Route::new(
        "containers",
        "GET",
        "/enterprise/v1/io-cloud/caas/deployment/{}/containers",
    ),
    Route::new("log", "GET", "/enterprise/v1/io-cloud/caas/deployment/{}/log/{}"),
    Route::new("node-pools", "GET", "/enterprise/v1/io-cloud/caas/node-pools"),
];

const FAULTS: &[Named] = &[
    Named::new("no-credit", "402, the account has too little credit", || {
        Fault::Instead(detail(402, "Insufficient credits"))
    }),
    Named::new("no-credit-403", "403 with the same words", || {
        Fault::Instead(detail(403, "Insufficient IO credits balance"))
    }),
    Named::new(
        "payment-required",
        "200 with a status that says so, and no deployment",
        || Fault::Instead(Answer::json(200, &json!({ "status": "payment_required" }))),
    ),
    Named::new(
        "payment-required-id",
        "deploys, and says 200 payment_required with the id",
        || Fault::Special("payment-required-id"),
    ),
    Named::new("error-with-id", "deploys, and says 500 with the id", || {
        Fault::Special("error-with-id")
    }),
    Named::new("no-id", "deploys, and does not say under which id", || {
        Fault::Special("no-id")
    }),
    Named::new("no-replicas", "says that nobody has room", || {
        Fault::Special("no-replicas")
    }),
    Named::new("rate-limited", "429 with Retry-After", || {
        Fault::Instead(detail(429, "Too many requests").header("retry-after", "7"))
    }),
    Named::new("rate-limited-bare", "429 without a word", || {
        Fault::Instead(Answer::empty(429))
    }),
    Named::new("locked-out", "401, whatever the key", || {
        Fault::Instead(detail(401, "Invalid API key"))
    }),
    Named::new(
        "not-found",
        "404 in the framework's words, as for a route that is no more",
        || Fault::Instead(detail(404, "Not Found")),
    ),
    Named::new("short", "a list that shows less than it counts", || {
        Fault::Special("short")
    }),
];

/// An error as FastAPI words it.
fn detail(status: u16, words: &str) -> Answer {
    Answer::json(status, &json!({ "detail": words }))
}

/// What a 422 says of one field.
fn invalid(kind: &str, at: &[&str], words: &str) -> Answer {
    Answer::json(422, &json!({ "detail": [{ "type": kind, "loc": at, "msg": words }] }))
}

impl Default for IoNet {
    fn default() -> Self {
        Self {
            key: KEY.to_owned(),
            stock: stock::usual(),
            deployments: Vec::new(),
            credit: CREDIT,
            first_page: 0,
            list_lag: 0,
            auth_status: 401,
            has_odd_case: false,
            shows_net: false,
            fails_boot: false,
            is_bare: false,
        }
    }
}

impl IoNet {
    /// With so many kinds of hardware for rent.
    pub fn with_offers(count: usize) -> Self {
        Self {
            stock: stock::many(count),
            ..Self::default()
        }
    }

    pub fn deployment(&mut self, id: &str) -> Option<&mut Deployment> {
        self.deployments.iter_mut().find(|deployment| deployment.id == id)
    }

    /// What an hour of it costs, and the fee on top, in micro-dollars.
    fn hourly(hardware: &Hardware) -> (i64, i64) {
        (hardware.price, (hardware.price * FEE_PERCENT + 99) / 100)
    }

    fn reply(&self, value: &Value) -> Answer {
        if self.is_bare {
            return Answer::json(200, value);
        }
        Answer::json(200, &json!({ "data": value }))
    }

    fn change(&mut self, ask: &Ask<'_>, id: &str) -> Answer {
        const KNOWN: [&str; 9] = [
            "env_variables",
            "secret_env_variables",
            "entrypoint",
            "args",
            "command",
            "traffic_port",
            "image_url",
            "registry_username",
            "registry_secret",
        ];
        if let Some(answer) = deploy::unknown_key(&ask.seen.json(), &KNOWN, &[]) {
            return answer;
        }
        let Some(deployment) = self.deployment(id) else {
            return detail(404, "Deployment not found");
        };
        Answer::json(200, &json!({ "status": deployment.status(), "deployment_id": id }))
    }

    fn destroy(&mut self, id: &str, now: Timestamp) -> Answer {
        let Some(deployment) = self.deployment(id) else {
            return detail(404, "Deployment not found");
        };
        if deployment.is_over() {
            return detail(400, "Deployment is not active");
        }
        let back = deployment.terminate(now);
        let status = deployment.status();
        self.credit += back;
        Answer::json(200, &json!({ "status": status, "deployment_id": id }))
    }

    fn extend(&mut self, ask: &Ask<'_>, id: &str) -> Answer {
        let body = ask.seen.json();
        let Some(hours) = body["duration_hours"].as_i64().filter(|hours| *hours > 0) else {
            return invalid(
                "greater_than",
                &["body", "duration_hours"],
                "Input should be greater than 0",
            );
        };
        let Some(at) = self.deployments.iter().position(|deployment| deployment.id == id) else {
            return detail(404, "Deployment not found");
        };
        let (price, fee) = Self::hourly(&self.deployments[at].hardware);
        let cost = (price + fee) * hours;
        if cost > self.credit {
            return detail(402, "Insufficient credits");
        }
        if self.deployments[at].is_over() {
            return detail(400, "Deployment is not active");
        }
        self.credit -= cost;
        let deployment = &mut self.deployments[at];
        deployment.paid += cost;
        deployment.hours += hours;
        self.reply(&show::detail(self, &self.deployments[at], ask.now))
    }
}

impl Vendor for IoNet {
    fn routes(&self) -> &'static [Route] {
        ROUTES
    }

    fn named_faults(&self) -> &'static [Named] {
        FAULTS
    }

    fn answer(&mut self, ask: &Ask<'_>) -> Answer {
        let is_public = ask.seen.route.starts_with("public-");
        if !is_public && ask.seen.header("x-api-key") != Some(self.key.as_str()) {
            return detail(self.auth_status, "Could not validate credentials");
        }
        let first = ask.parameters.first().map_or("", String::as_str);
        match ask.seen.route {
            "hardware" | "public-hardware" => self.reply(&show::hardware(&self.stock)),
            "public-container-hardware" => self.reply(&show::public_containers(&self.stock)),
            "container-hardware" => self.reply(&show::containers_hardware(&self.stock)),
            "places" => show::places(self, ask),
            "price" => show::price(self, ask),
            "deploy" => self.deploy(ask),
            "list" => self.list(ask),
            "change" => self.change(ask, first),
            "destroy" => self.destroy(first, ask.now),
            "extend" => self.extend(ask, first),
            "node-pools" => self.reply(&json!([{ "id": "pool-1" }])),
            route => match self.deployments.iter().find(|deployment| deployment.id == first) {
                None => detail(404, "Deployment not found"),
                Some(deployment) if route == "get" => self.reply(&show::detail(self, deployment, ask.now)),
                Some(deployment) if route == "containers" => self.reply(&show::containers(self, deployment, ask.now)),
                Some(deployment) => show::log(deployment, ask),
            },
        }
    }

    fn pass(&mut self, now: Timestamp) {
        for deployment in &mut self.deployments {
            deployment.pass(now);
        }
    }

    fn created(&self) -> usize {
        self.deployments.len()
    }

    fn live(&self) -> usize {
        self.deployments
            .iter()
            .filter(|deployment| !deployment.is_over())
            .count()
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let number = || value.as_u64().ok_or_else(|| format!("{name} is a number"));
        let small = |number: u64| usize::try_from(number).map_err(|_| format!("{name} is too much"));
        let yes = || value.as_bool().ok_or_else(|| format!("{name} is true or false"));
        match name {
            "key" => value.as_str().ok_or("key is a text")?.clone_into(&mut self.key),
            "credit" => self.credit = i64::try_from(number()?).map_err(|_| "credit is too much")?,
            "first_page" => self.first_page = small(number()?)?,
            "list_lag" => self.list_lag = u32::try_from(number()?).map_err(|_| "list_lag is too much")?,
            "auth_status" => self.auth_status = u16::try_from(number()?).map_err(|_| "auth_status is 401 or 403")?,
            "odd_case" => self.has_odd_case = yes()?,
            "net" => self.shows_net = yes()?,
            "fails_boot" => self.fails_boot = yes()?,
            "bare" => self.is_bare = yes()?,
            _ => return Err(format!("there is no setting {name}")),
        }
        Ok(())
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("key", "the key that it lets in"),
            ("credit", "what the account has left, in micro-dollars"),
            ("first_page", "0 or 1: the number of the first page"),
            ("list_lag", "how many listings do not show a new deployment yet"),
            ("auth_status", "401 or 403, for a wrong key"),
            ("odd_case", "statuses come as `Running`"),
            ("net", "what was paid is shown without what was given back"),
            ("fails_boot", "new deployments fail instead of running"),
            ("bare", "GETs come without their envelope"),
        ]
    }
}
