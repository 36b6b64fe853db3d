//! Decides about one listing and writes down what is new in it, in one transaction.
//!
//! What to write is worked out first, as a plain value ([`plan`]); then rows go many at a time.

use forebay_domain::quarantine::{
    DefinitionName, Fingerprint, Inspected, Kind, Pinned, Policy, ServerName, Verdict, Why, decide,
};
use sqlx::Row;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    PINS_BYTES_MAX, PINS_OF_SERVER_MAX, lock,
    rows::{read_fingerprint, read_kind, write_flags},
};
use crate::{
    StoreError,
    row::known,
    sql::{Tx, on_both, row_on_both},
};

/// Rows of one statement.
const ROWS_MAX: usize = 64;

/// A definition that is listed again and again is noted so often, since each note is a write.
const NOTED_EVERY_MS: i64 = 60 * 60 * 1000;

/// What a server lists now.
pub(super) struct Listing {
    pub(super) server: ServerName,
    pub(super) policy: Policy,
    pub(super) seen: Arc<[Inspected]>,
    pub(super) at_ms: i64,
}

type Key = (Kind, DefinitionName);

/// What is known of one name before this listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    approved: Option<Fingerprint>,
    approved_bytes: usize,
    held: Option<(Fingerprint, String)>,
    held_bytes: usize,
    seen_at_ms: i64,
}

/// What is to be written. Numbers are places in the listing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    verdicts: Vec<Verdict>,
    /// Offered from now on; nothing waits beside it.
    approve: BTreeMap<Key, usize>,
    /// Went back to what was approved: nothing waits any more.
    clear: BTreeSet<Key>,
    hold: BTreeMap<Key, (usize, Why)>,
    /// Still there.
    note: BTreeSet<Key>,
}

pub(super) async fn record(tx: &mut Tx, listing: &Listing) -> Result<Vec<Verdict>, StoreError> {
    lock(tx, &listing.server).await?;
    let known = load(tx, &listing.server).await?;
    let plan = plan(listing, known);
    let approved: Vec<usize> = plan.approve.into_values().collect();
    for part in approved.chunks(ROWS_MAX) {
        write_approved(tx, listing, part).await?;
    }
    clear(tx, listing, &plan.clear).await?;
    let held: Vec<(usize, Why)> = plan.hold.into_values().collect();
    for part in held.chunks(ROWS_MAX) {
        write_held(tx, listing, part).await?;
    }
    note(tx, listing, &plan.note).await?;
    Ok(plan.verdicts)
}

/// A server may list one name twice; then the later definition is judged after the earlier.
fn plan(listing: &Listing, mut known: BTreeMap<Key, Known>) -> Plan {
    let mut plan = Plan::default();
    let mut room = PINS_BYTES_MAX.saturating_sub(known.values().map(|one| one.approved_bytes + one.held_bytes).sum());
    for (place, seen) in listing.seen.iter().enumerate() {
        let key = (seen.kind, seen.name.clone());
        let count = known.len();
        let before = known.get(&key);
        let pinned = before.map(|one| Pinned { approved: one.approved });
        let bytes = seen.original.get().len();
        let verdict = decide(listing.policy, pinned.as_ref(), seen.fingerprint, &seen.flags);
        let verdict = match before {
            Some(one) if one.approved == Some(seen.fingerprint) || one.is_held(seen, &verdict) => {
                plan.unchanged(&key, one, listing.at_ms);
                if one.held.is_some() && verdict == Verdict::Offered {
                    plan.clear.insert(key.clone());
                    plan.hold.remove(&key);
                    let cleared = known.entry(key).or_default();
                    room += std::mem::take(&mut cleared.held_bytes);
                    cleared.held = None;
                }
                verdict
            }
            None if count >= PINS_OF_SERVER_MAX => Verdict::Held(Why::TooMany),
            Some(_) | None if bytes > room => Verdict::Held(Why::TooMany),
            Some(_) | None => {
                room -= bytes;
                let one = known.entry(key.clone()).or_default();
                room += plan.write(key, place, seen, one, &verdict);
                verdict
            }
        };
        plan.verdicts.push(verdict);
    }
    plan
}

