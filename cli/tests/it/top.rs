//! `fairlane top` in a pseudo-terminal, which `script` (util-linux) opens.

use std::fs::File;
use std::io::Write;
use std::num::NonZero;
use std::process::{Child, ChildStdin, Command, Stdio};

use fairlane_testkit::{TempDir, wait_for};

use crate::setup::{Gate, LIMIT, Up, fairlane, run};

/// The sequences that leave the alternate screen and show the cursor again.
const RESTORED: [&str; 2] = ["\u{1b}[?1049l", "\u{1b}[?25h"];

/// A terminal in which `top` runs.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    written: std::path::PathBuf,
    size: (NonZero<u16>, NonZero<u16>),
}

impl Terminal {
    /// A terminal of 24 lines and 80 columns.
    fn start(up: &Up, home: &TempDir) -> Self {
        let top = up.command(home, ["top"]);
        let program = top.get_program().to_str().unwrap();
        let inside = format!("echo pid=$$ tty=$(tty); stty rows 24 cols 80; exec {program} top");
        let written = home.join("screen");
        let mut command = Command::new("script");
        command.args(["-qfec", &inside, "/dev/null"]).current_dir(home.path()).env_clear();
        command.envs(top.get_envs().filter_map(|(name, value)| value.map(|value| (name, value))));
        command.env("TERM", "xterm-256color").env("PATH", std::env::var_os("PATH").unwrap());
        command.stdin(Stdio::piped()).stdout(File::create(&written).unwrap());
        let mut child = command.spawn().expect("script of util-linux runs");
        let keys = child.stdin.take().unwrap();
        Self { child, keys, written, size: size(24, 80) }
    }

    fn raw(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.written).unwrap()).into_owned()
    }

    /// A value that the shell printed before it became `top`.
    fn said(&self, name: &str) -> String {
        let raw = self.raw();
        let word = raw.split_whitespace().find_map(|word| word.strip_prefix(name));
        word.expect("the shell says its pid and its terminal").to_owned()
    }

    fn screen(&self) -> String {
        let mut parser = vt100::Parser::new(self.size.0, self.size.1, 0);
        parser.process(&std::fs::read(&self.written).unwrap());
        parser.screen().contents()
    }

    /// Waits until the screen shows this text; returns the screen.
    async fn shows(&self, text: &str) -> String {
        wait_for(&format!("the screen to show {text:?}"), LIMIT, async || {
            let screen = self.screen();
            if screen.contains(text) { Ok(screen) } else { Err(screen) }
        })
        .await
    }

    /// Waits until the screen no longer shows this text.
    async fn hides(&self, text: &str) {
        wait_for(&format!("the screen to hide {text:?}"), LIMIT, async || {
            let screen = self.screen();
            if screen.contains(text) { Err(screen) } else { Ok(()) }
        })
        .await;
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        let tty = self.said("tty=");
        let (high, wide) = (rows.to_string(), columns.to_string());
        let status = Command::new("stty").args(["-F", &tty, "rows", &high, "cols", &wide]).status();
        assert!(status.unwrap().success());
        self.size = size(rows, columns);
    }

    /// Waits until `top` has ended; returns its exit code, and checks that the terminal was restored.
    async fn ended(mut self) -> i32 {
        let code = wait_for("top to end", LIMIT, async || {
            self.child.try_wait().unwrap().and_then(|status| status.code())
        })
        .await;
        let raw = self.raw();
        for sequence in RESTORED {
            assert!(raw.contains(sequence), "{sequence:?} is missing at the end: {raw:?}");
        }
        code
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> (NonZero<u16>, NonZero<u16>) {
    (NonZero::new(rows).unwrap(), NonZero::new(columns).unwrap())
}

/// The command of a build that writes a line and then waits at a gate.
fn talkative(home: &TempDir, gate: &Gate) -> String {
    use std::os::unix::fs::PermissionsExt;
    let script = home.join("build.sh");
    let text =
        format!("#!/bin/sh\nprintf 'Step 3/7 : \\033]0;evil\\007RUN pip\\n'\nexec {}\n", gate.template());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{} {{repo}}", script.display())
}

#[tokio::test]
async fn top_shows_a_live_queue_a_log_and_cancels_a_build() {
    let home = TempDir::new();
    let gate = Gate::new(&home);
    let up = Up::start_with(&home, &talkative(&home, &gate), &["--slots", "1"]).await;
    let mut terminal = Terminal::start(&up, &home);
    terminal.shows("No problems.").await;
    let id = up.submit(&home, "one").await;
    terminal.shows("1 of 1 slot").await;
    terminal.press("2");
    terminal.shows(&id[28..]).await;
    terminal.press("\r");
    terminal.shows("Step 3/7 : RUN pip").await;
    assert!(!terminal.raw().contains("\u{1b}]0;evil"), "a build cannot set the terminal's title");
    let people = up.run(&home, ["why", &id]).await.expect(0, "").data;
    assert!(people.contains("people            0"), "who looks on does not wait: {people}");
    terminal.resize(20, 60);
    terminal.shows("following").await;
    terminal.press("\u{1b}");
    terminal.shows("STATE").await;
    terminal.press("k");
    terminal.shows("Cancel this build?").await;
    terminal.press("y");
    terminal.shows("No build is waiting or running.").await;
    let why = up.run(&home, ["why", &id]).await.expect(0, "").data;
    assert!(why.contains("cancelled"), "{why}");
    terminal.press("q");
    assert_eq!(terminal.ended().await, 0);
    up.stop().await;
}

#[tokio::test]
async fn top_says_that_its_data_is_old_and_recovers_when_a_dispatcher_answers_again() {
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    let terminal = Terminal::start(&up, &home);
    terminal.shows("No problems.").await;
    up.process.freeze();
    let screen = terminal.shows("STALE: as of").await;
    assert!(screen.contains("No problems."), "the last state stays: {screen}");
    terminal.shows("has not answered for 5 s").await;
    up.process.thaw();
    terminal.hides("STALE").await;
    let pid = terminal.said("pid=");
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(terminal.ended().await, 130);
    up.stop().await;
}

#[tokio::test]
async fn top_without_a_terminal_names_the_commands_for_scripts() {
    let home = TempDir::new();
    for arguments in [vec!["top"], vec!["top", "--json"]] {
        let said = run(fairlane(&home, arguments)).await.expect(2, "needs a terminal");
        for command in ["fairlane queue --json", "fairlane lanes --json"] {
            assert!(said.talk.contains(command), "{said:?}");
        }
    }
}

#[tokio::test]
async fn top_handles_a_key_that_comes_together_with_a_change_of_the_windows_size() {
    const ROUNDS: u16 = 60;
    let home = TempDir::new();
    let up = Up::start(&home, "/bin/echo {repo}").await;
    let mut terminal = Terminal::start(&up, &home);
    terminal.shows("No problems.").await;
    for round in 0..ROUNDS {
        let rows = 24 + round % 2;
        terminal.press("h");
        terminal.resize(rows, 80);
        terminal.shows(" Keys ").await;
        terminal.resize(rows, 81);
        // Any key closes the help.
        terminal.press("x");
        terminal.hides(" Keys ").await;
    }
    terminal.press("q");
    assert_eq!(terminal.ended().await, 0);
    up.stop().await;
}
