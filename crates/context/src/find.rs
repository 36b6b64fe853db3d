//! From a question to a context: permission, cache, providers side by side, budget.

use crate::{
    cache::Key,
    item::{ITEMS_MAX, Item, cut},
    join::{Budget, Found, join},
    provider::{Asking, Finding, Provider},
    providers::{Providers, Running, State},
    record::{self, Record},
    settings::bounded,
};
use forebay_domain::{
    Action, Code, Failure, Principal,
    context::{Context, ContextQuery, OnFailure, ProviderFailure, ProviderReport, Strategy},
    id::KeyId,
    port::{BoxFuture, FindContext, Via},
};
use futures_util::future::join_all;
use serde_json::json;
use std::sync::Arc;
use tokio::time::timeout;

/// Providers of one question at most.
const PROVIDERS_MAX: usize = 16;
/// Bytes of a question that are looked for; what comes after is left out.
const QUERY_BYTES_MAX: usize = 4096;
const TOKENS_MAX: usize = 131_072;
/// An error names at most so many providers.
const NAMED_MAX: usize = 20;

/// Whether what is kept may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    Kept,
    Anew,
}

/// One question, as all providers get it.
#[derive(Clone, Copy)]
struct Question<'a> {
    state: &'a State,
    principal: &'a Principal,
    via: Via,
    text: &'a str,
    strategy: Strategy,
    limit: usize,
    freshness: Freshness,
}

/// What became of it at one provider.
struct Outcome {
    report: ProviderReport,
    finding: Option<Arc<Finding>>,
}

impl Providers {
    pub(crate) async fn ask(
        &self,
        principal: &Principal,
        query: &ContextQuery,
        via: Via,
        freshness: Freshness,
    ) -> Result<Context, Failure> {
        let state = self.0.state.load_full();
        let asked = self.chosen(&state, principal, &query.providers, via)?;
        let text = cut(query.query.trim(), QUERY_BYTES_MAX).trim_end();
        if text.is_empty() {
            return Err(
                Failure::new(Code::InvalidRequest, "There is no question to find context for.")
                    .hint("Say what is asked in `query`."),
            );
        }
        let budget = budget(&state, query);
        let question = Question {
            state: &state,
            principal,
            via,
            text,
            strategy: query.strategy.unwrap_or(state.context.retrieval_strategy.into()),
            limit: budget.items_max,
            freshness,
        };
        let outcomes = join_all(asked.iter().map(|one| self.ask_one(one, question))).await;
        let on_failure = query.on_failure.unwrap_or(state.context.on_failure.into());
        if on_failure == OnFailure::Fail {
            fail(&outcomes)?;
        }
        Ok(joined(outcomes, budget))
    }

    /// The providers by name, each once; as long as the caller may use all of them.
    fn chosen(
        &self,
        state: &State,
        principal: &Principal,
        names: &[String],
        via: Via,
    ) -> Result<Vec<Arc<Running>>, Failure> {
        let mut chosen: Vec<Arc<Running>> = Vec::new();
        for name in names {
            let one = state.running.get(name).filter(|one| one.provider.is_some());
            let known = one.map(|one| one.settings.name.as_str());
            let allowed = principal.require(&Action::context(bounded(name)));
            let found = allowed.and_then(|()| one.ok_or_else(|| unknown(state, principal, name)));
            let one =
                found.inspect_err(|failure| record::refused(&self.0.books, principal, via, known, failure.code))?;
            if !chosen.iter().any(|known| known.settings.name == one.settings.name) {
                chosen.push(one.clone());
            }
        }
        if chosen.is_empty() || chosen.len() > PROVIDERS_MAX {
            let message = format!(
                "Between 1 and {PROVIDERS_MAX} providers can be asked, not {}.",
                chosen.len()
            );
            return Err(Failure::new(Code::InvalidRequest, message));
        }
        Ok(chosen)
    }

    async fn ask_one(&self, running: &Running, question: Question<'_>) -> Outcome {
        let record = Record::open(
            &self.0.books,
            question.principal,
            question.via,
            running,
            question.text.len(),
        );
        let provider = running
            .provider
            .as_deref()
            .expect("only providers that are enabled are chosen");
        let strategy = provider.ability().instead_of(question.strategy);
        let found = timeout(
            running.settings.timeout,
            self.look_up(running, provider, question, strategy),
        )
        .await;
        let found = found.unwrap_or_else(|_| {
            let message = format!("It did not answer within {} ms.", running.settings.timeout.as_millis());
            Err(ProviderFailure {
                code: Code::UpstreamTimedOut,
                message,
            })
        });
        let mut report = ProviderReport {
            provider: running.settings.name.clone(),
            took: record.took(),
            items: 0,
            from_cache: false,
            strategy,
            failure: None,
        };
        match found {
            Ok((finding, from_cache)) => {
                report.items = finding.items.len();
                report.from_cache = from_cache;
                report.strategy = finding.strategy;
                let bytes = finding.items.iter().map(|item| item.text.len()).sum();
                record.found(bytes, from_cache, finding.strategy);
                Outcome {
                    report,
                    finding: Some(finding),
                }
            }
            Err(failure) => {
                record.failed(&failure);
                report.failure = Some(failure);
                Outcome { report, finding: None }
            }
        }
    }

