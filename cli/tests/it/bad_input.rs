//! Bad input gets an error that says what to do, and exit code 2.

use fairlane_testkit::TempDir;

use crate::setup::{COMMIT, fairlane, run};

#[tokio::test]
async fn it_is_refused_before_anything_is_sent() {
    let home = TempDir::new();
    // The path of a Unix socket may have about 100 characters.
    let deep = home.join("deep".repeat(25));
    for (line, says) in [
        ("submit owner/name", "neither a Git URL"),
        ("submit https://user:secret@github.com/o/n", "use --git-credentials-file"),
        ("submit file://etc/passwd", "full path"),
        ("submit https://github.com/o/n --ref=--upload-pack=x", "must not start with '-'"),
        ("submit https://github.com/o/n --image a//b", "not an image's name"),
        ("submit https://github.com/o/n --priority urgent", "possible values: interactive, background"),
        ("submit https://github.com/o/n --label nonsense", "a label looks like name=value"),
        ("submit https://github.com/o/n --git-credentials-file missing", "missing cannot be read"),
        ("watch nonsense", "not a build id"),
        ("lanes plain", "a lane looks like"),
        ("rule ban github.com/jup*", "whole segments"),
        ("rule ban *.com/owner", "a * can only be at the end"),
        ("rule ban github.com/o/n --for 2h --until 2030-01-01T00:00:00Z", "cannot be used with"),
        ("rule ban github.com/o/n --build", "--until-built"),
        ("rule limit github.com/o/n 0", "it must be at least 1"),
        ("rule limit github.com/o/n", "required"),
        ("drain a/b", "an id has"),
        ("queue --state running", "--builds"),
        ("queue --builds --state asleep", "possible values: queued"),
        ("queue --dispatcher-url 127.0.0.1:8600", "one looks like http://"),
        ("up --slots 0", "it must be from 1 to 1000"),
        ("dispatcher --listen localhost", "it must be an IP address and a port"),
        ("logs prune", "<--older-than <TIME>|--to <SIZE>>"),
        ("up --command {repo}", "must begin with a program"),
        ("up --command 'a {oops}'", "unknown placeholder"),
        ("up --listen nonsense", "--listen"),
        ("up --command /bin/true --listen 0.0.0.0:8600", "without a token"),
        ("dispatcher --listen 0.0.0.0:8600", "without a token"),
        ("up --redis-url nonsense", "has no scheme"),
        ("worker --redis-url http://:secret@a", "unknown scheme"),
        ("doctor --redis-url nonsense", "has no scheme"),
        ("doctor --data missing", "no `fairlane up` is using"),
        ("up --command /bin/true --data DEEP", "Choose a shorter one with --data"),
        ("sumbit", "similar"),
    ] {
        let mut words: Vec<String> = line
            .replace("'a {oops}'", "a+{oops}")
            .split(' ')
            .map(|word| word.replace('+', " ").replace("DEEP", &deep.display().to_string()))
            .collect();
        if words[0] == "submit" && line.contains("missing") {
            words.extend(["--ref".to_owned(), COMMIT.to_owned()]);
        }
        let said = run(fairlane(&home, words.iter().map(String::as_str))).await;
        assert!(!said.talk.contains("secret@") && !said.talk.contains(":secret"), "{line}: {said:#?}");
        said.expect(2, says);
    }
}

#[tokio::test]
async fn nobody_there() {
    let home = TempDir::new();
    let said =
        run(fairlane(&home, ["queue", "--dispatcher-url", "http://127.0.0.1:1,http://127.0.0.1:2"])).await;
    let said = said.expect(4, "no dispatcher answers at http://127.0.0.1:1, http://127.0.0.1:2");
    assert!(said.talk.contains("Start one with `fairlane up`"), "{said:?}");
    run(fairlane(&home, ["worker", "--redis-url", "redis://127.0.0.1:1", "--command", "/bin/true {repo}"]))
        .await
        .expect(4, "Is Redis running there?");
}

#[tokio::test]
async fn a_missing_program_is_named_with_what_to_do() {
    let home = TempDir::new();
    let mut command = fairlane(&home, ["up"]);
    command.env("PATH", home.path());
    run(command).await.expect(1, "jupyter-repo2docker==2024.7.0 chardet==5.2.0");
    let mut command = fairlane(&home, ["up", "--command", "/bin/true {repo}"]);
    command.env("PATH", home.path());
    run(command).await.expect(1, "sudo apt-get install redis-server");
    run(fairlane(&home, ["up", "--command", "/no/such/builder {repo}"])).await.expect(2, "does not exist");
}
