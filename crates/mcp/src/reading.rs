//! The catalogue beside its tools: lists, resources, prompts and completion. The same policy, the same record.

use crate::{
    call::{CallContext, Outcome},
    catalogue::{Catalogue, ending, serve, view},
    compose::SEARCH_TOOLS,
    index::{Listed, Owner, Scope, View},
    ledger::Counted,
    raw::Members,
    source::{Naming, Source, Tool, Wanted, effects},
};
use forebay_domain::{Action, Code, Failure, Principal};
use serde_json::{json, value::RawValue};
use std::{collections::BTreeMap, sync::Arc};

/// What the event of a completion names. What was typed so far is the caller's own affair, and written nowhere.
const COMPLETE: Action = Action::named("completion:complete");

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl Kind {
    /// The largest page. Some clients read the first page of tools and no other, so that one holds all that anybody
    /// could want of it.
    fn page_max(self) -> usize {
        match self {
            Self::Tools => 10_000,
            Self::Prompts | Self::Resources | Self::Templates => 1000,
        }
    }
}

/// One page of a list: the text of a JSON array, and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub items: String,
    pub next: Option<String>,
}

impl Catalogue {
    /// The definitions that this caller may use, in the order of their names.
    pub fn list(
        &self,
        principal: &Principal,
        scope: &Scope,
        kind: Kind,
        cursor: Option<&str>,
    ) -> Result<Page, Failure> {
        let list = match kind {
            Kind::Tools | Kind::Prompts => Action::TOOLS_LIST,
            Kind::Resources | Kind::Templates => Action::RESOURCES_READ,
        };
        principal.require(&list)?;
        let index = self.index();
        let view = view(&index, scope)?;
        let after = cursor.map(|cursor| read_cursor(kind, cursor)).transpose()?;
        let after = after.as_deref();
        let max = kind.page_max();
        Ok(match kind {
            Kind::Tools => {
                let usable = Usable::by(principal);
                page(&view.tools, after, kind, max, |tool| {
                    is_shown(principal, &tool.exposed) && usable.tool(tool)
                })
            }
            Kind::Prompts => page(&view.prompts, after, kind, max, |prompt| {
                principal.decide(&Action::prompt(&prompt.exposed)).is_allowed()
            }),
            Kind::Resources => page(&view.resources, after, kind, max, |resource| {
                may_read(principal, resource.source.as_ref(), Some(&resource.item.uri))
            }),
            Kind::Templates => page(&view.templates, after, kind, max, |template| {
                may_read(principal, template.source.as_ref(), Some(&template.item.template))
            }),
        })
    }

    /// Reads a resource: a raw `ReadResourceResult`.
    pub async fn read(
        &self,
        principal: &Principal,
        scope: &Scope,
        uri: &str,
        params: Option<&RawValue>,
        context: CallContext,
    ) -> Result<Outcome, Failure> {
        let found = self.resource(principal, scope, uri);
        let wanted = Wanted::Resource { uri, params };
        self.recorded(principal, Action::RESOURCES_READ, found, wanted, context)
            .await
    }

    /// Gets a prompt: a raw `GetPromptResult`.
    pub async fn prompt(
        &self,
        principal: &Principal,
        scope: &Scope,
        name: &str,
        params: &RawValue,
        context: CallContext,
    ) -> Result<Outcome, Failure> {
        let index = self.index();
        let found = view(&index, scope).and_then(|view| view.prompts.get(name).ok_or_else(unknown_prompt));
        // As with tools, a name of no prompt is written nowhere.
        let action = Action::prompt(found.as_ref().map_or("?", |found| &found.exposed));
        let admitted = found.and_then(|found| principal.require(&action).map(|()| found));
        let own = admitted.as_ref().map_or("", |found| &found.item.name);
        let wanted = Wanted::Prompt { name: own, params };
        let source = admitted.map(|found| found.source.clone());
        self.recorded(principal, action, source, wanted, context).await
    }

    /// Completes an argument of a prompt or a template: a raw `CompleteResult`.
    pub async fn complete(
        &self,
        principal: &Principal,
        scope: &Scope,
        params: &RawValue,
        context: CallContext,
    ) -> Result<Outcome, Failure> {
        let (source, own) = match self.completer(principal, scope, params) {
            Ok((source, own)) => (Ok(source), own),
            Err(failure) => (Err(failure), params.to_owned()),
        };
        let wanted = Wanted::Completion { params: &own };
        self.recorded(principal, COMPLETE, source, wanted, context).await
    }

    /// Who completes this, and the params by that source's own names.
    fn completer(
        &self,
        principal: &Principal,
        scope: &Scope,
        params: &RawValue,
    ) -> Result<(Arc<dyn Source>, Box<RawValue>), Failure> {
        let wrong = || Failure::new(Code::InvalidParams, "`ref` must name a prompt or a resource template.");
        let mut members = Members::of(params).ok_or_else(wrong)?;
        let reference = members.get("ref").ok_or_else(wrong)?.to_owned();
        let reference: serde_json::Value = serde_json::from_str(&reference).map_err(|_| wrong())?;
        let index = self.index();
        let view = view(&index, scope)?;
        match (
            reference["type"].as_str(),
            reference["name"].as_str(),
            reference["uri"].as_str(),
        ) {
            (Some("ref/prompt"), Some(name), _) => {
                let found = view.prompts.get(name).ok_or_else(unknown_prompt)?;
                principal.require(&Action::prompt(&found.exposed))?;
                let mut own = reference.clone();
                own["name"] = json!(found.item.name);
                members.set("ref", own.to_string());
                Ok((found.source.clone(), members.write()))
            }
            (Some("ref/resource"), _, Some(uri)) => {
                let listed = view.templates.get(uri).map(|found| found.source.clone());
                let source = listed.map_or_else(|| owner(view, uri), Ok)?;
                require_read(principal, source.as_ref(), Some(uri))?;
                Ok((source, params.to_owned()))
            }
            _ => Err(wrong()),
        }
    }

