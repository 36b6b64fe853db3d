//! An image that somebody chose does what it is made for: no provider runs our script beside it.

use crate::world::{Gateway, World, wish};
use forebay_testkit::markets::runpod::RunPod;
use serde_json::Value;

async fn ordered(world: &World<RunPod>, gateway: &Gateway, image: Option<&str>) -> (bool, Value) {
    let offer = gateway.offer("4090").await;
    let mut wish = wish(&offer.id);
    wish.image = image.map(str::to_owned);
    wish.env.insert("MODEL".to_owned(), "qwen".to_owned());
    let rental = gateway.create(wish).await.unwrap();
    let orders = world.fake.seen_at("create");
    (rental.bare, orders.last().unwrap().json())
}

#[tokio::test]
async fn only_the_image_of_the_configuration_runs_the_agent() {
    let world = World::<RunPod>::sqlite().await;
    let gateway = world.gateway().await;
    let (is_bare, order) = ordered(&world, &gateway, None).await;
    assert!(!is_bare && order["args"].is_string() && order["env"]["FOREBAY_TOKEN"].is_string());

    let (is_bare, order) = ordered(&world, &gateway, Some("vllm/vllm-openai:v0.11.0")).await;
    assert!(is_bare && order["args"].is_null(), "{order}");
    assert_eq!(order["env"], serde_json::json!({ "MODEL": "qwen" }));
    gateway.close().await;
}
