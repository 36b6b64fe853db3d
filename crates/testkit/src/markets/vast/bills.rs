//! Money at the fake vast.ai: the account, what was charged, and prices that are to rise.

use super::{Vast, failure, machines::id_of, rented::DAY_SECONDS, success};
use crate::markets::{Answer, Ask};
use forebay_domain::money::Usd;
use serde_json::{Value, json};

pub(super) const CHARGES_MAX: usize = 500;

impl Vast {
    pub(super) fn user(&self) -> Answer {
        let left = self.credit_left();
        Answer::json(
            200,
            &json!({
                "id": 123_456, "email": "ops@example.com", "balance": 0.0, "credit": left,
                "balance_threshold_enabled": true, "balance_threshold": 10.0,
            }),
        )
    }

    pub(super) fn charges(&self, ask: &Ask<'_>) -> Answer {
        let filters = ask
            .seen
            .query("select_filters")
            .and_then(|text| serde_json::from_str::<Value>(text).ok());
        let filters = filters.unwrap_or_default();
        let (Some(from), Some(to)) = (filters["day"]["gte"].as_i64(), filters["day"]["lte"].as_i64()) else {
            let message = "Must provide both 'day' gte and lte filters for instance charges";
            return Answer::json(400, &json!({ "success": false, "msg": message }));
        };
        let limit = ask
            .seen
            .query("limit")
            .and_then(|limit| limit.parse().ok())
            .unwrap_or(CHARGES_MAX);
        let limit = limit.clamp(1, self.charge_page.clamp(1, CHARGES_MAX));
        let today = ask.now.as_second().div_euclid(DAY_SECONDS) * DAY_SECONDS;
        let to = to.min(today + DAY_SECONDS - 1 - i64::from(self.charge_days_missing) * DAY_SECONDS);
        let begin: usize = ask
            .seen
            .query("after_token")
            .and_then(|token| token.parse().ok())
            .unwrap_or(0);
        let all = self.everything().flat_map(|machine| machine.charges(from, to));
        let mut rows: Vec<Value> = all.filter(|_| !self.charges_are_late).collect();
        let total = rows.len();
        rows = rows.into_iter().skip(begin).take(limit).collect();
        let next = begin + rows.len();
        let next_token = match next < total {
            true if self.has_number_tokens => json!(next),
            true => json!(next.to_string()),
            false => Value::Null,
        };
        let body = json!({
            "success": true, "count": rows.len(), "total": total, "next_token": next_token, "results": rows,
        });
        Answer::json(200, &body)
    }

    /// A missing range is refused with 200.
    pub(super) fn invoices(&self, ask: &Ask<'_>) -> Answer {
        let filters = ask
            .seen
            .query("select_filters")
            .and_then(|text| serde_json::from_str::<Value>(text).ok());
        if filters.is_none_or(|filters| filters["when"].is_null()) {
            return Answer::json(
                200,
                &json!({ "success": false, "msg": "Must provide 'when' gte and lte filters" }),
            );
        }
        let row = json!({
            "start": 1_795_132_800, "end": null, "type": "credit", "source": "stripe", "description": "Top-up",
            "amount": self.credit, "metadata": { "invoice_id": 1, "service": "stripe" }, "items": [],
        });
        Answer::json(
            200,
            &json!({ "success": true, "count": 1, "total": 1, "next_token": null, "results": [row] }),
        )
    }

    /// A host wants so many times the price for the GPU from the end of the contract on.
    pub fn raise_price(&mut self, id: u64, factor: i64) {
        let Some(machine) = self.machines.get(&id) else { return };
        let a_second = |nanos: i64| {
            let picos = i128::from(nanos) * 1_000 / 3_600;
            format!("{}.{:012}", picos / 1_000_000_000_000, picos % 1_000_000_000_000)
        };
        let number = |text: String| serde_json::from_str::<Value>(&text).expect("digits and a point");
        let (gpu, disk) = (machine.offer.base, machine.offer.disk(machine.disk_gb));
        self.rises.push(json!({
            "pending_price_increase_id": 5_000 + self.rises.len(), "contract_id": id, "host_id": 55_121,
            "old_gpu_costpersec": number(a_second(gpu)), "new_gpu_costpersec": number(a_second(gpu * factor)),
            "old_disk_ram_costpersec": number(a_second(disk)), "new_disk_ram_costpersec": number(a_second(disk)),
            "old_bwu_cost": 0.0026, "new_bwu_cost": 0.0026, "old_bwd_cost": 0.0026, "new_bwd_cost": 0.0026,
            "old_platform_fee": 0.0, "new_platform_fee": 0.0, "contract_end_date": 1_798_761_600.0,
            "ask_end_date": 1_801_440_000.0, "created_at": 1_795_132_805.0,
        }));
    }

    pub(super) fn list_rises(&self) -> Answer {
        let rows = &self.rises;
        let body = json!({ "success": true, "count": rows.len(), "truncated": false, "pending_price_increases": rows });
        Answer::json(200, &body)
    }

    pub(super) fn answer_rise(&mut self, ask: &Ask<'_>) -> Answer {
        let body = ask.seen.json();
        let id = &body["pending_price_increase_id"];
        let before = self.rises.len();
        self.rises.retain(|row| row["pending_price_increase_id"] != *id);
        if self.rises.len() == before {
            return failure(404, "no_pending_price_increase", "There is no such price increase.");
        }
        success()
    }

    pub(super) fn bid(&mut self, ask: &Ask<'_>) -> Answer {
        match self.machines.get(&id_of(ask)) {
            Some(machine) if machine.is_bid => success(),
            Some(_) => failure(400, "invalid_args", "This is no interruptible instance."),
            None => failure(404, "no_such_instance", "No such instance."),
        }
    }

    pub(super) fn prepay(&mut self, ask: &Ask<'_>) -> Answer {
        let amount: Option<Usd> = serde_json::from_value(ask.seen.json()["amount"].clone()).ok();
        match amount {
            Some(amount) if amount <= self.credit_left() => success(),
            _ => failure(400, "insufficient_credit", "Your account lacks credit"),
        }
    }

    pub(super) fn deposit(&self, ask: &Ask<'_>) -> Answer {
        if !self.machines.contains_key(&id_of(ask)) {
            return failure(404, "no_such_instance", "No such instance.");
        }
        Answer::json(
            200,
            &json!({ "refundable_deposit": 0.0, "total_discount": 0.0, "discount_months": 0 }),
        )
    }

    /// Whoever has no key gets a 404.
    pub(super) fn list_ssh(&self) -> Answer {
        if self.ssh_keys.is_empty() {
            return failure(404, "not_found", "No SSH keys found.");
        }
        Answer::json(200, &json!(self.ssh_keys))
    }

    pub(super) fn add_ssh(&mut self, ask: &Ask<'_>) -> Answer {
        let body = ask.seen.json();
        let Some(key) = body["ssh_key"].as_str() else {
            return failure(400, "invalid_args", "'ssh_key' is required");
        };
        let row = json!({
            "id": 700 + self.ssh_keys.len(), "user_id": 123_456, "public_key": key,
            "created_at": "2026-11-20T00:00:00", "deleted_at": null,
        });
        self.ssh_keys.push(row.clone());
        Answer::json(200, &json!({ "success": true, "key": row }))
    }
}
