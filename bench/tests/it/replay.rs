//! `fairlane replay`: a day through the real scripts, in virtual time.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fairlane_testkit::{TempDir, run_within};
use serde_json::Value;

use crate::setup::{fairlane, run};

/// Days of mybinder.org, where somebody has put them beside the project.
const LAUNCHES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/launches");
/// A whole day takes half a minute where others use the processors, too.
pub(crate) const DAY_LIMIT: Duration = Duration::from_secs(150);
pub(crate) const SLOW: &str = "GitHub:jupyterlab/jupyterlab-demo/master=28800";

/// Writes launches, each (minute of the day, spec), as the archive of events has them.
pub(crate) fn write_day(home: &TempDir, name: &str, day: &str, launches: &[(u32, &str)]) -> String {
    let mut text = String::new();
    for (minute, spec) in launches {
        let time = format!("{day}T{:02}:{:02}:00+00:00", minute / 60, minute % 60);
        writeln!(
            text,
            r#"{{"timestamp": "{time}", "schema": "binderhub.jupyter.org/launch", "version": 1, "provider": "GitHub", "spec": "{spec}", "status": "success"}}"#
        )
        .unwrap();
    }
    let path = home.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Runs a replay that must go well, and returns its JSON.
pub(crate) async fn replay<'a>(home: &TempDir, words: impl IntoIterator<Item = &'a str>) -> Value {
    let words = ["replay", "--json"].into_iter().chain(words);
    let said = run_within(DAY_LIMIT, fairlane(home, words)).await.expect(0, "");
    let [report] = said.json().try_into().expect("one line of JSON");
    report
}

#[tokio::test]
async fn a_small_day_from_end_to_end() {
    let home = TempDir::new();
    // Builds of 600, 300 and 60 s on one slot, asked for before and after a wipe at 10:00.
    let day = write_day(
        &home,
        "day.jsonl",
        "2019-03-24",
        &[(599, "o/long/main"), (600, "o/long/main"), (601, "o/middle/main"), (602, "o/quick/main")],
    );
    let more = std::fs::read_to_string(&day).unwrap() + "{broken\n";
    std::fs::write(&day, more).unwrap();
    let slow = ["GitHub:o/long/main=600", "GitHub:o/middle/main=300", "GitHub:o/quick/main=60"];
    let words = |order: &'static str| {
        let mut words = vec![day.as_str(), "--wipe-at", "10:00", "--slots", "1", "--order", order];
        words.extend(slow.iter().flat_map(|slow| ["--slow", slow]));
        words.extend(["--slow", "GitHub:o/quik/main=60"]);
        words
    };
    let said = run(fairlane(&home, ["replay"].into_iter().chain(words("fair")))).await;
    let said = said.expect(0, "line 5: not an event").expect(0, "did you mean GitHub:o/quick/main");
    assert!(said.data.contains("PEOPLE-HOURS") && said.data.contains("fairlane"), "{said:#?}");
    assert!(said.data.contains("WITHIN FACTOR 2"), "{said:#?}");

    let report = replay(&home, words("fair")).await;
    let fairlane = &report["fairlane"];
    assert_eq!((&fairlane["builds"], &fairlane["running_max"]), (&3.into(), &1.into()), "{report}");
    assert_eq!(fairlane["broken_promises"], 0);
    assert_eq!(fairlane["launches"], 0, "all three are given as slow");
    assert_eq!(fairlane["people_hours"], 0.0);
    let told = &report["told"];
    assert_eq!(
        (&told["asked"]["slow_lanes"]["launches"], &told["one_in"]),
        (&3.into(), &1.into()),
        "{report}"
    );
    assert_eq!(told["minute_later"]["others"]["within_factor_2"], Value::Null, "{report}");
    assert_eq!(report["unlimited"]["running_max"], 3);
    assert!(report.get("baseline").is_none(), "{report}");
}

