//! What goes away and comes back: compaction (14), the API server (17), kubelets and nodes (18 and 21).

use fairlane_testkit::kube::Node;
use fairlane_testkit::wait_for_eq;
use serde_json::{Value, json};

use super::events::{Step, compare, fake, real};
use super::replay::{DEADLINE, Replay};
use super::transcript::Request;

/// A script that goes on for a minute.
const GOES_ON: &str = "i=0; while [ $i -lt 600 ]; do echo \"line $i\"; i=$((i+1)); sleep 0.1; done";

fn at(version: &str, seconds: u32) -> impl Fn(&mut Request) {
    move |request| {
        request.query["resourceVersion"] = json!(version);
        request.query["timeoutSeconds"] = json!(seconds.to_string());
    }
}

impl Replay {
    fn steps_of(&self, index: usize) -> Vec<Step> {
        real(&self.exchange(index).response.and_then(|response| response.stream).unwrap_or_default())
    }
}

#[tokio::test]
async fn transcript_14_what_is_compacted_is_gone() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("14")? else { return Ok(()) };
    for index in [0, 3] {
        let list = replay.exchange(index).response.map(|response| response.body).unwrap_or_default();
        replay.create_like(&list["items"][0]).await?;
    }
    replay.wait_for_reason("c1", "Unschedulable").await;
    replay.wait_for_reason("c2", "Unschedulable").await;
    replay.step(0).await?;
    let version = replay.version().await?;
    let version = json!(version);
    replay.step_with(2, |request| request.query["resourceVersion"] = version, &[]).await?;
    replay.step(3).await?;
    // The versions of long ago: here those before the first.
    replay.steps(5..7).await?;
    replay.finish(5);
    Ok(())
}

#[tokio::test]
async fn transcript_17_the_api_server_dies_and_comes_back() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("17")? else { return Ok(()) };
    replay.create_running("ar", json!({}), GOES_ON).await?;
    replay.wait_for_log("ar", "line 0").await?;
    let version = replay.version().await?;
    let watch = replay.stream(0, |request| request.query["resourceVersion"] = json!(version)).await?;
    let log = replay.stream(1, |_| {}).await?;
    replay.cluster.pod("ar").is_relabelled("seen", "once");
    replay.cluster.api_goes_away();
    assert!(replay.end_of(watch).await?.cut, "the watch is cut");
    assert!(replay.end_of(log).await?.cut, "the log is cut");
    let request = replay.exchange(3).request.unwrap_or_else(|| unreachable!("a request while it is down"));
    let refused =
        replay.send(&request).await.err().is_some_and(|error| {
            error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect)
        });
    assert!(refused, "connections are refused");

    replay.cluster.api_comes_back();
    let resumed = replay.stream(5, at(&version, 1)).await?;
    let resumed = replay.end_of(resumed).await?;
    let differ = compare(&replay.steps_of(5), &fake(&resumed.text));
    replay.report("5 the watch resumed", differ);
    replay
        .step_with(6, |_| {}, &["/spec/containers/0/command", "/metadata/labels", "/metadata/annotations"])
        .await?;
    replay.wait_for_log("ar", "line 5").await?;
    replay.finish(5);
    Ok(())
}

#[tokio::test]
async fn transcript_17_an_api_server_that_stops_lets_streams_live() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("17")? else { return Ok(()) };
    replay.create_running("ar", json!({}), "echo line 0; sleep 0.5; echo line 1").await?;
    replay.wait_for_log("ar", "line 0").await?;
    let log = replay.stream(9, |_| {}).await?;
    replay.cluster.api_stops_listening();
    let streamed = replay.end_of(log).await?;
    assert_eq!((streamed.text.as_str(), streamed.cut), ("line 0\nline 1\n", false));
    replay.finish(1);
    Ok(())
}

#[tokio::test]
async fn transcript_18_a_kubelet_that_is_down() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("18")? else { return Ok(()) };
    for name in ["k1", "k2"] {
        let index = if name == "k1" { 4 } else { 6 };
        let mut pod = replay.exchange(index).response.map(|response| response.body).unwrap_or_default();
        pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", GOES_ON]);
        replay.create_like(&pod).await?;
        replay.wait_for_log(name, "line 0").await?;
    }
    let follow = replay.stream(0, |_| {}).await?;
    replay.cluster.node("vm").kubelet_stops();
    assert!(!replay.end_of(follow).await?.cut, "the end is in order though the container runs on");
    replay.step(2).await?;
    let version = replay.version().await?;
    let watch = replay.stream(3, at(&version, 60)).await?;
    replay.create_running("k3", json!({}), "sleep 600").await?;
    // Its node is not tainted yet, so the pod is given to it, and nobody takes it.
    wait_for_eq("k3 to have a node", DEADLINE, json!("vm"), async || {
        replay.cluster.pod("k3").object().unwrap_or_default()["spec"]["nodeName"].clone()
    })
    .await;
    replay.cluster.node("vm").is_cut_off();
    let script = ["/spec/containers/0/command"];
    replay.step_with(4, |_| {}, &script).await?;
    replay.step_with(5, |_| {}, &script).await?;
    replay.step_with(6, |_| {}, &script).await?;
    replay.step_with(7, |_| {}, &script).await?;
    let streamed = replay.until(watch, "deletionTimestamp", 1).await;
    let differ = compare(&replay.steps_of(3), &fake(&streamed.text));
    replay.report("3 stream", differ);
    replay.cluster.node("vm").kubelet_starts();
    wait_for_eq("k2 to be gone", DEADLINE, true, async || replay.cluster.pod("k2").object().is_none()).await;
    replay.step_with(9, |_| {}, &script).await?;
    replay.finish(9);
    Ok(())
}

#[tokio::test]
async fn transcript_21_a_lost_node() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("21")? else { return Ok(()) };
    let stream = replay.exchange(0).response.and_then(|response| response.stream).unwrap_or_default();
    for name in ["n1", "n2"] {
        let of_it = |one: &&Value| one["event"]["object"]["metadata"]["name"] == name;
        let pod = stream.iter().find(of_it).map(|one| one["event"]["object"].clone()).unwrap_or_default();
        replay.create_like(&pod).await?;
        replay.wait_for_phase(name, "Running").await;
    }
    replay.cluster.add_node(&Node::named("healthy"));
    let version = replay.version().await?;
    let watch = replay.stream(0, at(&version, 60)).await?;
    let node = replay.cluster.node("vm");
    node.is_cut_off();
    node.loses_to_the_taint("n1");
    replay.step(2).await?;
    let request = replay.exchange(3).request.unwrap_or_else(|| unreachable!("a request for events"));
    let fake_events = replay.send(&request).await?.json::<Value>().await?;
    let real_events = replay.exchange(3).response.map(|response| response.body).unwrap_or_default();
    let last_two = |events: &Value| {
        let items = events["items"].as_array().cloned().unwrap_or_default();
        let mut reasons =
            items.iter().map(|event| format!("{} {}", event["reason"], event["message"])).collect::<Vec<_>>();
        reasons.sort();
        reasons
    };
    assert_eq!(last_two(&fake_events), last_two(&real_events));
    replay.cluster.node("vm").is_removed();
    replay.step(5).await?;
    let streamed = replay.until(watch, "\"type\":\"DELETED\"", 2).await;
    let differ = compare(&real(&stream), &fake(&streamed.text));
    replay.report("0 stream", differ);
    replay.finish(4);
    Ok(())
}
