//! `mutants`: plants small faults in `common/lua`, one at a time, and runs the tests that should notice.
//!
//! Nothing is compiled for a mutant: the redis-server of each test loads the changed library before the test does
//! (`FAIRLANE_TEST_LIBRARY`, see `RedisServer` in testkit), under the name by which the queue calls it.

mod blocks;
mod known;
mod lexer;
mod mutate;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use self::blocks::Blocks;
use self::known::Known;
use self::mutate::{KINDS, Mutant, mutants_of};
use self::trial::{End, Test, Trial, likeliest};
pub(crate) use self::trial::{LIBRARY, WRITE_TO, WRITER};
use crate::packages;

/// Where the Lua is, in the workspace.
const LUA: &str = "common/lua";
/// Whose failure once is enough: its clock is simulated and its histories are random.
const RANDOM: &str = "model::";

struct Options {
    sample: usize,
    seed: u64,
    files: Vec<String>,
    kinds: Vec<String>,
    tests: Vec<String>,
    only_list: bool,
    /// Only those that survived the last time.
    again: bool,
    /// With the tests as they were built the last time.
    as_built: bool,
    /// How many tests are tried on each fault, the likeliest first.
    most: usize,
}

/// A Lua file, its mutants' blocks, and where its text is in the library.
struct LuaFile {
    name: String,
    text: String,
    blocks: Blocks,
    first_block: usize,
}

/// What became of a mutant.
enum Fate {
    Killed {
        by: String,
        how: End,
        runs: usize,
    },
    Survived {
        runs: usize,
    },
    /// Redis refused it.
    Invalid,
}

/// Runs it, and prints what survived.
pub(crate) fn run(root: &Path, words: &[String]) -> Result<()> {
    let options = options(words)?;
    let files = read_files(root)?;
    let all: Vec<Mutant> = files.iter().flat_map(|file| mutants_of(&file.name, &file.text)).collect();
    let known = Known::read(&fs::read_to_string(root.join(known::PATH))?)?;
    let left = known.left_over(&all);
    if !left.is_empty() {
        bail!(
            "{}: no mutant fits these entries any more; remove or renew them:\n{}",
            known::PATH,
            left.join("\n")
        );
    }
    let total = all.len();
    let mut chosen = choose(all, &options);
    if options.again {
        let last = fs::read_to_string(root.join(trial::REPORT)).context("there is no last time")?;
        chosen.retain(|mutant| last.contains(&format!("{}\nSURVIVED", describe(mutant))));
    }
    println!("{} of {total} mutants (--seed={})", chosen.len(), options.seed);
    if options.only_list {
        for mutant in &chosen {
            println!("{}", describe(mutant));
        }
        return Ok(());
    }
    packages::ensure(&[packages::REDIS])?;
    let trial = Trial::prepare(root, options.as_built)?;
    let (tests, failing) =
        trial.rehearse(&noted(&trial.library, &files)?, &options.tests, options.as_built)?;
    let took: u64 = tests.iter().map(|test| test.took.as_secs()).sum();
    println!("{} tests take {took} s without a fault; left out, because they fail: {failing:?}", tests.len());
    let mut report = Report::default();
    let mut kills: HashMap<String, HashMap<String, u32>> = HashMap::new();
    for mutant in &chosen {
        let began = Instant::now();
        let fate = if known.reason(mutant).is_some() {
            None
        } else {
            let kills = kills.entry(mutant.file.clone()).or_default();
            Some(try_one(&trial, &files, &tests, mutant, kills, options.most)?)
        };
        report.add(mutant, fate.as_ref(), known.reason(mutant), began.elapsed().as_secs_f32());
        fs::write(root.join(trial::REPORT), &report.text)?;
    }
    println!("{}\nThe whole list is in {}.", report.sum(), trial::REPORT);
    Ok(())
}

fn options(words: &[String]) -> Result<Options> {
    let mut options = Options {
        sample: usize::MAX,
        seed: 1,
        files: vec![],
        kinds: vec![],
        tests: vec![],
        only_list: false,
        again: false,
        as_built: false,
        most: usize::MAX,
    };
    for word in words {
        let list = |value: &str| value.split(',').map(str::to_owned).collect();
        match word.split_once('=') {
            Some(("--sample", value)) => options.sample = value.parse().context("--sample takes a number")?,
            Some(("--seed", value)) => options.seed = value.parse().context("--seed takes a number")?,
            Some(("--most", value)) => options.most = value.parse().context("--most takes a number")?,
            Some(("--files", value)) => options.files = list(value),
            Some(("--kinds", value)) => options.kinds = list(value),
            Some(("--tests", value)) => options.tests = list(value),
            None if word == "--again" => options.again = true,
            None if word == "--as-built" => options.as_built = true,
            None if word == "--list" => options.only_list = true,
            _ => {
                let kinds: Vec<_> = KINDS.iter().map(|(name, what)| format!("  {name:<11}{what}")).collect();
                bail!(
                    "unknown option '{word}'; the options are --sample=NUMBER, --seed=NUMBER, --files=claim,reap, \
                     --tests=PART,-PART (of their names, or not), --most=NUMBER (of tests for each fault, likeliest first), --list, --again (those that survived the last time), --as-built (tests and all) and --kinds=call,assign of these:\n{}",
                    kinds.join("\n")
                )
            }
        }
    }
    Ok(options)
}

fn read_files(root: &Path) -> Result<Vec<LuaFile>> {
    let mut paths: Vec<_> =
        fs::read_dir(root.join(LUA))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    let (mut files, mut first_block) = (Vec::new(), 0);
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let blocks = Blocks::of(&text);
        let count = blocks.len();
        files.push(LuaFile { name, text, blocks, first_block });
        first_block += count;
    }
    Ok(files)
}

