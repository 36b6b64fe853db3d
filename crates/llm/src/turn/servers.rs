//! Tools of the type `mcp` in a request for a response: a server of the catalogue by its label, and which of its tools.
//!
//! OpenAI's API lets a request name a server by its address, and calls it from there. Here a label names a server that
//! the operator has registered: the gateway dials no address that a request names, and hands nobody's credentials on.
//! Its own address is welcome, since that is where the catalogue is.

use super::{
    kept::invalid,
    offer::{Approval, Offered, definition},
};
use crate::dialect::Map;
use forebay_domain::{Code, Failure, Principal, port::CallTool, quarantine::NAME_SEPARATOR, tool::ToolInfo};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Names of tools in one filter at most.
const NAMES_MAX: usize = 256;

/// What only the address of somebody else's server would need.
const ABROAD: [&str; 2] = ["connector_id", "tunnel_id"];
const CREDENTIALS: [&str; 2] = ["authorization", "headers"];

/// Who asks, and for what.
pub(super) struct Asking<'a> {
    pub(super) tools: Option<&'a dyn CallTool>,
    pub(super) principal: &'a Principal,
    /// Where the client reaches the gateway.
    pub(super) base_url: Option<&'a str>,
}

/// What a server offers to this request.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) server: String,
    pub(super) tools: Vec<Value>,
}

/// One entry.
struct Entry {
    at: usize,
    server: String,
    allowed: Filter,
    approval: Rule,
}

/// Some of a server's tools.
#[derive(Debug, Default)]
struct Filter {
    names: Option<HashSet<String>>,
    read_only: Option<bool>,
}

/// Which calls need somebody's approval.
#[derive(Debug)]
enum Rule {
    All(Approval),
    /// All but those of the first filter; those of the second even then.
    But {
        never: Option<Filter>,
        always: Option<Filter>,
    },
}

/// Puts the definitions of the tools in the places of the entries that name their servers.
pub(super) fn expand(chat: &mut Map, offered: &mut Offered, asking: &Asking<'_>) -> Result<Vec<Listed>, Failure> {
    let mut listed = Vec::new();
    let is_entry = |tool: &Value| tool["type"] == "mcp";
    match chat.get_mut("tools") {
        Some(Value::Array(tools)) if tools.iter().any(is_entry) => {
            let mut definitions = Vec::with_capacity(tools.len());
            for (at, tool) in std::mem::take(tools).into_iter().enumerate() {
                if !is_entry(&tool) {
                    definitions.push(tool);
                    continue;
                }
                let entry = Entry::read(&tool, at, asking.base_url)?;
                let found = entry.tools(asking)?;
                listed.push(Listed {
                    server: entry.server.clone(),
                    tools: found.iter().map(told).collect(),
                });
                for info in found {
                    definitions.push(definition(&info.name, &info));
                    let approval = entry.approval.of(&info);
                    offered.add(info.name.clone(), info, approval, at)?;
                }
            }
            offered.check_names(&definitions)?;
            *tools = definitions;
        }
        _ => {}
    }
    choose(chat, offered)?;
    Ok(listed)
}

impl Entry {
    fn read(tool: &Value, at: usize, base_url: Option<&str>) -> Result<Self, Failure> {
        let refuse = |key: &str, problem: &str| invalid(&format!("tools[{at}].{key}"), problem);
        let is_there = |key: &&&str| !matches!(&tool[**key], Value::Null) && tool[**key] != json!({});
        let Some(server) = tool["server_label"].as_str() else {
            return Err(refuse("server_label", "must name a server of the gateway"));
        };
        if let Some(key) = ABROAD.iter().find(is_there) {
            let problem = "must be left out: `server_label` names a server that is registered with the gateway";
            return Err(refuse(key, problem));
        }
        match &tool["server_url"] {
            Value::Null => {
                if let Some(key) = CREDENTIALS.iter().find(is_there) {
                    let problem = "must be left out: the gateway has its own credentials for its servers";
                    return Err(refuse(key, problem));
                }
            }
            Value::String(url) if is_own(url, base_url, server) => {}
            _ => {
                let problem = "must be left out, or be this gateway's own address: it dials no other that a request \
                               names; an operator registers the server, and `server_label` names it";
                return Err(refuse("server_url", problem));
            }
        }
        let filter = |value: &Value, key: &str| Filter::read(value, &format!("tools[{at}].{key}"));
        Ok(Self {
            at,
            server: server.to_owned(),
            allowed: filter(&tool["allowed_tools"], "allowed_tools")?.unwrap_or_default(),
            approval: Rule::read(&tool["require_approval"], &filter, &refuse)?,
        })
    }