impl Known {
    /// Whether exactly this waits already, for the same reason.
    fn is_held(&self, seen: &Inspected, verdict: &Verdict) -> bool {
        match (verdict, &self.held) {
            (Verdict::Held(why), Some((fingerprint, word))) => *fingerprint == seen.fingerprint && why.as_str() == word,
            (Verdict::Held(_) | Verdict::Offered, _) => false,
        }
    }
}

impl Plan {
    fn unchanged(&mut self, key: &Key, before: &Known, at_ms: i64) {
        if at_ms.saturating_sub(before.seen_at_ms) >= NOTED_EVERY_MS {
            self.note.insert(key.clone());
        }
    }

    /// Plans to write a definition, and says how many bytes that frees.
    fn write(&mut self, key: Key, place: usize, seen: &Inspected, now: &mut Known, verdict: &Verdict) -> usize {
        let bytes = seen.original.get().len();
        match verdict {
            Verdict::Offered => {
                let freed = now.approved_bytes + now.held_bytes;
                *now = Known {
                    approved: Some(seen.fingerprint),
                    approved_bytes: bytes,
                    seen_at_ms: i64::MAX,
                    ..Known::default()
                };
                self.hold.remove(&key);
                self.approve.insert(key, place);
                freed
            }
            Verdict::Held(why) => {
                let freed = std::mem::replace(&mut now.held_bytes, bytes);
                now.held = Some((seen.fingerprint, why.as_str().to_owned()));
                now.seen_at_ms = i64::MAX;
                self.hold.insert(key, (place, why.clone()));
                freed
            }
        }
    }
}

const LOAD: &str = "SELECT kind, name, approved_fingerprint, approved_bytes, held_fingerprint, held_why, held_bytes, \
     seen_at_ms FROM tool_pin WHERE server = $1";

struct KnownRow {
    kind: String,
    name: String,
    approved_fingerprint: Option<String>,
    approved_bytes: Option<i64>,
    held_fingerprint: Option<String>,
    held_why: Option<String>,
    held_bytes: Option<i64>,
    seen_at_ms: i64,
}

row_on_both!(KnownRow, |row| Ok(Self {
    kind: row.try_get("kind")?,
    name: row.try_get("name")?,
    approved_fingerprint: row.try_get("approved_fingerprint")?,
    approved_bytes: row.try_get("approved_bytes")?,
    held_fingerprint: row.try_get("held_fingerprint")?,
    held_why: row.try_get("held_why")?,
    held_bytes: row.try_get("held_bytes")?,
    seen_at_ms: row.try_get("seen_at_ms")?,
}));

async fn load(tx: &mut Tx, server: &ServerName) -> Result<BTreeMap<Key, Known>, StoreError> {
    let rows: Vec<KnownRow> = on_both!(tx, |tx| sqlx::query_as(LOAD)
        .bind(server.as_str())
        .fetch_all(&mut **tx)
        .await)?;
    rows.into_iter().map(KnownRow::read).collect()
}

impl KnownRow {
    fn read(self) -> Result<(Key, Known), StoreError> {
        let name = known("the name of a definition", DefinitionName::try_from(self.name))?;
        let fingerprint = |text: Option<String>| text.as_deref().map(read_fingerprint).transpose();
        let bytes = |number: Option<i64>| usize::try_from(number.unwrap_or(0)).unwrap_or(usize::MAX);
        let held = fingerprint(self.held_fingerprint)?;
        let one = Known {
            approved: fingerprint(self.approved_fingerprint)?,
            approved_bytes: bytes(self.approved_bytes),
            held: held.zip(self.held_why),
            held_bytes: bytes(self.held_bytes),
            seen_at_ms: self.seen_at_ms,
        };
        Ok(((read_kind(&self.kind)?, name), one))
    }
}

