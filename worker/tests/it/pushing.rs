//! At most so many builds push to one registry at once.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use fairlane_common::queue::{Policy, Why};
use fairlane_common::{Build, BuildId, BuildState, FailureClass};
use fairlane_testkit::wait_for;
use fairlane_worker::Settings;

use crate::scene::{SOON, Scene, Worker, settings};

/// Waits to push as the documentation says.
const WAIT: &str = r#"
    echo '{"message": "Built; waiting to push", "phase": "waiting-to-push"}'
    until [ -s "$FAIRLANE_PUSH_GATE" ]; do sleep 0.05; done"#;

pub(crate) async fn limit(scene: &Scene, push_limit: Option<u32>) {
    let policy = Policy { push_limit, ..Policy::default() };
    scene.queue.set_policy(&policy, "test").await.unwrap();
}

impl Scene {
    /// A build command that builds, waits as `wait` says, and pushes with the command `push`; each push writes two
    /// lines into a file.
    fn pusher(&self, wait: &str, push: &str) -> PathBuf {
        let file = self.pushes_file();
        self.script(&format!(
            r#"echo '{{"message": "Step 1", "phase": "building"}}'
               {wait}
               echo start >> '{file}'
               echo '{{"message": "Pushing image", "phase": "pushing"}}'
               {push}
               echo end >> '{file}'"#
        ))
    }

    fn pushes_file(&self) -> String {
        self.dir.join("pushes").display().to_string()
    }

    pub(crate) async fn submit_pushed(&self) -> BuildId {
        let mut spec = self.spec();
        spec.push = true;
        self.submit_spec(BuildId::new(), spec).await
    }

    /// The most pushes at once that the file shows, and how many there were.
    fn most_pushes(&self) -> (i32, i32) {
        let (mut now, mut most, mut all) = (0, 0, 0);
        for line in std::fs::read_to_string(self.pushes_file()).unwrap().lines() {
            now += if line == "start" { 1 } else { -1 };
            all += i32::from(line == "start");
            most = most.max(now);
        }
        (most, all)
    }

    async fn why(&self, id: BuildId) -> (Build, Why) {
        let build = self.build(id).await;
        let why = self.queue.why(&build).await.unwrap();
        (build, why)
    }

    /// How many builds push, and how many wait for that.
    pub(crate) async fn pushing(&self) -> (u64, u64) {
        let snapshot = self.queue.snapshot().await.unwrap();
        (snapshot.pushing, snapshot.push_waiting)
    }
}

async fn worker(scene: &Scene, host: &str, script: &std::path::Path, slots: usize) -> Worker {
    let slots = NonZeroUsize::new(slots).unwrap();
    let (silence_timeout, drain_timeout) = (Duration::from_secs(3), Duration::ZERO);
    let host = host.to_owned();
    scene.worker(Settings { host, slots, silence_timeout, drain_timeout, ..settings(script) }).await
}

/// Builds twenty images with two workers; returns the most pushes at once.
async fn twenty(scene: &Scene, script: &std::path::Path) -> i32 {
    let _ = std::fs::remove_file(scene.pushes_file());
    let workers = [worker(scene, "one", script, 10).await, worker(scene, "two", script, 10).await];
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(scene.submit_pushed().await);
    }
    for id in ids {
        scene.build_in(id, BuildState::Succeeded).await;
    }
    for worker in workers {
        worker.end().await.unwrap();
    }
    scene.check().await;
    let (most, all) = scene.most_pushes();
    assert_eq!(all, 20);
    most
}

#[tokio::test]
async fn twenty_builds_never_push_more_than_three_at_once() {
    let scene = Scene::start().await;
    limit(&scene, Some(3)).await;
    assert_eq!(twenty(&scene, &scene.pusher(WAIT, "sleep 0.3")).await, 3);
    // The same builds at an open gate push together: the first part can fail.
    let unlimited = twenty(&scene, &scene.pusher("", "sleep 0.3")).await;
    assert!(unlimited > 3, "{unlimited}");
}

#[tokio::test]
async fn a_line_that_only_looks_like_a_push_does_not_shut_the_gate() {
    let scene = Scene::start().await;
    limit(&scene, Some(1)).await;
    let printed = r#"echo '{"message": "The push refers to repository [x]", "phase": "building"}'"#;
    let script = scene.pusher(&format!("{printed}\n{WAIT}"), "");
    let worker = worker(&scene, "one", &script, 1).await;
    let id = scene.submit_pushed().await;
    assert_eq!(scene.build_in(id, BuildState::Succeeded).await.attempt, 1);
    worker.end().await.unwrap();
    scene.check().await;
}

