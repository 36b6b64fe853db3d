//! Rows of `rental`, not yet believed.

use forebay_domain::{
    id::{ProjectId, SubjectId, TenantId},
    market::Provider,
};
use sqlx::Row;

use super::{Desired, RentalState, StoredRental};
use crate::{
    StoreError,
    responses::{OwnerKind, ResponseOwner},
    row::{document, known, moment},
    sql::row_on_both,
};

macro_rules! columns {
    () => {
        "id, tenant, project, kind, subject, provider, seat, label, offer, machine, state, desired, open, token_hash, \
         idempotency_key, quote, created_at_ms, version, body"
    };
}
pub(super) use columns;

pub(super) struct RentalRow {
    id: String,
    tenant: String,
    project: String,
    kind: String,
    subject: String,
    provider: String,
    seat: String,
    label: String,
    offer: String,
    machine: Option<String>,
    state: String,
    desired: String,
    open: bool,
    token_hash: Option<Vec<u8>>,
    idempotency_key: Option<String>,
    quote: Option<String>,
    created_at_ms: i64,
    version: i64,
    body: String,
}

row_on_both!(RentalRow, |row| Ok(Self {
    id: row.try_get("id")?,
    tenant: row.try_get("tenant")?,
    project: row.try_get("project")?,
    kind: row.try_get("kind")?,
    subject: row.try_get("subject")?,
    provider: row.try_get("provider")?,
    seat: row.try_get("seat")?,
    label: row.try_get("label")?,
    offer: row.try_get("offer")?,
    machine: row.try_get("machine")?,
    state: row.try_get("state")?,
    desired: row.try_get("desired")?,
    open: row.try_get("open")?,
    token_hash: row.try_get("token_hash")?,
    idempotency_key: row.try_get("idempotency_key")?,
    quote: row.try_get("quote")?,
    created_at_ms: row.try_get("created_at_ms")?,
    version: row.try_get("version")?,
    body: row.try_get("body")?,
}));

impl TryFrom<RentalRow> for StoredRental {
    type Error = StoreError;

    fn try_from(row: RentalRow) -> Result<Self, StoreError> {
        let hash = |bytes: Vec<u8>| bytes.try_into().map_err(|_| StoreError::corrupt("the hash of a token"));
        Ok(Self {
            owner: owner(row.tenant, &row.project, &row.kind, row.subject)?,
            provider: Provider::parse(&row.provider).ok_or_else(|| StoreError::corrupt("a provider"))?,
            state: RentalState::parse(&row.state).ok_or_else(|| StoreError::corrupt("the state of a rental"))?,
            desired: Desired::parse(&row.desired).ok_or_else(|| StoreError::corrupt("what is wanted of a rental"))?,
            token_hash: row.token_hash.map(hash).transpose()?,
            created_at: moment(row.created_at_ms)?,
            body: document("what is known of a rental", row.body)?,
            id: row.id,
            seat: row.seat,
            label: row.label,
            offer: row.offer,
            machine: row.machine,
            open: row.open,
            idempotency_key: row.idempotency_key,
            quote: row.quote,
            version: row.version,
        })
    }
}

pub(super) fn owner(tenant: String, project: &str, kind: &str, subject: String) -> Result<ResponseOwner, StoreError> {
    Ok(ResponseOwner {
        tenant: known("tenant", TenantId::try_from(tenant))?,
        project: match project {
            "" => None,
            name => Some(known("project", ProjectId::try_from(name))?),
        },
        kind: OwnerKind::parse(kind).ok_or_else(|| StoreError::corrupt("the kind of an owner"))?,
        subject: known("subject", SubjectId::try_from(subject))?,
    })
}
