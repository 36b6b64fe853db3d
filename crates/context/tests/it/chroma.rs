//! `chroma`: what goes over the wire to a server, and what becomes of its answers. (A real one stands in tests/e2e.)
#![expect(clippy::unused_async, reason = "axum's handlers are")]

use crate::world::{World, meaning};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use forebay_domain::{Code, context::Strategy, id::SubjectId};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;

const DOCUMENTS: &[&str] = &[
    "A kitten sleeps.",
    "The automobile is away.",
    "The word Zubrowka, in capitals.",
];

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    /// How often the collection was made anew.
    id: usize,
    look_ups: usize,
    bodies: Vec<Value>,
}

type Answer = (StatusCode, Json<Value>);

impl Server {
    async fn start(&self) -> (SocketAddr, forebay_runtime::Tasks) {
        let collections = "/api/v2/tenants/default_tenant/databases/default_database/collections";
        let app = Router::new()
            .route(&format!("{collections}/documents"), get(Self::find))
            .route(&format!("{collections}/{{id}}/query"), post(Self::query))
            .route(&format!("{collections}/{{id}}/get"), post(Self::get))
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = forebay_runtime::Tasks::new();
        tasks.spawn("chroma", |_| async move { axum::serve(listener, app).await.unwrap() });
        (address, tasks)
    }

    async fn find(State(server): State<Self>) -> Json<Value> {
        let mut heard = server.0.lock().unwrap();
        heard.look_ups += 1;
        Json(json!({ "id": format!("c{}", heard.id), "name": "documents", "dimension": 5 }))
    }

    /// None where the collection is another one by now.
    fn heard(&self, id: &str, body: &Value) -> Option<Answer> {
        let mut heard = self.0.lock().unwrap();
        heard.bodies.push(body.clone());
        let gone = json!({ "error": "NotFoundError", "message": "no collection" });
        (id != format!("c{}", heard.id)).then_some((StatusCode::NOT_FOUND, Json(gone)))
    }

    async fn query(State(server): State<Self>, Path(id): Path<String>, Json(body): Json<Value>) -> Answer {
        if let Some(gone) = server.heard(&id, &body) {
            return gone;
        }
        let asked: Vec<f32> = serde_json::from_value(body["query_embeddings"][0].clone()).unwrap();
        if asked.len() != 5 {
            return (
                StatusCode::BAD_REQUEST,
                Json(json!({ "error": "InvalidArgumentError" })),
            );
        }
        let near = |text: &str| -> f32 { meaning(text).iter().zip(&asked).map(|(a, b)| a * b).sum() };
        let mut ranked: Vec<usize> = (0..DOCUMENTS.len()).collect();
        ranked.sort_by(|a, b| near(DOCUMENTS[*b]).total_cmp(&near(DOCUMENTS[*a])));
        let ids: Vec<String> = ranked.iter().map(ToString::to_string).collect();
        let documents: Vec<&str> = ranked.iter().map(|place| DOCUMENTS[*place]).collect();
        let metadatas: Vec<Value> = ranked
            .iter()
            .map(|place| json!({ "source": format!("{place}.txt"), "n": 1 }))
            .collect();
        let answer =
            json!({ "ids": [ids], "documents": [documents], "metadatas": [metadatas], "distances": [[0.1, 0.2, 0.3]] });
        (StatusCode::OK, Json(answer))
    }

    async fn get(State(server): State<Self>, Path(id): Path<String>, Json(body): Json<Value>) -> Answer {
        if let Some(gone) = server.heard(&id, &body) {
            return gone;
        }
        let one = [body["where_document"].clone()];
        let conditions = body["where_document"]["$or"].as_array().map_or(&one[..], Vec::as_slice);
        let fits = |text: &&str| {
            conditions
                .iter()
                .any(|one| text.contains(one["$contains"].as_str().unwrap()))
        };
        let found: Vec<(usize, &&str)> = DOCUMENTS.iter().enumerate().filter(|(_, text)| fits(text)).collect();
        let ids: Vec<String> = found.iter().map(|(place, _)| place.to_string()).collect();
        let documents: Vec<&&str> = found.iter().map(|(_, text)| *text).collect();
        let metadatas = vec![Value::Null; documents.len()];
        (
            StatusCode::OK,
            Json(json!({ "ids": ids, "documents": documents, "metadatas": metadatas })),
        )
    }
}

fn config(address: SocketAddr, more: &Value) -> Value {
    let mut config = json!({ "host": address.ip().to_string(), "port": address.port(), "collection": "documents" });
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({ "type": "chroma", "config": config })
}

#[tokio::test]
async fn by_meaning_by_words_and_by_both() {
    let server = Server::default();
    let (address, tasks) = server.start().await;
    let config = json!({ "providers": { "c": config(address, &json!({ "embedding_model": "minilm" })) } });
    let world = World::new(config).await;
    let found = world.look("c", "vehicle", Strategy::SemanticSearch).await;
    assert_eq!(found.items[0].text, "The automobile is away.");
    assert_eq!(found.items[0].source, "1.txt");
    // As the model made it: Chroma compares by distance, and its documents were not made shorter either.
    let asked = server.0.lock().unwrap().bodies[0]["query_embeddings"][0].clone();
    assert_eq!(serde_json::from_value::<Vec<f32>>(asked).unwrap(), meaning("vehicle"));
    let found = world.look("c", "What is ZUBROWKA?", Strategy::Keyword).await;
    assert_eq!(found.items.len(), 1);
    assert_eq!(found.items[0].source, "documents#2");
    let found = world.look("c", "vehicle Zubrowka", Strategy::Hybrid).await;
    assert_eq!((found.items.len(), found.reports[0].strategy), (3, Strategy::Hybrid));
    assert_eq!(
        server.0.lock().unwrap().look_ups,
        1,
        "the collection's id is remembered"
    );
    tasks.stop().end();
}

#[tokio::test]
async fn a_collection_that_is_made_anew_is_found_again() {
    let server = Server::default();
    let (address, tasks) = server.start().await;
    let world = World::new(json!({ "providers": { "c": config(address, &json!({})) } })).await;
    assert_eq!(world.texts("c", "kitten").await.len(), 1);
    server.0.lock().unwrap().id = 1;
    assert_eq!(world.texts("c", "sleeps").await.len(), 1);
    assert_eq!(server.0.lock().unwrap().look_ups, 2);
    let found = world.look("c", "kitten", Strategy::SemanticSearch).await;
    assert_eq!(
        found.reports[0].strategy,
        Strategy::Keyword,
        "without a model it takes words"
    );
    tasks.stop().end();
    let away = json!({ "providers": { "c": config(address, &json!({ "collection": "other" })) } });
    let world = World::new(away).await;
    assert_eq!(world.failure("c", "kitten").await.0, Code::UpstreamFailed);
}

#[tokio::test]
async fn one_that_comes_over_the_api_is_guarded() {
    let server = Server::default();
    let (address, tasks) = server.start().await;
    let world = World::new(json!({})).await;
    let one = serde_json::from_value(config(address, &json!({}))).unwrap();
    world
        .providers
        .create("c", &one, SubjectId::try_from("admin").unwrap())
        .await
        .unwrap();
    assert_eq!(world.failure("c", "kitten").await.0, Code::AddressNotAllowed);
    assert!(server.0.lock().unwrap().bodies.is_empty());
    tasks.stop().end();
}