    /// Who serves this URI to this caller.
    pub(crate) fn resource(&self, principal: &Principal, scope: &Scope, uri: &str) -> Result<Arc<dyn Source>, Failure> {
        principal.require(&Action::RESOURCES_READ)?;
        let index = self.index();
        let source = owner(view(&index, scope)?, uri)?;
        require_read(principal, source.as_ref(), Some(uri))?;
        Ok(source)
    }

    async fn recorded(
        &self,
        principal: &Principal,
        action: Action,
        source: Result<Arc<dyn Source>, Failure>,
        wanted: Wanted<'_>,
        context: CallContext,
    ) -> Result<Outcome, Failure> {
        let entry = self
            .ledger()
            .open(principal, context.via, action.to_string(), Counted::No);
        let result = match source {
            Ok(source) => serve(principal, &source, wanted, context, None).await,
            Err(failure) => Err(failure),
        };
        let (ending, bytes_out) = ending(&result);
        entry.close(ending, bytes_out);
        result
    }
}

/// Whether a list shows this tool, of those that may be used. The one that finds the others is never left out.
pub fn is_shown(principal: &Principal, exposed: &str) -> bool {
    principal.is_shown(exposed) || exposed == SEARCH_TOOLS
}

/// Which tools one caller may use, with what holds for all tools decided once.
pub(crate) struct Usable<'a> {
    principal: &'a Principal,
    denied: Vec<Action>,
}

impl<'a> Usable<'a> {
    pub(crate) fn by(principal: &'a Principal) -> Self {
        let mut denied = vec![
            Action::EFFECT_WRITE,
            Action::EFFECT_DESTRUCTIVE,
            Action::EFFECT_OPEN_WORLD,
        ];
        denied.retain(|effect| !principal.decide(effect).is_allowed());
        Self { principal, denied }
    }

    pub(crate) fn tool(&self, tool: &Listed<Tool>) -> bool {
        !effects(tool.item.hints).any(|effect| self.denied.contains(&effect))
            && self.principal.decide(&Action::tool(&tool.exposed)).is_allowed()
            && !tool.source.hides(&tool.item.name, self.principal)
    }
}

/// The source of a URI.
fn owner(view: &View, uri: &str) -> Result<Arc<dyn Source>, Failure> {
    match view.owner(uri) {
        Owner::One(source) => Ok(source),
        Owner::Nobody => Err(unknown(uri)),
        Owner::Several => Err(Failure::new(
            Code::UnknownResource,
            "More than one server could have this resource, so none of them is asked.",
        )
        .hint("Read it under the path of the server that is meant: `/servers/{name}/mcp`.")
        .details(json!({"uri": uri}))),
    }
}

/// What the reader of a resource has to be allowed, beside reading resources at all.
fn needed(source: &dyn Source, uri: Option<&str>) -> Option<Action> {
    match source.naming() {
        Naming::Bare => source.needs(uri?),
        Naming::Prefixed => Some(Action::resource(source.name())),
    }
}

fn may_read(principal: &Principal, source: &dyn Source, uri: Option<&str>) -> bool {
    needed(source, uri).is_none_or(|action| principal.decide(&action).is_allowed())
}

fn require_read(principal: &Principal, source: &dyn Source, uri: Option<&str>) -> Result<(), Failure> {
    needed(source, uri).map_or(Ok(()), |action| principal.require(&action))
}

fn page<T>(
    table: &BTreeMap<String, Arc<Listed<T>>>,
    after: Option<&str>,
    kind: Kind,
    max: usize,
    shows: impl Fn(&Listed<T>) -> bool,
) -> Page {
    use std::ops::Bound::{Excluded, Unbounded};
    let range = table.range::<str, _>((after.map_or(Unbounded, Excluded), Unbounded));
    let mut items = String::from("[");
    let (mut count, mut last) = (0, None);
    for (name, listed) in range.filter(|(_, listed)| shows(listed)) {
        if count == max {
            return Page {
                items: items + "]",
                next: last.map(|name: &String| write_cursor(kind, name)),
            };
        }
        if count > 0 {
            items.push(',');
        }
        // In the scope of one server its own definition stands, else the one with the exposed name.
        items.push_str(listed.raw.get());
        (count, last) = (count + 1, Some(name));
    }
    Page {
        items: items + "]",
        next: None,
    }
}

/// A cursor is the name behind which the next page begins: it stays good when the list changes in between.
fn write_cursor(kind: Kind, name: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{}{name}", letter(kind)))
}

fn read_cursor(kind: Kind, cursor: &str) -> Result<String, Failure> {
    use base64::Engine;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(cursor).ok();
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| text.strip_prefix(letter(kind)).map(str::to_owned))
        .ok_or_else(|| {
            Failure::new(Code::InvalidParams, "`cursor` is none that this gateway has given out.")
                .hint("Begin again without a cursor.")
        })
}

fn letter(kind: Kind) -> char {
    match kind {
        Kind::Tools => 't',
        Kind::Prompts => 'p',
        Kind::Resources => 'r',
        Kind::Templates => 'u',
    }
}

fn unknown_prompt() -> Failure {
    Failure::new(Code::UnknownPrompt, "There is no prompt of that name.").hint("`prompts/list` shows what there is.")
}

pub(crate) fn unknown(uri: &str) -> Failure {
    Failure::new(Code::UnknownResource, "There is no such resource.")
        .hint("`resources/list` and `resources/templates/list` show what there is.")
        .details(json!({"uri": uri}))
}