fn stored_bytes(seen: &Inspected) -> i64 {
    i64::try_from(seen.original.get().len()).unwrap_or(i64::MAX)
}

const APPROVE: &str = "INSERT INTO tool_pin (server, kind, name, approved_fingerprint, approved_definition, \
     approved_flags, approved_bytes, first_seen_at_ms, seen_at_ms, decided_at_ms) ";
const OR_APPROVE: &str = " ON CONFLICT (server, kind, name) DO UPDATE SET \
     approved_fingerprint = excluded.approved_fingerprint, approved_definition = excluded.approved_definition, \
     approved_flags = excluded.approved_flags, approved_bytes = excluded.approved_bytes, held_fingerprint = NULL, \
     held_definition = NULL, held_flags = NULL, held_bytes = NULL, held_why = NULL, held_at_ms = NULL, \
     seen_at_ms = excluded.seen_at_ms, decided_at_ms = excluded.decided_at_ms, decided_by = NULL";

async fn write_approved(tx: &mut Tx, listing: &Listing, places: &[usize]) -> Result<(), StoreError> {
    let flags = places.iter().map(|place| write_flags(&listing.seen[*place].flags));
    let flags = flags.collect::<Result<Vec<_>, _>>()?;
    on_both!(tx, |tx| {
        let mut query = sqlx::QueryBuilder::new(APPROVE);
        query.push_values(places.iter().zip(&flags), |mut row, (place, flags)| {
            let seen = &listing.seen[*place];
            row.push_bind(listing.server.as_str())
                .push_bind(seen.kind.as_str())
                .push_bind(seen.name.as_str())
                .push_bind(seen.fingerprint.to_string())
                .push_bind(seen.original.get())
                .push_bind(flags.as_str())
                .push_bind(stored_bytes(seen))
                .push_bind(listing.at_ms)
                .push_bind(listing.at_ms)
                .push_bind(listing.at_ms);
        });
        query.push(OR_APPROVE);
        query.build().persistent(false).execute(&mut **tx).await.map(drop)
    })?;
    Ok(())
}

const HOLD: &str = "INSERT INTO tool_pin (server, kind, name, held_fingerprint, held_definition, held_flags, \
     held_bytes, held_why, held_at_ms, first_seen_at_ms, seen_at_ms) ";
const OR_HOLD: &str = " ON CONFLICT (server, kind, name) DO UPDATE SET held_fingerprint = excluded.held_fingerprint, \
     held_definition = excluded.held_definition, held_flags = excluded.held_flags, held_bytes = excluded.held_bytes, \
     held_why = excluded.held_why, held_at_ms = excluded.held_at_ms, seen_at_ms = excluded.seen_at_ms";

async fn write_held(tx: &mut Tx, listing: &Listing, held: &[(usize, Why)]) -> Result<(), StoreError> {
    let flags = held.iter().map(|(place, _)| write_flags(&listing.seen[*place].flags));
    let flags = flags.collect::<Result<Vec<_>, _>>()?;
    on_both!(tx, |tx| {
        let mut query = sqlx::QueryBuilder::new(HOLD);
        query.push_values(held.iter().zip(&flags), |mut row, ((place, why), flags)| {
            let seen = &listing.seen[*place];
            row.push_bind(listing.server.as_str())
                .push_bind(seen.kind.as_str())
                .push_bind(seen.name.as_str())
                .push_bind(seen.fingerprint.to_string())
                .push_bind(seen.original.get())
                .push_bind(flags.as_str())
                .push_bind(stored_bytes(seen))
                .push_bind(why.as_str())
                .push_bind(listing.at_ms)
                .push_bind(listing.at_ms)
                .push_bind(listing.at_ms);
        });
        query.push(OR_HOLD);
        query.build().persistent(false).execute(&mut **tx).await.map(drop)
    })?;
    Ok(())
}

const CLEAR: &str = "UPDATE tool_pin SET held_fingerprint = NULL, held_definition = NULL, held_flags = NULL, \
     held_bytes = NULL, held_why = NULL, held_at_ms = NULL, seen_at_ms = ";
