//! The built-in server `gpu`: machines for rent and money, as tools and resources.
//!
//! It decides nothing: renting is [`forebay_compute::Rentals`]', money the ledger's. Here arguments are read, one
//! function is called, and the answer is told.

mod definitions;
mod inputs;
pub(crate) mod longer;
mod news;
mod proxy;
mod tools;
pub(crate) mod view;

pub(crate) use proxy::guarded;

use crate::app::App;
use arc_swap::ArcSwapOption;
use definitions::{Own, OwnResource};
use forebay_domain::{Action, Code, ErrorKind, Failure, Principal, port::BoxFuture};
use forebay_mcp::{
    builtin::told,
    call::{CallContext, Complete, Outcome, raw},
    source::{Naming, Offer, Source, Wanted, Watched},
    tools::Schema,
};
use serde::Serialize;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, Weak},
};

/// The name of the server.
pub const NAME: &str = "gpu";

/// The names of its tools.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    Own::ALL.into_iter().map(Own::name)
}

/// Whether one of its tools has such an argument.
pub(crate) fn takes(tool: &str, argument: &str) -> bool {
    Own::named(tool).is_some_and(|own| own.input()["properties"].get(argument).is_some())
}

/// The server. It knows the gateway of which it is a part once that is there.
pub(crate) struct Gpu {
    whole: ArcSwapOption<Weak<App>>,
    offer: Arc<Offer>,
    schemas: Vec<Schema>,
    watched: Mutex<BTreeSet<&'static str>>,
}

impl Gpu {
    pub(crate) fn new() -> Result<Arc<Self>, Failure> {
        let schemas = Own::ALL.iter().map(|own| {
            Schema::new(own.name(), &own.input())
                .map_err(|fault| Failure::new(Code::InternalError, "an input schema cannot be used").caused_by(fault))
        });
        Ok(Arc::new(Self {
            whole: ArcSwapOption::empty(),
            offer: Arc::new(Offer {
                tools: definitions::tools(),
                resources: definitions::resources(),
                watches: true,
                instructions: Some(
                    "Finds, rents and destroys GPU machines under spending limits. What runs costs until it is destroyed."
                        .to_owned(),
                ),
                ..Offer::default()
            }),
            schemas: schemas.collect::<Result<_, Failure>>()?,
            watched: Mutex::default(),
        }))
    }

    /// From now on it is part of this gateway, and tells whoever listens what changes.
    pub(crate) fn begin(self: &Arc<Self>, app: &Arc<App>) {
        self.whole.store(Some(Arc::new(Arc::downgrade(app))));
        news::follow(self, app);
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, BTreeSet<&'static str>> {
        self.watched.lock().expect("nobody panics while holding it")
    }

    fn app(&self) -> Result<Arc<App>, Failure> {
        let app = self.whole.load_full().and_then(|app| app.upgrade());
        app.ok_or_else(|| Failure::new(Code::Overloaded, "The gateway is starting, or ending."))
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
            Ok(outcome) => Ok(outcome),
            Err(failure) if failure.kind() == ErrorKind::Bug => Err(failure),
            Err(failure) => Ok(Outcome::Complete(told(&failure))),
        }
    }

    async fn read(&self, principal: &Principal, uri: &str) -> Result<Outcome, Failure> {
        let own = OwnResource::at(uri).ok_or_else(|| {
            Failure::new(Code::UnknownResource, "There is no such resource.").details(json!({"uri": uri}))
        })?;
        let content = tools::resource(&*self.app()?, principal, own).await?;
        let contents = json!({"contents": [{"uri": uri, "mimeType": "application/json", "text": content.to_string()}]});
        Ok(Outcome::Complete(Complete {
            raw: raw(&contents),
            is_error: false,
            failed: None,
        }))
    }
}

impl Source for Gpu {
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
        Own::named(tool).is_none_or(|own| !principal.decide(&own.action()).is_allowed())
    }

    fn is_trusted(&self, tool: &str) -> bool {
        // The others tell what providers, machines and their owners have written.
        matches!(Own::named(tool), Some(Own::Spending | Own::CheckLimit))
    }

    fn vouches(&self, _tool: &str) -> bool {
        true
    }

    fn needs(&self, uri: &str) -> Option<Action> {
        OwnResource::at(uri).map(OwnResource::action)
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
                Wanted::Prompt { .. } | Wanted::Completion { .. } => {
                    Err(Failure::new(Code::UnknownMethod, "The server `gpu` has no such thing."))
                }
            }
        })
    }

    fn watch<'a>(&'a self, uri: &'a str, watched: Watched) -> BoxFuture<'a, Result<(), Failure>> {
        if let Some(own) = OwnResource::at(uri) {
            match watched {
                Watched::Yes => self.watched().insert(own.uri()),
                Watched::No => self.watched().remove(own.uri()),
            };
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

/// An answer as the protocol writes it: the structure, and the same as text for clients that hand only text on. It is
/// written once, since a list of offers is long.
fn complete(structured: &Value) -> Outcome {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Told<'a> {
        content: [Value; 1],
        structured_content: &'a RawValue,
        is_error: bool,
    }
    let written = raw(structured);
    let told = Told {
        content: [json!({"type": "text", "text": written.get()})],
        structured_content: &written,
        is_error: false,
    };
    Outcome::Complete(Complete {
        raw: to_raw_value(&told).expect("JSON within JSON is JSON"),
        is_error: false,
        failed: None,
    })
}
