//! Logs: 11, 15, 16 and 22.

use fairlane_testkit::wait_for_eq;
use serde_json::{Value, json};

use super::replay::{DEADLINE, Replay, Streamed};

/// A script that writes so many numbered lines to both streams and then half a line.
const TALKS: &str = "i=0; while [ $i -lt 8 ]; do echo \"line $i\"; echo \"err $i\" >&2; i=$((i+1)); sleep 0.3; done; \
                     printf \"no newline at the end\"";
/// A script that goes on for a minute.
const GOES_ON: &str = "i=0; while [ $i -lt 600 ]; do echo \"line $i\"; i=$((i+1)); sleep 0.1; done";

/// The text of a stream's lines, without times, in order; the last one marked where it lacks its end.
fn lines_of(stream: &[Value], timestamps: bool) -> Vec<String> {
    let cut = |line: &str| if timestamps { without_time(line) } else { line.to_owned() };
    stream
        .iter()
        .map(|one| match one["line"].as_str() {
            Some(line) => cut(line),
            None => format!("{}…", cut(one["unterminated"].as_str().unwrap_or_default())),
        })
        .collect()
}

fn lines_sent(text: &str, timestamps: bool) -> Vec<String> {
    let cut = |line: &str| if timestamps { without_time(line) } else { line.to_owned() };
    let (whole, rest) = text.rsplit_once('\n').map_or((None, text), |(whole, rest)| (Some(whole), rest));
    let mut lines = whole.into_iter().flat_map(|whole| whole.split('\n')).map(cut).collect::<Vec<_>>();
    if !rest.is_empty() {
        lines.push(format!("{}…", cut(rest)));
    }
    lines
}

fn without_time(line: &str) -> String {
    let (time, text) = line.split_once(' ').unwrap_or((line, ""));
    // Nine digits of a second, as a real kubelet writes them.
    let fits = time.len() == "2026-11-22T11:49:56.577774680Z".len() && time.ends_with('Z');
    if fits { text.to_owned() } else { format!("no time: {line}") }
}

impl Replay {
    /// Plays a request for a log and compares all its lines; those of the two streams may change places.
    async fn log(&mut self, index: usize) -> anyhow::Result<()> {
        let stream = self.stream(index, |_| {}).await?;
        let streamed = self.end_of(stream).await?;
        self.compare_log(index, &streamed);
        Ok(())
    }

    fn compare_log(&mut self, index: usize, streamed: &Streamed) {
        let exchange = self.exchange(index);
        let query = exchange.request.map(|request| request.query).unwrap_or_default();
        let response = exchange.response;
        let real = response.as_ref().and_then(|response| response.stream.clone()).unwrap_or_default();
        let timestamps = query["timestamps"] == "true";
        let (mut real, mut fake) = (lines_of(&real, timestamps), lines_sent(&streamed.text, timestamps));
        real.sort();
        fake.sort();
        let mut differ = Vec::new();
        if real != fake {
            differ.push(format!("lines: real {real:?}\n    fake {fake:?}"));
        }
        let ends = response.and_then(|response| response.stream_end).as_deref() == Some("eof");
        if ends == streamed.cut {
            differ.push(format!(
                "the real stream ended in order: {ends}, the fake's was cut: {}",
                streamed.cut
            ));
        }
        self.report(&format!("{index} ({})", exchange.note), differ);
    }
}

