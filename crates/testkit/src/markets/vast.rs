//! A fake vast.ai, written from the facts of its API that are known, with everything in it that bites a client.
//!
//! Errors come in all the shapes that the real one has them in: with and without `success`, a wrong key as a 404, 429 as
//! text and as JSON. Offers are exclusive slots, one answer has at most 64 of them, a list of machines has pages of 25
//! and may lag behind. Prices depend on the disk that was asked for. A machine walks from `null` over `created` and
//! `loading` to wherever its [`Fate`] leads, by the fake's clock; GPU and disk are billed by the second and by the day.

mod bills;
mod machines;
mod offers;
mod rented;
mod routes;
mod search;

pub use offers::Ask as Slot;
pub use rented::{Fate, Rented};
pub use routes::{FAULTS, ROUTES};

use super::{Answer, Ask, Named, Route, Vendor};
use forebay_domain::money::Usd;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};
use tokio::time::Instant;

/// The key that a fake begins with.
pub const KEY: &str = "vast-key-0123456789abcdef";

/// The provider's state. Fields are what a test may look at and change.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fault that a test turns on by itself"
)]
pub struct Vast {
    pub key: String,
    pub offers: Vec<Slot>,
    pub machines: BTreeMap<u64, Rented>,
    /// What the account had before anything was charged.
    pub credit: Usd,
    /// New machines are missing from so many lists.
    pub list_lag: u32,
    /// How long `null`, `created` and `loading` last, each.
    pub boot_step: Duration,
    /// What becomes of machines from now on.
    pub fate: Fate,
    /// Where the first port of new machines is really reached; nowhere where there is none.
    pub endpoint: Option<SocketAddr>,
    /// Numeric filters of a search, but those by price, are not applied.
    pub has_loose_filters: bool,
    /// Prices leave the disk out, whatever was asked.
    pub forgets_disk: bool,
    /// How a slot that is taken is refused: 410, or 400, or 404.
    pub gone_status: u16,
    /// Requests above the documented rates get a 429.
    pub enforces_rates: bool,
    /// Charges are not there yet.
    pub charges_are_late: bool,
    /// The charges of so many days, the last ones, are not there yet.
    pub charge_days_missing: u32,
    /// Most charges that a page has.
    pub charge_page: usize,
    /// The token of the next page is a number.
    pub has_number_tokens: bool,
    /// So often a log is not there before it is.
    pub log_lag: u32,
    pub log: String,
    pub ssh_keys: Vec<Value>,
    /// Rows of price rises that wait for an answer.
    pub rises: Vec<Value>,
    /// Of machines that are no more.
    past: BTreeMap<u64, Rented>,
    logs_asked: HashMap<String, u32>,
    turns: HashMap<&'static str, VecDeque<Instant>>,
    next_id: u64,
}

impl Vast {
    /// With so many offers, cheapest first.
    pub fn new(offers: usize) -> Self {
        Self {
            key: KEY.to_owned(),
            offers: offers::catalogue(offers),
            machines: BTreeMap::new(),
            credit: Usd::from_micros(100_000_000),
            list_lag: 0,
            boot_step: Duration::from_secs(5),
            fate: Fate::Runs,
            endpoint: None,
            has_loose_filters: false,
            forgets_disk: false,
            gone_status: 410,
            enforces_rates: false,
            charges_are_late: false,
            charge_days_missing: 0,
            charge_page: bills::CHARGES_MAX,
            has_number_tokens: false,
            log_lag: 2,
            log: "Loading model weights\nApplication startup complete.\n".to_owned(),
            ssh_keys: Vec::new(),
            rises: Vec::new(),
            past: BTreeMap::new(),
            logs_asked: HashMap::new(),
            turns: HashMap::new(),
            next_id: 27_913_406,
        }
    }

    /// The machine that was made last.
    pub fn newest(&self) -> Option<&Rented> {
        self.machines.values().next_back()
    }

    /// Someone bids more: it is stopped, and stays so.
    pub fn outbid(&mut self, id: u64) {
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.halt();
        }
    }

    /// It is stopped, and somebody else has its GPU: a wish to start it is queued.
    pub fn lose_gpu(&mut self, id: u64) {
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.halt();
            machine.has_lost_gpu = true;
        }
    }

    /// Whatever it was about to become, it is this now.
    pub fn set_status(&mut self, id: u64, status: &'static str) {
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.fix(status);
        }
    }

    /// What was charged for one machine so far, gone or not.
    pub fn charged(&self, id: u64) -> Usd {
        let machine = self.machines.get(&id).or_else(|| self.past.get(&id));
        machine.map_or(Usd::ZERO, Rented::cost)
    }

    pub fn credit_left(&self) -> Usd {
        let spent: Usd = self.everything().map(Rented::cost).sum();
        self.credit.saturating_sub(spent)
    }

    fn everything(&self) -> impl Iterator<Item = &Rented> {
        self.past.values().chain(self.machines.values())
    }

    /// `None` where the key is good.
    fn check_key(&self, ask: &Ask<'_>) -> Option<Answer> {
        let Some(authorization) = ask.seen.header("authorization") else {
            return Some(failure(403, "auth_error", "This action requires login."));
        };
        let is_good = authorization.strip_prefix("Bearer ") == Some(&self.key);
        (!is_good).then(|| failure(404, "auth_error", "Invalid user key"))
    }

    /// `None` where it is not asked too often.
    fn check_rate(&mut self, ask: &Ask<'_>) -> Option<Answer> {
        let (requests, per) = routes::threshold(ask.seen.route)?;
        if !self.enforces_rates {
            return None;
        }
        let turns = self.turns.entry(ask.seen.route).or_default();
        turns.retain(|turn| ask.seen.at.duration_since(*turn) < per);
        if turns.len() >= requests {
            let threshold = per.as_secs_f64();
            let words = format!("API requests too frequent: endpoint threshold={threshold:.1}");
            return Some(Answer::text(429, &words));
        }
        turns.push_back(ask.seen.at);
        None
    }
}

