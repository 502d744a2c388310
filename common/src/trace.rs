//! Traces: what a build goes through, as spans for an `OpenTelemetry` collector. Off unless [`collect`] was
//! called.
//!
//! A request brings the caller's context in the header `traceparent` (W3C Trace Context), or starts a trace
//! that has the build's id. The context travels in the build's specification, through Redis and to its pod.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::id::BuildId;

/// Most spans that wait for the collector; more are dropped, so that it costs no build.
const WAITING_MAX: usize = 4096;

static EXPORTER: OnceLock<Sender<Finished>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Starts to collect spans; `None` if that was done before.
pub fn collect() -> Option<Receiver<Finished>> {
    let (sender, spans) = mpsc::channel(WAITING_MAX);
    EXPORTER.set(sender).is_ok().then_some(spans)
}

/// How many spans were dropped since the last call, because the collector was too slow.
pub fn dropped() -> u64 {
    DROPPED.swap(0, Ordering::Relaxed)
}

/// This machine's time.
#[expect(clippy::disallowed_methods, reason = "a span's times are only shown; nothing is decided by them")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// A place in a trace: the span that others are children of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace's id.
    pub trace: u128,
    /// The span's id.
    pub span: u64,
    /// Whether the caller records this trace.
    pub sampled: bool,
}

impl FromStr for TraceContext {
    type Err = ();

    /// Reads a `traceparent`; a version later than ours may have more at its end.
    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = |part: &str, digits: usize| {
            let good = part.len() == digits && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
            if good { u128::from_str_radix(part, 16).map_err(|_| ()) } else { Err(()) }
        };
        let parts: Vec<&str> = text.trim().split('-').collect();
        let [version, trace, span, flags, more @ ..] = &parts[..] else { return Err(()) };
        let version = hex(version, 2)?;
        if version == 0xff || (version == 0 && !more.is_empty()) {
            return Err(());
        }
        let (trace, span, flags) = (hex(trace, 32)?, hex(span, 16)?, hex(flags, 2)?);
        let span = u64::try_from(span).map_err(|_| ())?;
        if trace == 0 || span == 0 { Err(()) } else { Ok(Self { trace, span, sampled: flags & 1 == 1 }) }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// What a span is in the eyes of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A step within a process.
    Internal,
    /// Answering a request.
    Server,
    /// Working on what a queue handed out.
    Consumer,
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// What it is.
    pub kind: Kind,
    /// What was done.
    pub name: &'static str,
    /// Its place.
    pub context: TraceContext,
    /// The span that it is a child of.
    pub parent: Option<u64>,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// Facts about it.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// A span; it ends when it is dropped. Without a collector it is nothing.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Finished>>);

impl Span {
    /// A span of a build: a child of `parent`, or the first in the trace that has the build's id.
    pub fn of_build(kind: Kind, name: &'static str, parent: Option<TraceContext>, build: BuildId) -> Self {
        if EXPORTER.get().is_none() || parent.is_some_and(|parent| !parent.sampled) {
            return Self(None);
        }
        let trace = parent.map_or_else(|| build.as_u128(), |parent| parent.trace);
        Self::new(kind, name, trace, parent.map(|parent| parent.span))
    }

    fn new(kind: Kind, name: &'static str, trace: u128, parent: Option<u64>) -> Self {
        let now = now();
        let context = TraceContext { trace, span: fastrand::u64(1..), sampled: true };
        let (attributes, error) = (Vec::new(), None);
        Self(Some(Box::new(Finished {
            kind,
            name,
            context,
            parent,
            began: now,
            ended: now,
            attributes,
            error,
        })))
    }

    /// A step of this one.
    #[must_use]
    pub fn step(&self, name: &'static str) -> Self {
        self.0
            .as_ref()
            .map_or(Self(None), |of| Self::new(Kind::Internal, name, of.context.trace, Some(of.context.span)))
    }

    /// The same, begun earlier. Another host's clock may be ahead: no span begins after its end.
    #[must_use]
    pub fn since(mut self, began: SystemTime) -> Self {
        if let Some(span) = &mut self.0 {
            span.began = began.min(span.began);
        }
        self
    }

    /// Its place, for those who continue the trace.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|span| span.context)
    }

    /// Notes a fact.
    pub fn set(&mut self, name: &'static str, value: &(impl ToString + ?Sized)) {
        if let Some(span) = &mut self.0 {
            span.attributes.push((name, value.to_string()));
        }
    }

    /// Notes that it failed.
    pub fn fail(&mut self, why: &(impl ToString + ?Sized)) {
        if let Some(span) = &mut self.0 {
            span.error = Some(why.to_string());
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let (Some(mut span), Some(exporter)) = (self.0.take(), EXPORTER.get()) else { return };
        span.ended = now().max(span.began);
        if exporter.try_send(*span).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_read_as_the_standard_has_it() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context: TraceContext = text.parse().unwrap();
        assert_eq!(context.to_string(), text);
        assert!(context.sampled);
        for good in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-will-be-like",
        ] {
            assert!(good.parse::<TraceContext>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01",
        ] {
            assert!(bad.parse::<TraceContext>().is_err(), "{bad}");
        }
    }

    #[test]
    fn without_a_collector_a_span_is_nothing() {
        let span = Span::of_build(Kind::Server, "request", None, BuildId::new());
        assert!(span.context().is_none() && span.step("part").context().is_none());
        assert_eq!(dropped(), 0);
    }
}
