//! Reads launch events, as `BinderHub` logs them and mybinder.org's public archive publishes them: one JSON object a
//! line, gzipped or plain, in every version of the event so far.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Result;
use fairlane_clikit::exit::Stop;
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

use crate::lines::{self, BadLines};

const SCHEMA: &str = "binderhub.jupyter.org/launch";
/// 1 (2018-11) has provider, spec and status; 2 (2019-03) knows Gist, 3 (2019-06) has origin,
/// 4 (2020-06) ref, 5 (2021-06) `build_token`,
/// 6 (2026-01) `request_origin`. None changed the first three.
const VERSIONS: std::ops::RangeInclusive<u64> = 1..=6;
/// The repository providers of `BinderHub`, as the events name them.
const PROVIDERS: &[&str] =
    &["GitHub", "GitLab", "Git", "Gist", "Zenodo", "Figshare", "Hydroshare", "Dataverse", "SWHID", "CKAN"];
/// Longer lines are not events.
pub(crate) const LINE_BYTES_MAX: usize = 64 * 1024;
const MINUTE_MS: u64 = 60_000;

/// Somebody opened a repository on Binder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The minute of the launch, in Unix milliseconds.
    pub minute: u64,
    /// What was opened: `Provider:spec`.
    pub spec: String,
    /// The resolved ref, which events have since version 4.
    pub reference: Option<String>,
}

/// The launches of one file, in the file's order.
#[derive(Debug)]
pub struct Events {
    /// Good lines.
    pub launches: Vec<Launch>,
    /// The others.
    pub bad: BadLines,
}

/// Reads a file of events; `-` is standard input.
///
/// # Errors
/// When it cannot be opened, or no line of it is an event.
pub fn read(path: &Path) -> Result<Events> {
    if path == Path::new("-") {
        return read_from(&mut std::io::stdin().lock(), "standard input");
    }
    let cannot =
        |error: std::io::Error| Stop::usage(format!("the events {} cannot be read: {error}", path.display()));
    let mut file = BufReader::new(File::open(path).map_err(cannot)?);
    file.fill_buf().map_err(cannot)?;
    read_from(&mut file, &path.display().to_string())
}

fn read_from(from: &mut impl BufRead, name: &str) -> Result<Events> {
    let is_gzip = from.fill_buf().is_ok_and(|head| head.starts_with(&[0x1f, 0x8b]));
    let events = if is_gzip {
        collect(&mut BufReader::new(MultiGzDecoder::new(from)), name.to_owned())
    } else {
        collect(from, name.to_owned())
    };
    if events.launches.is_empty() {
        let why =
            events.bad.sentence().map_or_else(|| ": it is empty".to_owned(), |said| format!("\n{said}"));
        return Err(Stop::usage(format!("{name} contains no launch event{why}")).into());
    }
    Ok(events)
}

fn collect(from: &mut impl BufRead, file: String) -> Events {
    let (mut launches, mut bad) = (Vec::new(), BadLines::of(file));
    lines::each(from, LINE_BYTES_MAX, "an event", &mut bad, |_, line| {
        launches.push(parse(line)?);
        Ok(())
    });
    Events { launches, bad }
}

/// An event. Loggers other than `BinderHub`'s own write the first three fields with underscores.
#[derive(Deserialize)]
struct Event {
    #[serde(alias = "__timestamp__")]
    timestamp: String,
    #[serde(alias = "__schema__")]
    schema: String,
    #[serde(alias = "__schema_version__")]
    version: Version,
    provider: String,
    spec: String,
    #[serde(default, rename = "ref")]
    reference: Option<String>,
    status: String,
}

/// A number; some loggers write it as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Version {
    Number(u64),
    Text(String),
}

impl Version {
    fn check(&self) -> Result<(), String> {
        let (number, shown) = match self {
            Self::Number(number) => (Some(*number), number.to_string()),
            Self::Text(text) => (text.parse().ok(), format!("'{text}'")),
        };
        if number.is_some_and(|number| VERSIONS.contains(&number)) {
            return Ok(());
        }
        let (first, last) = (VERSIONS.start(), VERSIONS.end());
        Err(format!("version {shown} is unknown; versions {first} to {last} are supported"))
    }
}

