//! From what an upstream says it has to what is offered of it: every definition is inspected and cleaned; what is
//! refused outright is told, and the rest is offered or held as was decided about it.

use super::listing::Listing;
use crate::{
    raw::Members,
    source::{Offer, ParamHeader, Prompt, Resource, Template, Tool},
};
use forebay_domain::quarantine::{Inspected, Kind, Verdict, Why, inspect};
use serde_json::{Value, value::RawValue};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// Definitions that were looked at, and what else is to be said of them.
#[derive(Debug)]
pub(super) struct Seen {
    /// Tools and prompts: what a model would follow, and somebody has to have approved.
    pub(super) judged: Arc<[Inspected]>,
    /// Resources are data, read by their address: there is nothing in their definitions that a model would follow before
    /// that. They are cleaned all the same.
    data: Vec<Inspected>,
    completes: bool,
    watches: bool,
    warnings: Vec<String>,
}

/// What came of a listing.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) offer: Offer,
    /// Why each of these is not offered.
    pub(super) held: BTreeMap<(Kind, String), Why>,
    pub(super) warnings: Vec<String>,
}

/// Looks at everything that was listed.
pub(super) fn look(listing: Listing) -> Seen {
    let mut warnings = listing.warnings;
    let mut judged = sound(Kind::Tool, &listing.tools, &mut warnings);
    judged.retain(|tool| match param_headers(&tool.cleaned) {
        Ok(_) => true,
        Err(fault) => {
            warnings.push(format!("the tool `{}` is refused: {fault}", tool.name.as_str()));
            false
        }
    });
    judged.extend(sound(Kind::Prompt, &listing.prompts, &mut warnings));
    let mut data = sound(Kind::Resource, &listing.resources, &mut warnings);
    data.extend(sound(Kind::ResourceTemplate, &listing.templates, &mut warnings));
    Seen {
        judged: judged.into(),
        data,
        completes: listing.completes,
        watches: listing.watches,
        warnings,
    }
}

/// Makes the offer of what may be offered. The verdicts are in the order of what was judged.
pub(super) fn offer(seen: Seen, verdicts: &[Verdict], time_limit: Duration) -> Judgement {
    let mut judgement = Judgement {
        warnings: seen.warnings,
        ..Judgement::default()
    };
    judgement.offer.completes = seen.completes;
    judgement.offer.watches = seen.watches;
    for (one, verdict) in seen.judged.iter().zip(verdicts) {
        match verdict {
            Verdict::Held(why) => {
                let name = (one.kind, one.name.as_str().to_owned());
                judgement.held.insert(name, why.clone());
            }
            Verdict::Offered => add(&mut judgement.offer, one, time_limit),
        }
    }
    for one in &seen.data {
        add(&mut judgement.offer, one, time_limit);
    }
    judgement
}

fn add(offer: &mut Offer, seen: &Inspected, time_limit: Duration) {
    let (name, raw) = (seen.name.as_str().to_owned(), seen.cleaned.clone());
    match seen.kind {
        Kind::Tool => offer.tools.push(Arc::new(Tool {
            headers: param_headers(&raw).unwrap_or_default(),
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

/// The definitions of one kind that can be offered at all.
fn sound(kind: Kind, definitions: &[Box<RawValue>], warnings: &mut Vec<String>) -> Vec<Inspected> {
    let twice = twice(kind, definitions);
    let mut names = HashSet::new();
    let mut sound = Vec::new();
    for raw in definitions {
        match inspect(kind, raw) {
            Err(fault) => warnings.push(format!("a {kind} is refused: {fault}")),
            Ok(seen) if twice.contains(seen.name.as_str()) => {
                if names.insert(seen.name.clone()) {
                    let name = seen.name.as_str();
                    warnings.push(format!("the {kind} `{name}` is listed twice, so neither is offered"));
                }
            }
            // The same definition once more says nothing new.
            Ok(seen) => {
                if names.insert(seen.name.clone()) {
                    sound.push(seen);
                }
            }
        }
    }
    sound
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

/// The `x-mcp-header` marks of an input schema: which arguments a client of 2026-07-28 repeats in headers. A mark that
/// could not be sent, or only ambiguously, is a fault, and such a tool is not to be offered.
pub(crate) fn param_headers(tool: &RawValue) -> Result<Vec<ParamHeader>, String> {
    // A cheap look first: almost no tool has any.
    if !tool.get().contains(MARK) {
        return Ok(Vec::new());
    }
    let tool: Value = serde_json::from_str(tool.get()).map_err(|fault| fault.to_string())?;
    let mut headers = Vec::new();
    collect(&tool["inputSchema"], &mut String::new(), &mut headers)?;
    let mut names = HashSet::new();
    for mark in &headers {
        if !names.insert(mark.header.to_ascii_lowercase()) {
            return Err(format!("two arguments have the header `{}`", mark.header));
        }
    }
    Ok(headers)
}

const MARK: &str = "x-mcp-header";

fn collect(schema: &Value, pointer: &mut String, headers: &mut Vec<ParamHeader>) -> Result<(), String> {
    let Some(properties) = schema["properties"].as_object() else {
        return Ok(());
    };
    for (name, property) in properties {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        if let Some(mark) = property.get(MARK) {
            headers.push(ParamHeader {
                header: sendable(mark, property)?,
                pointer: pointer.clone(),
            });
        }
        collect(property, pointer, headers)?;
        pointer.truncate(length);
    }
    Ok(())
}

/// The name of a header has to be a token (RFC 9110, section 5.6.2), and its argument a string, an integer or a boolean.
fn sendable(mark: &Value, property: &Value) -> Result<String, String> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let header = mark.as_str().filter(|text| !text.is_empty() && text.chars().all(token));
    let header = header.ok_or_else(|| format!("its `{MARK}` is not the name of a header"))?;
    match property["type"].as_str() {
        Some("string" | "integer" | "boolean") => Ok(header.to_owned()),
        Some(_) | None => Err(format!(
            "the argument with the header `{header}` is no string, integer or boolean"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mark_has_to_be_sendable() {
        let check = |properties: Value| {
            let tool = json!({"name": "t", "inputSchema": {"type": "object", "properties": properties}});
            param_headers(&crate::call::raw(&tool)).map(|headers| {
                headers
                    .into_iter()
                    .map(|one| (one.header, one.pointer))
                    .collect::<Vec<_>>()
            })
        };
        let mark = |kind: &str, header: &str| json!({"type": kind, "x-mcp-header": header});
        assert_eq!(check(json!({"a": {"type": "string"}})).unwrap(), []);
        assert_eq!(
            check(json!({"a/b": mark("string", "Region"), "o": {"type": "object", "properties": {"i": mark("integer", "Deep")}}})).unwrap(),
            [("Region".to_owned(), "/a~1b".to_owned()), ("Deep".to_owned(), "/o/i".to_owned())]
        );
        for wrong in [
            json!({"a": mark("string", "")}),
            json!({"a": mark("string", "a b")}),
            json!({"a": mark("string", "a:b")}),
            json!({"a": mark("string", "ä")}),
            json!({"a": mark("number", "N")}),
            json!({"a": mark("object", "O")}),
            json!({"a": {"x-mcp-header": 7, "type": "string"}}),
            json!({"a": mark("string", "Same"), "b": mark("string", "same")}),
        ] {
            assert!(check(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
