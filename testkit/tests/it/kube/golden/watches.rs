//! Watches: 03, 03b, 04, 05, 07 and 19.

use std::time::Duration;

use fairlane_testkit::wait_for_eq;
use serde_json::json;

use super::events::{compare, fake, real};
use super::replay::{DEADLINE, Replay, Streamed};
use super::transcript::Request;

/// The last that a watch says of a pod.
const DELETED: &str = "\"type\":\"DELETED\"";

/// The version from which a watch starts here, and a time-out that ends it soon.
fn from(version: &str, seconds: u32) -> impl Fn(&mut Request) {
    move |request| {
        request.query["resourceVersion"] = json!(version);
        request.query["timeoutSeconds"] = json!(seconds.to_string());
    }
}

impl Replay {
    fn compare_events(&mut self, index: usize, streamed: &Streamed) {
        let exchange = self.exchange(index);
        let stream = exchange.response.and_then(|response| response.stream).unwrap_or_default();
        let mut differ = compare(&real(&stream), &fake(&streamed.text));
        if streamed.cut {
            differ.push("the stream was cut, the real one ended".to_owned());
        }
        self.report(&format!("{index} stream ({})", exchange.note), differ);
    }

    async fn wait_until_gone(&self, pod: &str) {
        let what = format!("{pod} to be gone");
        wait_for_eq(&what, DEADLINE, true, async || self.cluster.pod(pod).object().is_none()).await;
    }
}

#[tokio::test]
async fn transcript_03_a_life_in_a_watch() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("03")? else { return Ok(()) };
    let version = replay.version().await?;
    let whole = replay.stream(0, from(&version, 60)).await?;
    let leaving = replay.stream(1, from(&version, 60)).await?;
    replay.step(2).await?;
    replay.wait_for_phase("w1", "Running").await;
    replay.step_with(3, |_| {}, &["/status"]).await?;
    replay.wait_for_phase("w1", "Succeeded").await;
    replay.step(4).await?;
    for (index, stream) in [(0, whole), (1, leaving)] {
        let streamed = replay.until(stream, DELETED, 1).await;
        replay.compare_events(index, &streamed);
    }
    replay.finish(7);
    Ok(())
}

#[tokio::test]
async fn transcript_03b_deleting_what_runs() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("03b")? else { return Ok(()) };
    let version = replay.version().await?;
    let stream = replay.stream(0, from(&version, 60)).await?;
    replay.step(1).await?;
    replay.wait_for_phase("w2", "Running").await;
    // It has to have set its trap before it is asked to end.
    replay.wait_for_log("w2", "a").await?;
    replay.steps(2..5).await?;
    replay.wait_until_gone("w2").await;
    replay.step(5).await?;
    let streamed = replay.until(stream, DELETED, 1).await;
    replay.compare_events(0, &streamed);
    replay.finish(7);
    Ok(())
}

#[tokio::test]
async fn transcript_04_bookmarks_and_streamed_lists() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("04")? else { return Ok(()) };
    let stream = replay.exchange(5).response.and_then(|response| response.stream).unwrap_or_default();
    replay.create_like(&stream[0]["event"]["object"]).await?;
    replay.wait_for_phase("bm1", "Running").await;
    let version = replay.version().await?;
    let idle = replay.stream(0, from(&version, 1)).await?;
    let streamed = replay.end_of(idle).await?;
    replay.compare_events(0, &streamed);
    for index in [2, 4, 5] {
        let stream = replay.stream(index, |request| request.query["timeoutSeconds"] = json!("1")).await?;
        let streamed = replay.end_of(stream).await?;
        replay.compare_events(index, &streamed);
    }
    replay.step(3).await?;

    replay.cluster.bookmarks_come_every(Duration::from_millis(100));
    let marked = replay.stream(1, from(&version, 1)).await?;
    let streamed = replay.end_of(marked).await?;
    let bookmarks =
        |text: &str| fake(text).into_iter().filter(|step| step.what.contains("BOOKMARK")).collect::<Vec<_>>();
    let real = real(&replay.exchange(1).response.and_then(|response| response.stream).unwrap_or_default());
    let real = real.into_iter().filter(|step| step.what.contains("BOOKMARK")).collect::<Vec<_>>();
    let differ = compare(&real, &bookmarks(&streamed.text));
    replay.report("1 bookmarks", differ);
    replay.finish(10);
    Ok(())
}

#[tokio::test]
async fn transcript_05_watches_of_other_times() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("05")? else { return Ok(()) };
    for index in 0..2 {
        let stream = replay.stream(index, |request| request.query["timeoutSeconds"] = json!("1")).await?;
        let streamed = replay.end_of(stream).await?;
        replay.compare_events(index, &streamed);
    }
    replay.step(2).await?;
    replay.finish(5);
    Ok(())
}

#[tokio::test]
async fn transcript_07_evictions() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("07")? else { return Ok(()) };
    replay.cluster.permits_only(&["get pods"]);
    replay.create_running("e2", json!({ "pdb": "e2" }), "sleep 600").await?;
    let stream = replay.exchange(3).response.and_then(|response| response.stream).unwrap_or_default();
    replay.create_like_ready(&stream[0]["event"]["object"]).await?;
    replay.wait_for_phase("e2", "Running").await;
    // Its answer has a status that the disruption controller writes.
    replay.step_with(0, |_| {}, &["/status"]).await?;
    replay.steps(1..3).await?;
    let version = replay.version().await?;
    let watched = replay.stream(3, from(&version, 60)).await?;
    replay.step(4).await?;
    replay.wait_until_gone("e1").await;
    replay.steps(5..7).await?;
    let streamed = replay.until(watched, DELETED, 1).await;
    replay.compare_events(3, &streamed);
    replay.finish(8);
    Ok(())
}

#[tokio::test]
async fn transcript_19_preemption() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("19")? else { return Ok(()) };
    let exchange = replay.exchange(0);
    let mut stream = exchange.response.and_then(|response| response.stream).unwrap_or_default();
    stream.retain(|one| one["event"]["object"]["metadata"]["name"] == "low");
    replay.create_like_ready(&stream[0]["event"]["object"]).await?;
    let version = replay.version().await?;
    let watched = replay.stream(0, from(&version, 60)).await?;
    replay.cluster.pod("low").is_preempted();
    replay.wait_until_gone("low").await;
    let streamed = replay.until(watched, DELETED, 1).await;
    let differ = compare(&real(&stream), &fake(&streamed.text));
    replay.report("0 stream of the preempted", differ);
    replay.finish(2);
    Ok(())
}
