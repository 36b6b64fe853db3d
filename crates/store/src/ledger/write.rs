//! Writes what was decided: in PostgreSQL with one statement, in SQLite with a few over many rows.

use forebay_domain::id::{HoldId, KeyId, ProjectId, SessionId, SubjectId};
use forebay_domain::ledger::{Changes, Head, HoldRecord, Payer, Purse, Refunded, Txn};
use std::sync::LazyLock;

use super::rows::purse_name;
use crate::{
    StoreError,
    sql::Tx,
    together::{Cell, Kind, Row, Table, Tables},
};

static BOOKS: LazyLock<Tables> = LazyLock::new(|| Tables::new(TABLES));

/// In the order of the rows that [`write`] makes.
const TABLES: &[Table] = &[
    Table {
        name: "ledger_txn",
        columns: &[
            ("tenant", Kind::Text),
            ("id", Kind::Text),
            ("at_ms", Kind::Number),
            ("kind", Kind::Text),
            ("hold_id", Kind::Text),
            ("project", Kind::Text),
            ("key_id", Kind::Text),
            ("session", Kind::Text),
            ("subject", Kind::Text),
            ("purpose_kind", Kind::Text),
            ("purpose", Kind::Text),
            ("trace", Kind::Text),
            ("held", Kind::Number),
            ("posted", Kind::Number),
            ("rate", Kind::Number),
            ("estimated", Kind::Flag),
            ("above_hold", Kind::Flag),
            ("lapsed", Kind::Flag),
            ("once_key", Kind::Text),
        ],
        share: 1,
        tail: "",
    },
    Table {
        name: "ledger_entry",
        columns: &[
            ("txn", Kind::Text),
            ("line", Kind::Number),
            ("account", Kind::Text),
            ("amount", Kind::Number),
        ],
        share: 3,
        tail: "",
    },
    Table {
        name: "ledger_hold",
        columns: &[
            ("id", Kind::Text),
            ("state", Kind::Text),
            ("tenant", Kind::Text),
            ("project", Kind::Text),
            ("key_id", Kind::Text),
            ("session", Kind::Text),
            ("subject", Kind::Text),
            ("purpose_kind", Kind::Text),
            ("purpose", Kind::Text),
            ("trace", Kind::Text),
            ("amount", Kind::Number),
            ("rate", Kind::Number),
            ("posted", Kind::Number),
            ("started_at_ms", Kind::Number),
            ("lapses_at_ms", Kind::Number),
        ],
        share: 1,
        tail: " ON CONFLICT (id) DO UPDATE SET state = excluded.state, amount = excluded.amount, \
             rate = excluded.rate, posted = excluded.posted, lapses_at_ms = excluded.lapses_at_ms",
    },
    Table {
        name: "purse",
        columns: &[
            ("name", Kind::Text),
            ("held", Kind::Number),
            ("burn", Kind::Number),
            ("posted", Kind::Number),
            ("last_at_ms", Kind::Number),
        ],
        share: 2,
        tail: " ON CONFLICT (name) DO UPDATE SET held = excluded.held, burn = excluded.burn, \
             posted = excluded.posted, last_at_ms = excluded.last_at_ms",
    },
    // Several times in one millisecond are one row.
    Table {
        name: "purse_posted",
        columns: &[
            ("purse", Kind::Text),
            ("at_ms", Kind::Number),
            ("cumulative", Kind::Number),
        ],
        share: 2,
        tail: " ON CONFLICT (purse, at_ms) DO UPDATE SET cumulative = excluded.cumulative",
    },
    Table {
        name: "purse_refund",
        columns: &[
            ("purse", Kind::Text),
            ("original_at_ms", Kind::Number),
            ("id", Kind::Text),
            ("hold_id", Kind::Text),
            ("amount", Kind::Number),
        ],
        share: 1,
        tail: "",
    },
];

/// Identifiers of rows that are written together: by time, then in their order, and unlike those of any other group.
#[derive(Clone, Copy)]
pub(super) struct Ids {
    /// Which group of this process it is.
    pub group: u32,
    /// What tells this process from others.
    pub process: [u8; 4],
}

