//! Plan files: a header, then one build a line, best first.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Write};

use fairlane_common::campaign::{Item, launches};
use fairlane_common::queue::campaigns::ITEMS_MAX;
use serde::{Deserialize, Serialize};

use crate::lines::{self, BadLines};

/// The version of the format that is written.
const VERSION: u64 = 1;
/// Longest line of a plan.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// The first line of a plan file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format.
    #[serde(rename = "fairlane_plan")]
    pub version: u64,
    /// When the plan was made (RFC 3339).
    pub created: String,
    /// The prefix of the images, as `BinderHub`'s `image_prefix`.
    pub prefix: String,
    /// All expected launches, also of specs that the plan leaves out.
    #[serde(deserialize_with = "launches")]
    pub launches: f64,
    /// Those of specs that were skipped because the registry has their image.
    #[serde(default, deserialize_with = "launches")]
    pub launches_present: f64,
    /// The sum of the builds' expected durations.
    pub slot_seconds: u64,
    /// How many specs were skipped, by reason.
    #[serde(default)]
    pub skipped: BTreeMap<String, u64>,
}

impl Header {
    /// The header of a new plan with these builds.
    pub fn new(created: String, prefix: String, launches: f64, items: &[Item]) -> Self {
        let slot_seconds = items.iter().filter_map(|item| item.expected_seconds).sum();
        Self {
            version: VERSION,
            created,
            prefix,
            launches,
            launches_present: 0.0,
            slot_seconds,
            skipped: BTreeMap::new(),
        }
    }
}

/// A plan file that was read.
#[derive(Debug)]
pub struct Plan {
    /// Its header, if it has one.
    pub header: Option<Header>,
    /// Its builds, each image once.
    pub items: Vec<Item>,
    /// Lines that are neither.
    pub bad: BadLines,
}

impl Plan {
    /// Reads a plan; `name` names it in messages.
    ///
    /// Lines that cannot be used end up in [`Plan::bad`]: it is for the caller to refuse the whole plan for them.
    pub fn read(from: &mut impl BufRead, name: String) -> Self {
        let (mut header, mut items): (Option<Header>, Vec<Item>) = (None, Vec::new());
        let mut bad = BadLines::of(name);
        let mut line_of: HashMap<String, u64> = HashMap::new();
        let mut first = true;
        lines::each(from, LINE_BYTES_MAX, "a plan", &mut bad, |number, line| {
            if std::mem::take(&mut first) && is_header(line) {
                header = Some(read_header(line)?);
                return Ok(());
            }
            let item: Item = serde_json::from_slice(line).map_err(|error| format!("not a build: {error}"))?;
            if items.len() == ITEMS_MAX {
                return Err(format!("a plan has at most {ITEMS_MAX} builds"));
            }
            if let Some(earlier) = line_of.get(item.image.as_str()) {
                return Err(format!("the image {} is already in line {earlier}", item.image));
            }
            line_of.insert(item.image.to_string(), number);
            items.push(item);
            Ok(())
        });
        Self { header, items, bad }
    }

    /// All expected launches, also of specs that the plan leaves out.
    pub fn launches(&self) -> f64 {
        let planned = self.items.iter().map(|item| item.launches).sum();
        self.header.as_ref().map_or(planned, |header| header.launches.max(planned))
    }

    /// Expected launches whose image was in the registry already.
    pub fn launches_present(&self) -> f64 {
        self.header.as_ref().map_or(0.0, |header| header.launches_present)
    }
}

/// Whether a line is a header, of any version.
fn is_header(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Any {
        #[serde(rename = "fairlane_plan")]
        _version: serde_json::Value,
    }
    serde_json::from_slice::<Any>(line).is_ok()
}

fn read_header(line: &[u8]) -> Result<Header, String> {
    let header: Header = serde_json::from_slice(line).map_err(|error| format!("not a header: {error}"))?;
    if header.version != VERSION {
        return Err(format!(
            "plans of version {} are unknown; version {VERSION} is supported",
            header.version
        ));
    }
    Ok(header)
}

/// Writes a plan.
///
/// # Errors
/// When `to` cannot be written.
pub fn write(to: &mut impl Write, header: &Header, items: &[Item]) -> std::io::Result<()> {
    serde_json::to_writer(&mut *to, header)?;
    to.write_all(b"\n")?;
    for item in items {
        serde_json::to_writer(&mut *to, item)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str) -> Item {
        let image = format!("registry.example.org/b-{name}:abc");
        let repo = format!("https://github.com/o/{name}");
        Item::new(repo.parse().unwrap(), "abc".parse().unwrap(), image.parse().unwrap())
    }

    fn read(text: &str) -> Plan {
        Plan::read(&mut text.as_bytes(), "plan.jsonl".to_owned())
    }

    #[test]
    fn what_is_written_is_read() {
        let items = [
            Item { launches: 12.5, expected_seconds: Some(180), ..item("a") },
            Item { expected_seconds: Some(60), ..item("b") },
        ];
        let mut header =
            Header::new("2026-11-30T10:00:00Z".into(), "registry.example.org/b-".into(), 20.0, &items);
        header.skipped.insert("the ref is gone".into(), 3);
        header.launches_present = 2.5;
        let mut text = Vec::new();
        write(&mut text, &header, &items).unwrap();
        let plan = read(std::str::from_utf8(&text).unwrap());
        assert_eq!((plan.bad.count(), plan.items.as_slice()), (0, items.as_slice()));
        assert_eq!((plan.launches(), plan.launches_present(), header.slot_seconds), (20.0, 2.5, 240));
        assert_eq!(plan.header, Some(header));
    }

    #[test]
    fn a_plain_list_needs_no_header() {
        let line = r#"{"repo":"https://github.com/o/n","ref":"abc","image":"r/b:abc"}"#;
        let plan = read(&format!("\n{line}\n\n{}\n", line.replace("r/b", "r/c")));
        assert_eq!((plan.items.len(), plan.launches(), plan.header), (2, 2.0, None));
        assert_eq!(plan.bad.count(), 0);
    }

    #[test]
    fn broken_lines_are_reported_with_their_numbers() {
        let good = serde_json::to_string(&item("a")).unwrap();
        let lines = [
            r#"{"fairlane_plan": 2, "created": "", "prefix": "", "launches": 1, "slot_seconds": 1}"#
                .to_owned(),
            good.clone(),
            good.clone(),
            "{".to_owned(),
            good.replace("o/a", "o/-a b"),
            good.replace("1.0", "-1"),
            format!("{good}{}", " ".repeat(LINE_BYTES_MAX)),
            r#"{"fairlane_plan": 1}"#.to_owned(),
        ];
        let plan = read(&lines.join("\n"));
        assert_eq!((plan.items.len(), plan.bad.count()), (1, 7));
        let said = plan.bad.sentence().unwrap();
        for (line, what) in [
            (1, "version 2 are unknown"),
            (3, "is already in line 2"),
            (4, "not a build: EOF"),
            (5, "has the character ' '"),
            (6, "must not be negative"),
            (7, "too long for a plan"),
            (8, "not a build: missing field `repo`"),
        ] {
            let told = said.lines().find(|told| told.contains(&format!("line {line}: "))).unwrap_or_default();
            assert!(told.contains(what), "{what}: {said}");
        }
        assert!(said.starts_with("plan.jsonl: 7 lines were skipped"), "{said}");
    }
}
