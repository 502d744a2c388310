//! Pods that fail, each in its own way: 12 and 13.

use fairlane_testkit::wait_for;
use serde_json::{Value, json};

use super::replay::{DEADLINE, Replay};

/// Why the registry of the transcripts gave no image.
const REFUSED: &str = "failed to resolve image: failed to do request: Head \"https://127.0.0.1:5/v2/x/y/manifests/1\": \
                       dial tcp 127.0.0.1:5: connect: connection refused";

impl Replay {
    fn body(&self, index: usize) -> Value {
        self.exchange(index).response.map(|response| response.body).unwrap_or_default()
    }

    /// Creates the pod of an answer and waits until it is as far.
    async fn failed(&mut self, index: usize) -> anyhow::Result<()> {
        let pod = self.body(index);
        self.create_like(&pod).await?;
        self.wait_until_like(&pod).await;
        Ok(())
    }

    async fn wait_until_like(&self, pod: &Value) {
        let state = |pod: &Value| {
            let statuses =
                ["initContainerStatuses", "containerStatuses"].map(|list| pod["status"][list].clone());
            let statuses = statuses.iter().filter_map(Value::as_array).flatten();
            let states = statuses.map(|status| {
                let state = status["state"].as_object().and_then(|state| state.iter().next());
                state.map(|(kind, inner)| (kind.clone(), inner["reason"].clone()))
            });
            let scheduled = pod.pointer("/status/conditions/0/reason").cloned();
            (pod["status"]["phase"].clone(), states.collect::<Vec<_>>(), scheduled)
        };
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        wait_for(&format!("{name} to be as the real one"), DEADLINE, async || {
            let now = self.cluster.pod(name).object().unwrap_or_default();
            if state(&now) == state(pod) { Ok(()) } else { Err(state(&now)) }
        })
        .await;
    }

    /// Compares the reasons of a pod's events, each once, in their order.
    async fn compare_events_of(&mut self, index: usize) -> anyhow::Result<()> {
        let request = self.exchange(index).request.unwrap_or_else(|| unreachable!("an exchange with events"));
        let told = |list: &Value| {
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let mut told = items
                .iter()
                .map(|event| {
                    let message = super::shape::blurred(event["message"].as_str().unwrap_or_default());
                    format!(
                        "{} {} {message} {}",
                        event["type"], event["reason"], event["involvedObject"]["fieldPath"]
                    )
                })
                .collect::<Vec<_>>();
            told.sort();
            told
        };
        let real = self.body(index);
        let mut request = request;
        let selector = request.query["fieldSelector"].as_str().unwrap_or_default().to_owned();
        request.query["fieldSelector"] = json!(selector.split(",involvedObject.uid").next());
        let what = format!("the events of {index}");
        let fake = wait_for(&what, DEADLINE, async || {
            let fake = self.send(&request).await.ok()?.json::<Value>().await.ok()?;
            (told(&fake).len() >= told(&real).len()).then_some(fake)
        })
        .await;
        let mut differ = Vec::new();
        if told(&real) != told(&fake) {
            differ.push(format!("real {:#?}\n    fake {:#?}", told(&real), told(&fake)));
        }
        let keys = |list: &Value| {
            let mut keys = list["items"][0]
                .as_object()
                .map(|event| event.keys().cloned().collect::<Vec<_>>())
                .unwrap_or_default();
            keys.sort();
            keys
        };
        if keys(&real) != keys(&fake) {
            differ.push(format!("fields: real {:?}, fake {:?}", keys(&real), keys(&fake)));
        }
        self.report(&what, differ);
        Ok(())
    }

    /// A failure whose pod is compared whole, with its events.
    async fn failure(&mut self, index: usize, but: &[&str]) -> anyhow::Result<()> {
        self.failed(index).await?;
        self.step_with(index, |_| {}, but).await?;
        self.compare_events_of(index + 1).await
    }
}