#[tokio::test]
async fn what_the_queue_has_learned_decides_the_order() {
    let home = TempDir::new();
    // While the slot is taken for an hour, one asks for a long build and then another for a quick one.
    let mut launches =
        vec![(600, "o/first/main"), (610, "o/middle/main"), (611, "o/tiny/main"), (612, "o/middle/main")];
    // A busy minute, in which processes reap every second: nobody who waits is forgotten over it.
    launches.extend([(613, "o/first/main"); 40]);
    let day = write_day(&home, "day.jsonl", "2019-03-24", &launches);
    let before = write_day(&home, "before.jsonl", "2019-03-23", &[(5, "o/middle/main"), (6, "o/tiny/main")]);
    // What their names say: middle takes 345 s, tiny 63 s.
    let words = [
        &day,
        "--wipe-at",
        "10:00",
        "--slots",
        "1",
        "--slow",
        "GitHub:o/first/main=3600",
        "--baseline",
        "thread-pool:1x8",
    ];
    let without = replay(&home, words).await;
    let with = replay(&home, words.into_iter().chain(["--history", &before])).await;
    let fcfs = replay(&home, words.into_iter().chain(["--history", &before, "--order", "first-come"])).await;
    for report in [&without, &with, &fcfs] {
        assert_eq!(report["fairlane"]["broken_promises"], 0, "{report}");
        assert_eq!(report["fairlane"]["launches"], 3, "{report}");
        assert_eq!(report["baseline"]["running_max"], 3, "{report}");
    }
    assert_eq!(without["fairlane"]["people_hours"], fcfs["fairlane"]["people_hours"]);
    let hours = |report: &Value| report["fairlane"]["people_hours"].as_f64().unwrap();
    assert!(hours(&with) < hours(&fcfs), "{with} {fcfs}");
}

#[tokio::test]
async fn bad_input_is_said_before_anything_starts() {
    let home = TempDir::new();
    let day = write_day(&home, "day.jsonl", "2019-03-24", &[(1, "o/n/main")]);
    std::fs::write(home.join("none.jsonl"), "{}\n[]\n").unwrap();
    let none = home.join("none.jsonl").display().to_string();
    for (words, says) in [
        (vec!["missing.jsonl", "--wipe-at", "00:00", "--slots", "1"], "cannot be read: No such file"),
        (vec![&none, "--wipe-at", "00:00", "--slots", "1"], "contains no launch event"),
        (vec![&day, "--wipe-at", "00:02", "--slots", "1"], "choose an earlier --wipe-at"),
        (vec![&day, "--wipe-at", "24:00", "--slots", "1"], "from 00:00 to 23:59"),
        (vec![&day, "--wipe-at", "00:00", "--slots", "0"], "from 1 to 10000"),
        (vec![&day, "--wipe-at", "00:00", "--slots", "1", "--baseline", "pool"], "thread-pool:2x64"),
        (vec![&day, "--wipe-at", "00:00", "--slots", "1", "--slow", "x"], "GitHub:owner/name/ref=28800"),
        (vec![&day, "--wipe-at", "00:00", "--slots", "1", "--plot", "no/x.svg"], "there is no folder no"),
    ] {
        run(fairlane(&home, ["replay"].into_iter().chain(words))).await.expect(2, says);
    }
}

/// The folder of launches, or a word that the test is skipped.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn launches() -> Option<PathBuf> {
    let folder = Path::new(LAUNCHES);
    if !folder.join("demand-2019-03-24.jsonl.gz").is_file() {
        eprintln!("SKIPPED: {LAUNCHES} is not there; it holds days of launches of mybinder.org");
        return None;
    }
    Some(folder.to_owned())
}

/// The evening of 2019-03-24 on mybinder.org, when one build held up all the others, does not happen.
#[tokio::test]
async fn the_incident_does_not_happen() {
    let Some(launches) = launches() else { return };
    let home = TempDir::new();
    let file = |name: &str| launches.join(format!("{name}.jsonl.gz")).display().to_string();
    let day = file("demand-2019-03-24");
    let history = ["events-2019-03-17", "events-2019-03-22", "events-2019-03-23"].map(file);
    let plot = home.join("incident.svg").display().to_string();
    let mut words = vec![day.as_str(), "--wipe-at", "07:54", "--slots", "4", "--slow", SLOW];
    words.extend(history.iter().flat_map(|path| ["--history", path]));
    words.extend(["--baseline", "thread-pool:2x64", "--plot", &plot]);
    let report = replay(&home, words).await;
    let number = |who: &str, what: &str| report[who][what].as_f64().unwrap_or(f64::NAN);
    assert_eq!(report["fairlane"]["broken_promises"], 0, "{report}");
    assert!(number("fairlane", "people_hours") <= 23.0, "{report}");
    assert!((number("unlimited", "people_hours") - 20.1).abs() < 0.05, "{report}");
    assert!((770.0..=990.0).contains(&number("baseline", "people_hours")), "{report}");
    assert_eq!(report["fairlane"]["running_max"], 4);
    // What they were told of their waiting was right within a factor of two.
    for when in ["asked", "minute_later"] {
        let told = &report["told"][when]["others"];
        assert!(
            told["within_factor_2"].as_f64() >= Some(70.0) && told["launches"].as_u64() > Some(250),
            "{report}"
        );
    }
    let plot = std::fs::read_to_string(plot).unwrap();
    assert!(plot.contains("people wait 22."), "the figures stand in the plot");
}
