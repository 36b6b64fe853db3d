//! The ledger's nouns as its columns have them, and back.

use forebay_domain::{
    id::{HoldId, KeyId, ProjectId, SessionId, SubjectId, TenantId, TraceId},
    ledger::{
        BudgetRule, Enforcement, HoldRecord, HoldState, Payer, Purpose, PurposeKind, Purse, PurseName, Scope, Window,
    },
    money::{Usd, UsdRate},
};
use sqlx::Row;

use crate::{StoreError, row::known, sql::row_on_both};

/// The name of a purse: no identifier has a space in it. Those of one tenant stand together, its own first.
pub(super) fn purse_name(purse: &Purse) -> String {
    let place = match purse.scope {
        Scope::Tenant => 0,
        Scope::Project => 1,
        Scope::Key => 2,
        Scope::Session => 3,
    };
    format!("{} {place} {}", purse.tenant, purse.id)
}

/// The name of the purse that is in every movement of a tenant.
pub(super) fn tenant_purse_name(tenant: &TenantId) -> String {
    format!("{tenant} 0 {tenant}")
}

/// Who pays, as columns.
pub(super) struct PayerRow {
    tenant: String,
    project: Option<String>,
    key_id: Option<String>,
    session: Option<String>,
    subject: Option<String>,
}

row_on_both!(PayerRow, |row| Ok(Self {
    tenant: row.try_get("tenant")?,
    project: row.try_get("project")?,
    key_id: row.try_get("key_id")?,
    session: row.try_get("session")?,
    subject: row.try_get("subject")?,
}));

impl TryFrom<PayerRow> for Payer {
    type Error = StoreError;

    fn try_from(row: PayerRow) -> Result<Self, StoreError> {
        Ok(Self {
            tenant: known("tenant", TenantId::try_from(row.tenant))?,
            project: known("project", row.project.map(ProjectId::try_from).transpose())?,
            key: known("key id", row.key_id.map(KeyId::try_from).transpose())?,
            session: known("session", row.session.map(SessionId::try_from).transpose())?,
            subject: known("subject", row.subject.map(SubjectId::try_from).transpose())?,
        })
    }
}

pub(super) fn purpose(kind: &str, name: String) -> Result<Purpose, StoreError> {
    let kind = PurposeKind::parse(kind).ok_or_else(|| StoreError::corrupt("the kind of a purpose"))?;
    Ok(Purpose { kind, name })
}

pub(super) fn trace(text: &str) -> Result<TraceId, StoreError> {
    TraceId::parse(text).ok_or_else(|| StoreError::corrupt("a trace id"))
}

/// A row of `ledger_hold`, not yet believed.
pub(super) struct HoldRow {
    id: String,
    state: String,
    payer: PayerRow,
    purpose_kind: String,
    purpose: String,
    trace: String,
    amount: i64,
    rate: i64,
    posted: i64,
    started_at_ms: i64,
    lapses_at_ms: i64,
}

row_on_both!(HoldRow, |row| Ok(Self {
    id: row.try_get("id")?,
    state: row.try_get("state")?,
    payer: PayerRow::from_row(row)?,
    purpose_kind: row.try_get("purpose_kind")?,
    purpose: row.try_get("purpose")?,
    trace: row.try_get("trace")?,
    amount: row.try_get("amount")?,
    rate: row.try_get("rate")?,
    posted: row.try_get("posted")?,
    started_at_ms: row.try_get("started_at_ms")?,
    lapses_at_ms: row.try_get("lapses_at_ms")?,
}));

impl TryFrom<HoldRow> for HoldRecord {
    type Error = StoreError;

    fn try_from(row: HoldRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: known("hold", HoldId::try_from(row.id))?,
            state: HoldState::parse(&row.state).ok_or_else(|| StoreError::corrupt("the state of a hold"))?,
            payer: row.payer.try_into()?,
            purpose: purpose(&row.purpose_kind, row.purpose)?,
            trace: trace(&row.trace)?,
            amount: Usd::from_micros(row.amount),
            rate: UsdRate::from_nanos_per_hour(row.rate),
            posted: Usd::from_micros(row.posted),
            started_at_ms: row.started_at_ms,
            lapses_at_ms: row.lapses_at_ms,
        })
    }
}

/// A row of `budget`, not yet believed.
pub(super) struct BudgetRow {
    tenant: String,
    scope: String,
    id: String,
    minutes: i64,
    limit_usd: i64,
    enforcement: String,
}

row_on_both!(BudgetRow, |row| Ok(Self {
    tenant: row.try_get("tenant")?,
    scope: row.try_get("scope")?,
    id: row.try_get("id")?,
    minutes: row.try_get("minutes")?,
    limit_usd: row.try_get("limit_usd")?,
    enforcement: row.try_get("enforcement")?,
}));

impl TryFrom<BudgetRow> for BudgetRule {
    type Error = StoreError;

    fn try_from(row: BudgetRow) -> Result<Self, StoreError> {
        let enforcement = enforced(&row.enforcement)?;
        let minutes = known("the length of a window", u32::try_from(row.minutes))?;
        Ok(Self {
            scope: Scope::parse(&row.scope).ok_or_else(|| StoreError::corrupt("the scope of a budget"))?,
            of: Some(PurseName {
                tenant: known("tenant", TenantId::try_from(row.tenant))?,
                id: Some(row.id).filter(|id| !id.is_empty()),
            }),
            window: known(
                "a window",
                Window::new(minutes, Usd::from_micros(row.limit_usd), enforcement),
            )?,
        })
    }
}

pub(super) fn enforced(text: &str) -> Result<Enforcement, StoreError> {
    match text {
        "hard" => Ok(Enforcement::Hard),
        "soft" => Ok(Enforcement::Soft),
        _ => Err(StoreError::corrupt("how a budget is enforced")),
    }
}

pub(super) fn enforcement(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Hard => "hard",
        Enforcement::Soft => "soft",
    }
}
