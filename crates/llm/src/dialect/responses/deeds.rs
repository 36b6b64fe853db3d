//! What a gateway does of its own while a model answers, as items of the response: the tools it lists, the calls it
//! runs, and those for which it asks first.

use super::{super::Asked, output::Output};
use serde_json::{Value, json};

/// One thing that a gateway does of its own.
#[derive(Debug)]
pub(crate) enum Deed {
    /// It looks up what a server offers.
    Lists { server: String, tools: Vec<Value> },
    /// It begins to run a call.
    Calls(Errand),
    /// A call that it ran has ended: with an output, or with an error of the API's own form.
    Ended { key: usize, result: Result<String, Value> },
    /// It runs this call only once somebody agrees.
    Asks(Errand),
}

/// A call of a tool of the gateway.
#[derive(Debug)]
pub(crate) struct Errand {
    /// Names the call among those that run at the same time.
    pub(crate) key: usize,
    pub(crate) server: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
    /// The request for approval that was agreed to.
    pub(crate) approval: Option<String>,
}

impl Output {
    pub(super) fn tell(&mut self, deed: Deed, asked: &Asked) {
        self.leave("completed");
        match deed {
            Deed::Lists { server, tools } => self.list(&server, tools, asked),
            Deed::Calls(errand) => self.begin_call(errand, asked),
            Deed::Ended { key, result } => self.end_call(key, result),
            Deed::Asks(errand) => {
                let item = json!({
                    "type": "mcp_approval_request",
                    "server_label": errand.server,
                    "name": errand.name,
                    "arguments": errand.arguments,
                });
                let at = self.add(item, "mcpr", asked);
                self.done(at);
            }
        }
    }

    fn list(&mut self, server: &str, tools: Vec<Value>, asked: &Asked) {
        let item = json!({ "type": "mcp_list_tools", "server_label": server, "tools": [], "error": null });
        let at = self.add(item, "mcpl", asked);
        self.progress(at, "mcp_list_tools.in_progress");
        self.items[at]["tools"] = tools.into();
        self.progress(at, "mcp_list_tools.completed");
        self.done(at);
    }

    fn begin_call(&mut self, errand: Errand, asked: &Asked) {
        let item = json!({
            "type": "mcp_call",
            "status": "in_progress",
            "server_label": errand.server,
            "name": errand.name,
            "arguments": "",
            "output": null,
            "error": null,
            "approval_request_id": errand.approval,
        });
        let at = self.add(item, "mcp", asked);
        self.progress(at, "mcp_call.in_progress");
        let about = |key: &str, value: &str| json!({ "item_id": self.items[at]["id"], "output_index": at, key: value });
        let (delta, done) = (about("delta", &errand.arguments), about("arguments", &errand.arguments));
        self.items[at]["arguments"] = errand.arguments.into();
        self.emit("response.mcp_call_arguments.delta", delta);
        self.emit("response.mcp_call_arguments.done", done);
        self.running.insert(errand.key, at);
    }

    fn end_call(&mut self, key: usize, result: Result<String, Value>) {
        let Some(at) = self.running.remove(&key) else { return };
        let (member, value, status) = match result {
            Ok(output) => ("output", output.into(), "completed"),
            Err(error) => ("error", error, "failed"),
        };
        self.items[at][member] = value;
        self.items[at]["status"] = status.into();
        self.progress(at, &format!("mcp_call.{status}"));
        self.done(at);
    }

    fn progress(&mut self, at: usize, kind: &str) {
        let event = json!({ "item_id": self.items[at]["id"], "output_index": at });
        self.emit(&format!("response.{kind}"), event);
    }
}
