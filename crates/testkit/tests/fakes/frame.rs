//! The frame of all fakes: each fault is what it says, to any client.

use forebay_testkit::markets::{
    Fake, Fault,
    faults::COMMON,
    vast::{KEY, Vast},
};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const CREATE: &str = "/api/v0/asks/21874411/";

fn request(fake: &Fake<Vast>, method: &str, path: &str) -> reqwest::RequestBuilder {
    let client = forebay_runtime::http::trusted();
    let request = client.request(method.parse().unwrap(), format!("{}{path}", fake.url()));
    request.bearer_auth(KEY)
}

fn create(fake: &Fake<Vast>) -> reqwest::RequestBuilder {
    request(fake, "PUT", CREATE).json(&json!({ "image": "ubuntu:24.04", "disk": 10 }))
}

/// What a client sees of a create, and whether a machine was made.
async fn seen(fault: Fault) -> (Option<u16>, Option<String>, usize) {
    let fake = Fake::start(Vast::new(1)).await;
    fake.fault("create", fault);
    let answer = create(&fake).timeout(PATIENCE).send().await;
    let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
    let text = match answer {
        Ok(answer) => answer.text().await.ok(),
        Err(_) => None,
    };
    (status, text, fake.created())
}

#[tokio::test]
async fn each_fault_does_or_does_not_what_it_says() {
    assert_eq!(seen(Fault::DropBefore).await, (None, None, 0));
    assert_eq!(seen(Fault::DropAfter).await, (None, None, 1));
    assert_eq!(seen(Fault::Truncated).await, (Some(200), None, 1));
    assert_eq!(seen(Fault::Empty).await, (Some(200), Some(String::new()), 1));
    let (status, text, created) = seen(Fault::Garbage).await;
    assert!(status == Some(200) && text.is_some_and(|text| text.contains("nginx")) && created == 1);
    let (status, text, created) = seen(Fault::Pass).await;
    assert!(status == Some(200) && text.is_some_and(|text| text.contains("new_contract")) && created == 1);
    for named in COMMON.iter().filter(|named| named.name.starts_with("done-")) {
        let (status, _, created) = seen((named.make)()).await;
        assert!(status >= Some(500) && created == 1, "{}", named.name);
    }
    for named in COMMON
        .iter()
        .filter(|named| named.name.starts_with("empty-") || named.name.starts_with("html-"))
    {
        let (status, _, created) = seen((named.make)()).await;
        assert!(status >= Some(400) && created == 0, "{}", named.name);
    }
}

#[tokio::test]
async fn what_is_held_goes_on_when_the_gate_opens() {
    for (fault, made_before) in [(Fault::Held, 0), (Fault::HeldAfter, 1)] {
        let fake = Fake::start(Vast::new(1)).await;
        fake.fault("create", fault);
        let (answer, ()) = tokio::join!(create(&fake).send(), async {
            fake.asked("create", 1).await;
            // It is logged before it is held, and held in one step with what comes before the gate.
            while fake.created() < made_before {
                tokio::task::yield_now().await;
            }
            assert_eq!(fake.created(), made_before);
            fake.open_gate();
        });
        assert_eq!(answer.unwrap().status(), 200);
        assert_eq!(fake.created(), 1);
    }
}

#[tokio::test]
async fn an_answer_without_end_has_none() {
    let fake = Fake::start(Vast::new(1)).await;
    fake.fault("create", Fault::Endless);
    let mut answer = create(&fake).send().await.unwrap();
    let mut bytes = 0;
    while bytes < 32 << 20 {
        bytes += answer.chunk().await.unwrap().expect("there is more").len();
    }
}

/// All that a test of this process can do, one of another process can do as well.
#[tokio::test]
async fn a_fake_is_steered_over_http() {
    let fake = Fake::start(Vast::new(1)).await;
    let steer = async |method: &str, path: &str, body: Value| {
        let answer = request(&fake, method, path).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let fault = json!({ "route": "create", "fault": "drop-after", "times": 1 });
    assert_eq!(steer("POST", "/_fake/faults", fault).await.0, 200);
    assert!(create(&fake).send().await.is_err());
    let advanced = steer("POST", "/_fake/advance", json!({ "seconds": 3_600 })).await.1;
    assert_eq!(advanced["now"], "2026-11-20T01:00:00Z");
    let state = steer("GET", "/_fake/state", Value::Null).await.1;
    assert_eq!((&state["created"], &state["live"]), (&json!(1), &json!(1)));
    let log = steer("GET", "/_fake/log", Value::Null).await.1;
    assert_eq!(log["requests"][0]["route"], "create");
    assert_eq!(
        steer("POST", "/_fake/set", json!({ "name": "key", "value": "new" }))
            .await
            .0,
        200
    );
    assert_eq!(create(&fake).send().await.unwrap().status(), 404);

    for (path, body) in [
        ("faults", json!({ "route": "nowhere", "fault": "empty" })),
        ("faults", json!({ "route": "create", "fault": "nothing" })),
        ("faults", json!({})),
        ("set", json!({ "name": "nothing", "value": 1 })),
        ("advance", json!({ "seconds": -1 })),
        ("anything", json!({})),
    ] {
        let (status, said) = steer("POST", &format!("/_fake/{path}"), body).await;
        assert!(status == 400 && said["error"].is_string(), "{path} {said}");
    }
}