    /// What is kept, or else what the provider finds.
    async fn look_up(
        &self,
        running: &Running,
        provider: &dyn Provider,
        question: Question<'_>,
        strategy: Strategy,
    ) -> Result<(Arc<Finding>, bool), ProviderFailure> {
        provider.allows(question.principal).map_err(|failure| told(&failure))?;
        let asking = Asking {
            principal: question.principal,
            via: question.via,
            query: question.text,
            strategy,
            limit: question.limit,
        };
        let make = async {
            let _permit = running.permits.acquire().await.expect("the permits are never closed");
            let started = self.0.books.clock.monotonic();
            let found = provider.find(asking).await;
            let took = self.0.books.clock.monotonic().saturating_sub(started);
            self.0.books.metrics.queried(&running.settings.name, took);
            found.inspect_err(|failure| {
                tracing::debug!(provider.name = %running.settings.name, error = failure.chain(), "provider failed");
            })
        };
        let cache = question
            .state
            .cache
            .as_ref()
            .filter(|_| question.freshness == Freshness::Kept);
        let Some(cache) = cache else {
            let finding = make.await.map_err(|failure| told(&failure))?;
            return Ok((Arc::new(finding), false));
        };
        let key = Key {
            generation: running.generation,
            revision: provider.revision(),
            query: question.text.to_owned(),
            strategy,
            limit: question.limit,
            whom: provider.is_personal().then(|| whom(question.principal)),
        };
        let now = self.0.books.clock.monotonic();
        cache.get(key, now, make).await.map_err(|failure| told(&failure))
    }
}

impl FindContext for Providers {
    fn find<'a>(
        &'a self,
        principal: &'a Principal,
        query: &'a ContextQuery,
        via: Via,
    ) -> BoxFuture<'a, Result<Context, Failure>> {
        Box::pin(self.ask(principal, query, via, Freshness::Kept))
    }
}

fn budget(state: &State, query: &ContextQuery) -> Budget {
    let usual = |count: std::num::NonZeroU32| usize::try_from(count.get()).unwrap_or(usize::MAX);
    let items_max = query.items_max.unwrap_or(usual(state.context.items_max));
    let tokens_max = query.tokens_max.unwrap_or(usual(state.context.max_length));
    Budget {
        items_max: items_max.clamp(1, ITEMS_MAX),
        tokens_max: tokens_max.min(TOKENS_MAX),
    }
}

fn told(failure: &Failure) -> ProviderFailure {
    ProviderFailure {
        code: failure.code,
        message: failure.message.clone(),
    }
}

/// Who asks, as far as it matters for what is found.
fn whom(principal: &Principal) -> String {
    let key = principal.key.as_ref().map_or("", KeyId::as_str);
    json!([principal.tenant.as_str(), principal.subject.as_str(), key]).to_string()
}

fn fail(outcomes: &[Outcome]) -> Result<(), Failure> {
    let failed = outcomes
        .iter()
        .find_map(|outcome| Some((&outcome.report, outcome.report.failure.as_ref()?)));
    let Some((report, failure)) = failed else {
        return Ok(());
    };
    let message = format!(
        "The provider `{}` found no context: {}",
        report.provider, failure.message
    );
    Err(Failure::new(Code::ContextFailed, message)
        .hint("Leave the provider out, or let the request go on without it (`on_failure: continue`).")
        .details(json!({ "provider": report.provider, "code": failure.code.as_str() })))
}

fn joined(outcomes: Vec<Outcome>, budget: Budget) -> Context {
    let none: &[Item] = &[];
    let found: Vec<Found<'_>> = outcomes
        .iter()
        .map(|outcome| Found {
            provider: &outcome.report.provider,
            items: outcome.finding.as_ref().map_or(none, |finding| &finding.items),
        })
        .collect();
    let joined = join(&found, budget);
    Context {
        items: joined.items,
        left_out: joined.left_out,
        tokens: joined.tokens,
        reports: outcomes.into_iter().map(|outcome| outcome.report).collect(),
    }
}

/// Says that there is no provider of this name, to somebody who might use it if there were.
fn unknown(state: &State, principal: &Principal, name: &str) -> Failure {
    let usable = state
        .running
        .values()
        .filter(|one| one.provider.is_some() && principal.decide(&Action::context(&one.settings.name)).is_allowed());
    let all: Vec<&str> = usable.map(|one| one.settings.name.as_str()).collect();
    let named = &all[..all.len().min(NAMED_MAX)];
    let hint = if all.is_empty() {
        "No provider is there that you may use; an administrator adds them under `mcp.providers`.".to_owned()
    } else {
        let more = if named.len() < all.len() { ", …" } else { "" };
        format!("You may use: {}{more}.", named.join(", "))
    };
    let message = format!("There is no provider `{}`.", bounded(name).escape_debug());
    Failure::new(Code::UnknownProvider, message)
        .hint(hint)
        .details(json!({ "param": "mcp_context.providers", "providers": named }))
}
