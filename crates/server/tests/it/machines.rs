//! Machines that somebody has: in use they are not idle, more time has its price told first, and wishes have the bounds that
//! their schemas say.

use crate::{
    gpu::{call, cheapest, done, fifty},
    rig::{Rig, eventually},
};
use forebay_compute::rental::bounds;
use forebay_domain::{Role, market::Provider};
use forebay_runtime::Clock;
use forebay_testkit::markets::{Fake, ionet::IoNet, runpod::RunPod, vast::Vast};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

const START: &str = "2026-11-20T00:00:00Z";
const STEP: Duration = Duration::from_secs(20);

/// What answers at a machine's port: `/stream` goes on until the test lets it end, `/break` says nothing at all.
struct Served {
    address: SocketAddr,
    over: Arc<Notify>,
}

impl Served {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, over) = (listener.local_addr().unwrap(), Arc::new(Notify::new()));
        let shared = over.clone();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            loop {
                let (wire, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(wire, shared.clone()));
            }
        });
        Self { address, over }
    }
}

async fn serve(mut wire: TcpStream, over: Arc<Notify>) {
    let mut head = [0; 4_096];
    let read = wire.read(&mut head).await.unwrap();
    if head[..read].starts_with(b"POST /break") {
        return;
    }
    let begun = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: one\n\n";
    wire.write_all(begun.as_bytes()).await.unwrap();
    over.notified().await;
}

/// A gateway by a clock that the test moves, with one machine that may be idle for a minute.
struct Held {
    rig: Rig,
    clock: Clock,
    fake: Fake<Vast>,
    key: String,
    id: String,
    url: String,
}

impl Held {
    async fn start(served: &Served) -> Self {
        let clock = Clock::manual(START.parse().unwrap());
        let mut vast = Vast::new(40);
        (vast.boot_step, vast.endpoint) = (Duration::ZERO, Some(served.address));
        let fake = Fake::start_at(vast, 0, clock.clone()).await.unwrap();
        let url = fake.url();
        let rig = Rig::by(clock.clone(), |config| {
            config.budgets = serde_json::from_value(fifty()).unwrap();
            config.rentals = serde_json::from_value(json!({"allow_addresses": ["127.0.0.1"]})).unwrap();
            let vast = json!({"vast": {"api_key": {"env": "VAST_KEY"}, "url": url}});
            config.markets = serde_json::from_value(vast).unwrap();
        })
        .await;
        let key = rig.key("acme", "ann", Role::User, &[]).await;
        let wish = json!({"provider": "vast.ai", "instance_id": cheapest(&rig, &key).await, "ports": [8000],
            "idle_minutes": 1});
        let made = done(&rig, &key, "create_gpu_instance", wish).await;
        let id = made["instance"]["id"].as_str().unwrap().to_owned();
        let held = Self {
            rig,
            clock,
            fake,
            key,
            id,
            url: format!("http://{}", served.address),
        };
        eventually("the machine is reached", || async {
            held.look().await["endpoints"][0]["url"] == held.url
        })
        .await;
        held
    }

    /// The machine as it is once its provider was looked at.
    async fn look(&self) -> Value {
        let rentals = &self.rig.gateway.app.rentals;
        rentals.reconcile(Provider::Vast).await.unwrap();
        done(
            &self.rig,
            &self.key,
            "get_gpu_instance",
            json!({"instance_id": self.id}),
        )
        .await
    }

    /// When it was noted as used last.
    async fn used_at(&self) -> Value {
        let row = self
            .rig
            .gateway
            .app
            .store
            .rentals()
            .get(&self.id)
            .await
            .unwrap()
            .unwrap();
        let body: Value = serde_json::from_str(row.body.get()).unwrap();
        body["used_at"].clone()
    }

    async fn ask(&self, path: &str) -> (bool, Value) {
        let wish = json!({"target_url": format!("{}{path}", self.url), "body": {}});
        call(&self.rig, &self.key, "proxy_inference_request", wish).await
    }

    async fn is_noted(&self) {
        let now = json!(self.clock.now());
        eventually("it is noted as used", || async { self.used_at().await == now }).await;
    }
}

