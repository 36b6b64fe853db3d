//! HTTP+SSE, the transport of 2024-11-05.

use crate::world::{
    Seen, Server, Wish, call, event, initialized, listening, live, note, raw, said, soon, status, text_response, until,
};
use axum::response::Response;
use forebay_mcp::{
    call::Emission,
    client::{ClientFault, Mode},
};
use http::StatusCode;
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc::UnboundedSender;

type Stream = Arc<Mutex<Option<UnboundedSender<String>>>>;

fn say(stream: &Stream, text: String) {
    stream.lock().unwrap().as_ref().unwrap().send(text).unwrap();
}

/// A server that names `endpoint`, and answers on its stream.
async fn start(endpoint: &'static str) -> (Server, Stream) {
    let stream = Stream::default();
    let kept = stream.clone();
    let server = Server::start(move |seen| script(seen, endpoint, &kept)).await;
    (server, stream)
}

fn script(seen: &Seen, endpoint: &str, stream: &Stream) -> Response {
    if seen.method == "GET" {
        let (sender, response) = live();
        sender.send(format!("event: endpoint\ndata: {endpoint}\n\n")).unwrap();
        *stream.lock().unwrap() = Some(sender);
        return response;
    }
    if seen.path != "/messages" {
        return status(405);
    }
    let message = |answer: &serde_json::Value| format!("event: message\ndata: {answer}\n\n");
    match seen.asks() {
        "initialize" => say(stream, message(&seen.answer(&initialized("2024-11-05")))),
        "tools/call" if seen.body["params"]["name"] == "asks" => {
            let question = json!({"jsonrpc": "2.0", "id": 5, "method": "sampling/createMessage", "params": {}});
            say(stream, message(&question));
        }
        "tools/call" => {
            let progress = json!({"progressToken": seen.body["id"], "progress": 1});
            say(stream, message(&note("notifications/progress", &progress)));
            say(stream, message(&seen.answer(&json!({"x": 1}))));
        }
        "POST" => say(
            stream,
            message(&json!({"jsonrpc": "2.0", "id": 3, "result": {"told": seen.body["result"]}})),
        ),
        _ => {}
    }
    status(202)
}

#[tokio::test]
async fn it_is_found_when_nobody_takes_messages_at_the_address() {
    let (server, _stream) = start("/messages?s=1").await;
    for (mode, id) in [(Mode::Auto, "4"), (Mode::Sse, "2")] {
        let (connection, _heard) = Wish::mode(mode).over_http(&server.url).await.unwrap();
        assert_eq!(connection.version().as_str(), "2024-11-05", "{mode:?}");
        let (hooks, mut emissions) = listening();
        let params = raw(&json!({"name": "t", "_meta": {"progressToken": 1}}));
        let result = soon(connection.request("tools/call", Some(&params), hooks))
            .await
            .unwrap();
        assert_eq!(result.get(), r#"{"x":1}"#);
        let progress = said(&emissions.recv().await.unwrap());
        assert_eq!(progress, format!(r#"progress {{"progress":1,"progressToken":{id}}}"#));
        connection.close().await;
    }
}

#[tokio::test]
async fn questions_are_answered_by_a_post() {
    let (server, _stream) = start("/messages").await;
    let (connection, _heard) = Wish::mode(Mode::Sse).over_http(&server.url).await.unwrap();
    let (hooks, mut emissions) = listening();
    let params = raw(&json!({"name": "asks"}));
    let answering = async {
        let Some(Emission::Question(question)) = soon(emissions.recv()).await else {
            panic!("a question")
        };
        question.reply.send(Ok(raw(&json!({"role": "user"})))).unwrap();
        until(|| server.seen().iter().any(|seen| seen.body["id"] == 5)).await;
    };
    tokio::select! {
        _ = connection.request("tools/call", Some(&params), hooks) => panic!("its answer has another id"),
        () = answering => {}
    }
    let answer = server.seen().into_iter().find(|seen| seen.body["id"] == 5).unwrap();
    assert_eq!(answer.text, r#"{"jsonrpc":"2.0","id":5,"result":{"role":"user"}}"#);
}

#[tokio::test]
async fn an_address_on_another_host_is_refused_and_gets_no_message() {
    let (other, _other_stream) = start("/messages").await;
    let elsewhere: &'static str = Box::leak(format!("{}/messages", other.origin).into_boxed_str());
    let (server, _stream) = start(elsewhere).await;
    let fault = Wish::mode(Mode::Sse).over_http(&server.url).await.err().unwrap();
    assert!(fault.to_string().contains("on another host"), "{fault}");
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn the_end_of_its_stream_is_the_end_of_the_connection() {
    let (server, stream) = start("/messages").await;
    let (connection, _heard) = Wish::mode(Mode::Sse).over_http(&server.url).await.unwrap();
    call(&connection, &json!({"name": "t"})).await.unwrap();
    stream.lock().unwrap().take();
    soon(connection.closed()).await;
    let fault = call(&connection, &json!({"name": "t"})).await.unwrap_err();
    assert!(matches!(fault, ClientFault::Broken { .. }), "{fault}");
}

#[tokio::test]
async fn what_is_no_such_server_either_is_explained_by_its_first_answer() {
    let server = Server::start(|seen| match seen.asks() {
        "GET" => text_response(StatusCode::OK, "text/html", "<p>hello</p>"),
        _ => status(404),
    })
    .await;
    let fault = Wish::default().over_http(&server.url).await.err().unwrap();
    assert!(fault.to_string().contains("status 404"), "{fault}");
    let server = Server::start(|seen| match seen.asks() {
        "GET" => crate::world::events(&[event(&json!({}))]),
        _ => status(405),
    })
    .await;
    let fault = Wish::mode(Mode::Sse).over_http(&server.url).await.err().unwrap();
    assert!(fault.to_string().contains("named no address"), "{fault}");
}
