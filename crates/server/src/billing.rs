//! Movements of money as their reader may see them, for every surface.

use crate::app::App;
use forebay_api::{TransactionInfo, TransactionList, TransactionQuery as WireQuery};
use forebay_domain::{
    Action, Code, Failure, Principal,
    id::{IdFault, KeyId, ProjectId, SubjectId, TenantId},
    ledger::{Payer, PurposeKind},
};
use forebay_store::ledger::{TRANSACTIONS_PAGE_MAX, Transaction, TransactionQuery};
use serde_json::json;

const LIMIT_DEFAULT: u32 = 100;

/// One page, the newest first: the reader's own, or those of a tenant that it may look into.
pub(crate) async fn page(app: &App, principal: &Principal, query: &WireQuery) -> Result<TransactionList, Failure> {
    let whose = Whose::of(principal, query)?;
    let page = app
        .store
        .ledger()
        .transactions(&asked(principal, query, &whose)?)
        .await?;
    let seen = page.transactions.iter().filter(|one| whose.sees(&one.payer));
    Ok(TransactionList {
        transactions: seen.map(info).collect(),
        next: page.next,
    })
}

/// Whose movements are read.
enum Whose {
    /// The reader's own. A name means somebody within a project, and only among its keys or among the tokens.
    Own(Payer),
    Tenant(TenantId),
}

impl Whose {
    fn of(principal: &Principal, query: &WireQuery) -> Result<Self, Failure> {
        let tenant: Option<TenantId> = id(query.tenant.as_deref(), "tenant")?;
        let is_narrowed = [&query.project, &query.key, &query.subject]
            .into_iter()
            .any(Option::is_some);
        if tenant.is_none() && !is_narrowed && !principal.decide(&Action::SPENDING_OTHERS).is_allowed() {
            return Ok(Self::Own(principal.into()));
        }
        principal.require(&Action::SPENDING_OTHERS)?;
        let tenant = tenant.unwrap_or_else(|| principal.tenant.clone());
        if !principal.reaches(&tenant) {
            let message = format!("What tenant {tenant} spent is not yours to see.");
            return Err(Failure::new(Code::Forbidden, message).hint("Leave `tenant` out to see your own."));
        }
        Ok(Self::Tenant(tenant))
    }

    fn sees(&self, payer: &Payer) -> bool {
        match self {
            Self::Own(own) => own.project == payer.project && own.key.is_some() == payer.key.is_some(),
            Self::Tenant(_) => true,
        }
    }
}

fn asked(principal: &Principal, query: &WireQuery, whose: &Whose) -> Result<TransactionQuery, Failure> {
    let (tenant, subject) = match whose {
        Whose::Own(own) => (own.tenant.clone(), Some(principal.subject.clone())),
        Whose::Tenant(tenant) => (tenant.clone(), id::<SubjectId>(query.subject.as_deref(), "subject")?),
    };
    let purpose = query
        .purpose
        .as_deref()
        .map(|word| PurposeKind::parse(word).ok_or_else(|| unfit("purpose", "it is `model`, `tool` or `machine`")));
    Ok(TransactionQuery {
        project: id::<ProjectId>(query.project.as_deref(), "project")?,
        key: id::<KeyId>(query.key.as_deref(), "key")?,
        subject,
        purpose: purpose.transpose()?,
        posted_only: query.posted,
        since: query.since,
        until: query.until,
        before: query.before.clone(),
        limit: query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, TRANSACTIONS_PAGE_MAX),
        ..TransactionQuery::of(tenant)
    })
}

fn id<T>(text: Option<&str>, name: &str) -> Result<Option<T>, Failure>
where
    T: for<'a> TryFrom<&'a str, Error = IdFault>,
{
    text.map(T::try_from)
        .transpose()
        .map_err(|fault| unfit(name, &fault.to_string()))
}

fn unfit(field: &str, problem: &str) -> Failure {
    Failure::new(Code::InvalidRequest, format!("`{field}`: {problem}.")).details(json!({"field": field}))
}

fn info(one: &Transaction) -> TransactionInfo {
    let payer = &one.payer;
    TransactionInfo {
        id: one.id.clone(),
        at: one.at,
        kind: one.kind.as_str().to_owned(),
        purpose: one.purpose.kind.as_str().to_owned(),
        name: one.purpose.name.clone(),
        amount_usd: one.posted,
        held_usd: one.held,
        tenant: payer.tenant.to_string(),
        project: payer.project.as_ref().map(ToString::to_string),
        key: payer.key.as_ref().map(ToString::to_string),
        session: payer.session.as_ref().map(ToString::to_string),
        subject: payer.subject.as_ref().map(ToString::to_string),
        hold_id: one.hold.as_ref().map(ToString::to_string),
        trace_id: one.trace.to_string(),
        estimated: one.estimated,
        above_hold: one.above_hold,
        lapsed: one.lapsed,
    }
}
