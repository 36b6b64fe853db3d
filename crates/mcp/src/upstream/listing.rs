//! What an upstream says it has: all pages of all its lists, within bounds, unread and unjudged.

use crate::{
    client::{ClientFault, Connection, Hooks},
    raw::Members,
};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::time::Duration;

/// Entries of one list at most; an upstream that goes on is cut off there, and that is said.
const ENTRIES_MAX: usize = 10_000;
const PAGES_MAX: usize = 1000;
/// For one page.
const PAGE_WAIT: Duration = Duration::from_mins(1);

/// One of the lists: how it is asked for, and under which member it comes.
#[derive(Clone, Copy)]
struct List {
    method: &'static str,
    member: &'static str,
}

const TOOLS: List = List {
    method: "tools/list",
    member: "tools",
};
const PROMPTS: List = List {
    method: "prompts/list",
    member: "prompts",
};
const RESOURCES: List = List {
    method: "resources/list",
    member: "resources",
};
const TEMPLATES: List = List {
    method: "resources/templates/list",
    member: "resourceTemplates",
};

/// The lists of one upstream, each definition as it came.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) tools: Vec<Box<RawValue>>,
    pub(super) prompts: Vec<Box<RawValue>>,
    pub(super) resources: Vec<Box<RawValue>>,
    pub(super) templates: Vec<Box<RawValue>>,
    /// What it says to the model as a whole.
    pub(super) instructions: Option<String>,
    pub(super) completes: bool,
    pub(super) watches: bool,
    pub(super) logs: bool,
    /// What was left out of it, in words.
    pub(super) warnings: Vec<String>,
}

/// The capabilities that matter here.
#[derive(Debug, Default, Deserialize)]
struct Capabilities {
    tools: Option<serde::de::IgnoredAny>,
    prompts: Option<serde::de::IgnoredAny>,
    resources: Option<Resources>,
    completions: Option<serde::de::IgnoredAny>,
    logging: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Resources {
    #[serde(default)]
    subscribe: bool,
}

pub(super) async fn fetch(connection: &Connection) -> Result<Listing, ClientFault> {
    let capabilities: Capabilities = serde_json::from_str(connection.capabilities().get()).unwrap_or_default();
    let mut listing = Listing {
        instructions: connection.instructions().map(str::to_owned),
        completes: capabilities.completions.is_some(),
        logs: capabilities.logging.is_some(),
        watches: capabilities
            .resources
            .as_ref()
            .is_some_and(|resources| resources.subscribe),
        ..Listing::default()
    };
    let warnings = &mut listing.warnings;
    if capabilities.tools.is_some() {
        listing.tools = pages(connection, TOOLS, warnings).await?;
    }
    if capabilities.prompts.is_some() {
        listing.prompts = pages(connection, PROMPTS, warnings).await?;
    }
    if capabilities.resources.is_some() {
        listing.resources = pages(connection, RESOURCES, warnings).await?;
        listing.templates = match pages(connection, TEMPLATES, warnings).await {
            // A server may have resources and know nothing of templates.
            Err(ClientFault::Refused(_)) => Vec::new(),
            other => other?,
        };
    }
    Ok(listing)
}

async fn pages(
    connection: &Connection,
    list: List,
    warnings: &mut Vec<String>,
) -> Result<Vec<Box<RawValue>>, ClientFault> {
    let List { method, member } = list;
    let mut entries: Vec<Box<RawValue>> = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let params = cursor
            .as_ref()
            .map(|cursor| crate::call::raw(&json!({"cursor": cursor})));
        let page = connection
            .request(method, params.as_deref(), Hooks::within(PAGE_WAIT))
            .await?;
        let wrong = || ClientFault::Protocol(format!("`{method}` answered without a list of `{member}`"));
        let members = Members::of(&page).ok_or_else(wrong)?;
        let list = members.get(member).ok_or_else(wrong)?;
        let list: Vec<Box<RawValue>> = serde_json::from_str(list).map_err(|_| wrong())?;
        entries.extend(list);
        if entries.len() > ENTRIES_MAX {
            entries.truncate(ENTRIES_MAX);
            warnings.push(format!(
                "`{method}` has more than {ENTRIES_MAX} entries; the rest is left out"
            ));
            return Ok(entries);
        }
        let next = members
            .get("nextCursor")
            .and_then(|raw| serde_json::from_str::<String>(raw).ok());
        match next {
            Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
            Some(_) => {
                warnings.push(format!("`{method}` repeats its cursor; what came so far is taken"));
                return Ok(entries);
            }
            None => return Ok(entries),
        }
    }
    warnings.push(format!(
        "`{method}` has more than {PAGES_MAX} pages; the rest is left out"
    ));
    Ok(entries)
}
