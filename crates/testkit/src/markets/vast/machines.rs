//! Renting, listing, changing and destroying at the fake vast.ai.

use super::{Rented, Vast, failure, rented::New, success};
use crate::markets::{Answer, Ask};
use forebay_domain::money::Usd;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const PAGE_MAX: usize = 25;
const DISK_GB_MIN: u64 = 8;
const LABEL_MAX: usize = 256;
const IMAGE_MAX: usize = 1_024;
const ON_START_MAX: usize = 4_048;
/// What only the price of an instance says, and not its row.
const COMPUTED: &[&str] = &["dph_total", "num_gpus", "dph_base"];

impl Vast {
    pub(super) fn create(&mut self, ask: &Ask<'_>) -> Answer {
        let id = id_of(ask);
        let order = ask.seen.json();
        match ask.special {
            Some("success-false") => {
                return Answer::json(
                    200,
                    &json!({ "success": false, "msg": "Your account has been suspended." }),
                );
            }
            Some("no-credit") => return refused(400, "insufficient_credit", "Your account lacks credit", id),
            Some("gone-400") => return gone(400, id),
            Some("gone-404") => return gone(404, id),
            Some("gone-410") => return gone(410, id),
            _ => {}
        }
        if let Some(refusal) = self.check_order(id, &order) {
            return refusal;
        }
        let is_halted = ask.special == Some("error-with-contract") || self.bids_too_little(id, &order);
        let contract = self.make(id, order, ask.now);
        if is_halted {
            let machine = self.machines.get_mut(&contract).expect("it was made just now");
            machine.halt();
            let message = "error 400/3512: your bid is too low, the instance was created stopped";
            let body = json!({ "success": false, "error": "bid_too_low", "msg": message, "new_contract": contract });
            return Answer::json(400, &body);
        }
        if ask.special == Some("without-id") {
            return success();
        }
        let body = json!({ "success": true, "new_contract": contract, "instance_api_key": "ik-9b1f0c77secret" });
        Answer::json(200, &body)
    }

    fn check_order(&self, id: u64, order: &Value) -> Option<Answer> {
        let length = |key: &str| order[key].as_str().map_or(0, str::len);
        let invalid = |what: &str| {
            let message = format!("error 400/3467: Invalid args: {what}");
            Some(refused(400, "invalid_args", &message, id))
        };
        if !order.is_object() || length("image") == 0 || length("image") > IMAGE_MAX {
            return invalid("'image' is required");
        }
        if disk_gb(order) < DISK_GB_MIN {
            return invalid("'disk' must be at least 8");
        }
        if length("label") > LABEL_MAX || length("onstart") > ON_START_MAX {
            return invalid("'label' or 'onstart' is too long");
        }
        let Some(offer) = self.offers.iter().find(|offer| offer.id == id) else {
            return invalid("'id' is required and must be a valid offer ID").map(|_| gone(404, id));
        };
        if offer.taken_by.is_some() {
            return Some(gone(self.gone_status, id));
        }
        if self.credit_left() <= Usd::ZERO {
            return Some(refused(400, "insufficient_credit", "Your account lacks credit", id));
        }
        None
    }

    fn bids_too_little(&self, id: u64, order: &Value) -> bool {
        let offer = self.offers.iter().find(|offer| offer.id == id);
        let least = offer.and_then(|offer| super::dollars(offer.min_bid).as_f64());
        order["price"].as_f64().is_some_and(|bid| Some(bid) < least)
    }

    /// A machine that somebody else of the account made by hand, with this label.
    pub fn add_stranger(&mut self, label: &str, now: Timestamp) -> u64 {
        let free = self
            .offers
            .iter()
            .find(|offer| offer.taken_by.is_none())
            .map(|offer| offer.id);
        let order = json!({ "image": "ubuntu:24.04", "disk": 16, "label": label });
        self.make(free.expect("an offer is left"), order, now)
    }

