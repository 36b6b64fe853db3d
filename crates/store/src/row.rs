//! Values out of rows, which are not believed until they were checked: somebody else may have written to the database.

use jiff::Timestamp;
use serde_json::value::RawValue;
use std::fmt::Display;

use crate::StoreError;

/// A value that was parsed, or the news that the row is none of ours.
pub(crate) fn known<T, E: Display>(what: &str, parsed: Result<T, E>) -> Result<T, StoreError> {
    parsed.map_err(|fault| StoreError::corrupt(format!("{what}: {fault}")))
}

pub(crate) fn moment(ms: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(ms).map_err(|_| StoreError::corrupt("a time outside the calendar"))
}

/// A document as it was written, byte for byte.
pub(crate) fn document(what: &str, text: String) -> Result<Box<RawValue>, StoreError> {
    RawValue::from_string(text).map_err(|_| StoreError::corrupt(what))
}

/// Refuses a text or message that is larger than its bound.
pub(crate) fn within(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), StoreError> {
    if bytes > bytes_max {
        return Err(StoreError::TooLarge { what, bytes, bytes_max });
    }
    Ok(())
}
