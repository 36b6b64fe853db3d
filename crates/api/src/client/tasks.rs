//! Durable tasks, over Forebay's own API.

use super::{Client, ClientError};
use crate::wire::{TaskCreate, TaskInfo, TaskList, TaskQuery, TaskShow};
use reqwest::Method;
use std::time::Duration;
use url::form_urlencoded::byte_serialize;

const TASKS: &str = "/api/v1/mcp/tasks";
/// What the gateway may need beside the time for which it was asked to wait.
const BESIDE: Duration = Duration::from_secs(30);

impl Client {
    pub async fn submit_task(&self, wanted: &TaskCreate) -> Result<TaskInfo, ClientError> {
        self.json(self.request(Method::POST, TASKS).json(wanted)).await
    }

    pub async fn tasks(&self, query: &TaskQuery) -> Result<TaskList, ClientError> {
        self.json(self.request(Method::GET, TASKS).query(query)).await
    }

    /// With its input.
    pub async fn task(&self, id: &str) -> Result<TaskInfo, ClientError> {
        let query = TaskShow {
            wait: None,
            input: true,
        };
        self.json(self.request(Method::GET, &of(id, "")).query(&query)).await
    }

    /// The task at its end, or as it is after so long.
    pub async fn await_task(&self, id: &str, longest: Duration) -> Result<TaskInfo, ClientError> {
        let query = TaskShow {
            wait: Some(format!("{}s", longest.as_secs())),
            input: false,
        };
        let request = self.request(Method::GET, &of(id, "")).timeout(longest + BESIDE);
        self.json(request.query(&query)).await
    }

    pub async fn cancel_task(&self, id: &str) -> Result<TaskInfo, ClientError> {
        self.json(self.request(Method::POST, &of(id, "/cancel"))).await
    }

    pub async fn requeue_task(&self, id: &str) -> Result<TaskInfo, ClientError> {
        self.json(self.request(Method::POST, &of(id, "/requeue"))).await
    }
}

fn of(id: &str, more: &str) -> String {
    let id: String = byte_serialize(id.as_bytes()).collect();
    format!("{TASKS}/{id}{more}")
}
