//! Metrics for Prometheus, in both of its formats.
//!
//! The registry writes `OpenMetrics`. The plain text format (0.0.4), which every tool reads, is converted
//! from it: there, counters are declared with their suffix, and there are no units and no end marker.

mod process;

use std::sync::atomic::AtomicU64;

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

const OPEN_METRICS_TYPE: &str = "application/openmetrics-text";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics as `OpenMetrics` if the request accepts that, otherwise as plain text.
pub fn metrics_response(request: &HeaderMap, registry: &Registry) -> Response {
    let mut text = String::new();
    if encode(&mut text, registry).is_err() {
        tracing::error!("cannot write the metrics");
    }
    let mut accepted = request.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.any(|value| value.contains(OPEN_METRICS_TYPE)) {
        ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
    } else {
        ([(header::CONTENT_TYPE, PLAIN)], plain(&text)).into_response()
    }
}

/// Converts `OpenMetrics` to the plain text format.
fn plain(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help = "";
    for line in open.lines() {
        if let Some((_, says)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            // The help is held back until the type is known, which determines the name.
            help = says;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            text.extend(["# HELP ", name, suffix, " ", help, "\n# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

/// Extends the help of a value that every dispatcher reads from Redis, or every worker from the same cluster.
pub fn shared(help: &str) -> String {
    format!("{help} (each process shows the same: use max, not sum)")
}

/// Adds a gauge with this value.
pub fn gauge(registry: &mut Registry, name: &str, help: impl Into<String>, value: u64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

/// Adds a gauge of a time in seconds; `name` has no unit.
pub fn seconds(registry: &mut Registry, name: &str, help: impl Into<String>, value: f64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value);
    registry.register_with_unit(name, help, Unit::Seconds, gauge);
}

/// Adds a counter with this value; `name` has no suffix.
pub fn counter(registry: &mut Registry, name: &str, help: impl Into<String>, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

/// Adds a gauge with one label, and its value for each value of the label.
pub fn gauges(
    registry: &mut Registry,
    name: &str,
    help: impl Into<String>,
    label: &'static str,
    values: impl IntoIterator<Item = (&'static str, u64)>,
) {
    let family = Family::<[(&'static str, &'static str); 1], Gauge>::default();
    for (word, value) in values {
        family.get_or_create(&[(label, word)]).set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    registry.register(name, help, family);
}

/// An empty registry for a process of Fairlane (`dispatcher` or `worker`). It already has what every process
/// shows: the release, CPU time, memory and open files.
pub fn registry(component: &'static str) -> Registry {
    let mut registry = Registry::default();
    process::register(&mut registry);
    let info = Info::new([("version", env!("CARGO_PKG_VERSION")), ("component", component)]);
    let help = "The release of this process; the value is always 1";
    registry.sub_registry_with_prefix("fairlane").register("build", help, info);
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text_of(accept: Option<&'static str>) -> (String, String) {
        let mut registry = registry("worker");
        let ours = registry.sub_registry_with_prefix("fairlane");
        counter(ours, "repairs", "Repairs", 3);
        seconds(ours, "age", "Age", 1.5);
        gauges(ours, "lanes", "Lanes", "waits_for", [("ready", 2)]);
        let mut request = HeaderMap::new();
        if let Some(accept) = accept {
            request.insert(header::ACCEPT, accept.parse().unwrap());
        }
        let response = metrics_response(&request, &registry);
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let bytes = axum::body::to_bytes(response.into_body(), 100_000).await.unwrap();
        (kind, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn plain_text_unless_open_metrics_is_asked_for() {
        for accept in [None, Some("*/*"), Some("text/plain;version=0.0.4")] {
            let (kind, text) = text_of(accept).await;
            assert_eq!(kind, PLAIN);
            for part in [
                "# HELP fairlane_repairs_total Repairs.\n# TYPE fairlane_repairs_total counter\nfairlane_repairs_total 3\n",
                "# TYPE fairlane_age_seconds gauge\nfairlane_age_seconds 1.5\n",
                "# TYPE fairlane_build_info gauge\nfairlane_build_info{version=",
                "fairlane_lanes{waits_for=\"ready\"} 2\n",
            ] {
                assert!(text.contains(part), "{part}\nin\n{text}");
            }
            assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
        }
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let (kind, text) = text_of(Some(prometheus)).await;
        assert_eq!(kind, OPEN_METRICS);
        assert!(text.contains("# TYPE fairlane_repairs counter\n") && text.ends_with("# EOF\n"), "{text}");
    }
}
