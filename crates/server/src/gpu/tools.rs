//! What each tool does: its arguments read, one function called, the answer told.

use super::{
    complete,
    definitions::{Own, OwnResource},
    longer, proxy, view,
};
use crate::{app::App, billing, spending};
use forebay_api::{GpuCreate, GpuExtend, GpuOfferQuery, TransactionQuery};
use forebay_compute::rental::{CreateOutcome, CreateRequest, Mode, Quote, Quoted, What, Whose};
use forebay_domain::{Code, Failure, Principal, ledger::Payer, money::Usd};
use forebay_mcp::{
    call::{CallContext, Outcome, Retry, raw},
    tools::typed,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

const LOG_LINES_DEFAULT: u32 = 100;
/// The question that a person is asked before money is spent, by its key.
const APPROVAL: &str = "approve";

pub(super) async fn run(
    app: &Arc<App>,
    principal: &Principal,
    (own, arguments): (Own, Value),
    context: &CallContext,
) -> Result<Outcome, Failure> {
    let told = match own {
        Own::ListOffers => list_offers(app, arguments).await?,
        Own::Create => return create(app, principal, typed(arguments)?, context).await,
        Own::Destroy => destroy(app, principal, typed(arguments)?).await?,
        Own::Spending => view::told(&spending::of(app, &Payer::from(principal)).await?),
        Own::CheckLimit => check_limit(app, principal, typed(arguments)?).await?,
        Own::Transactions => {
            let query: TransactionQuery = typed(arguments)?;
            view::told(&billing::page(app, principal, &query).await?)
        }
        Own::Proxy => return proxy::run(app, principal, typed(arguments)?, context).await,
        Own::Quote => {
            let request = view::quote_request(&typed(arguments)?)?;
            view::told(&view::quote(&app.rentals.quote(principal, request).await?))
        }
        Own::Get => {
            let Named { instance_id, .. } = typed(arguments)?;
            view::told(&view::instance(&app.rentals.find(principal, None, &instance_id).await?))
        }
        Own::Mine => instances(app, principal).await?,
        Own::Extend => {
            let named: Named = typed(arguments)?;
            let wish = GpuExtend {
                hours: named.hours.unwrap_or(1),
                dry_run: named.dry_run,
            };
            let wish = (&wish, named.idempotency_key);
            view::told(&longer::extend(&app.rentals, principal, &named.instance_id, wish).await?)
        }
        Own::Logs => {
            let Named { instance_id, lines, .. } = typed(arguments)?;
            let found = app.rentals.find(principal, None, &instance_id).await?;
            let lines = lines.unwrap_or(LOG_LINES_DEFAULT);
            json!({"id": found.id, "log": app.rentals.logs(principal, &found.id, lines).await?})
        }
    };
    Ok(complete(&told))
}

/// The content of a resource.
pub(super) async fn resource(app: &App, principal: &Principal, own: OwnResource) -> Result<Value, Failure> {
    match own {
        OwnResource::Spending => Ok(view::told(&spending::of(app, &Payer::from(principal)).await?)),
        OwnResource::Instances => {
            let report = app
                .rentals
                .offers(&view::wanted(&GpuOfferQuery::default())?, None)
                .await;
            let mut told = market(view::told(&view::offers(&report)));
            told["mine"] = instances(app, principal).await?["instances"].take();
            Ok(told)
        }
    }
}

#[derive(Deserialize)]
struct Named {
    instance_id: String,
    #[serde(default)]
    provider: Option<String>,
    #[serde(default)]
    hours: Option<u32>,
    #[serde(default)]
    lines: Option<u32>,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

async fn list_offers(app: &App, arguments: Value) -> Result<Value, Failure> {
    let query: GpuOfferQuery = typed(arguments)?;
    let provider = view::provider(query.provider.as_deref())?;
    let report = app.rentals.offers(&view::wanted(&query)?, provider).await;
    Ok(market(view::told(&view::offers(&report))))
}

/// Clients of this tool read `instances`.
fn market(mut offers: Value) -> Value {
    json!({"instances": offers["offers"].take(), "providers": offers["providers"].take()})
}

async fn instances(app: &App, principal: &Principal) -> Result<Value, Failure> {
    let mine = app.rentals.list(principal, Whose::Mine, true).await?;
    let mine: Vec<_> = mine.iter().map(view::instance).collect();
    Ok(json!({"instances": mine}))
}

async fn destroy(app: &App, principal: &Principal, named: Named) -> Result<Value, Failure> {
    let provider = view::provider(named.provider.as_deref())?;
    let found = app.rentals.find(principal, provider, &named.instance_id).await?;
    let ended = app.rentals.destroy(principal, &found.id).await?;
    Ok(view::told(&view::instance(&ended)))
}

#[derive(Deserialize)]
struct Estimated {
    /// A JSON number: a decimal, and no float on its way.
    estimated_cost: Usd,
}

async fn check_limit(app: &App, principal: &Principal, asked: Estimated) -> Result<Value, Failure> {
    let payer = Payer::from(principal);
    let check = spending::check(app, &payer, asked.estimated_cost).await?;
    let mut told = view::told(&check);
    told["windows"] = view::told(&spending::of(app, &payer).await?)["windows"].take();
    Ok(told)
}

async fn create(
    app: &Arc<App>,
    principal: &Principal,
    wish: GpuCreate,
    context: &CallContext,
) -> Result<Outcome, Failure> {
    let via = (context.via.surface, context.via.trace);
    let mut request = view::create_request(&wish, None, via)?;
    let can_ask = context.client.fills_in_forms();
    if let Some(agreed) = context.retry.as_ref().map(agreed).transpose()? {
        request.what = What::Quote(agreed_to(&request.what, agreed));
    } else if can_ask
        && request.mode == Mode::Do
        && let Some(id) = &wish.quote_id
        && let Some(question) = asked_first(app, principal, (id, &request)).await?
    {
        return Ok(question);
    }
    let outcome = app.rentals.create(principal, request).await?;
    match &outcome {
        CreateOutcome::NeedsApproval(quote) if can_ask => Ok(ask(quote, &quote.id)),
        CreateOutcome::NeedsApproval(_) | CreateOutcome::DryRun(_) | CreateOutcome::Rented(_) => {
            let mut told = view::told(&view::created(&outcome));
            if told["outcome"] == "needs_approval" {
                told["next"] =
                    json!("Show the quote to somebody who may agree to it, then call again with its id as quote_id.");
            }
            Ok(complete(&told))
        }
    }
}

/// The quote that somebody has agreed to, which is still one of what is asked for.
fn agreed_to(asked: &What, id: String) -> Quoted {
    match asked {
        What::Offer(offer) => Quoted {
            offer: Some(offer.clone()),
            ..id.into()
        },
        What::Quote(quoted) => Quoted { id, ..quoted.clone() },
    }
}

/// The question about a quote that a client brings along. Whoever calls may be a model, which agrees to everything: where
/// the person behind it can be asked, only that person agrees.
async fn asked_first(
    app: &App,
    principal: &Principal,
    (id, request): (&str, &CreateRequest),
) -> Result<Option<Outcome>, Failure> {
    let trial = CreateRequest {
        mode: Mode::DryRun,
        ..request.clone()
    };
    match app.rentals.create(principal, trial).await? {
        CreateOutcome::DryRun(quote) if quote.needs_approval => Ok(Some(ask(&quote, id))),
        CreateOutcome::DryRun(_) | CreateOutcome::NeedsApproval(_) | CreateOutcome::Rented(_) => Ok(None),
    }
}

/// Asks the person behind the client; the id of the quote that they agree to travels in the signed state.
fn ask(quote: &Quote, id: &str) -> Outcome {
    let gpu = if quote.offer.gpu.is_empty() {
        "a CPU share"
    } else {
        &quote.offer.gpu
    };
    let message = format!(
        "Rent {} x {gpu} from {} for ${} an hour, at most ${} over {} hours?",
        quote.offer.gpus,
        quote.offer.id.provider,
        quote.rate.hourly(),
        quote.most,
        quote.lifetime.as_secs() / 3_600,
    );
    let schema = json!({
        "type": "object",
        "properties": {APPROVAL: {"type": "boolean", "title": "Rent it", "description": "Money is spent from then on"}},
        "required": [APPROVAL],
    });
    let question = json!({"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}});
    Outcome::InputRequired(raw(&json!({
        "resultType": "input_required",
        "inputRequests": {APPROVAL: question},
        "requestState": id,
    })))
}

/// The quote that was agreed to.
fn agreed(retry: &Retry) -> Result<String, Failure> {
    let no = |why: &str| {
        Failure::new(Code::ToolRefused, format!("Nothing was rented: {why}."))
            .hint("Ask for it again once somebody agrees.")
    };
    let quote = retry
        .request_state
        .clone()
        .ok_or_else(|| no("the answer belongs to no quote"))?;
    let answers: Value = retry
        .input_responses
        .as_ref()
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .ok_or_else(|| no("nobody answered"))?;
    let answer = &answers[APPROVAL];
    if answer["action"] == "accept" && answer["content"][APPROVAL] == true {
        Ok(quote)
    } else {
        Err(no("it was not agreed to"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_mcp::tools::Schema;

    fn retry(answer: &Value) -> Retry {
        Retry {
            input_responses: Some(raw(&json!({APPROVAL: answer}))),
            request_state: Some("q1".to_owned()),
        }
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_point() {
        let read = |own: Own, arguments: &Value| {
            let schema = Schema::new(own.name(), &own.input()).unwrap();
            schema.read(&raw(arguments)).unwrap()
        };
        let wish = read(
            Own::Create,
            &json!({"provider": "local", "instance_id": "slot-1", "image": "img", "hours": 8.0, "ports": [8000.0, 22]}),
        );
        assert_eq!((&wish["hours"], &wish["ports"]), (&json!(8), &json!([8000, 22])));
        let sent = json!({"target_url": "/v1/models", "body": {"limit": 8.0}});
        assert_eq!(read(Own::Proxy, &sent), sent);
    }

    #[test]
    fn what_cannot_be_read_is_told_as_what_it_is() {
        let refused = |cost: Value| typed::<Estimated>(json!({"estimated_cost": cost})).err().unwrap();
        let large = refused(json!(1e30));
        assert!(
            large.message.contains("1e30") || large.message.contains("1e+30"),
            "{}",
            large.message
        );
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        let yes = json!({"action": "accept", "content": {"approve": true}});
        assert_eq!(agreed(&retry(&yes)).unwrap(), "q1");
        for no in [
            json!({"action": "decline"}),
            json!({"action": "cancel"}),
            json!({"action": "accept"}),
            json!({"action": "accept", "content": {"approve": false}}),
            json!({"action": "accept", "content": {"approve": "true"}}),
            json!({"action": "decline", "content": {"approve": true}}),
        ] {
            assert_eq!(agreed(&retry(&no)).unwrap_err().code, Code::ToolRefused, "{no}");
        }
        assert!(agreed(&Retry::default()).is_err());
    }
}