#[tokio::test]
async fn transcript_11_refused_logs() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("11")? else { return Ok(()) };
    replay.cluster.cannot_pull("docker.io/local/nope:1", "not found");
    let sleeps = |name: &str, image: &str, policy: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            "spec": { "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                "containers": [{ "name": "build", "image": image, "imagePullPolicy": policy,
                                 "command": ["sh", "-c", "sleep 600"] }] },
        })
    };
    let busybox = "docker.io/local/busybox:1";
    let mut unscheduled = sleeps("g0", busybox, "Never");
    unscheduled["spec"]["nodeSelector"] = json!({ "disk": "none" });
    let mut unmounted = sleeps("g2", busybox, "Never");
    unmounted["spec"]["volumes"] = json!([{ "name": "v", "configMap": { "name": "not-there" } }]);
    let mut initializing = sleeps("g9", busybox, "Never");
    initializing["spec"]["initContainers"] = json!([{ "name": "fetch", "image": busybox,
        "command": ["sh", "-c", "echo init; sleep 600"] }]);
    let mut two = sleeps("g4", busybox, "Never");
    two["spec"]["containers"] = json!([
        { "name": "build", "image": busybox, "command": ["sh", "-c", "sleep 600"] },
        { "name": "side", "image": busybox, "command": ["sh", "-c", "sleep 600"] },
    ]);
    let waiting = sleeps("g1", "docker.io/local/nope:1", "Never");
    let backing_off = sleeps("g8", "docker.io/local/nope:1", "Always");
    for pod in [unscheduled, unmounted, initializing, two, waiting, backing_off] {
        replay.create(pod).await?;
    }
    replay.wait_for_reason("g0", "Unschedulable").await;
    replay.steps(0..3).await?;
    replay.wait_for_reason("g1", "ErrImageNeverPull").await;
    replay.step(3).await?;
    replay.wait_for_reason("g2", "ContainerCreating").await;
    replay.step(4).await?;
    replay.wait_for_reason("g8", "ImagePullBackOff").await;
    replay.step(5).await?;
    replay.wait_for_reason("g9", "PodInitializing").await;
    replay.step(6).await?;
    replay.wait_for_init_log("g9", "fetch", "init").await;
    let stream = replay.stream(7, |_| {}).await?;
    let streamed = replay.end_of(stream).await?;
    replay.compare_log(7, &streamed);
    replay.wait_for_phase("g4", "Running").await;
    replay.step(23).await?;
    replay.finish(10);
    Ok(())
}

#[tokio::test]
async fn transcript_11_logs_to_their_end() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("11")? else { return Ok(()) };
    replay.create_running("g3", json!({}), TALKS).await?;
    replay.wait_for_log("g3", "line 0").await?;
    replay.log(8).await?;
    replay.log(9).await?;
    for index in [12, 15] {
        replay.log(index).await?;
    }
    for index in 16..22 {
        replay.step(index).await?;
    }
    let tail = replay.stream(13, |_| {}).await?;
    let tail = replay.end_of(tail).await?;
    assert_eq!(lines_sent(&tail.text, false).len(), 2);
    assert!(tail.text.ends_with("no newline at the end"), "{}", tail.text);
    let limited = replay.stream(14, |_| {}).await?;
    assert_eq!(replay.end_of(limited).await?.text.len(), 10);
    replay.cluster.pod("g3").is_deleted();
    wait_for_eq("g3 to be gone", DEADLINE, true, async || replay.cluster.pod("g3").object().is_none()).await;
    replay.step(22).await?;
    replay.finish(13);
    Ok(())
}

#[tokio::test]
async fn transcript_11_logs_of_what_is_deleted_go_on_to_its_end() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("11")? else { return Ok(()) };
    for (follow, delete, pod, script) in [(24, 25, "g5", "trap '' TERM; "), (26, 27, "g6", "")] {
        replay.create_running(pod, json!({}), &format!("{script}{GOES_ON}")).await?;
        replay.wait_for_log(pod, "line 2").await?;
        let stream = replay.stream(follow, |_| {}).await?;
        let version = replay.version().await?;
        replay
            .step_with(delete, |_| {}, &["/status", "/spec", "/metadata/deletionGracePeriodSeconds"])
            .await?;
        let streamed = replay.end_of(stream).await?;
        assert!(!streamed.cut, "it ends in order");
        let lines = lines_sent(&streamed.text, true);
        assert!(lines.len() > 3, "lines go on while it is being deleted ({version}): {lines:?}");
    }
    replay.finish(4);
    Ok(())
}

