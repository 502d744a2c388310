//! What `--help` says, and what a settings file does.

use fairlane_testkit::TempDir;

use crate::setup::{fairlane, run};

#[tokio::test]
async fn help_speaks_of_the_command_that_people_type() {
    let home = TempDir::new();
    for (words, usage) in [
        (&["replay", "--help"][..], "Usage: fairlane replay [OPTIONS]"),
        (&["bench", "--help"], "Usage: fairlane bench [OPTIONS] <COMMAND>"),
        (&["bench", "enqueue", "--help"], "Usage: fairlane bench enqueue [OPTIONS] <N>"),
    ] {
        let said = run(fairlane(&home, words.iter().copied())).await.expect(0, "");
        assert!(said.data.contains(usage), "{}", said.data);
        assert!(words.len() > 2 || said.data.contains("Example"), "{}", said.data);
        assert!(said.data.lines().all(|line| line.chars().count() <= 140), "{}", said.data);
    }
    run(fairlane(&home, ["bench", "drain"])).await.expect(2, "Usage: fairlane bench drain [OPTIONS] <N>");
}

#[tokio::test]
async fn a_settings_file_sets_what_is_known_here_and_may_hold_more() {
    let home = TempDir::new();
    let settings = home.join("fairlane.toml");
    let nowhere = format!("redis_url = 'unix://{}'", home.join("none.sock").display());
    let others = "dispatcher_url = 'http://localhost'\n[worker]\nslots = 4\n";
    std::fs::write(&settings, format!("{nowhere}\n{others}")).unwrap();
    run(fairlane(&home, ["bench", "enqueue", "5"])).await.expect(4, "none.sock");
    std::fs::write(&settings, format!("{others}[bench]\nround = 4\n")).unwrap();
    run(fairlane(&home, ["bench", "enqueue", "5"])).await.expect(2, "did you mean `bench.rounds`?");
}