    /// The tools of the server that this caller may use and this request wants.
    fn tools(&self, asking: &Asking<'_>) -> Result<Vec<ToolInfo>, Failure> {
        let (at, server) = (self.at, self.server.escape_debug());
        let mut all = match asking.tools {
            Some(tools) => tools.of_server(asking.principal, &self.server),
            None => Vec::new(),
        };
        if all.is_empty() {
            let message = format!("There is no server `{server}` here with tools that you may call.");
            return Err(Failure::new(Code::UnknownServer, message)
                .hint("`forebay upstream list` lists the servers that are registered.")
                .details(json!({ "param": format!("tools[{at}].server_label") })));
        }
        let known: HashSet<&str> = all.iter().flat_map(names_of).collect();
        let mut names = self.allowed.names.iter().flatten();
        if let Some(unknown) = names.find(|name| !known.contains(name.as_str())) {
            return Err(self.unknown(unknown, asking));
        }
        all.retain(|info| self.allowed.matches(info));
        Ok(all)
    }

    /// Why a tool that the request names is not to be had.
    fn unknown(&self, name: &str, asking: &Asking<'_>) -> Failure {
        let withheld = |name: &str| asking.tools?.withheld(asking.principal, name);
        let why = withheld(&format!("{}{NAME_SEPARATOR}{name}", self.server)).or_else(|| withheld(name));
        let why = why.unwrap_or_else(|| {
            let (name, server) = (name.escape_debug(), self.server.escape_debug());
            let message = format!("There is no tool `{name}` of server `{server}` that you may call.");
            Failure::new(Code::UnknownTool, message).hint("`tools/list` at the gateway's `/mcp` lists them.")
        });
        why.details(json!({ "param": format!("tools[{}].allowed_tools", self.at) }))
    }
}

impl Filter {
    /// A list of names, or an object of conditions.
    fn read(value: &Value, path: &str) -> Result<Option<Self>, Failure> {
        let names = |value: &Value, path: &str| {
            let names = value.as_array().filter(|names| names.len() <= NAMES_MAX);
            let names = names.and_then(|names| {
                let names = names.iter().map(|name| name.as_str().map(str::to_owned));
                names.collect::<Option<HashSet<_>>>()
            });
            names.ok_or_else(|| invalid(path, &format!("must be a list of at most {NAMES_MAX} names")))
        };
        let fields = match value {
            Value::Null => return Ok(None),
            Value::Object(fields) => fields,
            list => {
                return Ok(Some(Self {
                    names: Some(names(list, path)?),
                    read_only: None,
                }));
            }
        };
        let mut filter = Self::default();
        for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            let path = format!("{path}.{}", key.escape_debug());
            match (key.as_str(), value) {
                ("tool_names", list) => filter.names = Some(names(list, &path)?),
                ("read_only", Value::Bool(wanted)) => filter.read_only = Some(*wanted),
                ("read_only", _) => return Err(invalid(&path, "must be true or false")),
                _ => return Err(invalid(&path, "is no condition; there are tool_names and read_only")),
            }
        }
        Ok(Some(filter))
    }

    fn matches(&self, info: &ToolInfo) -> bool {
        let is_named = |names: &HashSet<String>| names_of(info).any(|name| names.contains(name));
        self.names.as_ref().is_none_or(is_named) && self.read_only.is_none_or(|wanted| wanted == info.hints.read_only)
    }
}

