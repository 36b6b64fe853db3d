//! The gateway's own server: the built-in tools, and the gateway's own resources.

use crate::{
    call::{CallContext, Complete, Outcome},
    catalogue::StatusSource,
    files::Files,
    reading,
    resource::{self, Target},
    rpc,
    source::{self, Naming, Offer, Source, Wanted},
    tools::{self, Builtin, Job, Outside, Schema, WebSearch},
};
use arc_swap::ArcSwap;
use forebay_domain::{
    Action, Code, ErrorKind, Failure, Principal,
    port::{AskModel, BoxFuture},
};
use forebay_runtime::{Clock, secret::SecretReader};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, sync::Arc};

/// The name of the gateway's own server.
pub const NAME: &str = "forebay";

pub(crate) struct BuiltinParts {
    pub(crate) clock: Clock,
    pub(crate) models: Arc<dyn AskModel>,
    pub(crate) status: StatusSource,
    pub(crate) secrets: SecretReader,
    pub(crate) config: tools::Config,
}

/// The built-in tools under the configuration in force.
pub(crate) struct Builtins {
    clock: Clock,
    models: Arc<dyn AskModel>,
    status: StatusSource,
    outside: Outside,
    now: ArcSwap<Configured>,
}

#[derive(Default)]
struct Configured {
    config: tools::Config,
    tools: BTreeMap<&'static str, Ready>,
    files: Option<Arc<Files>>,
    search: Option<Arc<WebSearch>>,
    offer: Arc<Offer>,
}

/// A tool with its schema compiled.
struct Ready {
    tool: Builtin,
    schema: Schema,
}

impl Builtins {
    pub(crate) fn new(parts: BuiltinParts) -> Result<Self, Failure> {
        let this = Self {
            outside: Outside {
                client: forebay_runtime::http::trusted(),
                secrets: parts.secrets,
                clock: parts.clock.clone(),
            },
            clock: parts.clock,
            models: parts.models,
            status: parts.status,
            now: ArcSwap::default(),
        };
        this.now.store(Arc::new(this.configured(parts.config)?));
        Ok(this)
    }

    /// True where something changed.
    pub(crate) fn reconfigure(&self, config: tools::Config) -> Result<bool, Failure> {
        if self.now.load().config == config {
            return Ok(false);
        }
        let now = self.configured(config)?;
        self.now.store(Arc::new(now));
        Ok(true)
    }

    fn configured(&self, config: tools::Config) -> Result<Configured, Failure> {
        config.check_names()?;
        let is_off = |name: &str| config.disabled.contains(name);
        let files = Files::open(&config.file_reader)?.map(Arc::new);
        // Without the tool, its files are no resources either.
        let files = files.filter(|_| !is_off("file_reader"));
        let before = self.now.load().search.clone();
        let search = WebSearch::new(&config.web_search, &self.outside, before.as_deref())?.map(Arc::new);
        let parts = tools::Parts {
            clock: self.clock.clone(),
            models: self.models.clone(),
            status: self.status.clone(),
            files: files.clone(),
            search: search.clone(),
        };
        let mut offer = Offer {
            resources: resource::Resource::ALL
                .iter()
                .map(|own| Arc::new(own.listed()))
                .collect(),
            ..Offer::default()
        };
        if files.is_some() {
            offer.templates.push(Arc::new(resource::file_template()));
        }
        let mut ready = BTreeMap::new();
        for tool in Builtin::all(&parts) {
            let definition = tool.definition();
            if is_off(definition.name) {
                continue;
            }
            offer.tools.push(Arc::new(source::Tool {
                name: definition.name.to_owned(),
                raw: definition.to_raw(),
                hints: definition.hints(),
                headers: Vec::new(),
                time_limit: tool.time_limit(),
            }));
            let schema = Schema::of(&definition)?;
            ready.insert(definition.name, Ready { tool, schema });
        }
        Ok(Configured {
            config,
            tools: ready,
            files,
            search,
            offer: Arc::new(offer),
        })
    }

