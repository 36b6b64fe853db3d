//! The built-in server `contexts`: conversations that are kept, and the tasks that change them, as tools and resources.
//!
//! It decides nothing: what a context is, is [`forebay_context::contexts`]' to say, and tasks are the queue's. Here
//! arguments are read, one function is called, and the answer is told.

mod definitions;
mod news;
mod schemas;
mod tools;
pub(crate) mod work;

use crate::app::App;
use arc_swap::ArcSwapOption;
use definitions::{Own, id_of};
use forebay_domain::{Action, Code, ErrorKind, Failure, Principal, port::BoxFuture};
use forebay_mcp::{
    builtin::told,
    call::{CallContext, Complete, Outcome, raw},
    source::{Naming, Offer, Source, Wanted, Watched},
    tools::Schema,
};
use news::Followed;
use serde_json::{Value, json, value::RawValue};
use std::sync::{Arc, Weak};

/// The name of the server.
const NAME: &str = "contexts";

/// The names of its tools.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    Own::ALL.into_iter().map(Own::name)
}

/// The server. It knows the gateway of which it is a part once that is there.
pub(crate) struct ContextServer {
    whole: ArcSwapOption<Weak<App>>,
    offer: Arc<Offer>,
    schemas: Vec<Schema>,
    followed: Followed,
}

impl ContextServer {
    pub(crate) fn new() -> Result<Arc<Self>, Failure> {
        let schemas = Own::ALL.iter().map(|own| {
            Schema::new(own.name(), &schemas::input(*own))
                .map_err(|fault| Failure::new(Code::InternalError, "an input schema cannot be used").caused_by(fault))
        });
        Ok(Arc::new(Self {
            whole: ArcSwapOption::empty(),
            offer: Arc::new(Offer {
                tools: definitions::tools(),
                templates: definitions::templates(),
                watches: true,
                instructions: Some(
                    "Keeps conversations and asks models in them. What changes one is a task, which goes on where nobody \
                     waits for it."
                        .to_owned(),
                ),
                ..Offer::default()
            }),
            schemas: schemas.collect::<Result<_, Failure>>()?,
            followed: Followed::default(),
        }))
    }

    /// From now on it is part of this gateway, and tells whoever listens what changes.
    pub(crate) fn begin(self: &Arc<Self>, app: &Arc<App>) {
        self.whole.store(Some(Arc::new(Arc::downgrade(app))));
        news::follow(self, app);
    }

    fn app(&self) -> Result<Arc<App>, Failure> {
        let app = self.whole.load_full().and_then(|app| app.upgrade());
        app.ok_or_else(|| Failure::new(Code::Overloaded, "The gateway is starting, or ending."))
    }

    /// Why nobody may have this done, where nobody may work with contexts. Tasks are of other things too.
    fn refuses(&self, own: Own) -> Option<Failure> {
        let app = self.app().ok().filter(|_| own.is_about_contexts())?;
        app.contexts.open().err()
    }

    async fn call(
        &self,
        principal: &Principal,
        (name, arguments): (&str, &RawValue),
        context: &CallContext,
    ) -> Result<Outcome, Failure> {
        let gone = || Failure::new(Code::UnknownTool, "This tool has just been taken away.");
        let own = Own::named(name).ok_or_else(gone)?;
        let arguments = self.schemas[own as usize].read(arguments)?;
        principal.require(&own.action())?;
        let app = self.app()?;
        match tools::run(&app, principal, (own, arguments), context).await {
            Ok(outcome) => Ok(complete(&outcome)),
            Err(failure) if failure.kind() == ErrorKind::Bug => Err(failure),
            Err(failure) => Ok(Outcome::Complete(told(&failure))),
        }
    }

    async fn read(&self, principal: &Principal, uri: &str) -> Result<Outcome, Failure> {
        let found = self.app()?.contexts.get(principal, seen(principal, uri)?).await;
        let context = found.map_err(|failure| as_resource(failure, uri))?;
        let text = serde_json::to_string(&context).expect("a context is JSON");
        let contents = json!({"contents": [{"uri": uri, "mimeType": "application/json", "text": text}]});
        Ok(Outcome::Complete(Complete {
            raw: raw(&contents),
            is_error: false,
            failed: None,
        }))
    }
}

impl Source for ContextServer {
    fn name(&self) -> &str {
        NAME
    }

    fn naming(&self) -> Naming {
        Naming::Bare
    }

    fn offer(&self) -> Arc<Offer> {
        self.offer.clone()
    }

    fn hides(&self, tool: &str, principal: &Principal) -> bool {
        Own::named(tool).is_none_or(|own| !principal.decide(&own.action()).is_allowed() || self.refuses(own).is_some())
    }

    fn withheld(&self, tool: &str) -> Option<Failure> {
        self.refuses(Own::named(tool)?)
    }

    fn vouches(&self, _tool: &str) -> bool {
        true
    }

    fn needs(&self, uri: &str) -> Option<Action> {
        id_of(uri).map(|_| Action::CONTEXTS_READ)
    }

    fn serve<'a>(
        &'a self,
        principal: &'a Principal,
        wanted: Wanted<'a>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(async move {
            match wanted {
                Wanted::Tool { name, arguments, .. } => self.call(principal, (name, arguments), &context).await,
                Wanted::Resource { uri, .. } => self.read(principal, uri).await,
                Wanted::Prompt { .. } | Wanted::Completion { .. } => Err(Failure::new(
                    Code::UnknownMethod,
                    "The server `contexts` has no such thing.",
                )),
            }
        })
    }

    /// What somebody may not read, they do not hear of either.
    fn admits<'a>(&'a self, principal: &'a Principal, uri: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let found = self.app()?.contexts.get(principal, seen(principal, uri)?).await;
            found.map(|_| ()).map_err(|failure| as_resource(failure, uri))
        })
    }

    fn watch<'a>(&'a self, uri: &'a str, watched: Watched) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let Some(id) = id_of(uri) else { return Ok(()) };
            match watched {
                Watched::No => self.followed.leave(id),
                Watched::Yes => {
                    let stamps = self.app()?.contexts.stamps(&[id.to_owned()]).await?;
                    let at = stamps.into_iter().map(|(_, at)| at).next();
                    self.followed.begin(id, at);
                }
            }
            Ok(())
        })
    }
}

/// The id in a URI, for somebody who may look at contexts at all.
fn seen<'a>(principal: &Principal, uri: &'a str) -> Result<&'a str, Failure> {
    principal.require(&Action::CONTEXTS_READ)?;
    id_of(uri).ok_or_else(|| unknown(uri))
}

fn unknown(uri: &str) -> Failure {
    Failure::new(Code::UnknownResource, "There is no such resource.").details(json!({"uri": uri}))
}

fn as_resource(failure: Failure, uri: &str) -> Failure {
    if failure.code == Code::UnknownContext {
        unknown(uri)
    } else {
        failure
    }
}

/// An answer as the protocol writes it: the structure, and the same as text for clients that hand only text on.
fn complete(structured: &Value) -> Outcome {
    let result = json!({
        "content": [{"type": "text", "text": structured.to_string()}],
        "structuredContent": structured,
        "isError": false,
    });
    Outcome::Complete(Complete {
        raw: raw(&result),
        is_error: false,
        failed: None,
    })
}
