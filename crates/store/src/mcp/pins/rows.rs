//! Rows of `tool_pin`, which are not believed until they were read.

use forebay_domain::{
    id::SubjectId,
    quarantine::{DefinitionName, Fingerprint, Flags, Kind, Why},
};
use sqlx::Row;

use super::{ApprovedPin, HeldPin, Pin, Waiting};
use crate::{
    StoreError,
    row::{document, known, moment},
    sql::row_on_both,
};

macro_rules! pin_columns {
    () => {
        "kind, name, approved_fingerprint, approved_flags, held_fingerprint, held_flags, held_why, held_at_ms, \
         first_seen_at_ms, seen_at_ms, decided_at_ms, decided_by"
    };
}

macro_rules! waiting_columns {
    () => {
        "kind, name, held_fingerprint, held_flags, held_why, held_at_ms, held_definition, approved_definition"
    };
}

pub(super) use {pin_columns, waiting_columns};

pub(super) struct PinRow {
    kind: String,
    name: String,
    approved_fingerprint: Option<String>,
    approved_flags: Option<String>,
    held_fingerprint: Option<String>,
    held: Held,
    first_seen_at_ms: i64,
    seen_at_ms: i64,
    decided_at_ms: Option<i64>,
    decided_by: Option<String>,
}

row_on_both!(PinRow, |row| Ok(Self {
    kind: row.try_get("kind")?,
    name: row.try_get("name")?,
    approved_fingerprint: row.try_get("approved_fingerprint")?,
    approved_flags: row.try_get("approved_flags")?,
    held_fingerprint: row.try_get("held_fingerprint")?,
    held: Held {
        flags: row.try_get("held_flags")?,
        why: row.try_get("held_why")?,
        at_ms: row.try_get("held_at_ms")?,
    },
    first_seen_at_ms: row.try_get("first_seen_at_ms")?,
    seen_at_ms: row.try_get("seen_at_ms")?,
    decided_at_ms: row.try_get("decided_at_ms")?,
    decided_by: row.try_get("decided_by")?,
}));

pub(super) struct WaitingRow {
    kind: String,
    name: String,
    held_fingerprint: String,
    held: Held,
    held_definition: String,
    approved_definition: Option<String>,
}

row_on_both!(WaitingRow, |row| Ok(Self {
    kind: row.try_get("kind")?,
    name: row.try_get("name")?,
    held_fingerprint: row.try_get("held_fingerprint")?,
    held: Held {
        flags: row.try_get("held_flags")?,
        why: row.try_get("held_why")?,
        at_ms: row.try_get("held_at_ms")?,
    },
    held_definition: row.try_get("held_definition")?,
    approved_definition: row.try_get("approved_definition")?,
}));

/// What stands beside the fingerprint of a definition that waits.
struct Held {
    flags: Option<String>,
    why: Option<String>,
    at_ms: Option<i64>,
}

impl Held {
    fn pin(self, fingerprint: &str) -> Result<HeldPin, StoreError> {
        let flags = read_flags(self.flags)?;
        let why = self.why.ok_or_else(|| StoreError::corrupt("why a definition waits"))?;
        let since = self
            .at_ms
            .ok_or_else(|| StoreError::corrupt("since when a definition waits"))?;
        Ok(HeldPin {
            fingerprint: read_fingerprint(fingerprint)?,
            why: read_why(&why, &flags)?,
            flags,
            since: moment(since)?,
        })
    }
}

impl TryFrom<PinRow> for Pin {
    type Error = StoreError;
    fn try_from(row: PinRow) -> Result<Self, StoreError> {
        let approved = row.approved_fingerprint.map(|fingerprint| {
            Ok::<_, StoreError>(ApprovedPin {
                fingerprint: read_fingerprint(&fingerprint)?,
                flags: read_flags(row.approved_flags)?,
            })
        });
        let held = row.held_fingerprint.map(|fingerprint| row.held.pin(&fingerprint));
        Ok(Self {
            kind: read_kind(&row.kind)?,
            name: known("the name of a definition", DefinitionName::try_from(row.name))?,
            approved: approved.transpose()?,
            held: held.transpose()?,
            first_seen_at: moment(row.first_seen_at_ms)?,
            seen_at: moment(row.seen_at_ms)?,
            decided_at: row.decided_at_ms.map(moment).transpose()?,
            decided_by: known("decider", row.decided_by.map(SubjectId::try_from).transpose())?,
        })
    }
}

impl TryFrom<WaitingRow> for Waiting {
    type Error = StoreError;
    fn try_from(row: WaitingRow) -> Result<Self, StoreError> {
        let approved = row.approved_definition.map(|text| document("a definition", text));
        Ok(Self {
            kind: read_kind(&row.kind)?,
            name: known("the name of a definition", DefinitionName::try_from(row.name))?,
            pin: row.held.pin(&row.held_fingerprint)?,
            approved: approved.transpose()?,
            held: document("a definition", row.held_definition)?,
        })
    }
}

pub(super) fn read_kind(text: &str) -> Result<Kind, StoreError> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
    kind.ok_or_else(|| StoreError::corrupt("the kind of a definition"))
}

pub(super) fn read_fingerprint(text: &str) -> Result<Fingerprint, StoreError> {
    Fingerprint::parse(text).ok_or_else(|| StoreError::corrupt("a fingerprint"))
}

fn read_flags(text: Option<String>) -> Result<Flags, StoreError> {
    let flags = text.map(|text| serde_json::from_str(&text)).transpose();
    known("flags", flags).map(Option::unwrap_or_default)
}

pub(super) fn write_flags(flags: &Flags) -> Result<String, StoreError> {
    serde_json::to_string(flags).map_err(|_| StoreError::corrupt("flags"))
}

fn read_why(text: &str, flags: &Flags) -> Result<Why, StoreError> {
    [Why::FirstSeen, Why::Changed, Why::Flagged(flags.clone()), Why::TooMany]
        .into_iter()
        .find(|why| why.as_str() == text)
        .ok_or_else(|| StoreError::corrupt("why a definition waits"))
}
