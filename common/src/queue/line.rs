//! The line at one moment: running builds, waiting builds, and the lanes of both.

use std::collections::HashMap;

use super::Queue;
use super::inspect::LaneView;
use crate::error::Result;
use crate::id::BuildId;
use crate::library::LINE;
use crate::limits;
use crate::queue::script::Args;
use crate::repo::Lane;

/// The line.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub(super) runs: Vec<Running>,
    /// Waiting builds from the front of the line, [`limits::FORESEEN`] at most.
    pub(super) waiting: Vec<Queued>,
    pub(super) lanes: Vec<LaneFacts>,
    /// A lane's index in `lanes`.
    by_name: HashMap<Lane, usize>,
}

/// A build that runs, or waits for adoption.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) id: BuildId,
    /// Its index in [`Line::lanes`].
    pub(super) lane: usize,
    pub(super) claimed: u64,
    /// The shared limit of which it holds a permit.
    pub(super) shared: Option<String>,
    pub(super) background: bool,
    pub(super) people: u64,
}

/// A build in line.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) id: BuildId,
    /// Its index in [`Line::lanes`].
    pub(super) lane: usize,
    pub(super) due: u64,
    pub(super) not_before: Option<u64>,
    pub(super) background: bool,
    pub(super) people: u64,
    /// When it was first asked for.
    pub(super) asked: u64,
}

/// What decides when a lane's builds start.
#[derive(Debug, Clone)]
pub(super) struct LaneFacts {
    pub(super) lane: Lane,
    /// The set that it is in, such as `lanes:full`.
    pub(super) at: Option<String>,
    pub(super) mean_ms: Option<u64>,
    pub(super) limit: u64,
    pub(super) burst: u64,
    pub(super) permits: u64,
    /// The build that has held a permit longest, and since when.
    pub(super) holder: Option<(BuildId, u64)>,
    /// The limit that it shares with others: name, limit, permits in use.
    pub(super) shared: Option<(String, u64, u64)>,
    /// The rule that holds it: pattern, message, end.
    pub(super) held: Option<(String, String, Option<u64>)>,
}

impl From<LaneView> for LaneFacts {
    fn from(view: LaneView) -> Self {
        let LaneView { lane, at, mean_ms, limit, burst, permits, holder, shared, held, .. } = view;
        Self { lane, at, mean_ms, limit, burst, permits, holder, shared, held }
    }
}

impl Line {
    /// A lane, if one of its builds is running or in line.
    pub(super) fn lane(&self, name: &Lane) -> Option<&LaneFacts> {
        self.by_name.get(name).map(|at| &self.lanes[*at])
    }

    /// Counts the permits that the runs hold.
    fn count_permits(&mut self) {
        let mut shared: HashMap<&str, u64> = HashMap::new();
        for run in &self.runs {
            if let Some(name) = &run.shared {
                *shared.entry(name).or_default() += 1;
            }
            let Some(lane) = self.lanes.get_mut(run.lane) else { continue };
            lane.permits += 1;
            if lane.holder.is_none_or(|(_, since)| run.claimed < since) {
                lane.holder = Some((run.id, run.claimed));
            }
        }
        for lane in &mut self.lanes {
            if let Some((name, _, permits)) = &mut lane.shared {
                *permits = shared.get(name.as_str()).copied().unwrap_or(0);
            }
        }
    }
}

impl Queue {
    /// The line as it is.
    pub(super) async fn line(&self) -> Result<Line> {
        let args = Args::new().show("runs", limits::FORESEEN_RUNS).show("waiting", limits::FORESEEN);
        let mut reply = self.call(&LINE, args).await?;
        let runs: Vec<String> = reply.get("runs")?;
        let waiting: Vec<String> = reply.get("waiting")?;
        let named: Vec<String> = reply.get("lanes")?;
        let mut line = Line::default();
        // Unreadable builds are left out, and so are all builds of an unreadable lane; the others are not
        // affected.
        let mut numbers: Vec<Option<usize>> = Vec::with_capacity(named.len());
        for text in named {
            let facts = lane_facts(&text);
            numbers.push(facts.as_ref().map(|_| line.lanes.len()));
            line.lanes.extend(facts);
        }
        line.runs = runs.iter().filter_map(|text| running(text, &numbers)).collect();
        line.waiting = waiting.iter().filter_map(|text| queued(text, &numbers)).collect();
        line.by_name = line.lanes.iter().enumerate().map(|(at, lane)| (lane.lane.clone(), at)).collect();
        line.count_permits();
        Ok(line)
    }
}

