//! Running the tests of `common` with another text of the library.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::blocks;
use crate::shell::{cargo, quiet};

/// The test that writes the library to a file, and what names the file.
pub(crate) const WRITER: &str = "libraries::the_library_is_written_to_a_file";
pub(crate) const WRITE_TO: &str = "FAIRLANE_WRITE_LIBRARY";
/// Names a library that each test's server loads; see `RedisServer`.
pub(crate) const LIBRARY: &str = "FAIRLANE_TEST_LIBRARY";
/// Names a file to which each test's server adds its log.
const SERVER_LOG: &str = "FAIRLANE_TEST_REDIS_LOG";
/// How many histories the model test plays; a fault that no other test notices is worth only so many.
const CASES: &str = "FAIRLANE_MODEL_CASES";
const CASES_OF_A_MUTANT: &str = "8";
/// What a test says if Redis refuses that library.
const REFUSED: &str = "refused the library under test";

/// What became of each mutant, in the workspace.
pub(crate) const REPORT: &str = "target/mutants/report.txt";

/// A fault may make a test, or Redis, run forever.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_FACTOR: u32 = 3;
/// Memory of a process, in KB: a fault may make it grow without end.
const MEMORY_KB: u32 = 4_000_000;

/// How long the tests take and what they run, in the folder.
const REHEARSAL: &str = "rehearsal.json";

/// A test of the binary.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) name: String,
    /// How long it takes without a fault.
    pub(crate) took: Duration,
    /// The blocks that it runs.
    pub(crate) blocks: HashSet<usize>,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Passed,
    Failed,
    /// It ran for too long.
    Hung,
    /// Redis refused the library.
    Refused,
}

/// The test binary of `common`, and a folder for what is written.
pub(crate) struct Trial {
    binary: PathBuf,
    folder: PathBuf,
    /// The library without a fault.
    pub(crate) library: String,
}

impl Trial {
    /// Builds the tests, unless `as_built`, and reads the library.
    pub(crate) fn prepare(root: &Path, as_built: bool) -> Result<Self> {
        let folder = root.join("target/mutants");
        std::fs::create_dir_all(&folder)?;
        let binary = folder.join("tests");
        if !as_built {
            // All tests, as for any other run: alone, this one would be compiled anew with fewer features.
            let words = ["test", "--workspace", "--tests", "--no-run", "--message-format=json"];
            println!("+ cargo {}", words.join(" "));
            let messages = quiet(&mut cargo(root, &words))?;
            let built = messages.lines().rev().find_map(binary_of);
            // A copy, which stays as it is if the tests are built again meanwhile.
            std::fs::copy(built.context("cargo built no tests of common")?, &binary)?;
        }
        let written = folder.join("library.lua");
        quiet(Command::new(&binary).args([WRITER, "--exact", "--ignored"]).env(WRITE_TO, &written))?;
        let library = std::fs::read_to_string(written)?;
        Ok(Self { binary, folder, library })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn names(&self) -> Result<Vec<String>> {
        let listed = quiet(Command::new(&self.binary).args(["--list", "--format=terse"]))?;
        let ignored = quiet(Command::new(&self.binary).args(["--list", "--format=terse", "--ignored"]))?;
        let ignored: HashSet<&str> = ignored.lines().collect();
        let names = listed.lines().filter(|line| !ignored.contains(line));
        Ok(names.filter_map(|line| Some(line.strip_suffix(": test")?.to_owned())).collect())
    }

    /// Runs the wanted tests without a fault: how long they take, and which blocks they run. Those that fail are
    /// returned separately. `again`: as the last rehearsal found, if it is there.
    pub(crate) fn rehearse(
        &self,
        noted: &str,
        wanted: &[String],
        again: bool,
    ) -> Result<(Vec<Test>, Vec<String>)> {
        if again && let Ok(text) = std::fs::read_to_string(self.file(REHEARSAL)) {
            let all: Vec<(String, Duration, HashSet<usize>)> = serde_json::from_str(&text)?;
            let fits = all.into_iter().filter(|(name, ..)| is_wanted(name, wanted));
            return Ok((fits.map(|(name, took, blocks)| Test { name, took, blocks }).collect(), vec![]));
        }
        let (mut tests, mut failing) = (Vec::new(), Vec::new());
        let log = self.file("redis.log");
        for name in self.names()?.into_iter().filter(|name| is_wanted(name, wanted)) {
            let _ = std::fs::remove_file(&log);
            self.write(noted)?;
            let began = Instant::now();
            let end = self.run(&name, Duration::MAX, Some(&log))?;
            let took = began.elapsed();
            let blocks = blocks::entered(&String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()));
            if end == End::Passed {
                tests.push(Test { name, took, blocks });
            } else {
                failing.push(name);
            }
        }
        if tests.is_empty() {
            bail!("no test passes without a fault; see {}", self.file("output.txt").display());
        }
        let all: Vec<_> = tests.iter().map(|test| (&test.name, test.took, &test.blocks)).collect();
        std::fs::write(self.file(REHEARSAL), serde_json::to_string(&all)?)?;
        Ok((tests, failing))
    }

