//! The fake vast.ai where our own client does not go.

use forebay_testkit::markets::{
    Fake,
    vast::{KEY, Vast},
};
use serde_json::{Value, json};
use std::time::Duration;

struct Account {
    fake: Fake<Vast>,
    client: reqwest::Client,
}

impl Account {
    async fn new(offers: usize) -> Self {
        Self {
            fake: Fake::start(Vast::new(offers)).await,
            client: forebay_runtime::http::trusted(),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.fake.url());
        let request = self.client.request(method.parse().unwrap(), url).bearer_auth(KEY);
        let answer = request.json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn rent(&self, ask: u64, more: Value) -> (u16, Value) {
        let mut order = json!({ "client_id": "me", "image": "ubuntu:24.04", "disk": 10, "label": "gw1:a" });
        if let (Value::Object(order), Value::Object(more)) = (&mut order, more) {
            order.extend(more);
        }
        self.ask("PUT", &format!("/api/v0/asks/{ask}/"), order).await
    }

    async fn show(&self, id: &Value) -> Value {
        self.ask("GET", &format!("/api/v0/instances/{id}/?owner=me"), json!({}))
            .await
            .1["instances"]
            .take()
    }
}

const FIRST: u64 = 21_874_411;

#[tokio::test]
async fn paths_have_their_slash_and_their_method() {
    let account = Account::new(1).await;
    assert_eq!(account.ask("POST", "/api/v0/asks/21874411/", json!({})).await.0, 405);
    assert_eq!(account.ask("PUT", "/api/v0/asks/21874411", json!({})).await.0, 404);
    let url = format!("{}/api/v1/instances/", account.fake.url());
    let answer = account.client.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.json::<Value>().await.unwrap()["error"], "auth_error");
    let answer = account.client.get(url).bearer_auth("wrong").send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.json::<Value>().await.unwrap()["msg"], "Invalid user key");
}

#[tokio::test]
async fn a_search_has_its_traps() {
    let account = Account::new(200).await;
    let search = async |query: Value| account.ask("POST", "/api/v0/bundles/", query).await;
    let (_, all) = search(json!({ "limit": 500 })).await;
    assert_eq!(all["offers"].as_array().unwrap().len(), 64);
    let price = async |gb: u64| {
        let (_, found) = search(json!({ "ask_contract_id": { "eq": FIRST }, "allocated_storage": gb })).await;
        found["offers"][0]["dph_total"].to_string()
    };
    assert_eq!(price(50).await, "0.399416666");
    assert_eq!(price(0).await, "0.389");
    let (_, none) = search(json!({ "id": { "eq": FIRST } })).await;
    assert_eq!(none["offers"], json!([]));
    let (status, refused) = search(json!({ "price": { "lte": 1 } })).await;
    assert_eq!(status, 400);
    assert_eq!(
        refused["msg"],
        "Error in query parameters: price is not a valid search key"
    );
    let anonymous = account.client.post(format!("{}/api/v0/bundles/", account.fake.url()));
    assert_eq!(anonymous.json(&json!({})).send().await.unwrap().status(), 200);
    let (_, asks) = account
        .ask(
            "PUT",
            "/api/v0/search/asks/",
            json!({ "select_cols": ["*"], "q": { "limit": 3 } }),
        )
        .await;
    assert_eq!(asks["offers"].as_array().unwrap().len(), 3);
}

/// As the official client of version 1.9.1 sends them: numbers as texts, gigabytes with a point, a path without its slash.
#[tokio::test]
async fn the_official_client_is_understood() {
    let account = Account::new(20).await;
    let query = json!({ "gpu_name": { "eq": "RTX 4090" }, "num_gpus": { "eq": "1" }, "allocated_storage": 50.0 });
    let (_, found) = account.ask("POST", "/api/v0/bundles/", query).await;
    assert_eq!(found["offers"].as_array().unwrap().len(), 2);
    assert_eq!(account.ask("GET", "/api/v0/users/current", json!({})).await.0, 200);
    let names = account
        .client
        .get(format!("{}/api/v0/gpu_names/unique/", account.fake.url()));
    let names: Value = names.send().await.unwrap().json().await.unwrap();
    assert!(names["gpu_names"].as_array().unwrap().contains(&json!("RTX 4090")));
    let (status, made) = account.rent(FIRST, json!({ "disk": 50.0, "price": null })).await;
    assert_eq!((status, &made["success"]), (200, &json!(true)));
    let (_, filters) = account.ask("GET", "/api/v0/instances/filters/", json!({})).await;
    assert_eq!(filters["filters"][0]["gpu_name"], "RTX 4090");
}

#[tokio::test]
async fn a_bid_that_is_too_low_makes_an_instance_and_an_error() {
    let account = Account::new(2).await;
    let (status, refused) = account.rent(FIRST, json!({ "price": 0.01 })).await;
    assert_eq!((status, &refused["success"]), (400, &json!(false)));
    let made = account.show(&refused["new_contract"]).await;
    assert_eq!(
        (&made["intended_status"], &made["is_bid"]),
        (&json!("stopped"), &json!(true))
    );
    assert_eq!(
        account.rent(FIRST + 17, json!({ "disk": 4 })).await.0,
        400,
        "at least 8 GB"
    );
    assert_eq!(account.rent(1, json!({})).await.0, 404, "no such ask");
}

