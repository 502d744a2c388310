//! Builds that end by themselves.

use std::time::Duration;

use fairlane_common::seal::{SealKeys, Secrets};
use fairlane_common::{BuildId, BuildState, FailureClass};
use fairlane_worker::Settings;

use crate::scene::{SOON, Scene, settings};

#[tokio::test]
async fn a_build_runs_and_its_log_is_kept() {
    let scene = Scene::start().await;
    let script = scene
        .script(r#"for word in "$@"; do echo "word $word"; done; printf 'err\r\n' >&2; printf 'no end'"#);
    let worker = scene.worker(settings(&script)).await;
    let mut spec = scene.spec();
    spec.push = true;
    spec.args = vec!["--appendix=RUN echo $HOME; `id`".to_owned()];
    let id = scene.submit_spec(BuildId::new(), spec).await;
    let build = scene.build_in(id, BuildState::Succeeded).await;

    let lines = scene.log(id, 1).await;
    let words: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("word ")).collect();
    let appendix = "--appendix=RUN echo $HOME; `id`";
    assert_eq!(words, ["--ref=0123abc", "--push", appendix, "https://git.example.org/owner/name0"]);
    assert!(lines.contains(&"err".to_owned()) && lines.contains(&"no end".to_owned()), "{lines:?}");
    let (end, _) = scene.queue.log_end(id, 1, 1).await.unwrap();
    assert_eq!((build.log_run, build.log_end), (Some(1), Some(end)));
    assert!(build.started.is_some());
    worker.end().await.unwrap();
    assert!(scene.queue.workers().await.unwrap().is_empty());
    scene.check().await;
}

#[tokio::test]
async fn a_failed_build_tells_its_class_and_its_last_lines() {
    let scene = Scene::start().await;
    let script = scene.script(
        r#"echo '{"message": "Step 1", "phase": "building"}' >&2
           echo 'ERROR: No matching distribution found for nope' >&2; exit 1"#,
    );
    let worker = scene.worker(settings(&script)).await;
    let id = scene.submit().await;
    let build = scene.build_in(id, BuildState::Failed).await;
    assert_eq!(build.class, Some(FailureClass::Repository));
    assert!(build.reason.as_deref().is_some_and(|reason| reason.contains("package")), "{build:?}");
    let tail = build.log_tail.unwrap();
    assert_eq!(tail, "Step 1\nERROR: No matching distribution found for nope");
    // Watchers get the line as repo2docker wrote it.
    assert_eq!(scene.log(id, 1).await[0], r#"{"message": "Step 1", "phase": "building"}"#);
    worker.end().await.unwrap();
    scene.check().await;
}

#[tokio::test]
async fn arguments_that_are_not_allowed_fail_the_build() {
    let scene = Scene::start().await;
    let worker = scene.worker(settings(&scene.script("echo never"))).await;
    let mut spec = scene.spec();
    spec.args = vec!["--volume=/:/host".to_owned()];
    let id = scene.submit_spec(BuildId::new(), spec).await;
    // Another worker may allow the argument: the build is tried again, and it is never the repository's fault.
    let build = scene.build_that(id, "the first attempt to fail", |build| build.class.is_some()).await;
    assert_eq!((build.class, build.attempt), (Some(FailureClass::Infrastructure), 2));
    let says = "the dispatcher allows the argument '--volume=/:/host', but this worker does not";
    assert!(build.reason.is_some_and(|reason| reason.contains(says)));
    worker.end().await.unwrap();
}

#[tokio::test]
async fn secrets_reach_the_command_by_its_environment_alone() {
    let scene = Scene::start().await;
    let script = scene.script(
        r#"echo "git ${#GIT_CREDENTIAL_ENV}"; echo "registry ${#CONTAINER_ENGINE_REGISTRY_CREDENTIALS}"
           echo "seal ${#FAIRLANE_SEAL_KEY}"
           for file in /proc/$PPID/cmdline /proc/$PPID/environ /proc/$$/cmdline; do
             grep -c hidden-word "$file"; done; exit 0"#,
    );
    let keys = SealKeys::parse(&format!("a:{}", "5".repeat(64)).into()).unwrap();
    let worker = scene.worker(Settings { seal_keys: Some(keys.clone()), ..settings(&script) }).await;
    let (id, mut spec) = (BuildId::new(), scene.spec());
    let secrets: Secrets =
        [("git_credentials", "username=me\npassword=hidden-word"), ("registry_credentials", "{}")]
            .into_iter()
            .map(|(name, secret)| (name.to_owned(), secret.into()))
            .collect();
    spec.secrets = Some(keys.seal(&secrets, id, &spec.image).unwrap());
    scene.submit_spec(id, spec).await;
    scene.build_in(id, BuildState::Succeeded).await;
    assert_eq!(scene.log(id, 1).await, ["git 32", "registry 2", "seal 0", "0", "0", "0"]);
    worker.end().await.unwrap();
}

#[tokio::test]
async fn silence_and_length_are_bounded() {
    let scene = Scene::start().await;
    for (body, says) in [
        ("exec sleep 1000", "nothing within 300ms of its start"),
        ("echo one; exec sleep 1000", "nothing for 400ms"),
        ("while :; do echo more; sleep 0.05; done", "longer than 1s"),
    ] {
        let mut settings = settings(&scene.script(body));
        settings.start_timeout = Duration::from_millis(300);
        settings.silence_timeout = Duration::from_millis(400);
        settings.total_timeout = Duration::from_secs(1);
        let worker = scene.worker(settings).await;
        let id = scene.submit().await;
        let build = scene.build_that(id, "the build to be called stuck", |build| build.class.is_some()).await;
        assert_eq!(build.class, Some(FailureClass::Stuck), "{body}");
        assert!(build.reason.as_deref().is_some_and(|reason| reason.contains(says)), "{build:?}");
        worker.end().await.unwrap();
        scene.queue.cancel(id, "test", "done").await.unwrap();
    }
}

#[tokio::test]
async fn a_flood_of_odd_output_is_survived() {
    let scene = Scene::start().await;
    let script = scene.script(
        r"head -c 40000 /dev/zero | tr '\0' x; echo; printf '\377\376\n'; printf '1%%\r2%%\r3%%\n'
           seq 1 3000; echo end",
    );
    let worker = scene.worker(settings(&script)).await;
    let id = scene.submit().await;
    scene.build_in(id, BuildState::Succeeded).await;
    let lines = scene.log(id, 1).await;
    assert_eq!(lines[..3].iter().map(String::len).collect::<Vec<_>>(), [16384, 16384, 40000 - 2 * 16384]);
    assert_eq!(lines[3..5], ["\u{fffd}\u{fffd}", "1%\r2%\r3%"]);
    let numbers: Vec<String> = (1..=3000).map(|n| n.to_string()).collect();
    assert_eq!(lines[5..3005], numbers);
    assert_eq!(lines[3005..], ["end"]);
    worker.end().await.unwrap();
}

#[tokio::test]
async fn a_missing_command_is_told_at_start() {
    let scene = Scene::start().await;
    let worker = scene.spawn("worker", &["--command=no-such {repo}"]);
    assert!(!worker.wait(SOON).await.success());
    worker
        .wait_for_line("no-such is not in PATH; install it, or name another one with --command", SOON)
        .await;
    assert!(scene.queue.workers().await.unwrap().is_empty());
}
