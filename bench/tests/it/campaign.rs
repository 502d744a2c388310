//! `fairlane replay` with a campaign that builds ahead.

use fairlane_testkit::TempDir;
use serde_json::Value;

use crate::replay::{SLOW, launches, replay, write_day};
use crate::setup::{fairlane, run};

fn hours(figures: &Value) -> f64 {
    figures["people_hours"].as_f64().unwrap()
}

#[tokio::test]
async fn a_small_day_with_a_campaign() {
    let home = TempDir::new();
    let before: Vec<(u32, &str)> = [(3, "o/a/main"), (2, "o/b/main"), (1, "o/c/main")]
        .into_iter()
        .flat_map(|(count, spec)| std::iter::repeat_n((1, spec), count))
        .collect();
    let before = write_day(&home, "before.jsonl", "2019-03-23", &before);
    let day = [(600, "o/a/main"), (600, "o/b/main"), (600, "o/c/main"), (601, "o/new/main")];
    let day = write_day(&home, "day.jsonl", "2019-03-24", &day);
    let plot = home.join("day.svg").display().to_string();
    let words = [day.as_str(), "--wipe-at", "10:00", "--slots", "2", "--plot", &plot];
    let words = words.into_iter().chain(["--campaign-from", &before, "--campaign-start", "09:00"]);
    let report = replay(&home, words.clone().chain(["--campaign-top", "0,2,all"])).await;
    let campaigns = report["campaigns"].as_array().unwrap();
    let known: Vec<(u64, u64, u64, f64)> = campaigns
        .iter()
        .map(|one| {
            let number = |name: &str| one[name].as_u64().unwrap();
            (number("specs"), number("before_wipe"), number("running_max"), one["found"].as_f64().unwrap())
        })
        .collect();
    // Two slots, of which background builds may use one.
    assert_eq!(known, [(0, 0, 0, 0.0), (2, 2, 1, 50.0), (3, 3, 1, 75.0)], "{report}");
    for one in campaigns {
        assert_eq!((&one["day"]["broken_promises"], &one["delay"]), (&0.into(), &0.0.into()), "{report}");
    }
    assert!((hours(&campaigns[0]["day"]) - hours(&report["fairlane"])).abs() < 1e-9, "{report}");
    assert!(hours(&campaigns[2]["day"]) < hours(&campaigns[1]["day"]), "{report}");
    assert!(hours(&campaigns[1]["day"]) < hours(&report["fairlane"]), "{report}");
    assert!(std::fs::read_to_string(&plot).unwrap().contains("3 images, "));

    let table = run(fairlane(&home, ["replay"].into_iter().chain(words))).await.expect(0, "");
    assert!(table.data.contains("top 3") && table.data.contains("DELAY ADDED"), "{table:#?}");
    let alone = ["replay", &day, "--wipe-at", "10:00", "--slots", "2", "--campaign-from", &before];
    run(fairlane(&home, alone)).await.expect(2, "--campaign-start");
}

/// The cache is wiped again on 2019-03-24, but this time the 100 most launched specs were built ahead.
#[tokio::test]
async fn a_hundred_images_built_ahead_halve_the_waiting() {
    let Some(launches) = launches() else { return };
    let home = TempDir::new();
    let file = |name: &str| launches.join(format!("{name}.jsonl.gz")).display().to_string();
    let day = file("demand-2019-03-24");
    let history = ["events-2019-03-17", "events-2019-03-22", "events-2019-03-23"].map(file);
    let mut words = vec![day.as_str(), "--wipe-at", "07:54", "--slots", "4", "--slow", SLOW];
    words.extend(history.iter().flat_map(|path| ["--history", path, "--campaign-from", path]));
    words.extend(["--campaign-start", "20:00"]);
    let report = replay(&home, words).await;
    let with = &report["campaigns"][0];
    assert!(hours(&report["fairlane"]) > 22.0 && hours(&with["day"]) <= 15.5, "{report}");
    assert!(with["found"].as_f64() >= Some(91.0) && with["delay"].as_f64() <= Some(1.0), "{report}");
    assert!(with["slot_hours"].as_f64() <= Some(8.0), "{report}");
    assert_eq!((&with["running_max"], &with["before_wipe"]), (&3.into(), &100.into()), "{report}");
    for one in [&report["fairlane"], &with["day"]] {
        assert_eq!(one["broken_promises"], 0, "{report}");
    }
}