#[tokio::test]
async fn a_machine_in_use_is_not_idle_however_long_its_answer_takes() {
    let served = Served::start().await;
    let held = Held::start(&served).await;
    let through = async {
        for _ in 0..9 {
            held.clock.advance(STEP);
            held.is_noted().await;
            assert_eq!(held.look().await["state"], "up", "three minutes of one request");
        }
        served.over.notify_one();
    };
    let (answered, ()) = tokio::join!(held.ask("/stream"), through);
    assert_eq!(
        (answered.0, &answered.1["body"]),
        (false, &json!("data: one\n\n")),
        "{answered:?}"
    );

    held.clock.advance(2 * STEP);
    let (failed, told) = held.ask("/break").await;
    assert!(failed, "{told}");
    held.is_noted().await;
    held.clock.advance(2 * STEP);
    assert_eq!(held.look().await["state"], "up", "what broke off was use, too");
    held.clock.advance(STEP);
    let ended = held.look().await;
    assert_eq!(ended["why"], "idle", "{ended}");
    eventually("it is gone", || async { held.fake.live() == 0 }).await;
}

#[tokio::test]
async fn a_price_that_has_risen_is_shown_beside_the_one_that_was_agreed() {
    let fake = Fake::start_at(RunPod::default(), 0, Clock::system()).await.unwrap();
    let rig = at_runpod(&fake.url()).await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let list = done(&rig, &key, "list_gpu_instances", json!({"provider": "runpod"})).await;
    let wish = json!({"provider": "runpod", "instance_id": list["instances"][0]["instance_id"]});
    let made = done(&rig, &key, "create_gpu_instance", wish).await["instance"].take();
    let look = async || {
        rig.gateway.app.rentals.reconcile(Provider::RunPod).await.unwrap();
        done(&rig, &key, "get_gpu_instance", json!({"instance_id": made["id"]})).await
    };
    let before = look().await;
    assert_eq!(before.get("price_now_per_hour_usd"), None, "{before}");
    fake.with(|runpod| runpod.pods[0].gpu_price *= 3);
    let after = look().await;
    let (agreed, now) = (&after["price_per_hour_usd"], &after["price_now_per_hour_usd"]);
    assert_eq!(agreed, &made["price_per_hour_usd"], "nothing was accepted");
    assert!(now.as_f64() > agreed.as_f64(), "{after}");
}

async fn at_runpod(url: &str) -> Rig {
    Rig::with(|config| {
        config.budgets =
            serde_json::from_value(json!([{"scope": "tenant", "window": "24h", "limit_usd": 9999}])).unwrap();
        let runpod = json!({"runpod": {"api_key": {"env": "RUNPOD_KEY"}, "url": format!("{url}/v2")}});
        config.markets = serde_json::from_value(runpod).unwrap();
    })
    .await
}