impl Ids {
    fn of(self, at_ms: i64, number: usize) -> String {
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let (group, process) = (self.group, u32::from_be_bytes(self.process));
        format!("{:012x}{group:08x}{number:04x}{process:08x}", at_ms.max(0))
    }
}

pub(super) async fn write(tx: &mut Tx, ids: Ids, changes: &Changes) -> Result<(), StoreError> {
    let numbered = changes.txns.iter().enumerate();
    let txns: Vec<(String, &Txn)> = numbered.map(|(number, txn)| (ids.of(txn.at_ms, number), txn)).collect();
    let refunds = changes.refunded.iter().enumerate();
    let rows = [
        txns.iter().map(|(id, txn)| txn_row(id, txn)).collect(),
        txns.iter().flat_map(|(id, txn)| entry_rows(id, txn)).collect(),
        changes.holds.iter().map(hold_row).collect(),
        changes.heads.iter().map(head_row).collect(),
        changes.posted.iter().map(posted_row).collect(),
        refunds
            .map(|(number, refund)| refund_row(ids.of(refund.original_at_ms, number), refund))
            .collect(),
    ];
    BOOKS.write(tx, &rows).await
}

/// Who pays, as four columns that both the movements and the holds have.
fn payer(payer: &Payer) -> [Cell<'_>; 4] {
    [
        payer.project.as_ref().map(ProjectId::as_str).into(),
        payer.key.as_ref().map(KeyId::as_str).into(),
        payer.session.as_ref().map(SessionId::as_str).into(),
        payer.subject.as_ref().map(SubjectId::as_str).into(),
    ]
}

fn txn_row<'a>(id: &'a str, txn: &'a Txn) -> Row<'a> {
    let mut row = vec![
        txn.payer.tenant.as_str().into(),
        id.into(),
        txn.at_ms.into(),
        txn.kind.as_str().into(),
        txn.hold.as_ref().map(HoldId::as_str).into(),
    ];
    row.extend(payer(&txn.payer));
    row.extend([
        txn.purpose.kind.as_str().into(),
        txn.purpose.name.as_str().into(),
        txn.trace.to_string().into(),
        txn.held.micros().into(),
        txn.posted.micros().into(),
        txn.rate.nanos_per_hour().into(),
        txn.estimated.into(),
        txn.above_hold.into(),
        txn.lapsed.into(),
        txn.key.as_deref().into(),
    ]);
    row
}

fn entry_rows<'a>(id: &'a str, txn: &'a Txn) -> impl Iterator<Item = Row<'a>> {
    (0_i64..).zip(&txn.entries).map(move |(line, entry)| {
        vec![
            id.into(),
            line.into(),
            entry.account.as_str().into(),
            entry.amount.micros().into(),
        ]
    })
}

fn hold_row(hold: &HoldRecord) -> Row<'_> {
    let mut row = vec![
        hold.id.as_str().into(),
        hold.state.as_str().into(),
        hold.payer.tenant.as_str().into(),
    ];
    row.extend(payer(&hold.payer));
    row.extend([
        hold.purpose.kind.as_str().into(),
        hold.purpose.name.as_str().into(),
        hold.trace.to_string().into(),
        hold.amount.micros().into(),
        hold.rate.nanos_per_hour().into(),
        hold.posted.micros().into(),
        hold.started_at_ms.into(),
        hold.lapses_at_ms.into(),
    ]);
    row
}

fn head_row((purse, head): &(Purse, Head)) -> Row<'_> {
    vec![
        purse_name(purse).into(),
        head.held.micros().into(),
        head.burn.nanos_per_hour().into(),
        head.posted.micros().into(),
        head.last_at_ms.into(),
    ]
}

fn posted_row((purse, head): &(Purse, Head)) -> Row<'_> {
    vec![
        purse_name(purse).into(),
        head.last_at_ms.into(),
        head.posted.micros().into(),
    ]
}

fn refund_row(id: String, refund: &Refunded) -> Row<'_> {
    vec![
        purse_name(&refund.purse).into(),
        refund.original_at_ms.into(),
        id.into(),
        refund.hold.as_str().into(),
        refund.amount.micros().into(),
    ]
}