#[tokio::test]
async fn a_push_that_hangs_is_tried_again_elsewhere_and_meanwhile_others_push() {
    let scene = Scene::start().await;
    limit(&scene, Some(1)).await;
    let hung = scene.dir.join("hung");
    let hang = format!("if mkdir '{}' 2>/dev/null; then sleep 1000; fi", hung.display());
    let script = scene.pusher(WAIT, &hang);
    let one = worker(&scene, "one", &script, 1).await;
    let first = scene.submit_pushed().await;
    scene.line(first, 1, r#"{"message": "Pushing image""#).await;
    let two = worker(&scene, "two", &script, 1).await;
    let second = scene.submit_pushed().await;
    let what = "the second build to wait";
    scene.build_that(second, what, |build| build.waits_to_push() && build.note.is_some()).await;
    let (build, why) = scene.why(second).await;
    assert_eq!(build.note.as_deref(), Some("built; waiting to push: 1 build is pushing to r.example.org"));
    assert!(why.text.ends_with(build.note.as_deref().unwrap()), "{why:?}");
    assert!(why.visitor.text.starts_with("Your image is built."), "{why:?}");
    assert_eq!(scene.pushing().await, (1, 1));

    // It waits for longer than the silence limit, and does not end.
    let retried =
        scene.build_that(first, "the first build to be tried again", |build| build.attempt == 2).await;
    assert_eq!(
        (retried.class, retried.failed_on),
        (Some(FailureClass::Stuck), vec!["process/one".to_owned()])
    );
    assert!(retried.reason.is_some_and(|reason| reason.contains("nothing for 3s")));
    assert_eq!(scene.build_in(second, BuildState::Succeeded).await.attempt, 1);
    let build = scene.build_in(first, BuildState::Succeeded).await;
    assert_eq!(build.node.as_deref(), Some("two"), "{build:?}");
    assert_eq!((scene.most_pushes().1, scene.pushing().await), (3, (0, 0)));
    one.end().await.unwrap();
    two.end().await.unwrap();
    scene.check().await;
}

#[tokio::test]
async fn a_build_that_waits_to_push_is_cancelled_or_goes_back_into_line_with_its_worker() {
    let scene = Scene::start().await;
    limit(&scene, Some(1)).await;
    let holder = scene.submit_pushed().await;
    let script = scene.pusher(WAIT, "while [ ! -e \"$0.go\" ]; do sleep 0.1; echo pushing; done");
    let one = worker(&scene, "one", &script, 3).await;
    scene.build_that(holder, "a push", |build| build.push_go.is_some()).await;
    let (cancelled, moved) = (scene.submit_pushed().await, scene.submit_pushed().await);
    for id in [cancelled, moved] {
        scene.build_that(id, "a build to wait", Build::waits_to_push).await;
    }
    assert_eq!(scene.pushing().await, (1, 2));
    scene.queue.cancel(cancelled, "test", "no longer wanted").await.unwrap();
    scene.build_in(cancelled, BuildState::Cancelled).await;
    one.end().await.unwrap();
    assert_eq!(scene.pushing().await, (0, 0));
    for id in [holder, moved] {
        assert_eq!(scene.build(id).await.state, BuildState::Queued);
    }
    std::fs::write(format!("{}.go", script.display()), "").unwrap();
    let two = worker(&scene, "two", &script, 3).await;
    for id in [holder, moved] {
        scene.build_in(id, BuildState::Succeeded).await;
    }
    two.end().await.unwrap();
    scene.check().await;
}

/// What the command is like without a limit, and with one for builds that push.
#[tokio::test]
async fn only_builds_that_push_under_a_limit_have_a_gate() {
    let scene = Scene::start().await;
    let script = scene
        .script(r#"echo "gate ${FAIRLANE_PUSH_GATE:-none}"; echo '{"message": "P", "phase": "pushing"}'"#);
    let before = worker(&scene, "one", &script, 1).await;
    let id = scene.submit_pushed().await;
    assert_eq!(scene.line(id, 1, "gate ").await, "none");
    scene.build_in(id, BuildState::Succeeded).await;
    before.end().await.unwrap();
    limit(&scene, Some(1)).await;
    let after = worker(&scene, "one", &script, 1).await;
    let plain = scene.submit().await;
    assert_eq!(scene.line(plain, 1, "gate ").await, "none");
    let pushed = scene.submit_pushed().await;
    assert!(scene.line(pushed, 1, "gate ").await.ends_with("/push-gate"));
    scene.build_in(pushed, BuildState::Succeeded).await;
    after.end().await.unwrap();
}

/// A command that does not wait is counted all the same.
#[tokio::test]
async fn who_pushes_without_waiting_is_counted() {
    let scene = Scene::start().await;
    limit(&scene, Some(1)).await;
    let script = scene.pusher("", "while [ ! -e \"$0.go\" ]; do sleep 0.1; done");
    let one = worker(&scene, "one", &script, 2).await;
    let ids = [scene.submit_pushed().await, scene.submit_pushed().await];
    wait_for("two pushes", SOON, async || match scene.pushing().await {
        (2, 0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    std::fs::write(format!("{}.go", script.display()), "").unwrap();
    for id in ids {
        scene.build_in(id, BuildState::Succeeded).await;
    }
    assert_eq!(scene.pushing().await, (0, 0));
    one.end().await.unwrap();
}