    /// Sets the library that the next tests use.
    pub(crate) fn write(&self, library: &str) -> Result<()> {
        Ok(std::fs::write(self.file("mutant.lua"), library)?)
    }

    /// Runs one test, at most for as long as may be expected of it.
    pub(crate) fn play(&self, test: &Test) -> Result<End> {
        self.run(&test.name, test.took * PATIENCE_FACTOR + PATIENCE, None)
    }

    fn run(&self, name: &str, patience: Duration, log: Option<&Path>) -> Result<End> {
        let output = self.file("output.txt");
        let file = File::create(&output)?;
        let limited = format!("ulimit -v {MEMORY_KB}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &limited]).arg(&self.binary).args([name, "--exact"]);
        command.env(LIBRARY, self.file("mutant.lua")).stdin(Stdio::null());
        if let Some(log) = log {
            command.env(SERVER_LOG, log);
        }
        if std::env::var_os(CASES).is_none() {
            command.env(CASES, CASES_OF_A_MUTANT);
        }
        // In a group of its own, so that its servers can be killed with it.
        let mut child = command.process_group(0).stdout(file.try_clone()?).stderr(file).spawn()?;
        let status = wait(&mut child, patience)?;
        let end = match status {
            None => End::Hung,
            Some(true) => End::Passed,
            Some(false) if std::fs::read_to_string(&output)?.contains(REFUSED) => End::Refused,
            Some(false) => End::Failed,
        };
        Ok(end)
    }
}

/// Whether a part of the name is wanted, and none that is named with a minus.
fn is_wanted(name: &str, parts: &[String]) -> bool {
    let (without, with): (Vec<&String>, Vec<&String>) = parts.iter().partition(|part| part.starts_with('-'));
    (with.is_empty() || with.iter().any(|part| name.contains(*part)))
        && !without.iter().any(|part| name.contains(&part[1..]))
}

/// Whether the process succeeded; none if it took too long and was killed.
fn wait(child: &mut Child, patience: Duration) -> Result<Option<bool>> {
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status.success());
        }
        if began.elapsed() > patience {
            break None;
        }
        sleep(Duration::from_millis(5));
    };
    if status != Some(true) {
        // A server whose test was killed would run on.
        let _ = quiet(Command::new("sh").args(["-c", &format!("kill -KILL -- -{}", child.id())]));
        child.wait()?;
    }
    Ok(status)
}

/// The path of the test binary, if a message of cargo names it.
fn binary_of(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let ours = message["target"]["src_path"].as_str()?.ends_with("common/tests/it/main.rs");
    ours.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
}

/// Of the tests that run a place, the likeliest to fail first: those that noticed faults nearby, and quick ones.
pub(crate) fn likeliest<'a>(
    tests: &'a [Test],
    runs: impl Fn(&Test) -> bool,
    kills: &HashMap<String, u32>,
) -> Vec<&'a Test> {
    let mut chosen: Vec<&Test> = tests.iter().filter(|test| runs(test)).collect();
    let cost = |test: &Test| {
        let noticed = kills.get(&test.name).copied().unwrap_or(0);
        test.took.as_micros() / u128::from(1 + 4 * noticed)
    };
    chosen.sort_by_key(|test| cost(test));
    chosen
}
