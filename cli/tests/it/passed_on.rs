//! `fairlane bench` and `fairlane replay` run another program with their own arguments.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fairlane_testkit::{TempDir, command_in};

use crate::setup::run;

/// `fairlane` in a folder without our other programs.
struct Alone {
    program: PathBuf,
    home: TempDir,
}

impl Alone {
    fn new(name: &str) -> Self {
        // On the same file system as the program, for a hard link; the program is too large to be copied.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("fairlane");
        std::fs::hard_link(env!("CARGO_BIN_EXE_fairlane"), &program).unwrap();
        Self { program, home: TempDir::new() }
    }

    fn command(&self, words: &[&str]) -> Command {
        command_in(&self.home, self.program.to_str().unwrap(), words.iter().copied())
    }

    /// Writes a program of that name to `folder`, which prints `tells` and its arguments.
    fn other(folder: &Path, tells: &str) {
        let path = folder.join("fairlane-bench");
        let script = format!("#!/bin/sh\necho {tells} \"$@\"\ncat\necho talk >&2\nexit 7\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn folder(&self) -> &Path {
        self.program.parent().unwrap()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // A remaining folder does no harm, because it is in the target folder.
        let _ = std::fs::remove_dir_all(self.folder());
    }
}

#[tokio::test]
async fn the_program_beside_gets_all_arguments_and_its_exit_code_is_ours() {
    let fairlane = Alone::new("beside");
    Alone::other(fairlane.folder(), "beside");
    for (words, told) in [
        (&["bench", "enqueue", "5", "--json"][..], "bench enqueue 5 --json"),
        (&["--json", "bench", "--rounds=2", "drain", "5"], "--json bench --rounds=2 drain 5"),
        (&["bench", "--unknown", "-x"], "bench --unknown -x"),
        (&["bench"], "bench"),
        (&["bench", "--help"], "bench --help"),
        (&["replay", "-h"], "replay -h"),
        (&["help", "replay"], "replay --help"),
        (&["help", "bench", "enqueue"], "bench enqueue --help"),
        (&["replay", "day", "--slow", "a=1", "--slow", "b=2"], "replay day --slow a=1 --slow b=2"),
        (&["replay", "--", "day"], "replay -- day"),
    ] {
        let said = run(fairlane.command(words)).await.expect(7, "talk");
        assert_eq!(said.data.trim_end(), format!("beside {told}"));
    }
}

#[tokio::test]
async fn without_one_beside_it_is_looked_for_in_path_and_else_said_to_be_missing() {
    let fairlane = Alone::new("missing");
    let mut command = fairlane.command(&["replay", "day"]);
    command.env("PATH", fairlane.home.path());
    let said = run(command).await.expect(1, "fairlane-bench");
    assert!(said.talk.contains("neither beside `fairlane` nor in PATH; install it"), "{said:#?}");
    assert_eq!(said.talk.lines().count(), 1, "{said:#?}");

    Alone::other(fairlane.home.path(), "in path");
    let path =
        std::env::join_paths([fairlane.home.path(), Path::new("/bin"), Path::new("/usr/bin")]).unwrap();
    let mut command = fairlane.command(&["replay", "day"]);
    command.env("PATH", path);
    let said = run(command).await.expect(7, "talk");
    assert_eq!(said.data.trim_end(), "in path replay day");
}

#[tokio::test]
async fn a_settings_file_is_checked_but_what_the_other_program_reads_is_left_to_it() {
    let fairlane = Alone::new("settings");
    Alone::other(fairlane.folder(), "beside");
    let settings = fairlane.home.join("fairlane.toml");
    std::fs::write(&settings, "redis_url = 'redis://redis'\n[bench]\nrounds = 3\n[replay]\nslots = 4\n")
        .unwrap();
    run(fairlane.command(&["bench", "enqueue", "5"])).await.expect(7, "");
    run(fairlane.command(&["rule", "--help"])).await.expect(0, "");
    std::fs::write(&settings, "redis_ulr = 'redis://redis'\n").unwrap();
    run(fairlane.command(&["bench", "enqueue", "5"])).await.expect(2, "did you mean `redis_url`?");
}
