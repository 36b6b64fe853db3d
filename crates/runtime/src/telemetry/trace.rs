//! W3C trace context, in and out. It works with and without a collector, so that a trace id in a log, an event and an
//! upstream's own records is always the same one.

use crate::Entropy;
use forebay_domain::id::TraceId;
use jiff::Timestamp;
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceState},
};
use std::fmt;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header that carries it.
pub const TRACEPARENT: &str = "traceparent";

/// A place in a trace: the value of a `traceparent` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: TraceId,
    span: [u8; 8],
    sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` header, version 00 or later. What is not well-formed counts as absent, as W3C asks.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let trace = TraceId::from_traceparent(traceparent)?;
        let mut parts = traceparent.split('-');
        let (version, span) = (lower_hex::<1>(parts.next()?)?, lower_hex::<8>(parts.nth(1)?)?);
        let flags = lower_hex::<1>(parts.next()?)?;
        let is_version_00 = version == [0];
        if span == [0; 8] || (is_version_00 && parts.next().is_some()) {
            return None;
        }
        let sampled = flags[0] & 1 == 1;
        Some(Self { trace, span, sampled })
    }

    /// Begins the work of one request: below the caller's span if there is one, else at the root of a new trace.
    /// With a collector, `span` becomes the span that is sent there.
    pub fn begin(span: &Span, caller: Option<Self>, now: Timestamp, entropy: &Entropy) -> Self {
        if let Some(caller) = caller {
            caller.adopt(span);
        }
        Self::of(span).unwrap_or_else(|| match caller {
            Some(caller) => Self {
                span: span_id(entropy),
                ..caller
            },
            None => Self {
                trace: TraceId::new(now, entropy.bytes()),
                span: span_id(entropy),
                sampled: false,
            },
        })
    }

    /// The place of a span that is sent to a collector; `None` where there is no collector.
    pub fn of(span: &Span) -> Option<Self> {
        let context = span.context();
        let place = context.span().span_context().clone();
        let trace = TraceId::from_bytes(place.trace_id().to_bytes())?;
        place.is_valid().then(|| Self {
            trace,
            span: place.span_id().to_bytes(),
            sampled: place.is_sampled(),
        })
    }

    /// The place of a new span below this one, for an outgoing request.
    pub fn child(&self, entropy: &Entropy) -> Self {
        Self {
            span: span_id(entropy),
            ..*self
        }
    }

    /// Puts `span` below this place. Without a collector there is nothing to do.
    fn adopt(&self, span: &Span) {
        let trace = opentelemetry::trace::TraceId::from_hex(&self.trace.to_string()).expect("a trace id is hex");
        let flags = if self.sampled {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::default()
        };
        let place = SpanContext::new(trace, SpanId::from_bytes(self.span), flags, true, TraceState::default());
        // It fails only where spans are not collected, or where this one already has its place.
        let _ = span.set_parent(Context::new().with_remote_span_context(place));
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = u64::from_be_bytes(self.span);
        let flags = u8::from(self.sampled);
        write!(f, "00-{}-{span:016x}-{flags:02x}", self.trace)
    }
}

fn span_id(entropy: &Entropy) -> [u8; 8] {
    loop {
        let id = entropy.bytes();
        if id != [0; 8] {
            return id;
        }
    }
}

/// Exactly `N` bytes in lower-case hex.
fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower = !text.bytes().any(|b| b.is_ascii_uppercase());
    (is_lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_and_written() {
        let context = TraceContext::parse(HEADER).unwrap();
        assert_eq!(context.to_string(), HEADER);
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-more";
        let later = TraceContext::parse(later).unwrap().to_string();
        assert_eq!(later, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
    }

    #[test]
    fn what_is_not_well_formed_counts_as_absent() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-+0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e9}-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902\u{e9}-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn without_a_collector_the_callers_trace_goes_on_in_a_span_of_ours() {
        let entropy = Entropy::seeded(1);
        let caller = TraceContext::parse(HEADER).unwrap();
        let ours = TraceContext::begin(&Span::none(), Some(caller), NOW, &entropy);
        assert_eq!(ours.trace, caller.trace);
        assert_ne!(ours.span, caller.span);
        assert!(
            ours.to_string().ends_with("-01"),
            "the caller's decision to sample goes on"
        );
        let child = ours.child(&entropy);
        assert_eq!(child.trace, ours.trace);
        assert_ne!(child.span, ours.span);

        let root = TraceContext::begin(&Span::none(), None, NOW, &entropy);
        assert_ne!(root.trace, caller.trace);
        assert_eq!(TraceContext::parse(&root.to_string()), Some(root));
    }
}
