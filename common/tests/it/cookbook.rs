//! Every line of the cookbook in docs/redis.md, run by redis-cli against a live queue.

use std::process::Command;

use fairlane_common::log::{LogLine, LogWriter};
use fairlane_common::queue::{Blame, DispatcherBeat, Finish, Outcome};
use fairlane_common::rule::Stop;
use fairlane_common::{BuildId, FailureClass, Rule};

use crate::scene::{K8S, Scene, ask, beat_of, failed};

/// The recipes of the page: each heading and its command.
fn recipes() -> Vec<(String, String)> {
    let page = include_str!("../../../docs/redis.md");
    let cookbook = page.split_once("## Cookbook").unwrap().1;
    let mut recipes = vec![];
    for part in cookbook.split("\n### ").skip(1) {
        let (title, rest) = part.split_once('\n').unwrap();
        let command = rest.split_once("```sh\n").unwrap().1.split_once("\n```").unwrap().0;
        recipes.push((title.to_owned(), command.to_owned()));
    }
    recipes
}

struct Live {
    scene: Scene,
    running: BuildId,
    waiting: BuildId,
    orphan: BuildId,
}

/// An avoided node, and a paused worker that knows about it.
pub(crate) async fn bad_node(scene: &Scene) {
    let mut beat = beat_of("w2", K8S, 0, &[]);
    (beat.nodes, beat.paused) = (6, Some("the cluster is full".to_owned()));
    scene.queue.renew(&beat).await.unwrap();
    for repo in ["o/bad0", "o/bad1", "o/bad2"] {
        let id = scene.submit(&ask(repo, 1)).await;
        let token = scene.claim_at("w2", "k8s:test/elsewhere", 1).await.remove(0).token;
        let outcome = Outcome::Failed {
            class: FailureClass::Infrastructure,
            cause: fairlane_common::FailureCause::OTHER,
            reason: "it broke".to_owned(),
            blame: Blame::Certain,
        };
        let finish = Finish { node: Some("n1".parse().unwrap()), ..Finish::of(outcome) };
        scene.queue.finish(&token, &finish).await.unwrap();
        scene.queue.cancel(id, "test", "").await.unwrap();
    }
}

/// A queue with one build each that is running, waiting for a permit, held, orphaned and failed.
async fn live() -> Live {
    let scene = Scene::new().await;
    scene.beat("w1", 4, &[]).await;
    scene.rule("github.com/held/*", &Rule { hold: Some(Stop::default()), ..Rule::default() }).await;
    scene.rule("github.com/o/demo", &Rule { limit: Some(1), ..Rule::default() }).await;
    let orphan = scene.submit(&ask("o/orphan", 1)).await;
    scene.claim("w1", 1).await;
    scene.pass(11_000).await;
    scene.beat("w1", 4, &[]).await;
    bad_node(&scene).await;
    scene.submit(&ask("o/broken", 1)).await;
    let claimed = scene.claim_at("w1", "elsewhere", 1).await.remove(0);
    scene.finish(&claimed.token, failed(FailureClass::Repository)).await;
    scene.submit(&ask("o/fine", 1)).await;
    let claimed = scene.claim_at("w1", "elsewhere", 1).await.remove(0);
    scene.clock.advance_ms(1000);
    scene.finish(&claimed.token, Outcome::Succeeded).await;
    let running = scene.submit(&ask("o/demo", 1)).await;
    let token = scene.claim_at("w1", "elsewhere", 1).await.remove(0).token;
    scene.queue.report(&token, true, None).await.unwrap();
    let mut log = LogWriter::new(scene.queue.clone(), token, 1, "0-0".to_owned());
    let lines = ["Picked Git content provider.", "Cloning"]
        .map(|text| LogLine { t: "t".to_owned(), text: text.to_owned() });
    log.append(&lines).await.unwrap();
    let waiting = scene.submit(&ask("o/demo", 2)).await;
    scene.submit(&ask("o/ready", 7)).await;
    scene.submit(&ask("held/h", 1)).await;
    let beat = DispatcherBeat { dispatcher: "disp".parse().unwrap(), counts: vec![(running, 31)] };
    scene.queue.beat_dispatcher(&beat).await.unwrap();
    scene.queue.drain_worker(&"w2".parse().unwrap(), true, "ann").await.unwrap();
    Live { scene, running, waiting, orphan }
}