/// Parses the start of a build's text: its id, its lane, whether it is a background build. Also returns the
/// other `N` words.
fn build<'a, const N: usize>(
    text: &'a str,
    lanes: &[Option<usize>],
) -> Option<(BuildId, usize, bool, [&'a str; N])> {
    let mut words = text.split(' ');
    let mut word = || words.next();
    let id = word()?.parse().ok()?;
    let lane = (*lanes.get(word()?.parse::<usize>().ok()?)?)?;
    let background = word()? == "1";
    Some((id, lane, background, words.collect::<Vec<_>>().try_into().ok()?))
}

fn running(text: &str, lanes: &[Option<usize>]) -> Option<Running> {
    let (id, lane, background, [claimed, shared, people]) = build(text, lanes)?;
    let shared = (!shared.is_empty()).then(|| shared.to_owned());
    let (claimed, people) = (claimed.parse().ok()?, count_of(people));
    Some(Running { id, lane, claimed, shared, background, people })
}

fn queued(text: &str, lanes: &[Option<usize>]) -> Option<Queued> {
    let (id, lane, background, [due, not_before, people, asked]) = build(text, lanes)?;
    let (due, not_before, asked) = (due.parse().ok()?, not_before.parse().ok(), asked.parse().ok()?);
    Some(Queued { id, lane, due, not_before, background, people: count_of(people), asked })
}

/// A counter that has drifted below zero will be repaired soon.
fn count_of(people: &str) -> u64 {
    people.parse().unwrap_or(0)
}

fn lane_facts(text: &str) -> Option<LaneFacts> {
    let mut words = text.splitn(10, ' ');
    let mut word = || words.next();
    let some = |text: &str| (text != "-").then(|| text.to_owned());
    let (lane, at, mean): (_, _, Option<f64>) = (word()?.parse().ok()?, some(word()?), word()?.parse().ok());
    let (limit, burst) = (word()?.parse().ok()?, word()?.parse().ok()?);
    let (shared_limit, shared) = (word()?.parse().ok()?, some(word()?));
    let held = word().map(|until| {
        let rule = word().unwrap_or_default().to_owned();
        (rule, word().unwrap_or_default().to_owned(), until.parse().ok())
    });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole milliseconds")]
    let mean_ms = mean.map(|ms| ms.max(0.0) as u64);
    let shared = shared.map(|name| (name, shared_limit, 0));
    Some(LaneFacts { lane, at, mean_ms, limit, burst, permits: 0, holder: None, shared, held })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_says_is_read() {
        let facts = lane_facts("github.com/o/n lanes:shared:slow 3700000 2 2 4 slow").unwrap();
        assert_eq!((facts.lane.as_str(), facts.at.as_deref()), ("github.com/o/n", Some("lanes:shared:slow")));
        assert_eq!((facts.mean_ms, facts.limit, facts.burst), (Some(3_700_000), 2, 2));
        assert_eq!((facts.shared, facts.held), (Some(("slow".to_owned(), 4, 0)), None));
        let held = lane_facts("o/n lanes:held - 2 3 0 - 5 github.com/* moving house soon").unwrap();
        let stop = ("github.com/*".to_owned(), "moving house soon".to_owned(), Some(5));
        assert_eq!((held.mean_ms, held.shared, held.held), (None, None, Some(stop)));
        let quiet = lane_facts("o/n - - 2 3 0 - - o/n ").unwrap();
        assert_eq!((quiet.at, quiet.held), (None, Some(("o/n".to_owned(), String::new(), None))));
    }

    #[test]
    fn what_cannot_be_read_concerns_nobody_else() {
        let id = BuildId::new();
        let lanes = [Some(0), None];
        assert!(
            running(&format!("{id} 0 1 77 slow 5"), &lanes)
                .is_some_and(|run| run.claimed == 77 && run.background && run.people == 5)
        );
        let waits = queued(&format!("{id} 0 0 77  -1 66"), &lanes).unwrap();
        assert_eq!((waits.due, waits.not_before, waits.background), (77, None, false));
        assert_eq!((waits.people, waits.asked), (0, 66));
        for text in [
            format!("{id} 1 0 77  1 6"),
            format!("{id} 2 0 77  1 6"),
            "x 0 0 77  1 6".to_owned(),
            format!("{id} 0 0"),
        ] {
            assert!(queued(&text, &lanes).is_none(), "{text}");
        }
        assert!(lane_facts("o/n - - two 3 0 -").is_none());
    }
}
