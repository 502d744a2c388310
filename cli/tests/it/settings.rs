//! A flag wins over the environment, which wins over the file.

use fairlane_testkit::{Said, TempDir};

use crate::setup::{fairlane, run};

// Nothing listens on these ports of the loopback address, so the error names the one that was tried.
const FILE: &str = "http://127.0.0.1:1";
const VARIABLE: &str = "http://127.0.0.1:2";
const FLAG: &str = "http://127.0.0.1:3";

fn home(file: &str) -> TempDir {
    let home = TempDir::new();
    std::fs::write(home.join("fairlane.toml"), file).unwrap();
    home
}

async fn queue(home: &TempDir, variable: Option<&str>, flags: &[&str]) -> Said {
    let mut command = fairlane(home, ["queue"].into_iter().chain(flags.iter().copied()));
    if let Some(url) = variable {
        command.env("FAIRLANE_DISPATCHER_URL", url);
    }
    run(command).await
}

#[tokio::test]
async fn precedence() {
    let home = home(&format!("dispatcher_url = '{FILE}'"));
    queue(&home, None, &[]).await.expect(4, FILE);
    queue(&home, Some(VARIABLE), &[]).await.expect(4, VARIABLE);
    queue(&home, Some(VARIABLE), &["--dispatcher-url", FLAG]).await.expect(4, FLAG);
}

#[tokio::test]
async fn another_file_is_named_by_flag_or_environment() {
    let home = TempDir::new();
    std::fs::write(home.join("other.toml"), format!("[queue]\ndispatcher_url = '{FILE}'")).unwrap();
    queue(&home, None, &["--config", "other.toml"]).await.expect(4, FILE);
    let mut command = fairlane(&home, ["queue"]);
    command.env("FAIRLANE_CONFIG", "other.toml");
    run(command).await.expect(4, FILE);
    queue(&home, None, &["--config", "missing.toml"]).await.expect(2, "missing.toml cannot be read");
}

#[tokio::test]
async fn a_wrong_file_is_refused_with_its_name_and_what_to_do() {
    for (file, says) in [
        (
            "dispatcher_ulr = 'a'",
            "fairlane.toml: there is no setting `dispatcher_ulr`; did you mean `dispatcher_url`?",
        ),
        ("[worker]\nslotz = 2", "did you mean `worker.slots`?"),
        ("dispatcher_url = 'a", "fairlane.toml, line 1"),
        ("[queue]\nlimit = 0", "The value comes from fairlane.toml"),
    ] {
        queue(&home(file), None, &["--builds"]).await.expect(2, says);
    }
}

#[tokio::test]
async fn a_worker_does_not_start_with_a_pod_template_that_is_none() {
    let home = home("sticky_builds = true\npod_template = 'pod.yaml'");
    for (template, says) in [
        (
            "spec: { nodeSelectr: { a: b } }",
            "the pod template pod.yaml cannot be used: spec.nodeSelectr: no pod has such a field",
        ),
        ("kind: Deployment", "it is not a pod"),
        ("spec: { restartPolicy: Always }", "spec.restartPolicy is Fairlane's own"),
        ("spec: { volumes: [{ name: docker-socket, emptyDir: {} }] }", "spec.volumes[0]"),
    ] {
        std::fs::write(home.join("pod.yaml"), template).unwrap();
        run(fairlane(&home, ["worker", "--executor=kubernetes"])).await.expect(2, says);
    }
    run(fairlane(&home, ["worker", "--pod-template=missing.yaml"])).await.expect(2, "missing.yaml");
}

#[tokio::test]
async fn secrets_are_never_shown() {
    let secret = "correct-horse-battery";
    let home = home(&format!("token = '{secret}'\nredis_url = 'redis://:{secret}@127.0.0.1:1'"));
    for line in [
        &["queue", "--help"][..],
        &["queue"],
        &["doctor"],
        &["doctor", "--json"],
        &["dispatcher", "--help"],
        &["dispatcher"],
    ] {
        let mut command = fairlane(&home, line.iter().copied());
        command.env("FAIRLANE_SEAL_KEY", format!("k:{secret}"));
        let said = run(command).await;
        assert!(!said.data.contains(secret) && !said.talk.contains(secret), "{line:?}: {said:#?}");
    }
}
