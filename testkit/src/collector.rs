//! A collector of traces: it receives OTLP over HTTP, as JSON.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Json, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A span as it was received.
#[derive(Debug, Clone)]
pub struct ReceivedSpan {
    /// The process that sent it, by `service.name`.
    pub service: String,
    /// Its trace, in hex.
    pub trace: String,
    /// Its own id, in hex.
    pub id: String,
    /// The span that it is a child of; empty for none.
    pub parent: String,
    /// What was done.
    pub name: String,
    /// When it began, in nanoseconds.
    pub began: u128,
    /// When it ended.
    pub ended: u128,
    /// Facts about it.
    pub attributes: HashMap<String, String>,
    /// Whether it failed.
    pub failed: bool,
}

#[derive(Debug, Default)]
struct Received {
    spans: Mutex<Vec<ReceivedSpan>>,
    headers: Mutex<Option<HeaderMap>>,
    refuse: Mutex<bool>,
}

/// A collector; it ends when dropped.
#[derive(Debug)]
pub struct TraceCollector {
    address: SocketAddr,
    received: Arc<Received>,
    serving: JoinHandle<()>,
}

impl TraceCollector {
    /// Starts one on a port of its own.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub async fn start() -> Self {
        let listener = match TcpListener::bind("127.0.0.1:0").await {
            Ok(listener) => listener,
            Err(error) => panic!("the trace collector cannot listen: {error}"),
        };
        let address = match listener.local_addr() {
            Ok(address) => address,
            Err(error) => panic!("the trace collector has no address: {error}"),
        };
        let received = Arc::new(Received::default());
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&received));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                panic!("the trace collector ended: {error}");
            }
        });
        Self { address, received, serving }
    }

    /// Its address, as `OTEL_EXPORTER_OTLP_ENDPOINT` names it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, whether it refuses spans for the moment.
    pub fn refuse(&self, refuse: bool) {
        *self.received.refuse.lock().unwrap_or_else(PoisonError::into_inner) = refuse;
    }

    /// What it has received so far.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.received.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A header of the latest request.
    pub fn header(&self, name: &str) -> Option<String> {
        let headers = self.received.headers.lock().unwrap_or_else(PoisonError::into_inner);
        Some(headers.as_ref()?.get(name)?.to_str().ok()?.to_owned())
    }
}

impl Drop for TraceCollector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(
    State(received): State<Arc<Received>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    if *received.refuse.lock().unwrap_or_else(PoisonError::into_inner) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    *received.headers.lock().unwrap_or_else(PoisonError::into_inner) = Some(headers);
    let mut spans = received.spans.lock().unwrap_or_else(PoisonError::into_inner);
    for resource in list(&body["resourceSpans"]) {
        let service = attributes(&resource["resource"]).remove("service.name").unwrap_or_default();
        for span in list(&resource["scopeSpans"]).iter().flat_map(|scope| list(&scope["spans"])) {
            spans.push(read(&service, span).ok_or(StatusCode::BAD_REQUEST)?);
        }
    }
    Ok(Json(serde_json::json!({})))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A span, if it is as the protocol has it.
fn read(service: &str, span: &Value) -> Option<ReceivedSpan> {
    let text = |name: &str| span[name].as_str().map(str::to_owned);
    let hex = |name: &str, digits: usize| {
        text(name).filter(|id| id.len() == digits && id.chars().all(|c| c.is_ascii_hexdigit()))
    };
    Some(ReceivedSpan {
        service: service.to_owned(),
        trace: hex("traceId", 32)?,
        id: hex("spanId", 16)?,
        parent: text("parentSpanId")?,
        name: text("name")?,
        began: text("startTimeUnixNano")?.parse().ok()?,
        ended: text("endTimeUnixNano")?.parse().ok()?,
        attributes: attributes(span),
        failed: span["status"]["code"] == 2,
    })
}

fn attributes(of: &Value) -> HashMap<String, String> {
    let pair = |one: &Value| {
        Some((one["key"].as_str()?.to_owned(), one["value"]["stringValue"].as_str()?.to_owned()))
    };
    list(&of["attributes"]).iter().filter_map(pair).collect()
}
