//! `fairlane campaign`, except `plan`.

mod course;
mod live;
mod refusals;
mod renewing;
mod watch;

use fairlane_testkit::{Said, TempDir, wait_for};
use serde_json::{Value, json};

use crate::setup::{COMMIT, LIMIT, Up};

/// A campaign's build waits for the file `go`; those of repositories named bad… fail.
const SCRIPT: &str = "while [ ! -e \"$0/go\" ]; do sleep 0.05; done\n\
                      case $1 in */bad*) echo 'no such package'; exit 1;; esac\necho built\n";

/// A running queue of 4 slots, of which background builds may have 3.
struct Stage {
    home: TempDir,
    up: Up,
}

impl Stage {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(prepare: impl FnOnce(&TempDir)) -> Self {
        let home = TempDir::new();
        prepare(&home);
        std::fs::write(home.join("build.sh"), SCRIPT).unwrap();
        let folder = home.path().display();
        // Its first argument is the script's name for itself.
        let template = format!("/bin/sh -c '. {folder}/build.sh' {folder} {{repo}}");
        let up = Up::start_with(&home, &template, &["--slots", "4"]).await;
        Self { home, up }
    }

    /// `fairlane campaign` with these words, separated by blanks.
    async fn campaign(&self, words: &str) -> Said {
        self.up.run(&self.home, ["campaign"].into_iter().chain(words.split_whitespace())).await
    }

    /// What `fairlane campaign status` says in JSON.
    async fn status(&self, name: &str) -> Value {
        self.campaign(&format!("status {name} --json")).await.expect(0, "").json().remove(0)
    }

    /// Waits until a campaign's `field` is this.
    async fn reaches(&self, name: &str, field: &str, value: impl Into<Value>) {
        let value = value.into();
        wait_for(&format!("{field} of {name} to be {value}"), LIMIT, async || {
            let status = self.status(name).await;
            if status[field] == value { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    /// Writes a file.
    fn write(&self, name: &str, lines: &[Value]) {
        let text: Vec<String> = lines.iter().map(Value::to_string).collect();
        std::fs::write(self.home.join(name), text.join("\n")).unwrap();
    }

    /// Builds end from now on.
    fn go(&self) {
        std::fs::write(self.home.join("go"), "").unwrap();
    }
}

/// A build of a plan: expected to take a minute, with as many launches.
fn item(name: &str, launches: u32) -> Value {
    json!({
        "repo": format!("https://github.com/o/{name}"), "ref": COMMIT, "spec": format!("GitHub:o/{name}/HEAD"),
        "image": format!("registry.example.org/new-{name}:1"), "launches": launches, "expected_seconds": 60,
    })
}

/// The header of a plan with so many launches, some of which find their image already.
fn header(launches: u32, present: u32) -> Value {
    json!({
        "fairlane_plan": 1, "created": "2026-11-30T10:00:00Z", "prefix": "registry.example.org/new-",
        "launches": launches, "launches_present": present, "slot_seconds": 300,
    })
}