/// What each recipe must print, by heading.
#[expect(clippy::match_same_arms, reason = "one line a recipe")]
fn expected(live: &Live, title: &str) -> Vec<String> {
    let (running, waiting, orphan) =
        (live.running.to_string(), live.waiting.to_string(), live.orphan.to_string());
    let words: &[&str] = match title {
        "How many wait, run, are orphaned" => &["queued 3", "leases 1", "orphans 1"],
        "Slots, people, and the policy in force" => &["slots\n4", "people\n31", "mean\n1000"],
        "The first ten in line" => &[&waiting, "1795"],
        "The first five in line, and who asked for what" => {
            &["github.com/o/demo c2 0", "github.com/o/ready c7 0"]
        }
        "A build" => &["state\nrunning", "worker\nw1", "image\nr.example.org/o-demo:c1"],
        "A build's position in line" => &["1"],
        "The build of an image" => &[&running],
        "Lanes that may start a build now" => &["github.com/o/ready"],
        "Lanes that wait for a permit or are on hold" => {
            &["full github.com/o/demo", "held github.com/held/h"]
        }
        "What a lane waits for" => &["lanes:full"],
        "How long builds of a lane take" => &["1000", "1"],
        "Which builds have a lane's permits, and since when" => &[&running, "1795"],
        "Which worker has which build" => &["w1 github.com/o/demo running"],
        "Live workers and their state" => &["w1 w1 4 0 0 0"],
        "Who is drained, since when and by whom" => &["w2", "\"by\":\"ann\""],
        // The scene's clock is behind Redis's own, so its one lease looks overdue.
        "Stuck: expired leases that nobody has reaped" => &[&running],
        "Stuck: orphans that nobody adopts" => &[&orphan],
        "What becomes due next" => &["worker:w1", "dispatcher:disp"],
        "Who watches a build" => &["disp\n31"],
        "Avoided nodes, and until when" => &["k8s:test/n1", "1795"],
        "Why nodes are avoided" => &["k8s:test/n1 3 it broke"],
        "Which lanes failed on a node, and when" => &["github.com/o/bad2", "1795"],
        "Paused workers, and why" => &["w2 the cluster is full"],
        "Rules" => &["github.com/held/*", "\"limit\":1"],
        "The last ten events" => &["state\nqueued", "lane\ngithub.com/held/h"],
        "What operators did last" => &["by\ntest", "act\nrule set", "github.com/o/demo"],
        "How the last five builds ended" => {
            &["github.com/o/broken failed it broke", "github.com/o/fine succeeded"]
        }
        "The last five records of ended builds, which outlive the builds' hashes" => {
            &["lane\ngithub.com/o/broken", "cause\nother", "slot_ms\n1000"]
        }
        "What was started, ended, retried and lost so far" => &["ended:succeeded\n1", "started:interactive"],
        "The queue over the last three minutes" => &["people\n", "running\n", "backoff\n"],
        "The beginning of a log" => &["Picked Git content provider."],
        "The end of a log" => &["Cloning"],
        "Memory" => &["used_memory_human:", "maxmemory_policy:noeviction"],
        "Bytes of ended builds' logs: all, and the shortened ones" => &[],
        // This build was cancelled after a failure, so nobody reported the size of its log.
        "The oldest logs of ended builds" => &[" 2 0", "1795"],
        "Wake a worker by hand" => &["1"],
        "Give up a worker that will not come back" => &["0"],
        _ => panic!("the cookbook's '{title}' has no expectation here"),
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn every_line_of_the_cookbook_prints_what_it_promises() {
    let live = live().await;
    let recipes = recipes();
    assert!(recipes.len() >= 25, "only {} recipes were found", recipes.len());
    live.scene.redis::<()>(&["DEL", "{fairlane}:wake"]).await;
    for (title, command) in recipes {
        let (id, lane) = match title.as_str() {
            "A build's position in line" => (live.waiting, "github.com/o/demo"),
            "How long builds of a lane take" => (live.running, "github.com/o/fine"),
            _ => (live.running, "github.com/o/demo"),
        };
        let socket = live.scene.server.socket().display().to_string();
        let output = Command::new("bash")
            .arg("-c")
            .arg(command.replace("redis-cli", &format!("redis-cli -s {socket}")))
            .env("ID", id.to_string())
            .env("LANE", lane)
            .env("IMAGE", "r.example.org/o-demo:c1")
            .env("WORKER", "w1")
            .env("NODE", "k8s:test/n1")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.stderr.is_empty(), "{title}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!printed.contains("ERR"), "{title}: {printed}");
        for word in expected(&live, &title) {
            assert!(printed.contains(&word), "{title}: '{word}' is not in\n{printed}");
        }
    }
    // The last recipe has indeed given the worker up.
    live.scene.reap().await;
    let left = live.scene.queue.workers().await.unwrap();
    assert_eq!(left.iter().map(|worker| worker.id.as_str()).collect::<Vec<_>>(), ["w2"]);
    assert_eq!(live.scene.queue.snapshot().await.unwrap().orphaned, 2);
}