impl Rule {
    /// Without a word every call needs approval, as at OpenAI.
    fn read(
        value: &Value,
        filter: &impl Fn(&Value, &str) -> Result<Option<Filter>, Failure>,
        refuse: &impl Fn(&str, &str) -> Failure,
    ) -> Result<Self, Failure> {
        match value {
            Value::Null => Ok(Self::All(Approval::Always)),
            Value::String(word) if word == "always" => Ok(Self::All(Approval::Always)),
            Value::String(word) if word == "never" => Ok(Self::All(Approval::Never)),
            Value::Object(fields) if fields.keys().all(|key| matches!(key.as_str(), "always" | "never")) => {
                Ok(Self::But {
                    never: filter(&value["never"], "require_approval.never")?,
                    always: filter(&value["always"], "require_approval.always")?,
                })
            }
            _ => {
                let problem = "must be \"always\", \"never\", or an object of filters by those names";
                Err(refuse("require_approval", problem))
            }
        }
    }

    fn of(&self, info: &ToolInfo) -> Approval {
        let matches = |filter: &Option<Filter>| filter.as_ref().is_some_and(|filter| filter.matches(info));
        match self {
            Self::All(approval) => *approval,
            Self::But { never, always } if matches(never) && !matches(always) => Approval::Never,
            Self::But { .. } => Approval::Always,
        }
    }
}

/// What a request may call this tool: its name in the catalogue, or the one that its server gave it.
fn names_of(info: &ToolInfo) -> impl Iterator<Item = &str> {
    let own = info
        .name
        .strip_prefix(info.server.as_str())
        .and_then(|rest| rest.strip_prefix(NAME_SEPARATOR));
    [Some(info.name.as_str()), own].into_iter().flatten()
}

/// Whether this is where the gateway itself offers the tools of the server.
fn is_own(url: &str, base_url: Option<&str>, server: &str) -> bool {
    let path = base_url.and_then(|base| url.strip_prefix(base.trim_end_matches('/')));
    path.is_some_and(|path| path == "/mcp" || path == format!("/servers/{server}/mcp"))
}

/// A tool as a response lists it.
fn told(info: &ToolInfo) -> Value {
    let hints = info.hints;
    json!({
        "name": info.name,
        "description": info.description,
        "input_schema": serde_json::from_str::<Value>(info.input_schema.get()).unwrap_or_default(),
        "annotations": {
            "readOnlyHint": hints.read_only,
            "destructiveHint": hints.destructive,
            "openWorldHint": hints.open_world,
        },
    })
}

/// A choice of one server's tools as a model can be told it.
fn choose(chat: &mut Map, offered: &Offered) -> Result<(), Failure> {
    let Some(choice) = chat.get_mut("tool_choice").filter(|choice| choice["type"] == "mcp") else {
        return Ok(());
    };
    let problem = |key: &str| {
        let problem = "must name what one of `tools` offers; without a name it must be the only server there";
        Err(invalid(&format!("tool_choice.{key}"), problem))
    };
    let Some(server) = choice["server_label"].as_str() else {
        return problem("server_label");
    };
    let mut of_server = offered.infos().filter(|info| info.server == server);
    match choice["name"].as_str() {
        Some(name) => match of_server.find(|info| names_of(info).any(|own| own == name)) {
            Some(info) => *choice = json!({ "type": "function", "function": { "name": info.name } }),
            None => return problem("name"),
        },
        // An engine knows no choice among some tools that every other one would know too.
        None if of_server.next().is_some() && offered.infos().all(|info| info.server == server) => {
            *choice = "required".into();
        }
        None => return problem("server_label"),
    }
    Ok(())
}