/// The mutants of the wanted files and kinds; a random part of them, if they are too many.
fn choose(all: Vec<Mutant>, options: &Options) -> Vec<Mutant> {
    let fits = |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let mut wanted: Vec<Mutant> = all
        .into_iter()
        .filter(|mutant| {
            fits(&options.files, mutant.file.trim_end_matches(".lua")) && fits(&options.kinds, mutant.kind)
        })
        .collect();
    // Knuth's linear congruential generator; only its high bits are random enough.
    let mut state = options.seed;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % below
    };
    for at in (1..wanted.len()).rev() {
        wanted.swap(at, next(at + 1));
    }
    wanted.truncate(options.sample);
    wanted
}

/// The library, in which every block is noted.
fn noted(library: &str, files: &[LuaFile]) -> Result<String> {
    let mut copy = library.to_owned();
    for file in files {
        copy = replaced(&copy, file, &file.blocks.noted(&file.text, file.first_block))?;
    }
    let (head, rest) = copy.split_once('\n').context("the library has no first line")?;
    Ok(format!("{head}\n{}{rest}", blocks::noting()))
}

/// The library with another text of one file.
fn replaced(library: &str, file: &LuaFile, text: &str) -> Result<String> {
    if library.matches(&file.text).count() != 1 {
        bail!("{LUA}/{} is not once in the library; is the build up to date?", file.name);
    }
    Ok(library.replacen(&file.text, text, 1))
}

fn try_one(
    trial: &Trial,
    files: &[LuaFile],
    tests: &[Test],
    mutant: &Mutant,
    kills: &mut HashMap<String, u32>,
    most: usize,
) -> Result<Fate> {
    let file = files.iter().find(|file| file.name == mutant.file).context("a mutant of no file")?;
    let mut text = file.text.clone();
    text.replace_range(mutant.range.clone(), &mutant.replacement);
    trial.write(&replaced(&trial.library, file, &text)?)?;
    let own: HashSet<usize> = (file.first_block..file.first_block + file.blocks.len()).collect();
    let block = file.blocks.around(mutant.range.start).map(|block| file.first_block + block);
    let runs =
        |test: &Test| block.map_or(!own.is_disjoint(&test.blocks), |block| test.blocks.contains(&block));
    let mut count = 0;
    for test in likeliest(tests, runs, kills).into_iter().take(most) {
        count += 1;
        let end = trial.play(test)?;
        match end {
            End::Passed => continue,
            End::Refused => return Ok(Fate::Invalid),
            // On a busy machine, a test may fail for another reason than the fault.
            End::Failed if !test.name.starts_with(RANDOM) && trial.play(test)? == End::Passed => {
                println!("{} failed once, and then passed", test.name);
                continue;
            }
            End::Failed | End::Hung => {}
        }
        *kills.entry(test.name.clone()).or_default() += 1;
        return Ok(Fate::Killed { by: test.name.clone(), how: end, runs: count });
    }
    Ok(Fate::Survived { runs: count })
}

fn describe(mutant: &Mutant) -> String {
    let number = if mutant.number > 1 { format!(" #{}", mutant.number) } else { String::new() };
    format!(
        "{LUA}/{}:{} {}{number}\n- {}\n+ {}",
        mutant.file, mutant.line, mutant.kind, mutant.before, mutant.after
    )
}

#[derive(Default)]
struct Report {
    text: String,
    killed: usize,
    survived: usize,
    equivalent: usize,
    invalid: usize,
    /// Of each kind and file: killed and survived.
    by: HashMap<String, (usize, usize)>,
}

impl Report {
    fn add(&mut self, mutant: &Mutant, fate: Option<&Fate>, reason: Option<&str>, seconds: f32) {
        let said = match fate {
            None => {
                self.equivalent += 1;
                format!("EQUIVALENT {}", reason.unwrap_or_default())
            }
            Some(Fate::Invalid) => {
                self.invalid += 1;
                "INVALID".to_owned()
            }
            Some(Fate::Killed { by, how, runs }) => {
                self.killed += 1;
                format!("killed by {by} ({how:?}, test {runs}, {seconds:.1} s)")
            }
            Some(Fate::Survived { runs }) => {
                self.survived += 1;
                format!("SURVIVED {runs} tests ({seconds:.1} s)")
            }
        };
        for name in [format!("kind {}", mutant.kind), mutant.file.clone()] {
            let (killed, survived) = self.by.entry(name).or_default();
            *killed += usize::from(matches!(fate, Some(Fate::Killed { .. })));
            *survived += usize::from(matches!(fate, Some(Fate::Survived { .. })));
        }
        let entry = format!("{}\n{said}\n", describe(mutant));
        println!("{entry}");
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{entry}");
    }

    fn sum(&self) -> String {
        let mut parts: Vec<_> =
            self.by.iter().filter(|(_, (killed, survived))| killed + survived > 0).collect();
        parts.sort();
        let parts: Vec<_> = parts
            .into_iter()
            .map(|(name, (killed, survived))| {
                format!("  {name:<20} {killed:>5} killed {survived:>5} survived")
            })
            .collect();
        let per_mille = 1000 * self.killed / (self.killed + self.survived).max(1);
        format!(
            "{}\n{} killed, {} survived: {}.{} %; {} equivalent, {} refused by Redis",
            parts.join("\n"),
            self.killed,
            self.survived,
            per_mille / 10,
            per_mille % 10,
            self.equivalent,
            self.invalid
        )
    }
}