    fn make(&mut self, ask_id: u64, order: Value, now: Timestamp) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        let offer = self
            .offers
            .iter_mut()
            .find(|offer| offer.id == ask_id)
            .expect("it was found before");
        offer.taken_by = Some(id);
        let machine = Rented::new(New {
            id,
            offer: offer.clone(),
            disk_gb: disk_gb(&order),
            order,
            now,
            hidden: self.list_lag,
            boot_step: self.boot_step,
            fate: self.fate,
            endpoint: self.endpoint,
        });
        self.machines.insert(id, machine);
        id
    }

    pub(super) fn list(&mut self, ask: &Ask<'_>) -> Answer {
        if ask.special == Some("null-list") {
            return Answer::json(
                200,
                &json!({ "success": true, "instances_found": 0, "instances": null }),
            );
        }
        let query = |name: &str| ask.seen.query(name).unwrap_or_default();
        let limit = query("limit").parse().unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let after: u64 = query("after_token").parse().unwrap_or(0);
        let filters: Map<String, Value> = serde_json::from_str(query("select_filters")).unwrap_or_default();
        if let Some(key) = filters.keys().find(|key| COMPUTED.contains(&key.as_str())) {
            let body = json!({ "error": "invalid_request", "msg": format!("{key} cannot be filtered") });
            return Answer::json(400, &body);
        }
        let mut all = self.shown(after == 0, ask.now);
        all.retain(|row| filters.iter().all(|(key, filter)| row[key] == filter["eq"]));
        let rest = all.iter().filter(|row| row["id"].as_u64() > Some(after));
        let mut page: Vec<Value> = rest.clone().take(limit).cloned().collect();
        let next_token = match (ask.special, page.last()) {
            (Some("same-token"), _) => json!("1"),
            (_, Some(last)) if rest.count() > limit => json!(last["id"].to_string()),
            _ => Value::Null,
        };
        if ask.special == Some("short-page") {
            page.pop();
        }
        let mut labels: BTreeMap<&str, u32> = BTreeMap::new();
        for label in all.iter().filter_map(|row| row["label"].as_str()) {
            *labels.entry(label).or_default() += 1;
        }
        let body = json!({
            "success": true, "instances_found": page.len(), "total_instances": all.len(), "label_counts": labels,
            "next_token": next_token, "instances": page,
        });
        Answer::json(200, &body)
    }

    /// All machines but those that lists do not know yet. A page further on is no list of its own.
    fn shown(&mut self, is_first_page: bool, now: Timestamp) -> Vec<Value> {
        let shown = self.machines.values_mut().filter_map(|machine| {
            let is_hidden = machine.hidden > 0;
            machine.hidden = machine.hidden.saturating_sub(u32::from(is_first_page));
            (!is_hidden).then(|| machine.row(now))
        });
        shown.collect()
    }

    /// What there is to filter by, one row a machine.
    pub(super) fn filters(&self, now: Timestamp) -> Answer {
        let row = |machine: &Rented| {
            let offer = &machine.offer;
            json!({
                "actual_status": machine.status(now), "verification": offer.verification, "gpu_name": offer.gpu,
            })
        };
        let rows: Vec<_> = self.machines.values().map(row).collect();
        Answer::json(200, &json!({ "filters": rows }))
    }

    pub(super) fn contracts(&self, ask: &Ask<'_>) -> Answer {
        let wanted = ask.seen.json();
        let ids = wanted["contract_ids"].as_array();
        let fits = |machine: &&Rented| {
            let label = wanted["label"]
                .as_str()
                .is_none_or(|label| machine.label.as_deref() == Some(label));
            label && ids.is_none_or(|ids| ids.contains(&json!(machine.id)))
        };
        let rows: Vec<_> = self
            .machines
            .values()
            .filter(fits)
            .map(|machine| machine.row(ask.now))
            .collect();
        Answer::json(200, &json!({ "contracts": rows }))
    }

    pub(super) fn show(&self, ask: &Ask<'_>) -> Answer {
        let machine = self.machines.get(&id_of(ask));
        let row = machine.map_or(Value::Null, |machine| machine.row(ask.now));
        Answer::json(200, &json!({ "instances": row }))
    }

    pub(super) fn destroy(&mut self, ask: &Ask<'_>) -> Answer {
        if self.end(id_of(ask)) {
            return success();
        }
        match ask.special {
            Some("not-found") => Answer::json(404, &json!({ "error": "not_found" })),
            _ => failure(404, "no_such_instance", "No such instance."),
        }
    }

    pub(super) fn destroy_many(&mut self, ask: &Ask<'_>) -> Answer {
        let body = ask.seen.json();
        for id in body["instance_ids"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
        {
            self.end(id);
        }
        success()
    }

    /// Its slot can be rented again.
    fn end(&mut self, id: u64) -> bool {
        let Some(machine) = self.machines.remove(&id) else {
            return false;
        };
        for offer in &mut self.offers {
            if offer.taken_by == Some(id) {
                offer.taken_by = None;
            }
        }
        self.past.insert(id, machine);
        true
    }

    pub(super) fn change(&mut self, ask: &Ask<'_>) -> Answer {
        let wanted = ask.seen.json();
        let Some(machine) = self.machines.get_mut(&id_of(ask)) else {
            return failure(404, "no_such_instance", "No such instance.");
        };
        if let Some(label) = wanted["label"].as_str() {
            machine.label = Some(label.to_owned());
        }
        match wanted["state"].as_str() {
            Some("stopped") => machine.halt(),
            Some("running") => {
                machine.start();
                if machine.is_queued {
                    let message = "Required resources are currently unavailable, state change queued.";
                    return Answer::json(
                        200,
                        &json!({ "success": false, "error": "resources_unavailable", "msg": message }),
                    );
                }
            }
            _ => {}
        }
        success()
    }

    pub(super) fn reboot(&mut self, ask: &Ask<'_>) -> Answer {
        match self.machines.get_mut(&id_of(ask)) {
            Some(machine) => {
                machine.fix("rebooting");
                success()
            }
            None => failure(404, "no_such_instance", "No such instance."),
        }
    }

    pub(super) fn request_logs(&mut self, ask: &Ask<'_>) -> Answer {
        let id = id_of(ask);
        if !self.machines.contains_key(&id) {
            return failure(404, "no_such_instance", "No such instance.");
        }
        let host = ask.seen.header("host").unwrap_or("127.0.0.1");
        let name = format!("C.{id}.log");
        self.logs_asked.insert(name.clone(), 0);
        let body = json!({ "success": true, "result_url": format!("http://{host}/_s3/{name}") });
        Answer::json(200, &body)
    }

    /// The storage behind it: whoever brings a credential along is refused, as S3 does.
    pub(super) fn log_file(&mut self, ask: &Ask<'_>) -> Answer {
        if ask.seen.header("authorization").is_some() {
            return Answer::of(400, "application/xml", "<Error><Code>InvalidArgument</Code></Error>");
        }
        let missing = || Answer::of(404, "application/xml", "<Error><Code>NoSuchKey</Code></Error>");
        let Some(asked) = self.logs_asked.get_mut(&ask.parameters[0]) else {
            return missing();
        };
        *asked += 1;
        match *asked <= self.log_lag {
            true if asked.is_multiple_of(2) => {
                Answer::of(403, "application/xml", "<Error><Code>AccessDenied</Code></Error>")
            }
            true => missing(),
            false => Answer::of(200, "binary/octet-stream", self.log.clone()),
        }
    }

    /// Everything that is waiting for this machine's GPU starts.
    pub fn free_gpu(&mut self, id: u64) {
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.free_gpu();
        }
    }
}

/// Written with or without a point.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "gigabytes of a test"
)]
fn disk_gb(order: &Value) -> u64 {
    order["disk"].as_f64().map_or(0, |gb| gb.ceil() as u64)
}

pub(super) fn id_of(ask: &Ask<'_>) -> u64 {
    ask.parameters.first().and_then(|id| id.parse().ok()).unwrap_or(0)
}

fn refused(status: u16, error: &str, message: &str, ask_id: u64) -> Answer {
    Answer::json(
        status,
        &json!({ "success": false, "error": error, "msg": message, "ask_id": ask_id }),
    )
}

/// The three ways in which a slot is no longer there.
fn gone(status: u16, id: u64) -> Answer {
    match status {
        404 => {
            let message = format!("error 404/3603: no_such_ask Instance type by id {id} is not available.");
            refused(404, "invalid_args", &message, id)
        }
        410 => {
            let message = format!("error 410/3907: no_such_ask Instance type {id} is no longer available.");
            refused(410, "no_such_ask", &message, id)
        }
        _ => failure(400, "no_such_ask", "Instance type is not available."),
    }
}