#[tokio::test]
async fn transcript_11_rubbish_and_long_lines_pass_as_they_are() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("11")? else { return Ok(()) };
    let script = "head -c 40000 /dev/zero | tr '\\0' a; echo; printf 'bad utf8 \\377\\376 end\\n'; printf 'a\\rb\\rc\\n'; \
                  printf '\\033[31mred\\033[0m\\n\\nlast\\n'";
    replay.create_running("g7", json!({}), script).await?;
    replay.wait_for_phase("g7", "Succeeded").await;
    let stream = replay.stream(28, |_| {}).await?;
    let streamed = replay.end_of(stream).await?;
    let body = replay.exchange(28).response.map(|response| response.body).unwrap_or_default();
    let real = body.as_str().unwrap_or_default().replace("<40000 a>", &"a".repeat(40_000));
    assert_eq!(lines_sent(&streamed.text, true), lines_sent(&real, true));
    replay.finish(1);
    Ok(())
}

#[tokio::test]
async fn transcript_15_rotation_spares_followers() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("15")? else { return Ok(()) };
    // 30 MB, as there.
    let script = "i=0; line=$(head -c 5000 /dev/zero | tr '\\0' x); while [ $i -lt 6000 ]; do echo \"$line\"; \
                  i=$((i+1)); done";
    replay.create_running("v1", json!({}), script).await?;
    replay.wait_for_phase("v1", "Running").await;
    let stream = replay.stream(0, |_| {}).await?;
    let followed = replay.end_of(stream).await?;
    replay.wait_for_phase("v1", "Succeeded").await;
    let stream = replay.stream(1, |_| {}).await?;
    let later = replay.end_of(stream).await?;
    let kept = later.text.lines().count();
    assert!(kept < 5_000, "the older file is gone: {kept}");
    assert!(followed.text.lines().count() > kept, "a follower that keeps up gets more than who comes later");
    replay.finish(2);
    Ok(())
}

#[tokio::test]
async fn transcript_16_the_log_before_a_restart() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("16")? else { return Ok(()) };
    let pod = replay.exchange(3).response.map(|response| response.body).unwrap_or_default();
    let mut like = pod.clone();
    // Longer than a moment, so that the follower is there before it ends; and one that stays.
    let script = "echo run $$$$; test -e again && sleep 600; touch again; sleep 1; exit 1";
    like["spec"]["containers"][0]["command"] = json!(["sh", "-c", script]);
    replay.create_like(&like).await?;
    replay.wait_for_phase("pv", "Running").await;
    let stream = replay.stream(0, |_| {}).await?;
    let first = replay.end_of(stream).await?;
    assert_eq!((lines_sent(&first.text, true).len(), first.cut), (1, false), "it ends with the first run");
    replay.wait_for_log_other_than("pv", &lines_sent(&first.text, true)).await;
    let stream = replay.stream(1, |_| {}).await?;
    assert_eq!(lines_sent(&replay.end_of(stream).await?.text, false), lines_sent(&first.text, true));
    replay.wait_for_phase("pv", "Running").await;
    replay.step_with(3, |_| {}, &["/spec/containers/0/command"]).await?;
    replay.finish(3);
    Ok(())
}

#[tokio::test]
async fn transcript_22_a_kubelet_killed_while_it_is_followed() -> anyhow::Result<()> {
    let Some(mut replay) = Replay::start("22")? else { return Ok(()) };
    replay.create_running("kk", json!({}), GOES_ON).await?;
    replay.wait_for_log("kk", "line 2").await?;
    let stream = replay.stream(0, |_| {}).await?;
    replay.cluster.node("vm").kubelet_stops();
    let streamed = replay.end_of(stream).await?;
    assert!(!streamed.cut, "the end is in order, though the container runs on");
    replay.step_with(2, |_| {}, &["/spec/containers/0/command"]).await?;
    replay.cluster.node("vm").kubelet_starts();
    replay.wait_for_log("kk", "line 5").await?;
    replay.finish(2);
    Ok(())
}
