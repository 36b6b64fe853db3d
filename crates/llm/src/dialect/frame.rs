//! Events as they go out: `data:` lines, and names where an API gives them names.

use serde_json::Value;

pub(super) const DONE: &[u8] = b"data: [DONE]\n\n";

/// An event with a name.
pub(super) fn named(out: &mut Vec<u8>, name: &str, data: &Value) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    plain(out, data);
}

/// An event without one. JSON written in one line has no line end inside, so one `data:` line holds it.
pub(super) fn plain(out: &mut Vec<u8>, data: &Value) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data.to_string().as_bytes());
    out.extend_from_slice(b"\n\n");
}
