//! What the tools of the server `contexts` take and give, as JSON Schema.

use super::definitions::Own;
use serde_json::{Value, json};

/// What a tool takes. What fits here is read into the wire types of the REST API.
pub(super) fn input(own: Own) -> Value {
    let context = id("The context, by its id");
    let (properties, required): (Value, &[&str]) = match own {
        Own::Create => (create_input(), &["model_id"]),
        Own::Prompt => (prompt_input(&context), &["context_id", "prompt"]),
        Own::AddNode => (add_node_input(&context), &["context_id", "content"]),
        Own::DeleteNode => (
            as_task(json!({"context_id": context, "node_id": id("The node, by its id")})),
            &["context_id", "node_id"],
        ),
        Own::Delete => (as_task(json!({"context_id": context})), &["context_id"]),
        Own::Get => (json!({"context_id": context}), &["context_id"]),
        Own::List => (page_input(json!({})), &[]),
        Own::Tasks => (
            page_input(json!({
                "status": {"type": "string", "enum": STATES, "description": "Only those in this state"},
                "type": {"type": "string", "maxLength": 100, "description": "Only those of this type, such as mcp.add_prompt"},
            })),
            &[],
        ),
        Own::Task => (
            json!({
                "task_id": id("The task, by its id"),
                "wait": {"type": "string", "maxLength": 20, "description": "Wait so long at most, such as 30s"},
            }),
            &["task_id"],
        ),
        Own::Cancel => (json!({"task_id": id("The task, by its id")}), &["task_id"]),
    };
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

const STATES: [&str; 7] = [
    "pending",
    "scheduled",
    "running",
    "completed",
    "failed",
    "cancelled",
    "dead",
];

fn id(description: &str) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 128, "description": description})
}

fn priority() -> Value {
    json!({
        "description": "low, medium, high or critical, or a number from 1 to 4; medium where it is left out",
        "type": ["string", "integer"],
        "enum": ["low", "medium", "high", "critical", 1, 2, 3, 4],
    })
}

fn metadata() -> Value {
    json!({"type": "object", "description": "Whatever belongs to it; it is kept and given back"})
}

fn role() -> Value {
    json!({"type": "string", "enum": ["system", "user", "assistant", "tool"],
        "description": "Who speaks; by default metadata.role, and user where there is none"})
}

/// What every tool takes whose work is a task.
fn as_task(mut properties: Value) -> Value {
    properties["priority"] = priority();
    properties["idempotency_key"] = json!({"type": "string", "minLength": 1, "maxLength": 255,
        "description": "The same key does it once, however often it is called"});
    properties
}

/// The same, for what has a context to show afterwards.
fn with_common(properties: Value) -> Value {
    let mut properties = as_task(properties);
    properties["return_context"] = json!({"type": "boolean", "description": "Give the whole context back too"});
    properties
}

fn node_properties() -> Value {
    json!({
        "content": {"description": "A text, or any JSON value where content_type is json"},
        "content_type": {"type": "string", "enum": ["text", "json"]},
        "role": role(),
        "metadata": metadata(),
    })
}

fn user_id() -> Value {
    json!({"type": "string", "maxLength": 200, "description": "A label; who asks is said by the key"})
}

fn create_input() -> Value {
    with_common(json!({
        "model_id": {"type": "string", "minLength": 1, "maxLength": 200, "description": "The model that is asked in it"},
        "nodes": {"type": "array", "maxItems": 1000, "description": "What it begins with, such as a node of role system",
            "items": {"type": "object", "properties": node_properties(), "required": ["content"], "additionalProperties": false}},
        "metadata": metadata(),
        "user_id": user_id(),
    }))
}

fn prompt_input(context: &Value) -> Value {
    with_common(json!({
        "context_id": context,
        "prompt": {"type": "string", "description": "What to ask"},
        "metadata": metadata(),
        "user_id": user_id(),
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 1_000_000, "description": "The longest answer, in tokens"},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "mcp_context": {"type": "object", "description": "What is looked up for the question: {providers, query, …}"},
        "tools": {"type": "array", "maxItems": 128, "items": {"type": "object"},
            "description": "Tools that the model may use, as OpenAI writes them; one without parameters is the gateway's"},
    }))
}

