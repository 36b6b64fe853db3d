//! The form in which a header repeats a text of the body: as it is, or in Base64 where a header could not carry it.

use base64::{Engine, prelude::BASE64_STANDARD};
use std::borrow::Cow;

const BASE64_PREFIX: &str = "=?base64?";
const BASE64_SUFFIX: &str = "?=";

/// Undoes [`encode`]; `None` where it cannot have been that.
pub(crate) fn decode(header: &str) -> Option<Cow<'_, str>> {
    let wrapped = header
        .strip_prefix(BASE64_PREFIX)
        .and_then(|rest| rest.strip_suffix(BASE64_SUFFIX));
    match wrapped {
        None => Some(Cow::Borrowed(header)),
        Some(inner) => String::from_utf8(BASE64_STANDARD.decode(inner).ok()?)
            .ok()
            .map(Cow::Owned),
    }
}

/// Brings a value into a form that a header can carry.
pub(crate) fn encode(value: &str) -> Cow<'_, str> {
    let bare = value.bytes().all(|b| (b' '..=b'~').contains(&b));
    let padded = value.starts_with(' ') || value.ends_with(' ');
    let wrapped = value.starts_with(BASE64_PREFIX) && value.ends_with(BASE64_SUFFIX);
    if bare && !padded && !wrapped {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(format!(
            "{BASE64_PREFIX}{}{BASE64_SUFFIX}",
            BASE64_STANDARD.encode(value)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_value_survives_its_encoding() {
        for value in ["add", "ä", " padded", "=?base64?x?=", "line\nbreak", ""] {
            assert_eq!(decode(&encode(value)).as_deref(), Some(value), "{value:?}");
        }
    }
}
