//! Sends spans to an `OpenTelemetry` collector: OTLP over HTTP, as JSON. A separate task sends them, and only
//! a limited number are buffered. If the collector is slow or unreachable, spans are lost, but no build is
//! affected.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use fairlane_clikit::exit::{Stop, in_full};
use fairlane_common::trace::{self, Finished, Kind};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::args::TraceArgs;
use crate::client::{backoff, is_loopback};

/// Most spans in one request.
const BATCH: usize = 512;
/// How long spans are collected before a request is sent.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take to respond.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long sending the last spans may take when the process ends.
const LAST_LIMIT: Duration = Duration::from_millis(1500);

/// The task that sends spans, until [`Exporting::finish`].
#[derive(Debug)]
pub(crate) struct Exporting {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Exporting {
    /// Starts the task if a collector is configured. `service` names this process there.
    ///
    /// # Errors
    /// An invalid address or invalid headers.
    pub(crate) fn start(args: &TraceArgs, service: &'static str) -> Result<Option<Self>> {
        let Some(endpoint) = args.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(None);
        };
        let url = parse_endpoint(endpoint)?;
        let headers =
            args.otlp_headers.as_ref().map(|text| parse_headers(text.expose_secret())).transpose()?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("fairlane/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers.unwrap_or_default())
            .timeout(ANSWER_LIMIT);
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build()?;
        let Some(spans) = trace::collect() else { return Ok(None) };
        let stop = CancellationToken::new();
        let collector = Collector { client, url, service, failures: 0 };
        let task = tokio::spawn(collector.export(spans, stop.clone()));
        Ok(Some(Self { stop, task }))
    }

    /// Sends the remaining spans, if the collector accepts them in time.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        // Failures are already logged, and the process ends either way.
        let _ = tokio::time::timeout(LAST_LIMIT, self.task).await;
    }
}

struct Collector {
    client: reqwest::Client,
    url: Url,
    service: &'static str,
    failures: u32,
}

impl Collector {
    async fn export(mut self, mut spans: Receiver<Finished>, stop: CancellationToken) {
        let mut batch = Vec::new();
        let mut is_over = false;
        loop {
            // A batch that the collector could not accept yet is still there.
            if batch.is_empty() {
                tokio::select! {
                    got = spans.recv_many(&mut batch, BATCH) => is_over = got == 0,
                    () = stop.cancelled() => {}
                }
            }
            if !is_over {
                tokio::select! {
                    () = tokio::time::sleep(GATHER) => {}
                    () = stop.cancelled() => {}
                }
            }
            while batch.len() < BATCH
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
            let is_sent = batch.is_empty() || self.send(&batch).await;
            if is_sent {
                batch.clear();
            }
            if is_over || stop.is_cancelled() {
                if !is_sent || spans.is_empty() {
                    return;
                }
            } else if !is_sent {
                // Meanwhile, spans are buffered in the channel, up to its limit.
                tokio::select! {
                    () = tokio::time::sleep(backoff(self.failures)) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    /// Whether the batch can be dropped, because the collector has accepted it or never will.
    async fn send(&mut self, batch: &[Finished]) -> bool {
        let answer = self.client.post(self.url.clone()).json(&request(self.service, batch)).send().await;
        let (why, is_done) = match answer {
            Ok(answer) if answer.status().is_success() => {
                if std::mem::take(&mut self.failures) > 0 {
                    tracing::info!(dropped = trace::dropped(), "the trace collector answers again");
                }
                return true;
            }
            Ok(answer) => {
                let status = answer.status();
                (status.to_string(), !matches!(status.as_u16(), 408 | 429 | 500..))
            }
            Err(error) => (in_full(&error.without_url().into()), false),
        };
        self.failures += 1;
        if self.failures == 1 {
            tracing::warn!(error = why, "the trace collector does not accept spans; trying again");
        } else {
            tracing::debug!(error = why, "the trace collector does not accept spans");
        }
        is_done
    }
}

/// The URL for traces at a collector's address.
fn parse_endpoint(text: &str) -> Result<Url> {
    let bad = || {
        Stop::usage(format!("'{text}' is not a collector's address; one looks like http://127.0.0.1:4318"))
    };
    let mut url: Url = text.trim().parse().map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad().into());
    }
    match url.path_segments_mut() {
        Ok(mut segments) => segments.pop_if_empty().extend(["v1", "traces"]),
        Err(()) => return Err(bad().into()),
    };
    Ok(url)
}

/// Parses headers in the format of `OTEL_EXPORTER_OTLP_HEADERS`: name=value, comma-separated, with
/// percent-encoded values.
fn parse_headers(text: &str) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let header = pair.split_once('=').and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            let mut value = HeaderValue::from_bytes(&decoded(value.trim())?).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let Some((name, value)) = header else {
            return Err(Stop::usage("the collector's headers must be NAME=VALUE, comma-separated").into());
        };
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Decodes percent-encoding such as `%20`.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    Some(bytes)
}

fn attribute(name: &str, value: &str) -> Value {
    json!({ "key": name, "value": { "stringValue": value } })
}

/// The body of a request in the protocol's JSON, with ids in hex and times as text.
fn request(service: &str, batch: &[Finished]) -> Value {
    let resource =
        [attribute("service.name", service), attribute("service.version", env!("CARGO_PKG_VERSION"))];
    let spans: Vec<Value> = batch.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "fairlane" }, "spans": spans }],
    }] })
}

fn span(span: &Finished) -> Value {
    let nanos = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
    };
    let attributes: Vec<Value> = span.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
    let kind = match span.kind {
        Kind::Internal => 1,
        Kind::Server => 2,
        Kind::Consumer => 5,
    };
    let status = span.error.as_ref().map_or_else(|| json!({}), |why| json!({ "code": 2, "message": why }));
    json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "parentSpanId": span.parent.map(|id| format!("{id:016x}")).unwrap_or_default(),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": nanos(span.began),
        "endTimeUnixNano": nanos(span.ended),
        "attributes": attributes,
        "status": status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_named_by_their_base_address() {
        for (text, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://otel.example.org/team/", "https://otel.example.org/team/v1/traces"),
        ] {
            assert_eq!(parse_endpoint(text).unwrap().as_str(), url);
        }
        for bad in ["127.0.0.1:4318", "ftp://a", "collector"] {
            let error = parse_endpoint(bad).unwrap_err().to_string();
            assert!(error.contains("http://127.0.0.1:4318"), "{error}");
        }
    }

    #[test]
    fn headers_are_read_and_never_shown() {
        let headers = parse_headers("authorization=Basic%20abc, x-team = a").unwrap();
        assert_eq!(
            (&headers["authorization"], &headers["x-team"]),
            (&"Basic abc".parse().unwrap(), &"a".parse().unwrap())
        );
        for bad in ["secret", "a b=secret", "a=secret%2", "a=%zz"] {
            let error = parse_headers(bad).unwrap_err().to_string();
            assert!(error.contains("NAME=VALUE") && !error.contains("secret"), "{error}");
        }
    }
}