    async fn call(
        &self,
        principal: &Principal,
        name: &str,
        arguments: &RawValue,
        context: CallContext,
    ) -> Result<Outcome, Failure> {
        let now = self.now.load_full();
        let ready = now.tools.get(name);
        let ready = ready.ok_or_else(|| Failure::new(Code::UnknownTool, "This tool has just been taken away."))?;
        let job = Job {
            principal,
            arguments: ready.schema.read(arguments)?,
            via: context.via,
            client: context.client,
        };
        match ready.tool.run(job).await {
            Ok(answer) => Ok(Outcome::Complete(Complete {
                raw: answer.into_raw(),
                is_error: false,
                failed: None,
            })),
            Err(failure) if failure.kind() == ErrorKind::Bug => Err(failure),
            Err(failure) => Ok(Outcome::Complete(told(&failure))),
        }
    }

    async fn read(&self, principal: &Principal, uri: &str) -> Result<Outcome, Failure> {
        let content = match Target::parse(uri)? {
            Target::Own(own) => own.content(principal, self.models.as_ref(), &self.status),
            Target::File(path) => {
                let files = self.now.load().files.clone();
                let files = files.ok_or_else(|| reading::unknown(uri))?;
                resource::file_content(&files, uri, path).await.map_err(|failure| {
                    let hidden = [Code::ToolRefused, Code::UnknownResource].contains(&failure.code);
                    if hidden { reading::unknown(uri) } else { failure }
                })?
            }
        };
        let contents = serde_json::json!({"contents": [content]});
        Ok(Outcome::Complete(Complete {
            raw: crate::call::raw(&contents),
            is_error: false,
            failed: None,
        }))
    }
}

impl Source for Builtins {
    fn name(&self) -> &str {
        NAME
    }

    fn naming(&self) -> Naming {
        Naming::Bare
    }

    fn offer(&self) -> Arc<Offer> {
        self.now.load().offer.clone()
    }

    fn hides(&self, tool: &str, principal: &Principal) -> bool {
        let now = self.now.load();
        now.tools
            .get(tool)
            .is_none_or(|ready| !ready.tool.is_offered_to(principal))
    }

    fn withheld(&self, tool: &str) -> Option<Failure> {
        let now = self.now.load();
        let known = tools::NAMES.into_iter().find(|name| *name == tool)?;
        (!now.tools.contains_key(known)).then(|| now.config.not_offered(known))
    }

    fn is_trusted(&self, tool: &str) -> bool {
        let now = self.now.load();
        now.tools.get(tool).is_some_and(|ready| ready.tool.is_trusted())
    }

    fn vouches(&self, _tool: &str) -> bool {
        true
    }

    fn needs(&self, uri: &str) -> Option<Action> {
        needed(uri)
    }

    fn serve<'a>(
        &'a self,
        principal: &'a Principal,
        wanted: Wanted<'a>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Outcome, Failure>> {
        Box::pin(async move {
            match wanted {
                Wanted::Tool { name, arguments, .. } => self.call(principal, name, arguments, context).await,
                Wanted::Resource { uri, .. } => self.read(principal, uri).await,
                Wanted::Prompt { .. } | Wanted::Completion { .. } => Err(Failure::new(
                    Code::UnknownMethod,
                    "The gateway's own server has no such thing.",
                )),
            }
        })
    }
}

/// What the reader of one of our own resources has to be allowed, beside reading resources at all. It is decided by what
/// would be read, and not by how that is spelled; the template of files counts as a file.
fn needed(uri: &str) -> Option<Action> {
    match Target::parse(uri) {
        Ok(Target::Own(own)) => Some(own.action()),
        // A file as a resource is read by whoever may read it with the tool.
        Ok(Target::File(_)) => Some(Action::tool("file_reader")),
        // There is nothing behind it.
        Err(_) => None,
    }
}

/// A failure within a tool is its result: the model that called it can act on it.
pub fn told(failure: &Failure) -> Complete {
    if failure.source.is_some() {
        tracing::warn!(error.code = %failure.code, error.chain = %failure.chain(), "tool failed");
    }
    let failed = match failure.kind() {
        ErrorKind::Invalid | ErrorKind::Forbidden | ErrorKind::NotFound | ErrorKind::Conflict => None,
        ErrorKind::Unauthenticated
        | ErrorKind::OverBudget
        | ErrorKind::RateLimited
        | ErrorKind::UpstreamFailed
        | ErrorKind::UpstreamTimedOut
        | ErrorKind::Unavailable
        | ErrorKind::Bug => Some(failure.code),
    };
    Complete {
        raw: rpc::tool_error(failure),
        is_error: true,
        failed,
    }
}
