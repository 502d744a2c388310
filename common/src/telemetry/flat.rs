//! Log lines as JSON objects without nesting: an event's fields beside those of the spans that it is in, so
//! that a line about a build names the build.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes such lines.
pub(super) struct Flat;

impl<S> FormatEvent<S, JsonFields> for Flat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    JsonFields: for<'a> FormatFields<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let Fields(mut fields) = fields;
        let message = fields.remove("message").unwrap_or_default();
        // The innermost span comes first, and the event's own fields before all of them.
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let Some(of_span) = extensions.get::<FormattedFields<JsonFields>>() else { continue };
            let Ok(Value::Object(of_span)) = serde_json::from_str(&of_span.fields) else { continue };
            for (name, value) in of_span {
                fields.entry(name).or_insert(value);
            }
        }
        let meta = event.metadata();
        let own = [
            ("timestamp", Value::from(time)),
            ("level", meta.level().as_str().into()),
            ("message", message),
            ("target", meta.target().into()),
        ];
        let all = own.iter().map(|(name, value)| (*name, value));
        let all = all.chain(fields.iter().map(|(name, value)| (name.as_str(), value)));
        for (at, (name, value)) in all.enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            write!(writer, "{before}{}:{value}", Value::from(name))?;
        }
        writeln!(writer, "}}")
    }
}

/// An event's fields as JSON.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_the_fields_of_its_spans_beside_its_own() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(JsonFields::new())
            .event_format(Flat)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let outer = tracing::info_span!("build", build.id = %"b", worker.id = "w", seconds = 1);
            let _outer = outer.enter();
            let _inner = tracing::info_span!("step", seconds = 2).entered();
            tracing::warn!(error = %"not \"good\"\n", count = 3, "it failed");
            let _own = tracing::info_span!("step", build.id = "c").entered();
            tracing::info!(seconds = 0.5, "own");
        });
        let bytes = written.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(text.starts_with("{\"timestamp\":\"2"), "{text}");
        let first = serde_json::json!({
            "timestamp": lines[0]["timestamp"], "level": "WARN", "message": "it failed", "target": module_path!(),
            "error": "not \"good\"\n", "count": 3, "build.id": "b", "worker.id": "w", "seconds": 2,
        });
        assert_eq!(lines[0], first);
        assert_eq!((&lines[1]["seconds"], &lines[1]["build.id"]), (&0.5.into(), &"c".into()));
    }
}
