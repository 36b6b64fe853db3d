//! Whose a request's tools are, and what the model is told of them.
//!
//! A function without parameters that names a tool of the gateway is the gateway's: the model gets its real definition,
//! and its calls run here. Any other function is the client's own, and its calls go back: functions may do without
//! parameters in OpenAI's API. Refused is what names a tool of the gateway that the caller cannot have, and a name that
//! stands for two things.

use crate::dialect::Map;
use forebay_domain::{Code, Failure, Principal, port::CallTool, tool::ToolInfo};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// Tools of the gateway in one request at most.
const TOOLS_MAX: usize = 128;

/// The gateway's tools that a request names.
#[derive(Debug, Default)]
pub(crate) struct Offered {
    /// By the name under which the model calls them.
    tools: HashMap<String, Mine>,
    /// The names of the client's own.
    clients: HashSet<String>,
}

/// One tool of the gateway.
#[derive(Debug)]
pub(crate) struct Mine {
    pub(crate) info: ToolInfo,
    pub(crate) approval: Approval,
}

/// Whether somebody has to agree before a call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Approval {
    #[default]
    Never,
    Always,
}

impl Offered {
    pub(crate) fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// Whether the client itself runs the tool of this name.
    pub(crate) fn is_clients(&self, name: &str) -> bool {
        self.clients.contains(name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Mine> {
        self.tools.get(name)
    }

    pub(super) fn infos(&self) -> impl Iterator<Item = &ToolInfo> {
        self.tools.values().map(|mine| &mine.info)
    }

    /// Puts the real definitions of the gateway's tools into a canonical request, and says which they are.
    pub(crate) fn take(chat: &mut Map, tools: Option<&dyn CallTool>, principal: &Principal) -> Result<Self, Failure> {
        let mut offered = Self::default();
        let Some(Value::Array(entries)) = chat.get_mut("tools") else {
            return Ok(offered);
        };
        for (at, entry) in entries.iter_mut().enumerate() {
            let Some((name, approval)) = claims(entry, at)? else {
                offered.clients.extend(name_of(entry));
                continue;
            };
            match find(tools, principal, &name).map_err(|why| named(why, at))? {
                Some(info) => {
                    *entry = definition(&name, &info);
                    offered.add(name, info, approval, at)?;
                }
                None => {
                    offered.clients.insert(name);
                }
            }
        }
        offered.check_names(entries)?;
        Ok(offered)
    }

    pub(super) fn add(&mut self, name: String, info: ToolInfo, approval: Approval, at: usize) -> Result<(), Failure> {
        if self.tools.len() >= TOOLS_MAX {
            let problem = format!("name more than {TOOLS_MAX} tools of the gateway");
            return Err(invalid("tools", &problem));
        }
        match self.tools.insert(name, Mine { info, approval }) {
            None => Ok(()),
            Some(_) => Err(named_twice(at)),
        }
    }

    /// A call says a name and nothing else, so one that is the gateway's can be nobody else's too.
    pub(super) fn check_names(&self, entries: &[Value]) -> Result<(), Failure> {
        let shared =
            |entry: &Value| name_of(entry).is_some_and(|name| self.tools.contains_key(&name) && self.is_clients(&name));
        match entries.iter().rposition(shared) {
            Some(at) => Err(named_twice(at)),
            None => Ok(()),
        }
    }
}

/// The name of the gateway's tool that an entry claims; `None` where it is the client's own.
fn claims(entry: &mut Value, at: usize) -> Result<Option<(String, Approval)>, Failure> {
    if entry["type"] != "function" {
        return Ok(None);
    }
    let approval = match entry.as_object_mut().and_then(|entry| entry.remove("require_approval")) {
        None | Some(Value::Null) => Approval::Never,
        Some(Value::String(word)) if word == "never" => Approval::Never,
        Some(Value::String(word)) if word == "always" => Approval::Always,
        Some(_) => {
            return Err(invalid(
                &format!("tools[{at}].require_approval"),
                "must be \"always\" or \"never\"",
            ));
        }
    };
    let function = &entry["function"];
    let is_own = function
        .get("parameters")
        .is_some_and(|parameters| !parameters.is_null());
    match function["name"].as_str() {
        Some(name) if !is_own => Ok(Some((name.to_owned(), approval))),
        Some(_) | None => Ok(None),
    }
}

/// The gateway's tool of this name; a failure where there is one that the caller cannot have.
fn find(tools: Option<&dyn CallTool>, principal: &Principal, name: &str) -> Result<Option<ToolInfo>, Failure> {
    let Some(tools) = tools else { return Ok(None) };
    match tools.find(principal, name) {
        None => tools.withheld(principal, name).map_or(Ok(None), Err),
        found => Ok(found),
    }
}

fn name_of(entry: &Value) -> Option<String> {
    let kind = entry["type"].as_str()?;
    entry[kind]["name"].as_str().map(str::to_owned)
}

/// A tool as OpenAI's API writes it.
pub(super) fn definition(name: &str, info: &ToolInfo) -> Value {
    let parameters: Value = serde_json::from_str(info.input_schema.get()).unwrap_or_else(|_| json!({"type": "object"}));
    let mut function = json!({"name": name, "parameters": parameters});
    if let Some(description) = &info.description {
        function["description"] = description.as_str().into();
    }
    json!({"type": "function", "function": function})
}

/// Why a tool is not to be had, and which entry named it.
fn named(mut why: Failure, at: usize) -> Failure {
    if let Value::Object(details) = why.details.get_or_insert_with(|| json!({})) {
        details.insert("param".to_owned(), name_at(at).into());
    }
    why
}

fn named_twice(at: usize) -> Failure {
    invalid(
        &name_at(at),
        "is the name of two tools of this request, of which one is the gateway's",
    )
}

fn name_at(at: usize) -> String {
    format!("tools[{at}].function.name")
}

fn invalid(field: &str, expected: &str) -> Failure {
    Failure::new(Code::InvalidRequest, format!("`{field}` {expected}."))
        .hint("docs/openai.md describes whose tools a request may name.")
        .details(json!({ "param": field }))
}