/// Started again although its GPU was taken, it waits, and starts and costs later.
#[tokio::test]
async fn a_start_that_is_queued_costs_later() {
    let account = Account::new(1).await;
    account.fake.with(|vast| vast.boot_step = Duration::ZERO);
    let (_, made) = account.rent(FIRST, json!({})).await;
    let id = made["new_contract"].clone();
    let number = id.as_u64().unwrap();
    let path = format!("/api/v0/instances/{id}/");
    account.ask("PUT", &path, json!({ "state": "stopped" })).await;
    account.fake.advance(Duration::from_hours(1));
    let disk = account.fake.with(|vast| vast.charged(number));
    assert_eq!(disk.to_string(), "0.002084", "10 GB of disk alone");
    let set = async |name: &str| {
        account
            .ask("POST", "/_fake/set", json!({ "name": name, "value": number }))
            .await
    };
    assert_eq!(set("lose_gpu").await.0, 200);
    let (_, queued) = account.ask("PUT", &path, json!({ "state": "running" })).await;
    assert!(
        queued["msg"].as_str().unwrap().contains("state change queued"),
        "{queued}"
    );
    account.fake.advance(Duration::from_hours(1));
    assert_eq!(account.show(&id).await["actual_status"], "stopped");
    assert_eq!(set("free_gpu").await.0, 200);
    account.fake.advance(Duration::from_hours(1));
    let charged = account.fake.with(|vast| vast.charged(number));
    assert!(charged > "0.389".parse().unwrap(), "{charged}");
}

#[tokio::test]
async fn bills_are_by_day_and_label() {
    let account = Account::new(1).await;
    account.fake.with(|vast| vast.boot_step = Duration::ZERO);
    account.rent(FIRST, json!({})).await;
    account.fake.advance(Duration::from_hours(36));
    let charges = async |filters: Value| {
        let url = format!("{}/api/v0/charges/", account.fake.url());
        let request = account
            .client
            .get(url)
            .query(&[("select_filters", filters.to_string())])
            .bearer_auth(KEY);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    let first = 1_795_132_800_i64;
    let (_, user) = account.ask("GET", "/api/v0/users/current/", json!({})).await;
    assert!(
        user["credit"]
            .as_f64()
            .is_some_and(|credit| (85.8..86.0).contains(&credit)),
        "{user}"
    );
    let both = charges(json!({ "day": { "gte": first, "lte": first + 2 * 86_400 } })).await;
    assert_eq!(both["count"], 2);
    assert_eq!(both["results"][0]["metadata"]["label"], "gw1:a");
    // A day of $0.389 an hour, and of 10 GB.
    assert_eq!(both["results"][0]["amount"].to_string(), "9.386");
    assert_eq!(
        both["results"][0]["items"][0]["description"],
        "24.000 hours at $0.389/hour"
    );
    let refused = charges(json!({})).await;
    assert_eq!(refused["success"], false);
    let (status, invoices) = account.ask("GET", "/api/v1/invoices/", json!({})).await;
    assert_eq!(
        (status, &invoices["success"]),
        (200, &json!(false)),
        "an error with 200"
    );
}

#[tokio::test]
async fn an_account_without_ssh_keys_has_no_list_of_them() {
    let account = Account::new(1).await;
    assert_eq!(account.ask("GET", "/api/v0/ssh/", json!({})).await.0, 404);
    account
        .ask("POST", "/api/v0/ssh/", json!({ "ssh_key": "ssh-ed25519 AAAA" }))
        .await;
    let (status, keys) = account.ask("GET", "/api/v0/ssh/", json!({})).await;
    assert_eq!((status, keys.as_array().unwrap().len()), (200, 1));
}

#[tokio::test]
async fn a_rise_is_answered_once() {
    let account = Account::new(1).await;
    let (_, made) = account.rent(FIRST, json!({})).await;
    account
        .fake
        .with(|vast| vast.raise_price(made["new_contract"].as_u64().unwrap(), 2));
    let (_, rises) = account
        .ask("GET", "/api/v0/instances/pending-price-increases/", json!({}))
        .await;
    let answer =
        json!({ "pending_price_increase_id": rises["pending_price_increases"][0]["pending_price_increase_id"] });
    let path = "/api/v0/instances/reject-price-increase/";
    assert_eq!(account.ask("PUT", path, answer.clone()).await.0, 200);
    let (status, again) = account.ask("PUT", path, answer).await;
    assert_eq!((status, &again["error"]), (404, &json!("no_pending_price_increase")));
}

#[tokio::test]
async fn a_list_can_be_filtered_by_what_is_stored_alone() {
    let account = Account::new(3).await;
    account.rent(FIRST, json!({})).await;
    account.rent(FIRST + 17, json!({ "label": "gw1:b" })).await;
    let list = async |filters: Value| {
        let url = format!("{}/api/v1/instances/", account.fake.url());
        let request = account
            .client
            .get(url)
            .query(&[("select_filters", filters.to_string())])
            .bearer_auth(KEY);
        request.send().await.unwrap()
    };
    let found: Value = list(json!({ "label": { "eq": "gw1:b" } })).await.json().await.unwrap();
    assert_eq!(found["instances"].as_array().unwrap().len(), 1);
    assert_eq!(found["next_token"], Value::Null);
    assert_eq!(list(json!({ "dph_total": { "lte": 1 } })).await.status(), 400);
}