const NOTE: &str = "UPDATE tool_pin SET seen_at_ms = ";

async fn clear(tx: &mut Tx, listing: &Listing, keys: &BTreeSet<Key>) -> Result<(), StoreError> {
    update(tx, CLEAR, listing, keys).await
}

async fn note(tx: &mut Tx, listing: &Listing, keys: &BTreeSet<Key>) -> Result<(), StoreError> {
    update(tx, NOTE, listing, keys).await
}

async fn update(tx: &mut Tx, set: &str, listing: &Listing, keys: &BTreeSet<Key>) -> Result<(), StoreError> {
    let keys: Vec<&Key> = keys.iter().collect();
    for part in keys.chunks(ROWS_MAX) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::QueryBuilder::new(set);
            query.push_bind(listing.at_ms);
            query.push(" WHERE server = ").push_bind(listing.server.as_str());
            query.push(" AND (kind, name) IN (");
            query.push_values(part, |mut row, (kind, name)| {
                row.push_bind(kind.as_str()).push_bind(name.as_str());
            });
            query.push(")");
            query.build().persistent(false).execute(&mut **tx).await.map(drop)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::quarantine::inspect;
    use serde_json::value::RawValue;

    fn seen(name: &str, text: &str) -> Inspected {
        let raw: Box<RawValue> =
            serde_json::from_str(&format!(r#"{{"name":"{name}","description":"{text}"}}"#)).unwrap();
        inspect(Kind::Tool, &raw).unwrap()
    }

    fn listing(seen: Vec<Inspected>) -> Listing {
        Listing {
            server: ServerName::try_from("docs").unwrap(),
            policy: Policy::default(),
            seen: seen.into(),
            at_ms: 1_000,
        }
    }

    #[test]
    fn past_the_bounds_nothing_new_is_noted_and_what_is_approved_is_still_offered() {
        let full = |name: String| {
            let one = seen(&name, "one");
            let known = Known {
                approved: Some(one.fingerprint),
                seen_at_ms: 1_000,
                ..Known::default()
            };
            ((Kind::Tool, one.name), known)
        };
        let known: BTreeMap<Key, Known> = (0..PINS_OF_SERVER_MAX).map(|n| full(format!("t{n}"))).collect();
        let asked = listing(vec![seen("t5", "one"), seen("new", "one"), seen("t6", "two")]);
        let answer = plan(&asked, known);
        let expected = [
            Verdict::Offered,
            Verdict::Held(Why::TooMany),
            Verdict::Held(Why::Changed),
        ];
        assert_eq!(answer.verdicts, expected);
        assert_eq!((answer.approve.len(), answer.hold.len()), (0, 1));

        let one = seen("large", "one");
        let large = Known {
            approved: Some(one.fingerprint),
            approved_bytes: PINS_BYTES_MAX - 10,
            ..Known::default()
        };
        let known = BTreeMap::from([((Kind::Tool, one.name.clone()), large)]);
        let asked = listing(vec![one, seen("large", "two"), seen("small", "one")]);
        let answer = plan(&asked, known);
        let expected = [
            Verdict::Offered,
            Verdict::Held(Why::TooMany),
            Verdict::Held(Why::TooMany),
        ];
        assert_eq!(answer.verdicts, expected);
    }

    #[test]
    fn room_that_becomes_free_is_used_again() {
        let (old, new) = (seen("a", "old"), seen("a", "new"));
        let bytes = new.original.get().len();
        let known = Known {
            held: Some((old.fingerprint, "flagged".to_owned())),
            held_bytes: PINS_BYTES_MAX - bytes,
            ..Known::default()
        };
        let known = BTreeMap::from([((Kind::Tool, old.name), known)]);
        let large = "x".repeat(200_000);
        let answer = plan(&listing(vec![new, seen("b", &large)]), known);
        assert_eq!(answer.verdicts, [Verdict::Offered, Verdict::Offered]);
    }
}