/// Reads one event.
///
/// # Errors
/// With the reason why it is not a successful launch of a known version and provider.
pub(crate) fn parse(line: &[u8]) -> Result<Launch, String> {
    let event: Event = serde_json::from_slice(line).map_err(|error| format!("not an event: {error}"))?;
    // Schemas of newer loggers have an address: https://…/binderhub.jupyter.org/launch.
    if event.schema.strip_suffix(SCHEMA).is_none_or(|before| !before.is_empty() && !before.ends_with('/')) {
        return Err(format!("the schema '{}' is not {SCHEMA}", event.schema));
    }
    event.version.check()?;
    if !PROVIDERS.contains(&event.provider.as_str()) {
        return Err(format!("the provider '{}' is unknown", event.provider));
    }
    if event.spec.is_empty() || event.spec.chars().any(char::is_control) {
        return Err("the spec is empty or has control characters".to_owned());
    }
    if event.status != "success" {
        return Err(format!("the launch did not succeed (status '{}')", event.status));
    }
    let stamp: jiff::Timestamp =
        event.timestamp.parse().map_err(|error| format!("the timestamp '{}': {error}", event.timestamp))?;
    let ms = u64::try_from(stamp.as_millisecond()).map_err(|_| "the timestamp is before 1970".to_owned())?;
    let reference = event.reference.filter(|reference| !reference.is_empty());
    Ok(Launch { minute: ms - ms % MINUTE_MS, spec: format!("{}:{}", event.provider, event.spec), reference })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// An event of each version, as in the archive.
    const VERSIONS_SEEN: &str = r#"{"timestamp": "2018-11-03T00:00:00+00:00", "schema": "binderhub.jupyter.org/launch", "version": 1, "provider": "GitHub", "spec": "Qiskit/qiskit-tutorial/master", "status": "success"}
{"timestamp": "2019-04-02T18:11:00+00:00", "schema": "binderhub.jupyter.org/launch", "version": 2, "provider": "Gist", "spec": "Markus28/438a1d/master", "status": "success"}
{"timestamp": "2019-10-14T00:00:00+00:00", "schema": "binderhub.jupyter.org/launch", "version": 3, "provider": "Zenodo", "spec": "10.5281/zenodo.3242074", "status": "success", "origin": "gke.mybinder.org"}
{"timestamp": "2020-07-09T12:00:00+00:00", "schema": "binderhub.jupyter.org/launch", "version": 4, "provider": "GitLab", "spec": "g%2Fn/main", "ref": "abc", "status": "success", "origin": "ovh.mybinder.org"}
{"timestamp": "2021-07-01T12:00:59Z", "schema": "binderhub.jupyter.org/launch", "version": 5, "provider": "Git", "spec": "https%3A%2F%2Fexample.org%2Fx/abc", "ref": "abc", "status": "success", "origin": "notebooks.gesis.org", "build_token": false}
{"timestamp": "2026-02-01T12:00:00+01:00", "schema": "binderhub.jupyter.org/launch", "version": 6, "provider": "CKAN", "spec": "https%3A%2F%2Fexample.org%2Fdataset%2Fx", "ref": "abc", "status": "success", "origin": "2i2c.mybinder.org", "build_token": true, "request_origin": "https://example.org"}
"#;

    fn collected(bytes: &[u8]) -> Events {
        collect(&mut BufReader::new(bytes), String::new())
    }

    #[test]
    fn every_version_is_read() {
        let events = collected(VERSIONS_SEEN.as_bytes());
        assert!(events.bad.sentence().is_none(), "{:?}", events.bad);
        let specs: Vec<&str> = events.launches.iter().map(|launch| launch.spec.as_str()).collect();
        assert_eq!(
            specs,
            [
                "GitHub:Qiskit/qiskit-tutorial/master",
                "Gist:Markus28/438a1d/master",
                "Zenodo:10.5281/zenodo.3242074",
                "GitLab:g%2Fn/main",
                "Git:https%3A%2F%2Fexample.org%2Fx/abc",
                "CKAN:https%3A%2F%2Fexample.org%2Fdataset%2Fx",
            ]
        );
        let refs: Vec<&str> =
            events.launches.iter().map(|launch| launch.reference.as_deref().unwrap_or("-")).collect();
        assert_eq!(refs, ["-", "-", "-", "abc", "abc", "abc"]);
        assert_eq!(events.launches[4].minute, 1_625_140_800_000, "seconds are cut");
        assert_eq!(events.launches[5].minute, 1_769_943_600_000, "offsets are heeded");
    }

    #[test]
    fn the_log_of_a_binderhub_is_read() {
        let own = r#"{"timestamp": "2026-02-01T12:00:30.123456Z", "schema": "binderhub.jupyter.org/launch", "version": 6, "provider": "GitHub", "spec": "o/n/HEAD", "ref": "abc", "status": "success", "build_token": true, "origin": "hub.example.org", "request_origin": ""}"#;
        let other = own
            .replace("\"timestamp\"", "\"__timestamp__\"")
            .replace("\"schema\"", "\"__schema__\"")
            .replace("\"version\": 6", "\"__schema_version__\": \"6\"")
            .replace(
                "binderhub.jupyter.org/launch",
                "https://events.example.org/binderhub.jupyter.org/launch",
            );
        let events = collected(format!("{own}\n{other}").as_bytes());
        assert!(events.bad.sentence().is_none(), "{:?}", events.bad);
        for launch in &events.launches {
            let known = (launch.minute, launch.spec.as_str(), launch.reference.as_deref());
            assert_eq!(known, (1_769_947_200_000, "GitHub:o/n/HEAD", Some("abc")));
        }
        let later = collected(other.replace("\"6\"", "\"six\"").as_bytes());
        assert!(later.bad.sentence().unwrap().contains("version 'six' is unknown"), "{:?}", later.bad);
    }

    #[test]
    fn broken_lines_are_counted_and_told() {
        let good = VERSIONS_SEEN.lines().next().unwrap();
        let broken = [
            "{\"timestamp\": ".to_owned(),
            good.replace("\"version\": 1", "\"version\": 7"),
            good.replace("GitHub", "SourceForge"),
            good.replace("success", "failure"),
            good.replace("2018-11-03T", "yesterday "),
            good.replace("jupyter.org/launch", "jupyter.org/build"),
            good.replace("Qiskit/qiskit-tutorial/master", ""),
            format!("{}{good}", " ".repeat(LINE_BYTES_MAX)),
        ];
        let mut text = format!("{good}\n\n");
        for line in &broken {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(good);
        let events = collected(text.as_bytes());
        assert_eq!(events.launches.len(), 2, "{:?}", events.bad);
        let said = events.bad.sentence().unwrap();
        for (number, what) in (3..).zip([
            "not an event: EOF",
            "version 7 is unknown",
            "provider 'SourceForge'",
            "status 'failure'",
            "timestamp 'yesterday",
            "schema 'binderhub.jupyter.org/build'",
            "the spec is empty",
            "too long for an event",
        ]) {
            let line = format!("line {number}: ");
            let told = said.lines().find(|told| told.contains(&line)).unwrap_or_default();
            assert!(told.contains(what), "{what}: {said}");
        }
        assert!(said.contains("8 lines were skipped"), "{said}");
    }

    #[test]
    fn of_many_bad_lines_the_first_are_told() {
        let events = collected("nothing\n".repeat(25).as_bytes());
        let said = events.bad.sentence().unwrap();
        assert!(said.contains("25 lines were skipped") && said.ends_with("and 15 more"), "{said}");
    }

    #[test]
    fn a_file_is_read_by_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain.jsonl.gz");
        std::fs::write(&plain, VERSIONS_SEEN).unwrap();
        assert_eq!(read(&plain).unwrap().launches.len(), 6, "its name says gzip, and it is not");

        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(VERSIONS_SEEN.as_bytes()).unwrap();
        let packed = gzip.finish().unwrap();
        let path = folder.path().join("packed.jsonl");
        std::fs::write(&path, [packed.as_slice(), packed.as_slice()].concat()).unwrap();
        assert_eq!(read(&path).unwrap().launches.len(), 12, "two members");

        std::fs::write(&path, &packed[..packed.len() - 30]).unwrap();
        let cut = read(&path).unwrap();
        assert!(!cut.launches.is_empty());
        assert!(cut.bad.sentence().unwrap().contains("the rest of the file"), "{:?}", cut.bad);

        for (text, says) in [("", "it is empty"), ("[]\n{}\n", "line 1: not an event")] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("contains no launch event") && error.contains(says), "{error}");
        }
        let missing = read(&folder.path().join("missing")).unwrap_err().to_string();
        assert!(missing.contains("cannot be read: No such file"), "{missing}");
    }
}
