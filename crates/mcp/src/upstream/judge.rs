//! From what an upstream says it has to what is offered of it: every definition is inspected, cleaned, compared with
//! what was approved, and offered or held.
//!
//! Pure but for the store's answers, which come in as values.

use super::listing::Listing;
use crate::{
    raw::Members,
    source::{Offer, ParamHeader, Prompt, Resource, Template, Tool},
};
use forebay_domain::quarantine::{Inspected, Kind, Pinned, Policy, Verdict, Why, decide, inspect};
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// What is known of definitions, by kind and name.
pub(super) type Known = HashMap<(Kind, String), Pinned>;

/// A definition and what becomes of it.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) seen: Inspected,
    pub(super) verdict: Verdict,
}

/// What came of a listing.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) offer: Offer,
    pub(super) judged: Vec<Judged>,
    /// Why each of these is not offered.
    pub(super) held: BTreeMap<(Kind, String), Why>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn judge(listing: Listing, policy: Policy, known: &Known, time_limit: Duration) -> Judgement {
    let mut judgement = Judgement {
        warnings: listing.warnings,
        ..Judgement::default()
    };
    for (kind, definitions) in [
        (Kind::Tool, &listing.tools),
        (Kind::Prompt, &listing.prompts),
        (Kind::Resource, &listing.resources),
        (Kind::ResourceTemplate, &listing.templates),
    ] {
        let twice = twice(kind, definitions);
        for raw in definitions {
            judgement.add(kind, raw, policy, known, &twice, time_limit);
        }
    }
    judgement.offer.completes = listing.completes;
    judgement.offer.watches = listing.watches;
    judgement
}

impl Judgement {
    fn add(
        &mut self,
        kind: Kind,
        raw: &RawValue,
        policy: Policy,
        known: &Known,
        twice: &HashSet<String>,
        time_limit: Duration,
    ) {
        let seen = match inspect(kind, raw) {
            Ok(seen) => seen,
            Err(fault) => {
                self.warnings.push(format!("a {kind} is refused: {fault}"));
                return;
            }
        };
        let name = seen.name.as_str().to_owned();
        if twice.contains(&name) {
            self.warnings.push(format!("the {kind} `{name}` is listed twice, so neither is offered"));
            return;
        }
        let pinned = known.get(&(kind, name.clone()));
        let verdict = match kind {
            Kind::Tool | Kind::Prompt => decide(policy, pinned, seen.fingerprint, &seen.flags),
            // A resource is data, and read by its address: there is nothing in its definition that a model would follow
            // before it is read. It is cleaned all the same.
            Kind::Resource | Kind::ResourceTemplate => Verdict::Offered,
        };
        match &verdict {
            Verdict::Held(why) => {
                self.held.insert((kind, name), why.clone());
            }
            Verdict::Offered => self.offer(&seen, name, time_limit),
        }
        if matches!(kind, Kind::Tool | Kind::Prompt) {
            self.judged.push(Judged { seen, verdict });
        }
    }

    fn offer(&mut self, seen: &Inspected, name: String, time_limit: Duration) {
        let raw = seen.cleaned.clone();
        let offer = &mut self.offer;
        match seen.kind {
            Kind::Tool => offer.tools.push(Arc::new(Tool {
                headers: param_headers(&raw),
                name,
                raw,
                hints: seen.hints,
                time_limit,
            })),
            Kind::Prompt => offer.prompts.push(Arc::new(Prompt { name, raw })),
            Kind::Resource => offer.resources.push(Arc::new(Resource { uri: name, raw })),
            Kind::ResourceTemplate => offer.templates.push(Arc::new(Template { template: name, raw })),
        }
    }
}

/// Names that stand for two definitions. Which of them a call would mean, nobody could say.
fn twice(kind: Kind, definitions: &[Box<RawValue>]) -> HashSet<String> {
    let mut seen: HashMap<String, &str> = HashMap::new();
    let mut twice = HashSet::new();
    for raw in definitions {
        let name = Members::of(raw).and_then(|members| {
            let name = members.get(kind.identity())?;
            serde_json::from_str::<String>(name).ok()
        });
        let Some(name) = name else { continue };
        match seen.get(&name) {
            Some(first) if *first != raw.get() => {
                twice.insert(name);
            }
            Some(_) => {}
            None => {
                seen.insert(name, raw.get());
            }
        }
    }
    twice
}

/// The `x-mcp-header` marks of an input schema: which arguments a client of 2026-07-28 repeats in headers.
pub(super) fn param_headers(tool: &RawValue) -> Vec<ParamHeader> {
    let Ok(tool) = serde_json::from_str::<serde_json::Value>(tool.get()) else {
        return Vec::new();
    };
    if !tool["inputSchema"].is_object() {
        return Vec::new();
    }
    let mut headers = Vec::new();
    collect(&tool["inputSchema"], &mut String::new(), &mut headers);
    headers
}

fn collect(schema: &serde_json::Value, pointer: &mut String, headers: &mut Vec<ParamHeader>) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    for (name, property) in properties {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        if let Some(header) = property["x-mcp-header"].as_str() {
            headers.push(ParamHeader {
                header: header.to_owned(),
                pointer: pointer.clone(),
            });
        }
        collect(property, pointer, headers);
        pointer.truncate(length);
    }
}