impl Vendor for Vast {
    fn routes(&self) -> &'static [Route] {
        ROUTES
    }

    fn named_faults(&self) -> &'static [Named] {
        FAULTS
    }

    fn answer(&mut self, ask: &Ask<'_>) -> Answer {
        let route = ask.seen.route;
        if route == "log" {
            return self.log_file(ask);
        }
        // One may search without a key, but not with a wrong one.
        let may_be_anonymous =
            matches!(route, "search" | "search_asks" | "gpu_names") && ask.seen.header("authorization").is_none();
        if !may_be_anonymous && let Some(refusal) = self.check_key(ask) {
            return refusal;
        }
        if let Some(refusal) = self.check_rate(ask) {
            return refusal;
        }
        if ask.special == Some("quota") {
            return routes::quota(ask.now);
        }
        match route {
            "user" => self.user(),
            "gpu_names" => self.gpu_names(),
            "search" => self.search(ask, &ask.seen.json()),
            "search_asks" => self.search(ask, &ask.seen.json()["q"]),
            "create" => self.create(ask),
            "list" => self.list(ask),
            "filters" => self.filters(ask.now),
            "contracts" => self.contracts(ask),
            "rises" => self.list_rises(),
            "accept" | "reject" => self.answer_rise(ask),
            "show" => self.show(ask),
            "destroy" => self.destroy(ask),
            "destroy_many" => self.destroy_many(ask),
            "change" => self.change(ask),
            "reboot" => self.reboot(ask),
            "bid" => self.bid(ask),
            "prepay" => self.prepay(ask),
            "deposit" => self.deposit(ask),
            "request_logs" | "exec" => self.request_logs(ask),
            "charges" => self.charges(ask),
            "invoices" => self.invoices(ask),
            "ssh_list" => self.list_ssh(),
            "ssh_add" => self.add_ssh(ask),
            unknown => failure(404, "not_found", &format!("{unknown} is not written yet")),
        }
    }

    fn pass(&mut self, now: Timestamp) {
        for machine in self.machines.values_mut() {
            machine.bill_until(now);
        }
        if self.credit_left() <= Usd::ZERO {
            for machine in self.machines.values_mut() {
                machine.halt();
            }
        }
    }

    fn created(&self) -> usize {
        self.machines.len() + self.past.len()
    }

    fn live(&self) -> usize {
        self.machines.len()
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let number = || value.as_u64().ok_or_else(|| format!("{name} is a number"));
        let truth = || value.as_bool().ok_or_else(|| format!("{name} is true or false"));
        let words = || value.as_str().ok_or_else(|| format!("{name} is a text"));
        let small = || number().and_then(|n| u32::try_from(n).map_err(|_| format!("{name} is too large")));
        match name {
            "key" => words()?.clone_into(&mut self.key),
            "credit" => self.credit = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?,
            "list_lag" => self.list_lag = small()?,
            "boot_step_ms" => self.boot_step = Duration::from_millis(number()?),
            "fate" => self.fate = Fate::parse(words()?)?,
            "endpoint" => self.endpoint = Some(words()?.parse().map_err(|_| "endpoint is ADDRESS:PORT")?),
            "loose_filters" => self.has_loose_filters = truth()?,
            "forgets_disk" => self.forgets_disk = truth()?,
            "gone_status" => self.gone_status = u16::try_from(number()?).map_err(|_| "gone_status is a status")?,
            "enforces_rates" => self.enforces_rates = truth()?,
            "charges_are_late" => self.charges_are_late = truth()?,
            "charge_days_missing" => self.charge_days_missing = small()?,
            "charge_page" => self.charge_page = small()? as usize,
            "number_tokens" => self.has_number_tokens = truth()?,
            "log_lag" => self.log_lag = small()?,
            "log" => words()?.clone_into(&mut self.log),
            "outbid" => self.outbid(number()?),
            "lose_gpu" => self.lose_gpu(number()?),
            "free_gpu" => self.free_gpu(number()?),
            unknown => return Err(format!("there is no setting {unknown}")),
        }
        Ok(())
    }

    fn settings(&self) -> &'static [(&'static str, &'static str)] {
        routes::SETTINGS
    }
}

/// An error in the commonest of its shapes.
fn failure(status: u16, error: &str, message: &str) -> Answer {
    Answer::json(status, &json!({ "success": false, "error": error, "msg": message }))
}

fn success() -> Answer {
    Answer::json(200, &json!({ "success": true }))
}

/// Billions of a dollar, as a JSON number with as many digits as it takes.
fn dollars(nanos: i64) -> Value {
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let text = format!("{sign}{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    serde_json::from_str(&text).expect("digits and a point")
}

/// One object with the keys of both; the macro for JSON cannot make large ones.
fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}
