//! Single requests: 01, 02, 05, 06, 08, 09, 10 and 20.

use fairlane_testkit::kube::Fault;
use fairlane_testkit::wait_for_eq;
use serde_json::json;

use super::replay::{DEADLINE, Replay};

#[tokio::test]
async fn transcript_01_create_and_get() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("01")? else { return Ok(()) };
    replay.steps(0..2).await?;
    // Scheduled and not started yet: too short a moment to be sure of, so only its head is compared.
    replay.step_with(2, |_| {}, &["/status", "/spec/nodeName"]).await?;
    replay.steps(3..5).await?;
    replay.wait_for_phase("b1", "Succeeded").await;
    replay.steps(5..12).await?;
    replay.finish(12);
    Ok(())
}

#[tokio::test]
async fn transcript_02_lists() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("02")? else { return Ok(()) };
    let all = replay.exchange(11).response.map(|response| response.body).unwrap_or_default();
    assert_eq!(all["items"], json!([]));
    let listed = replay.exchange(0).response.map(|response| response.body).unwrap_or_default();
    for pod in listed["items"].as_array().into_iter().flatten() {
        replay.create_like(pod).await?;
    }
    replay.create_running("l3", json!({ "run": "r2" }), "sleep 600").await?;
    for name in ["l1", "l2", "l3"] {
        replay.wait_for_phase(name, "Running").await;
    }
    replay.steps(0..2).await?;
    let not_compared = ["/items"];
    replay.step_with(2, |_| {}, &not_compared).await?;
    replay.step(3).await?;
    replay.steps(4..9).await?;
    replay.step_with(9, |_| {}, &[]).await?;
    let version = replay.version().await?;
    replay.step_with(10, |request| request.query["resourceVersion"] = json!(version), &[]).await?;

    replay.step(12).await?;
    // 11, a version before the first, is compacted away here.
    replay.finish(12);
    Ok(())
}

#[tokio::test]
async fn transcript_06_deletions() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("06")? else { return Ok(()) };
    let first = replay.exchange(2).response.map(|response| response.body).unwrap_or_default();
    replay.create_like(&first).await?;
    replay.wait_for_phase("d1", "Running").await;
    replay.steps(0..2).await?;
    // Answers that show the pod differ in how far its status had come.
    let status = ["/status"];
    replay.step_with(2, |_| {}, &status).await?;
    replay.step_with(3, |_| {}, &status).await?;
    replay.steps(4..7).await?;
    replay.wait_for_phase("d1", "Running").await;
    replay.step_with(7, |_| {}, &status).await?;
    wait_for_eq("d1 to be gone", DEADLINE, true, async || replay.cluster.pod("d1").object().is_none()).await;
    let many = replay.exchange(8).response.map(|response| response.body).unwrap_or_default();
    for pod in many["items"].as_array().into_iter().flatten() {
        replay.create_like(pod).await?;
    }
    replay.wait_for_phase("d3", "Running").await;
    replay.wait_for_phase("d2", "Running").await;
    replay.step(8).await?;
    replay.step(9).await?;
    let held = replay.exchange(10).response.map(|response| response.body).unwrap_or_default();
    replay.create_like(&held).await?;
    replay.wait_for_phase("d4", "Running").await;
    for index in 10..13 {
        replay.step_with(index, |_| {}, &status).await?;
    }
    replay.step(13).await?;
    let unscheduled = replay.exchange(14).response.map(|response| response.body).unwrap_or_default();
    replay.create_like(&unscheduled).await?;
    replay.wait_for_reason("d5", "Unschedulable").await;
    replay.steps(14..16).await?;
    replay.finish(16);
    Ok(())
}

#[tokio::test]
async fn transcript_08_patches() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("08")? else { return Ok(()) };
    replay.create_running("p1", json!({}), "sleep 600").await?;
    replay.wait_for_phase("p1", "Running").await;
    replay.steps(0..9).await?;
    // A real server shows the difference of the two specs; the first line of its message is enough.
    replay.step_with(9, |_| {}, &["/message", "/details/causes/0/message"]).await?;
    replay.steps(10..13).await?;
    replay.finish(13);
    Ok(())
}

#[tokio::test]
async fn transcript_09_invalid_requests() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("09")? else { return Ok(()) };
    replay.create_running("v1", json!({}), "sleep 600").await?;
    replay.steps(0..1).await?;
    replay.steps(1..14).await?;
    let big = |bytes: usize| "x".repeat(bytes);
    let annotated = |request: &mut super::transcript::Request| {
        request.body["metadata"]["annotations"]["a"] = json!(big(300_000));
    };
    replay.step_with(14, annotated, &[]).await?;
    replay.step_with(15, |request| request.body = json!(big(3_500_000)), &[]).await?;
    let pod = replay.exchange(14).request.map(|request| request.body).unwrap_or_default();
    let too_large_for_etcd = |request: &mut super::transcript::Request| {
        request.body = pod;
        request.body["metadata"]["annotations"] = json!({});
        request.body["spec"]["containers"][0]["args"] = json!([big(1_600_000)]);
        request.headers = json!({ "Content-Type": "application/json" });
    };
    replay.step_with(16, too_large_for_etcd, &[]).await?;
    replay.finish(17);
    Ok(())
}

#[tokio::test]
async fn transcript_10_rights_and_quotas() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("10")? else { return Ok(()) };
    let cluster = &replay.cluster;
    cluster.permits_only(&[
        "create pods",
        "get pods",
        "list pods",
        "watch pods",
        "delete pods",
        "patch pods",
        "get pods/log",
    ]);
    for namespace in ["quota", "psa", "dying"] {
        cluster.add_namespace(namespace);
    }
    cluster.namespace_ends("dying");
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "pods": "1" } } });
    cluster.add("", "resourcequotas", "quota", quota);
    replay.steps(0..11).await?;
    for index in 11..14 {
        replay.step_with(index, |_| {}, &["/status/reason"]).await?;
    }
    replay.step_with(14, |_| {}, &["/gitCommit"]).await?;
    replay.step_with(15, |_| {}, &["/serverAddressByClientCIDRs/0/serverAddress"]).await?;
    replay.step_with(16, |_| {}, &["/resources"]).await?;
    replay.steps(17..20).await?;
    // 20, pod security, is not imitated.
    replay.step(21).await?;
    replay.finish(21);
    Ok(())
}

#[tokio::test]
async fn transcript_20_throttling() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("20")? else { return Ok(()) };
    replay.cluster.next_times(2, "list pods", Fault::Throttled(1));
    replay.steps(0..2).await?;
    wait_for_eq("requests", DEADLINE, 2, async || replay.cluster.requests("list pods")).await;
    replay.finish(2);
    Ok(())
}
