//! What a scope has to offer, as the handshake, the discovery and the lists tell it.

use super::{EXTENSION, Front, turn::Turn, with_support};
use crate::{
    catalogue::view,
    era::Version,
    index::Scope,
    params::{Params, text},
    reading::Kind,
    rpc::{Dialect, Ending, array, object},
    source::Naming,
};
use forebay_domain::Failure;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use std::borrow::Cow;

/// How long clients may keep a list or a discovery, in milliseconds.
const LIST_TTL_MS: &str = "60000";

/// What there is in a scope. Tools need no word: every server may have some, if only later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each capability that a server may lack"
)]
pub(crate) struct Offered {
    pub(crate) prompts: bool,
    pub(crate) resources: bool,
    pub(crate) watches: bool,
    pub(crate) completes: bool,
    /// Whether tools may run as tasks.
    pub(crate) tasks: bool,
    instructions: Option<String>,
}

impl Offered {
    fn capabilities(&self, dialect: Dialect) -> Value {
        let changes = match dialect {
            // Nobody can be told of changes where there is nothing but answers.
            Dialect::Plain(_) => json!({}),
            Dialect::Streamable(_) => json!({"listChanged": true}),
        };
        let mut capabilities = json!({"tools": changes});
        if self.resources {
            capabilities["resources"] = changes.clone();
            if self.watches && matches!(dialect, Dialect::Streamable(_)) {
                capabilities["resources"]["subscribe"] = json!(true);
            }
        }
        if self.prompts {
            capabilities["prompts"] = changes;
        }
        if self.completes {
            capabilities["completions"] = json!({});
        }
        if matches!(dialect, Dialect::Streamable(_)) {
            capabilities["logging"] = json!({});
        }
        if self.tasks {
            match dialect.version() {
                Version::V2025_11_25 => {
                    let tools = json!({"tools": {"call": {}}});
                    capabilities["tasks"] = json!({"list": {}, "cancel": {}, "requests": tools});
                }
                version if version.is_modern() => capabilities["extensions"] = json!({EXTENSION: {}}),
                _ => {}
            }
        }
        capabilities
    }
}

impl Front {
    pub(crate) fn offered(&self, scope: &Scope) -> Result<Offered, Failure> {
        let index = self.catalogue().index();
        let mut offered = Offered {
            tasks: self.later().is_some(),
            ..Offered::default()
        };
        for (_, offer) in &view(&index, scope)?.sources {
            offered.prompts |= !offer.prompts.is_empty();
            offered.resources |= !offer.resources.is_empty() || !offer.templates.is_empty();
            offered.watches |= offer.watches;
            offered.completes |= offer.completes;
            if matches!(scope, Scope::Server(_)) {
                offered.instructions.clone_from(&offer.instructions);
            }
        }
        if *scope == Scope::Whole || *scope == Scope::Server(crate::builtin::NAME.into()) {
            offered.instructions = Some(self.server().instructions.clone());
        }
        Ok(offered)
    }

    /// The handshake of the legacy era. Its version was negotiated when the dialect was chosen.
    pub(crate) fn initialize(&self, turn: &Turn) -> Result<String, Failure> {
        let offered = self.offered(&turn.scope)?;
        let version = json!(turn.dialect.version().as_str()).to_string();
        let capabilities = offered.capabilities(turn.dialect).to_string();
        let server = self.server();
        Ok(match turn.dialect {
            Dialect::Plain(_) => object(&[
                ("protocolVersion", &version),
                (
                    "serverInfo",
                    &json!({"name": server.name, "version": server.version}).to_string(),
                ),
                ("capabilities", &capabilities),
            ]),
            Dialect::Streamable(_) => {
                let own = server.to_json();
                let mut members = vec![
                    ("protocolVersion", version.as_str()),
                    ("capabilities", &capabilities),
                    ("serverInfo", &own),
                ];
                let instructions = offered.instructions.map(|text| Value::from(text).to_string());
                members.extend(instructions.as_deref().map(|text| ("instructions", text)));
                object(&members)
            }
        })
    }

    pub(crate) fn discover(&self, turn: &Turn) -> Result<String, Failure> {
        let offered = self.offered(&turn.scope)?;
        let versions: Vec<String> = Version::ALL
            .iter()
            .rev()
            .map(|version| json!(version.as_str()).to_string())
            .collect();
        let versions = array(versions.iter().map(String::as_str));
        let capabilities = offered.capabilities(turn.dialect).to_string();
        let mut members = vec![
            ("supportedVersions", versions.as_str()),
            ("capabilities", &capabilities),
        ];
        let instructions = offered.instructions.map(|text| Value::from(text).to_string());
        members.extend(instructions.as_deref().map(|text| ("instructions", text)));
        members.extend([("ttlMs", LIST_TTL_MS), ("cacheScope", "\"private\"")]);
        Ok(self.stamp(&members))
    }

    /// What a caller sees depends on what it may use, so a list is private.
    pub(crate) fn list(&self, name: &str, kind: Kind, params: &Params<'_>, turn: &Turn) -> Ending {
        let cursor = params.cursor.map(|raw| text("cursor", Some(raw))).transpose()?;
        let page = self
            .catalogue()
            .list(&turn.principal, &turn.scope, kind, cursor.as_deref())?;
        let next = page.next.map(|next| json!(next).to_string());
        let is_core = turn.dialect.version() == Version::V2025_11_25;
        let items = if kind == Kind::Tools && is_core && self.later().is_some() {
            self.with_task_support(&page.items, turn)
        } else {
            page.items
        };
        let mut members = vec![(name, items.as_str())];
        members.extend(next.as_deref().map(|next| ("nextCursor", next)));
        Ok(if turn.dialect.is_modern() {
            members.extend([("ttlMs", LIST_TTL_MS), ("cacheScope", "\"private\"")]);
            self.stamp(&members)
        } else {
            object(&members)
        })
    }

    /// A modern result: complete, and signed with who we are.
    fn stamp(&self, members: &[(&str, &str)]) -> String {
        let mut all = vec![("resultType", "\"complete\""), ("_meta", self.signature())];
        all.extend_from_slice(members);
        object(&all)
    }

    /// The definitions of tools, each of which says that it can run as a task.
    fn with_task_support(&self, items: &str, turn: &Turn) -> String {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow)]
            name: Cow<'a, str>,
        }
        let Ok(definitions) = serde_json::from_str::<Vec<&RawValue>>(items) else {
            return items.to_owned();
        };
        let is_ours = |raw: &RawValue| {
            let named: Option<Named<'_>> = serde_json::from_str(raw.get()).ok();
            let found = named.and_then(|named| self.catalogue().find(&turn.principal, &turn.scope, &named.name));
            found.is_some_and(|found| found.source.naming() == Naming::Bare)
        };
        let definitions: Vec<String> = definitions
            .iter()
            .map(|raw| with_support(raw.get(), || is_ours(raw)))
            .collect();
        array(definitions.iter().map(String::as_str))
    }
}
