//! A span's fields as the log shows them.

use super::names;
use std::fmt;
use tracing::{field::Visit, span::Record};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, FormattedFields, format::Writer},
};

/// Known when a span ends, so that no line of the log can show them: writing them down would be for nobody. Collectors
/// get them in another way.
const AT_THE_END: [&str; 4] = [
    names::HTTP_RESPONSE_STATUS_CODE,
    names::GEN_AI_USAGE_INPUT_TOKENS,
    names::GEN_AI_USAGE_OUTPUT_TOKENS,
    names::ERROR_TYPE,
];

/// Writes fields as `F` does, and leaves out what comes too late for the log.
pub(super) struct InTime<F>(pub(super) F);

impl<'w, F: FormatFields<'w>> FormatFields<'w> for InTime<F> {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        self.0.format_fields(writer, fields)
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let mut late = Late(true);
        fields.record(&mut late);
        if late.0 {
            return Ok(());
        }
        if !current.fields.is_empty() {
            current.fields.push(' ');
        }
        self.format_fields(current.as_writer(), fields)
    }
}

/// Whether all fields come at the end.
struct Late(bool);

impl Visit for Late {
    fn record_debug(&mut self, field: &tracing::field::Field, _: &dyn fmt::Debug) {
        self.0 &= AT_THE_END.contains(&field.name());
    }
}
