//! What the tools of this server say of themselves: schemas that are flat enough for every client.

use super::{batch, chain, search};
use crate::{
    raw::with_member,
    tools::{Definition, World},
};
use serde_json::{Value, json, value::RawValue};

/// The longest name of a tool that is taken, in characters.
const NAME_MAX: usize = 128;

pub(super) fn batch() -> Definition {
    Definition {
        name: "call_batch",
        title: "Call several tools at once",
        description: format!(
            "Calls up to {} tools in parallel and returns all of their results in the order of the calls. A call that \
             fails does not hold up the others: look at `ok` of each result. Use it for calls that do not need one \
             another's results; use call_chain for those that do.",
            batch::CALLS_MAX
        ),
        input: json!({
            "type": "object",
            "properties": {
                "calls": {
                    "type": "array",
                    "description": "The calls: each one a tool by its name, and its arguments.",
                    "minItems": 1,
                    "maxItems": batch::CALLS_MAX,
                    "items": {
                        "type": "object",
                        "properties": {"tool": tool_name(), "arguments": arguments("")},
                        "required": ["tool"],
                        "additionalProperties": false
                    }
                },
                "concurrency": {
                    "type": "integer",
                    "description": format!("How many calls run at once (default {}).", batch::CONCURRENCY),
                    "minimum": 1,
                    "maximum": batch::CONCURRENCY_MAX
                },
                "stop_on_error": {
                    "type": "boolean",
                    "description": "Begin no further call once one has failed (default false). Those that run are \
                                    waited for."
                }
            },
            "required": ["calls"],
            "additionalProperties": false
        }),
        output: json!({
            "type": "object",
            "properties": {
                "results": {"type": "array", "items": step(&["index", "tool", "ok"])},
                "succeeded": {"type": "integer"},
                "failed": {"type": "integer"}
            },
            "required": ["results", "succeeded", "failed"],
            "additionalProperties": false
        }),
        world: World::Open,
    }
}

pub(super) fn chain() -> Definition {
    Definition {
        name: "call_chain",
        title: "Call tools one after another",
        description: format!(
            "Calls up to {} tools one after another, where later arguments may take values from earlier results. \
             Anywhere within `arguments`, {{\"$from\": \"/0/structuredContent/result\"}} is replaced by what that JSON \
             pointer finds: first the step, by its number from 0 or by its `id`, then the place in its result \
             (structuredContent, content, isError); {{\"$text\": \"/0\"}} is replaced by the text of that step's \
             result. The chain ends at the first step that fails, with the results up to there.",
            chain::STEPS_MAX
        ),
        input: json!({
            "type": "object",
            "properties": {
                "steps": {
                    "type": "array",
                    "description": "The steps in their order: each one a tool by its name, and its arguments.",
                    "minItems": 1,
                    "maxItems": chain::STEPS_MAX,
                    "items": {
                        "type": "object",
                        "properties": {
                            "tool": tool_name(),
                            "arguments": arguments(" References to earlier steps are filled in."),
                            "id": {
                                "type": "string",
                                "description": "A name for references to this step, beside its number.",
                                "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
                            }
                        },
                        "required": ["tool"],
                        "additionalProperties": false
                    }
                }
            },
            "required": ["steps"],
            "additionalProperties": false
        }),
        output: json!({
            "type": "object",
            "properties": {
                "steps": {"type": "array", "items": step(&["index", "tool", "ok"])},
                "result": {"type": "object", "description": "The last step's result, where all steps succeeded."}
            },
            "required": ["steps"],
            "additionalProperties": false
        }),
        world: World::Open,
    }
}

pub(super) fn search() -> Definition {
    Definition {
        name: super::SEARCH_TOOLS,
        title: "Search tools",
        description: "Finds tools by words in their names, titles, descriptions and argument names, among all tools \
                      that may be called here, also those that the list of tools does not show. Returns their \
                      definitions, best first; call one by its `name`."
            .to_owned(),
        input: json!({
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "description": "Some words for what the tool should do, or a part of its name. Empty for all tools.",
                    "maxLength": search::QUERY_CHARS_MAX
                },
                "limit": {
                    "type": "integer",
                    "description": format!("How many tools to return at most (default {}).", search::LIMIT),
                    "minimum": 1,
                    "maximum": search::LIMIT_MAX
                },
                "server": {
                    "type": "string",
                    "description": "Only tools of this server.",
                    "maxLength": NAME_MAX
                }
            },
            "required": ["query"],
            "additionalProperties": false
        }),
        output: json!({
            "type": "object",
            "properties": {
                "tools": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            "server": {"type": "string"},
                            "title": {"type": "string"},
                            "description": {"type": "string"},
                            "inputSchema": {"type": "object"},
                            "outputSchema": {"type": "object"},
                            "annotations": {"type": "object"},
                            "score": {"type": "number"},
                            "truncated": {
                                "type": "boolean",
                                "description": "True where the definition was left out, because the answer grew too large."
                            }
                        },
                        "required": ["name", "server", "score"]
                    }
                },
                "total": {"type": "integer", "description": "How many tools match, shown or not."}
            },
            "required": ["tools", "total"],
            "additionalProperties": false
        }),
        world: World::Closed,
    }
}

/// The definition of a tool that may do whatever any other tool may do, and says so.
pub(super) fn as_risky_as_what_it_calls(definition: &Definition) -> Box<RawValue> {
    let annotations = json!({
        "title": definition.title,
        "readOnlyHint": false,
        "destructiveHint": true,
        "idempotentHint": false,
        "openWorldHint": true,
    });
    with_member(&definition.to_raw(), "annotations", &annotations.to_string())
}

fn tool_name() -> Value {
    json!({
        "type": "string",
        "description": "The tool's name, as tools/list or search_tools shows it.",
        "minLength": 1,
        "maxLength": NAME_MAX
    })
}

fn arguments(more: &str) -> Value {
    json!({"type": "object", "description": format!("The tool's own arguments, as its inputSchema wants them.{more}")})
}

/// How one call ended.
fn step(required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": {
            "index": {"type": "integer"},
            "id": {"type": "string"},
            "tool": {"type": "string"},
            "ok": {"type": "boolean"},
            "result": {"type": "object", "description": "The tool's own result; with isError where the tool failed."},
            "error": {
                "type": "object",
                "description": "Why there is no result: code, message, hint.",
                "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "hint": {"type": "string"}},
                "required": ["code", "message"]
            }
        },
        "required": required,
        "additionalProperties": false
    })
}
