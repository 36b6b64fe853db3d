//! The catalogue: the one way to call a tool and to read a resource, whichever surface asks.
//!
//! In order: is there such a tool, may this caller use it, not too often, do the arguments fit, run it within its time,
//! is the result within its bound, write it down. Nothing runs before all of the first four have said yes.

mod finding;
mod serving;

pub(crate) use finding::view;
pub use serving::RESULT_BYTES_MAX;
pub(crate) use serving::{ending, serve};

use crate::{
    builtin::{BuiltinParts, Builtins},
    call::{CallContext, Outcome},
    compose::Compose,
    index::{Clash, Index, Listed, Scope},
    ledger::{Counted, Ledger, Metrics},
    prices::{Prices, PricesConfig, Told},
    source::{Change, Naming, Source, Tool, Wanted, effects},
    tools,
};
use arc_swap::ArcSwap;
use forebay_domain::{Action, Code, Failure, Principal, event::Outcome as Ending, money::Usd, port::AskModel};
use forebay_runtime::{Clock, rate::RateLimiter, secret::SecretReader, telemetry::names};
use forebay_store::EventLog;
use serde_json::{Map, Value, value::RawValue};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::broadcast;
use tracing::{Instrument, field};

/// Changes that wait for a slow listener at most; one that lags further is told that it missed some.
const CHANGES_MAX: usize = 256;

/// The method whose spans are opened here.
const CALL: &str = "tools/call";

/// Tells how the gateway is doing, as a JSON object. The server knows; the catalogue only shows it.
pub type StatusSource = Arc<dyn Fn() -> Map<String, Value> + Send + Sync>;

/// What a catalogue stands on.
pub struct CatalogueParts {
    pub clock: Clock,
    pub events: EventLog,
    /// What calls cost goes there.
    pub ledger: forebay_store::ledger::Ledger,
    pub metrics: Metrics,
    /// Calls per subject and tool.
    pub limits: Arc<RateLimiter>,
    pub models: Arc<dyn AskModel>,
    pub status: StatusSource,
    /// For what the built-in tools are configured with.
    pub secrets: SecretReader,
    pub tools: tools::Config,
}

/// The one catalogue of a process.
#[derive(Clone)]
pub struct Catalogue(Arc<Inner>);

/// A catalogue, for the sources within it: they must not keep it alive.
#[derive(Clone)]
pub(crate) struct WeakCatalogue(Weak<Inner>);

impl WeakCatalogue {
    /// Nothing once the catalogue is gone.
    pub(crate) fn upgrade(&self) -> Option<Catalogue> {
        self.0.upgrade().map(Catalogue)
    }
}

struct Inner {
    ledger: Ledger,
    limits: Arc<RateLimiter>,
    prices: Prices,
    builtins: Arc<Builtins>,
    /// By name. Held only while a source comes or goes, never while one is asked.
    sources: Mutex<Vec<Arc<dyn Source>>>,
    index: ArcSwap<Index>,
    changes: broadcast::Sender<Changed>,
}

/// News of a source, for whoever listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub server: Arc<str>,
    pub naming: Naming,
    pub change: Change,
}

/// A tool call as its caller words it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub scope: &'a Scope,
    /// The tool's name in that scope.
    pub tool: &'a str,
    pub arguments: &'a RawValue,
    /// The params of the client's own request, where it sent one: what nobody here knows passes through in them.
    pub params: Option<&'a RawValue>,
}

impl<'a> Call<'a> {
    /// A call in the whole catalogue, of the gateway's own making.
    pub fn of(tool: &'a str, arguments: &'a RawValue) -> Self {
        Self {
            scope: &Scope::Whole,
            tool,
            arguments,
            params: None,
        }
    }
}

impl Catalogue {
    pub fn new(parts: CatalogueParts) -> Result<Self, Failure> {
        let builtins = Arc::new(Builtins::new(BuiltinParts {
            clock: parts.clock.clone(),
            models: parts.models,
            status: parts.status,
            secrets: parts.secrets,
            config: parts.tools,
        })?);
        let sources: Vec<Arc<dyn Source>> = vec![builtins.clone()];
        let catalogue = Self(Arc::new(Inner {
            prices: Prices {
                ledger: parts.ledger,
                clock: parts.clock.clone(),
                tools: ArcSwap::default(),
            },
            ledger: Ledger {
                clock: parts.clock,
                events: parts.events,
                metrics: parts.metrics,
            },
            limits: parts.limits,
            builtins,
            index: ArcSwap::from_pointee(Index::new(&sources)),
            sources: Mutex::new(sources),
            changes: broadcast::Sender::new(CHANGES_MAX),
        }));
        catalogue.join(Arc::new(Compose::new(catalogue.downgrade())?));
        Ok(catalogue)
    }