#[tokio::test]
async fn what_more_time_would_cost_is_told_over_every_surface_and_bought_by_none() {
    let clock = Clock::system();
    let fake = Fake::start_at(IoNet::default(), 0, clock).await.unwrap();
    let url = fake.url();
    let rig = Rig::with(|config| {
        config.budgets =
            serde_json::from_value(json!([{"scope": "tenant", "window": "24h", "limit_usd": 20}])).unwrap();
        let ionet = json!({"ionet": {"api_key": {"env": "IONET_KEY"}, "url": url}});
        config.markets = serde_json::from_value(ionet).unwrap();
    })
    .await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let list = done(&rig, &key, "list_gpu_instances", json!({"provider": "io.net"})).await;
    let wish = json!({"provider": "io.net", "instance_id": list["instances"][0]["instance_id"]});
    let machine = done(&rig, &key, "create_gpu_instance", wish).await["instance"].take();
    let (id, price) = (
        machine["id"].as_str().unwrap(),
        machine["price_per_hour_usd"].as_f64().unwrap(),
    );
    let told = done(
        &rig,
        &key,
        "extend_gpu_instance",
        json!({"instance_id": id, "hours": 2.0, "dry_run": true}),
    )
    .await;
    assert_eq!(
        (&told["outcome"], &told["allowed"], &told["hours"]),
        (&json!("dry_run"), &json!(true), &json!(2.0))
    );
    let cost = told["cost_usd"].as_f64().unwrap();
    assert!((cost - 2.0 * price).abs() < 0.001, "{told}");
    assert_eq!(told["paid_at_once_usd"], told["cost_usd"]);
    let path = format!("/api/v1/gpu/instances/{id}/extend");
    let over_rest = |hours: u32| {
        let (rig, key, path) = (&rig, &key, &path);
        async move {
            let answer = rig.post(path, key, &json!({"hours": hours, "dry_run": true})).await;
            assert_eq!(answer.status(), 200);
            answer.json::<Value>().await.unwrap()
        }
    };
    assert_eq!(over_rest(2).await["cost_usd"], told["cost_usd"]);
    let refused = over_rest(150).await;
    assert_eq!(refused["allowed"], false, "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("$20"), "{refused}");
    assert!(fake.seen_at("extend").is_empty(), "nobody was asked to sell");
    let now = done(&rig, &key, "get_gpu_instance", json!({"instance_id": id})).await;
    assert_eq!(now["ends_by"], machine["ends_by"]);
    let spending = done(&rig, &key, "get_spending_info", json!({})).await;
    assert_eq!(spending["windows"][0]["held_usd"], 0.0, "{spending}");
    let long = json!({"instance_id": id, "hours": 8760, "dry_run": true});
    let (failed, told) = call(&rig, &key, "extend_gpu_instance", long).await;
    assert_eq!((failed, &told["code"]), (true, &json!("INVALID_ARGUMENTS")), "{told}");
}

/// A wish that is just as large as it may be fits the tool's schema and renting itself; a larger one fits neither.
#[tokio::test]
async fn a_wish_has_the_bounds_that_its_schema_says() {
    // Who lets many ports be reached, and its offers be looked up often.
    let fake = Fake::start_at(RunPod::default(), 0, Clock::system()).await.unwrap();
    let rig = at_runpod(&fake.url()).await;
    let key = rig.key("acme", "ann", Role::User, &[]).await;
    let list = done(&rig, &key, "list_gpu_instances", json!({"provider": "runpod"})).await;
    let offer = json!({"provider": "runpod", "instance_id": list["instances"][0]["instance_id"], "dry_run": true});
    let ports = |count: usize| json!((0..count).map(|port| 8_000 + port).collect::<Vec<_>>());
    let variables = |count: usize| {
        let named = (0..count).map(|one| (format!("V{one}"), "x".to_owned()));
        json!(named.collect::<BTreeMap<_, _>>())
    };
    let value = |bytes: usize| json!({"V": "x".repeat(bytes)});
    let name = |bytes: usize| json!({"V".repeat(bytes): "x"});
    let text = |bytes: usize| json!("x".repeat(bytes));
    let cases: [(&str, [Value; 2]); 6] = [
        ("ports", [bounds::PORTS_MAX, bounds::PORTS_MAX + 1].map(ports)),
        ("env", [bounds::VARIABLES_MAX, bounds::VARIABLES_MAX + 1].map(variables)),
        (
            "env",
            [bounds::VARIABLE_BYTES_MAX, bounds::VARIABLE_BYTES_MAX + 1].map(value),
        ),
        (
            "env",
            [bounds::VARIABLE_NAME_BYTES_MAX, bounds::VARIABLE_NAME_BYTES_MAX + 1].map(name),
        ),
        (
            "idempotency_key",
            [bounds::KEY_BYTES_MAX, bounds::KEY_BYTES_MAX + 1].map(text),
        ),
        (
            "image",
            [bounds::IMAGE_BYTES_MAX, bounds::IMAGE_BYTES_MAX + 1].map(text),
        ),
    ];
    for (argument, values) in cases {
        for (fits, value) in [true, false].into_iter().zip(values) {
            let mut wish = offer.clone();
            wish[argument] = value;
            let params = json!({"name": "create_gpu_instance", "arguments": &wish});
            let answer = rig.rpc(&key, "tools/call", params).await.to_string();
            // What is too much is so to the schema already.
            assert_eq!(answer.contains("-32602"), !fits, "{argument}: {answer}");
            assert_eq!(answer.contains("dry_run"), fits, "{argument}: {answer}");
            let status = rig.post("/api/v1/gpu/instances", &key, &wish).await.status();
            assert_eq!(status == 200, fits, "{argument} over REST: {status}");
        }
    }
}
