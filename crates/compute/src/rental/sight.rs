//! What a list shows of a rental: which of its machines is the rental's, and whose list it is. Pure.

use super::{record::Record, state::Sight};
use crate::market::Machine;
use forebay_store::rentals::StoredRental;
use std::time::Duration;
use tracing::error;

/// A complete list, and who made it.
#[derive(Debug, Clone, Copy)]
pub(super) struct List<'a> {
    pub machines: &'a [Machine],
    pub account: Option<&'a String>,
    /// It has shown machines of accounts before it.
    pub is_trusted: bool,
    /// New machines may be missing from it for so long.
    pub lag: Duration,
}

/// Those that can be read: one that cannot keeps nothing from being done for the others.
pub(super) fn readable(rows: impl IntoIterator<Item = StoredRental>) -> Vec<Record> {
    let read = |row| {
        Record::read(row)
            .inspect_err(|failure| error!(error = failure.chain(), "nobody looks after a machine"))
            .ok()
    };
    rows.into_iter().filter_map(read).collect()
}

/// Whether its machine was last seen with another key, or at another address, than what is configured now.
pub(super) fn is_of_another(record: &Record, account: Option<&String>) -> bool {
    record.body.account.is_some() && record.body.account.as_ref() != account
}

/// Its machine in a list: by its id where that is known, else by its label. An id that a provider named with an error is
/// believed only where the label does not speak against it.
pub(super) fn machine_of<'a>(record: &Record, machines: &'a [Machine]) -> Option<&'a Machine> {
    let by_id = |machine: &&Machine| Some(&machine.id) == record.row.machine.as_ref();
    let is_ours = |machine: &&Machine| machine.label == record.row.label || machine.label.is_empty();
    let by_label = |machine: &&Machine| machine.label == record.row.label;
    let is_this = |machine: &&Machine| by_id(machine) && (record.is_there() || is_ours(machine));
    let found = machines.iter().find(is_this);
    found.or_else(|| machines.iter().find(by_label))
}

/// What a list shows of one rental. One of another account's machines that is not in it may be in that account's.
pub(super) fn sight<'a>(record: &Record, list: Option<List<'a>>) -> Sight<'a> {
    let Some(list) = list else {
        return Sight::Blind;
    };
    match machine_of(record, list.machines) {
        Some(machine) => Sight::Present(machine),
        None if !list.is_trusted && is_of_another(record, list.account) => Sight::Blind,
        None => Sight::Absent { lag: list.lag },
    }
}