#[tokio::test]
async fn transcript_12_containers_that_fail() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("12")? else { return Ok(()) };
    replay.cluster.cannot_pull("docker.io/local/nope:1", "not found");
    replay.cluster.cannot_pull("127.0.0.1:5/x/y:1", REFUSED);
    for index in [0, 2, 4, 9] {
        replay.failure(index, &[]).await?;
    }
    for (index, oom) in [(6, false), (7, true)] {
        let mut pod = replay.body(index);
        pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", "sleep 600"]);
        replay.create_like(&pod).await?;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        replay.wait_for_phase(&name, "Running").await;
        let script = replay.cluster.pod(&name);
        if oom {
            script.is_oom_killed();
        } else {
            script.is_killed();
        }
        replay.wait_for_phase(&name, "Failed").await;
        replay.step_with(index, |_| {}, &["/spec/containers/0/command"]).await?;
    }
    replay.finish(10);
    Ok(())
}

#[tokio::test]
async fn transcript_12_containers_that_wait() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("12")? else { return Ok(()) };
    replay.cluster.cannot_pull("docker.io/local/nope:1", "not found");
    replay.cluster.cannot_pull("127.0.0.1:5/x/y:1", REFUSED);
    for index in [11, 19, 21, 23, 33] {
        replay.failure(index, &[]).await?;
    }
    // These two change every moment: they are compared by their reasons, and events.
    for (index, reason) in [(13, "ErrImagePull"), (15, "ImagePullBackOff")] {
        let pod = replay.body(index);
        replay.create_like(&pod).await?;
        replay.wait_for_reason(pod["metadata"]["name"].as_str().unwrap_or_default(), reason).await;
        replay.compare_events_of(index + 1).await?;
    }
    // What the runtime says of a name is its own.
    replay.failed(17).await?;
    replay.step_with(17, |_| {}, &["/status/containerStatuses/0/state/waiting/message"]).await?;
    replay.finish(12);
    Ok(())
}

#[tokio::test]
async fn transcript_12_deadlines_init_containers_and_restarts() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("12")? else { return Ok(()) };
    replay.cluster.cannot_pull("docker.io/local/nope:1", "not found");
    for index in [25, 27, 29] {
        replay.failure(index, &[]).await?;
    }
    replay.failure(31, &[]).await?;
    replay.failed(35).await?;
    replay.steps(35..36).await?;
    replay.wait_until_like(&replay.body(36)).await;
    replay.step(36).await?;
    replay.finish(8);
    Ok(())
}

#[tokio::test]
async fn transcript_13_evicted_by_the_kubelet() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("13")? else { return Ok(()) };
    let exchange = replay.exchange(0);
    let real =
        super::events::real(&exchange.response.and_then(|response| response.stream).unwrap_or_default());
    let version = replay.version().await?;
    let stream = replay
        .stream(0, |request| {
            request.query["resourceVersion"] = json!(version);
            request.query["timeoutSeconds"] = json!("60");
        })
        .await?;
    let small = |request: &mut super::transcript::Request| {
        request.body["spec"]["containers"][0]["command"] = json!(["sh", "-c", "echo start; sleep 600"]);
    };
    replay.step_with(1, small, &["/spec/containers/0/command"]).await?;
    replay.wait_for_log("ev1", "start").await?;
    replay.cluster.pod("ev1").is_evicted("Usage of EmptyDir volume \"s\" exceeds the limit \"8Mi\". ");
    replay.wait_for_phase("ev1", "Failed").await;
    replay.step_with(2, |_| {}, &["/spec/containers/0/command"]).await?;
    replay.compare_events_of(4).await?;
    let streamed = replay.until(stream, "\"reason\":\"Evicted\"", 1).await;
    let differ = super::events::compare(&real, &super::events::fake(&streamed.text));
    replay.report("0 stream", differ);
    replay.finish(5);
    Ok(())
}