fn add_node_input(context: &Value) -> Value {
    let mut properties = with_common(node_properties());
    properties["parent_id"] = id("A node of the same context that this one belongs to");
    properties["context_id"] = context.clone();
    properties
}

fn page_input(mut properties: Value) -> Value {
    properties["limit"] =
        json!({"type": "integer", "minimum": 1, "maximum": 1000, "description": "At most so many; 100 by default"});
    properties["cursor"] =
        json!({"type": "string", "maxLength": 500, "description": "The next_cursor of the page before"});
    properties
}

/// What a tool gives. What changes something gives a task that goes on, with its id, where it was waited for in vain.
pub(super) fn output(own: Own) -> Value {
    let (properties, required): (Value, &[&str]) = match own {
        Own::Create => (context_output(), &["task_id"]),
        Own::Prompt => (
            json!({
                "context_id": {"type": "string"}, "node": node_output(), "prompt_node": node_output(),
                "usage": usage_output(), "context": object(&context_output(), &["id"]),
            }),
            &["task_id"],
        ),
        Own::AddNode => (
            json!({"context_id": {"type": "string"}, "node": node_output(), "context": object(&context_output(), &["id"])}),
            &["task_id"],
        ),
        Own::DeleteNode => (
            json!({"context_id": {"type": "string"}, "node_id": {"type": "string"}, "deleted": {"type": "boolean"}}),
            &["task_id"],
        ),
        Own::Delete => (
            json!({"id": {"type": "string"}, "deleted": {"type": "boolean"}}),
            &["task_id"],
        ),
        Own::List => (
            json!({"contexts": list(&object(&context_output(), &["id"])), "next_cursor": {"type": "string"}}),
            &["contexts"],
        ),
        Own::Get => (context_output(), &["id", "nodes"]),
        Own::Tasks => (
            json!({"tasks": list(&task_output()), "next_cursor": {"type": "string"}}),
            &["tasks"],
        ),
        Own::Task | Own::Cancel => return task_output(),
    };
    let mut schema = object(&properties, required);
    if required == ["task_id"] {
        schema["properties"]["task_id"] = json!({"type": "string", "description": "The task that did it, or does it"});
        schema["properties"]["task"] = task_output();
    }
    schema
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

fn list(items: &Value) -> Value {
    json!({"type": "array", "items": items})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn usage_output() -> Value {
    json!({"type": "object", "properties": {
        "prompt_tokens": {"type": "integer"}, "completion_tokens": {"type": "integer"}, "total_tokens": {"type": "integer"},
    }})
}

fn node_output() -> Value {
    object(
        &json!({
            "id": {"type": "string"}, "parent_id": {"type": "string"}, "role": role(),
            "content": {}, "content_type": {"type": "string", "enum": ["text", "json"]},
            "metadata": {"type": "object"}, "created_at": time(), "usage": usage_output(),
        }),
        &["id", "role", "content"],
    )
}

fn context_output() -> Value {
    json!({
        "id": {"type": "string"}, "model_id": {"type": "string"}, "metadata": {"type": "object"},
        "user_id": {"type": "string"}, "created_at": time(), "updated_at": time(), "expires_at": time(),
        "node_count": {"type": "integer"}, "nodes": list(&node_output()),
    })
}

fn task_output() -> Value {
    object(
        &json!({
            "id": {"type": "string"}, "type": {"type": "string"}, "status": {"type": "string", "enum": STATES},
            "priority": {"type": "string"}, "run_at": time(), "attempts": {"type": "integer"},
            "attempts_max": {"type": "integer"}, "output": {},
            "error": object(&json!({"code": {"type": "string"}, "message": {"type": "string"}, "hint": {"type": "string"},
                "details": {"type": "object"}}), &["code", "message"]),
            "created_at": time(), "started_at": time(), "completed_at": time(), "expires_at": time(),
            "context_id": {"type": "string"},
        }),
        &["id", "type", "status"],
    )
}
