//! `fairlane bench`: every measurement, in small: what it promises to tell, not how fast anything is.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fairlane_testkit::{Said, TempDir};
use serde_json::Value;

use crate::setup::{fairlane, run};

/// Runs a measurement, which must print one line of JSON; that, and what it said besides.
async fn bench(home: &TempDir, words: &[&str]) -> (Value, Said) {
    let words = ["bench", "--json", "--rounds", "2"].iter().chain(words);
    let said = run(fairlane(home, words.copied())).await.expect(0, "");
    let [report] = said.json().try_into().expect("one line of JSON");
    (report, said)
}

/// A number of the report that must be there.
fn number(report: &Value, path: &str) -> f64 {
    let value = path.split('.').fold(report, |value, name| &value[name]);
    value.as_f64().unwrap_or_else(|| panic!("{path} is missing: {report:#}"))
}

/// A count of the report that must be there.
fn count(report: &Value, path: &str) -> u64 {
    let value = path.split('.').fold(report, |value, name| &value[name]);
    value.as_u64().unwrap_or_else(|| panic!("{path} is missing: {report:#}"))
}

/// What every measured side tells.
fn is_measured(report: &Value, side: &str, operations: u64) {
    assert_eq!(count(report, &format!("{side}.operations")), operations);
    for name in
        ["rate", "p50_ms", "p99_ms", "redis_cpu_seconds", "per_redis_cpu_second", "redis_memory_bytes"]
    {
        number(report, &format!("{side}.{name}"));
    }
    assert!(number(report, &format!("{side}.rate")) > 0.0 && number(report, &format!("{side}.p99_ms")) > 0.0);
}

/// What every report tells.
fn says_where(report: &Value) {
    assert!(number(report, "machine.cores") >= 1.0);
    assert!(report["machine"]["redis"].is_string() && report["machine"]["own_server"] == true);
    assert!(report["command"].as_str().unwrap().starts_with("fairlane bench"), "{report:#}");
}

#[tokio::test]
async fn enqueue_and_drain_stand_beside_redis_benchmark_or_say_that_they_do_not() {
    let home = TempDir::new();
    let installed = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .any(|folder| ["redis-benchmark", "valkey-benchmark"].iter().any(|name| folder.join(name).exists()));
    for measure in ["enqueue", "drain"] {
        let (report, said) = bench(&home, &[measure, "200", "--concurrency", "8"]).await;
        assert_eq!(report["bench"], measure);
        // Whole batches: 104 each of the two turns.
        is_measured(&report, "ours", 208);
        is_measured(&report, "yardstick", 208);
        number(&report, "ours.own_cpu_seconds");
        number(&report, "ratio_per_redis_cpu_second");
        assert_eq!(report["ratios"].as_array().unwrap().len(), 2);
        says_where(&report);
        let by = report["yardstick_by"].as_str().unwrap();
        assert_eq!(by.contains("-benchmark "), installed, "{by}");
        assert_eq!(said.talk.contains("own client"), !installed, "{said:#?}");
    }
}

#[tokio::test]
async fn without_redis_benchmark_the_fallback_is_said() {
    let home = TempDir::new();
    let servers = ["redis-server", "valkey-server"];
    let path = std::env::var_os("PATH").unwrap();
    let server = std::env::split_paths(&path)
        .flat_map(|folder| servers.map(|name| folder.join(name)))
        .find(|program| program.exists());
    only_program(&home.join("bin"), &server.expect("a redis-server"));
    let words = ["bench", "--json", "--rounds", "2", "drain", "100"];
    let mut command = fairlane(&home, words);
    command.env("PATH", home.join("bin"));
    let said = run(command).await.expect(0, "redis-tools");
    let report = &said.json()[0];
    assert!(
        report["yardstick_by"].as_str().unwrap().starts_with("own client: redis-benchmark is not"),
        "{report:#}"
    );
    is_measured(report, "yardstick", 128);
    number(report, "yardstick.own_cpu_seconds");
}

/// A folder with nothing but this program, under the name by which it is looked for.
fn only_program(folder: &Path, program: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join("redis-server");
    std::fs::write(&path, format!("#!/bin/sh\nexec {} \"$@\"\n", program.display())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn latency_tells_both_ways() {
    let (report, _) = bench(&TempDir::new(), &["latency", "40"]).await;
    is_measured(&report, "ours", 40);
    is_measured(&report, "yardstick", 40);
    says_where(&report);
}

#[tokio::test]
async fn skewed_starts_nothing_over_the_limit() {
    let words = ["skewed", "120", "--lanes", "8", "--limit", "2", "--workers", "3", "--build-ms", "5"];
    let (report, _) = bench(&TempDir::new(), &words).await;
    is_measured(&report, "ours", 120);
    assert_eq!(count(&report, "starts_over_the_limit"), 0);
    // No schedule is shorter than the ideal one.
    assert!(number(&report, "ratio_of_makespan") >= 1.0, "{report:#}");
    says_where(&report);
}

#[tokio::test]
async fn depth_counts_the_commands_of_each_script_and_its_flat_twin() {
    let (report, _) = bench(&TempDir::new(), &["depth", "300"]).await;
    for operation in ["submit", "claim", "finish"] {
        assert!(number(&report, &format!("{operation}.commands")) > 10.0);
        for name in ["ours_us", "flat_us", "bare_us", "flat_to_ours"] {
            assert!(number(&report, &format!("{operation}.{name}")) > 0.0, "{report:#}");
        }
    }
    // Nothing is due: a look at the queue, not a batch of lanes to be placed anew.
    let idle = number(&report, "commands.reap_idle");
    assert!((5.0..40.0).contains(&idle), "{report:#}");
    says_where(&report);
}

#[tokio::test]
async fn watchers_all_get_every_line() {
    let (report, _) = bench(&TempDir::new(), &["watchers", "20", "--seconds", "2"]).await;
    assert_eq!(report["bench"], "watchers");
    assert_eq!(count(&report, "watchers"), 20);
    assert!(number(&report, "lines") > 0.0);
    assert_eq!(count(&report, "lines_that_all_have"), count(&report, "lines"));
    assert!(number(&report, "redis_connections") > 0.0 && number(&report, "bytes_each_streaming") >= 0.0);
    says_where(&report);
}
