//! What was done, what was seen, and which promises were kept: for people who know nothing of the code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::Plan;
use super::crowd::Ledger;
use super::gauges::Use;
use super::mishap::{ALL, Mishap};
use super::site::Noticed;

/// Examples of what broke a promise.
const EXAMPLES: usize = 5;

/// A promise, and what broke it.
pub(super) struct Promise {
    says: &'static str,
    pub(super) broken: Vec<String>,
}

impl Promise {
    pub(super) fn new(says: &'static str, broken: Vec<String>) -> Self {
        Self { says, broken }
    }
}

/// Everything that was seen in a run.
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    pub(super) took: Duration,
    /// How often each mishap happened.
    pub(super) mishaps: BTreeMap<Mishap, usize>,
    pub(super) left_out: Vec<&'static str>,
    pub(super) ledger: &'a Ledger,
    pub(super) noticed: &'a Noticed,
    pub(super) uses: &'a [Use],
    pub(super) counts: Vec<(&'static str, u64)>,
    pub(super) promises: Vec<Promise>,
}

impl Report<'_> {
    /// The promises that were broken.
    pub(super) fn broken(&self) -> Vec<&'static str> {
        self.promises
            .iter()
            .filter(|promise| !promise.broken.is_empty())
            .map(|promise| promise.says)
            .collect()
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let broken = self.broken();
        let verdict = match broken.len() {
            0 => "Every promise was kept.".to_owned(),
            1 => "ONE PROMISE WAS BROKEN.".to_owned(),
            count => format!("{count} PROMISES WERE BROKEN."),
        };
        writeln!(out, "Chaos, seed {}. {verdict}\n", self.plan.seed)?;
        writeln!(
            out,
            "For {:.0} s, {} clients asked for {} images, while something went wrong every few seconds. Then all of it \
             was mended, and after {:.0} s in all the last build had ended. There were 3 dispatchers, 3 workers with \
             processes, 3 workers with pods on a simulated Kubernetes, and a Redis with a replica and Sentinel.\n",
            self.plan.length.as_secs_f64(),
            self.plan.clients,
            self.plan.builds,
            self.took.as_secs_f64()
        )?;
        self.promises(out)?;
        self.mishaps(out)?;
        self.seen(out)?;
        self.memory(out)
    }

    fn promises(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "What was promised")?;
        for promise in &self.promises {
            let kept = if promise.broken.is_empty() { "kept  " } else { "BROKEN" };
            writeln!(out, "  {kept}  {}", promise.says)?;
            for example in promise.broken.iter().take(EXAMPLES) {
                writeln!(out, "            {example}")?;
            }
            if promise.broken.len() > EXAMPLES {
                writeln!(out, "            and {} more", promise.broken.len() - EXAMPLES)?;
            }
        }
        Ok(())
    }

    fn mishaps(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nWhat went wrong, {} times in all", self.mishaps.values().sum::<usize>())?;
        for (mishap, _, says) in ALL {
            let times = self.mishaps.get(&mishap).copied().unwrap_or(0);
            writeln!(out, "  {times:>6}  {says}")?;
        }
        for why in &self.left_out {
            writeln!(out, "  Left out: {why}")?;
        }
        Ok(())
    }

    fn seen(&self, out: &mut String) -> std::fmt::Result {
        let (ledger, noticed) = (self.ledger, self.noticed);
        writeln!(out, "\nWhat was seen")?;
        let again = noticed.starts_of.values().filter(|starts| **starts > 1).count() as u64;
        let seen = [
            ("builds ended", ledger.ends.len() as u64),
            ("requests for builds", ledger.requests as u64),
            ("times that a client was told how a build ended", ledger.told as u64),
            ("streams of events", ledger.streams as u64),
            ("streams that broke and went on at another dispatcher", ledger.reopened as u64),
            ("log lines that clients received", ledger.lines as u64),
            ("log lines that are missing where the log says so", u64::from(ledger.marked)),
            ("builds that a failover lost and that were asked for again", ledger.lost.len() as u64),
            ("build commands started", noticed.starts as u64),
            ("images whose command was started more than once", again),
        ];
        for (what, count) in seen.iter().chain(&self.counts) {
            writeln!(out, "  {count:>8}  {what}")?;
        }
        for (limit, most) in &noticed.most {
            writeln!(out, "  {most:>8}  live commands at most in a lane with limit {limit}")?;
        }
        Ok(())
    }

    fn memory(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\nThe longest life of each process: memory in KB and open files, early, late and at most"
        )?;
        for used in self.uses {
            writeln!(
                out,
                "  {:<14}{:>6.0} s {:>8} {:>8} {:>8} {:>6} {:>6}",
                used.name,
                used.age.as_secs_f64(),
                used.early.memory_kb,
                used.late.memory_kb,
                used.most_kb,
                used.early.files,
                used.late.files
            )?;
        }
        Ok(())
    }
}