    /// Puts another configuration of the built-in tools in force, or leaves the old one where the new one cannot be
    /// used. True where something changed. Calls under way end under the configuration with which they began.
    pub fn reconfigure(&self, config: tools::Config) -> Result<bool, Failure> {
        let changed = self.0.builtins.reconfigure(config)?;
        if changed {
            self.announce_all(self.0.builtins.as_ref(), [Change::Tools, Change::Resources]);
        }
        Ok(changed)
    }

    /// Puts other prices in force, for calls that begin from now on.
    pub fn set_prices(&self, config: &PricesConfig) -> Result<(), Failure> {
        config.check()?;
        for tool in self.priced_in_vain(config) {
            tracing::warn!(
                tool.name = tool,
                "a price names no tool of the catalogue: all others cost nothing"
            );
        }
        self.0.prices.set(config);
        Ok(())
    }

    /// What a call of this tool costs somebody who may make it now.
    pub fn price(&self, principal: &Principal, tool: &str) -> Result<Usd, Failure> {
        let found = self.admits(principal, &Scope::Whole, tool)?;
        Ok(self.0.prices.of(&found.exposed))
    }

    /// The names with a price that nothing here has. Of an upstream's tools nobody knows before it is reached, so that a
    /// name with its prefix is one of these only where the upstream is here.
    pub fn priced_in_vain<'a>(&self, config: &'a PricesConfig) -> Vec<&'a str> {
        let index = self.0.index.load();
        config.names().filter(|name| !index.may_have_tool(name)).collect()
    }

    /// Takes a source in, in place of an earlier one of the same name.
    pub fn join(&self, source: Arc<dyn Source>) {
        let mut sources = self.sources();
        sources.retain(|other| other.name() != source.name());
        let joined = source.clone();
        sources.push(source);
        sources.sort_by(|a, b| a.name().cmp(b.name()));
        self.0.index.store(Arc::new(Index::new(&sources)));
        drop(sources);
        self.tell(joined.as_ref(), Change::LISTS);
    }

    /// Lets a source go. What it is serving ends as it ends.
    pub fn leave(&self, name: &str) {
        let mut sources = self.sources();
        let gone: Vec<_> = sources.extract_if(.., |source| source.name() == name).collect();
        self.0.index.store(Arc::new(Index::new(&sources)));
        drop(sources);
        for source in gone {
            self.tell(source.as_ref(), Change::LISTS);
        }
    }

    /// A source has something else to offer, or one of its resources another content.
    pub fn announce(&self, source: &dyn Source, change: Change) {
        self.announce_all(source, [change]);
    }

    /// The same for several changes at once, for which the index is made anew once.
    pub(crate) fn announce_all(&self, source: &dyn Source, changes: impl IntoIterator<Item = Change>) {
        let changes: Vec<Change> = changes.into_iter().collect();
        if changes.iter().any(|change| !matches!(change, Change::Resource { .. })) {
            let sources = self.sources();
            self.0.index.store(Arc::new(Index::new(&sources)));
        }
        self.tell(source, changes);
    }

    fn tell(&self, source: &dyn Source, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            // Nobody listens where nobody is connected.
            let _listeners = self.0.changes.send(Changed {
                server: source.name().into(),
                naming: source.naming(),
                change,
            });
        }
    }

    pub(crate) fn downgrade(&self) -> WeakCatalogue {
        WeakCatalogue(Arc::downgrade(&self.0))
    }

    /// News of all sources from now on.
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.0.changes.subscribe()
    }

    /// Names that two servers claim, of which neither is offered (or only the built-in one).
    pub fn clashes(&self) -> Vec<Clash> {
        self.0.index.load().clashes.clone()
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, Vec<Arc<dyn Source>>> {
        self.0.sources.lock().expect("nobody panics while holding the sources")
    }

    pub(crate) fn index(&self) -> Arc<Index> {
        self.0.index.load_full()
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// Whether there is a server of that name.
    pub fn has(&self, scope: &Scope) -> bool {
        self.0.index.load().view(scope).is_some()
    }

    /// Calls a tool.
    pub async fn call(&self, principal: &Principal, call: Call<'_>, context: CallContext) -> Result<Outcome, Failure> {
        let span = tracing::info_span!(
            names::SPAN_TOOL,
            { names::OTEL_NAME } = CALL,
            { names::MCP_METHOD_NAME } = CALL,
            { names::GEN_AI_OPERATION_NAME } = names::SPAN_TOOL,
            { names::GEN_AI_TOOL_NAME } = field::Empty,
            { names::ERROR_TYPE } = field::Empty,
        );
        self.call_recorded(principal, call, context).instrument(span).await
    }

    async fn call_recorded(
        &self,
        principal: &Principal,
        call: Call<'_>,
        context: CallContext,
    ) -> Result<Outcome, Failure> {
        let found = self.find(principal, call.scope, call.tool);
        let counted = found.as_deref().map_or(Counted::No, counted);
        // A name of no tool may be anything, a key in the wrong place for one: it is written nowhere.
        let action = Action::tool(found.as_ref().map_or("?", |found| &found.exposed));
        let mut entry = self.0.ledger.open(principal, context.via, action.to_string(), counted);
        entry.bytes_in = call.arguments.get().len();
        let span = tracing::Span::current();
        let Some(found) = found else {
            let failure = match self.withheld(call.scope, call.tool) {
                Some((exposed, why)) => {
                    let action = Action::tool(&exposed);
                    entry.name(&action);
                    // How it stands with a tool is for those who may use it.
                    let admitted = principal
                        .require(&action)
                        .and_then(|()| self.limit(principal, &exposed));
                    admitted.err().unwrap_or(why)
                }
                None => unknown_tool(),
            };
            entry.close(Ending::Failed(failure.code), 0);
            return Err(failure);
        };
        span.record(names::GEN_AI_TOOL_NAME, &*found.exposed);
        span.record(names::OTEL_NAME, format_args!("{CALL} {}", found.exposed));
        entry.reason = Some(principal.decide(&action).to_string());
        let result = match self.admit(principal, &found, &action) {
            Ok(()) => self.run(principal, &found, (call, context), &mut entry.cost).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(failure) = &result {
            span.record(names::ERROR_TYPE, failure.code.as_str());
        }
        let (ending, bytes_out) = ending(&result);
        entry.close(ending, bytes_out);
        result
    }

    /// Runs a tool that may run, once what it costs is set aside.
    async fn run(
        &self,
        principal: &Principal,
        found: &Listed<Tool>,
        (call, context): (Call<'_>, CallContext),
        cost: &mut Option<Usd>,
    ) -> Result<Outcome, Failure> {
        let lasts = context.deadline.unwrap_or(found.item.time_limit);
        let caller = context.cost.clone();
        let prices = &self.0.prices;
        let told = Told {
            caller: caller.as_deref(),
            record: cost,
        };
        let bill = prices.bill(principal, &found.exposed, context.via, lasts, told);
        let mut bill = bill.await?;
        let wanted = Wanted::Tool {
            name: &found.item.name,
            arguments: call.arguments,
            params: call.params,
        };
        bill.begins();
        let result = serve(principal, &found.source, wanted, context, Some(found)).await;
        bill.ends(&result);
        result
    }

    /// Everything that has to say yes before a tool runs; what it makes of its arguments is its own affair.
    fn admit(&self, principal: &Principal, tool: &Listed<Tool>, action: &Action) -> Result<(), Failure> {
        principal.require(action)?;
        for effect in effects(tool.item.hints) {
            principal.require(&effect)?;
        }
        self.limit(principal, &tool.exposed)
    }

    /// Counts a call of that tool.
    fn limit(&self, principal: &Principal, exposed: &str) -> Result<(), Failure> {
        let key = format!("{}/{}/{}", principal.tenant, principal.subject, exposed);
        let verdict = self.0.limits.check(&key);
        if !verdict.is_allowed() {
            let after = verdict.retry_after.unwrap_or(verdict.reset_after);
            let message = format!(
                "`{exposed}` may be called {} times in its window, and that is used up.",
                verdict.limit
            );
            return Err(Failure::new(Code::RateLimited, message)
                .hint("Wait, then call again.")
                .retry_after(after));
        }
        Ok(())
    }
}

/// What the metrics call a tool. An upstream may have any number of them, so theirs are counted together.
fn counted(found: &Listed<Tool>) -> Counted {
    Counted::Tool(match found.source.naming() {
        Naming::Bare => found.exposed.clone(),
        Naming::Prefixed => format!("{}__*", found.source.name()),
    })
}

fn unknown_tool() -> Failure {
    Failure::new(Code::UnknownTool, "There is no tool of that name.").hint("`tools/list` shows what there is.")
}
