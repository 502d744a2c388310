//! What clients want, and what its log must look like.

use fairlane_common::BuildState;
use fastrand::Rng;
use serde_json::{Value, json};

use crate::setup::COMMIT;

/// Repositories. The first ones are the most popular.
const LANES: usize = 30;
/// Lines of a log, of which a build writes five a second.
const LINES: std::ops::Range<u32> = 10..40;
/// A build that is to be cancelled goes on for longer than it takes to notice that.
const LINES_LONG: u32 = 600;

/// How a build is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Succeeds,
    /// Its command fails.
    Fails,
    /// Whoever asked for it cancels it.
    IsCancelled,
}

impl How {
    pub(super) fn state(self) -> BuildState {
        match self {
            Self::Succeeds => BuildState::Succeeded,
            Self::Fails => BuildState::Failed,
            Self::IsCancelled => BuildState::Cancelled,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Succeeds => "ok",
            Self::Fails => "bad",
            Self::IsCancelled => "long",
        }
    }
}

/// An image that somebody wants.
#[derive(Debug)]
pub(super) struct Wish {
    number: usize,
    lane: String,
    pub(super) lines: u32,
    pub(super) how: How,
}

impl Wish {
    pub(super) fn new(seed: u64, number: usize) -> Self {
        let mut rng = Rng::with_seed(seed ^ (number as u64) << 20);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "few"
        )]
        let lane = (LANES as f64 * rng.f64().powi(2)) as usize;
        let how = match rng.u32(0..100) {
            0..5 => How::Fails,
            5..8 => How::IsCancelled,
            _ => How::Succeeds,
        };
        let lines = if how == How::IsCancelled { LINES_LONG } else { rng.u32(LINES) };
        Self { number, lane: lane_name(lane), lines, how }
    }

    /// The tag of its image, which tells the build command what to do.
    pub(super) fn tag(&self) -> String {
        format!("n{}-{}-{}", self.number, self.lines, self.how.word())
    }

    /// The body of the request for it.
    pub(super) fn body(&self) -> Value {
        json!({
            "repo": format!("https://git.example.org/o/{}", self.lane),
            "ref": format!("{}{:06}", &COMMIT[..34], self.number),
            "image": format!("registry.example.org/{}:{}", self.lane, self.tag()),
        })
    }

    /// The numbers of its lines, if the whole log was read.
    pub(super) fn whole(&self) -> Option<u32> {
        (self.how != How::IsCancelled).then_some(self.lines)
    }
}

/// A lane's name begins with its limit.
fn lane_name(number: usize) -> String {
    let limit = match number {
        1 => 4,
        2 => 1,
        _ => 2,
    };
    format!("l{limit}-{number:02}")
}

/// Lanes whose limit is not the default, with their limits.
pub(super) fn ruled_lanes() -> [(String, &'static str); 2] {
    [1, 2].map(|number| {
        (format!("git.example.org/o/{}", lane_name(number)), if number == 1 { "4" } else { "1" })
    })
}

/// What was found in a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Lines of the build command.
    pub(super) lines: usize,
    /// Lines that are missing, where the log says so.
    pub(super) marked: u32,
    /// Lines that are missing, doubled or in the wrong place.
    pub(super) faults: Vec<String>,
}

/// Compares the lines of a run with what the command writes: `line 1 of …`, `line 2 of …`. If the log must be `whole`,
/// it ends with this line; otherwise it may break off anywhere.
pub(super) fn read(log: &[String], whole: Option<u32>) -> Reading {
    let mut reading = Reading::default();
    let mut expected = 1;
    for text in log {
        if let Some(count) = left_out(text) {
            reading.marked += count;
            expected += count;
            continue;
        }
        let number = text.strip_prefix("line ").and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
        let Some(number) = number else {
            continue;
        };
        reading.lines += 1;
        if number != expected {
            reading.faults.push(format!("line {number} where line {expected} belongs"));
        }
        expected = number + 1;
    }
    if let Some(lines) = whole.filter(|lines| expected != lines + 1) {
        reading.faults.push(format!("the last line is {}, not {lines}", expected - 1));
    }
    reading
}

/// How many lines a note in the log, or a notice in its stream, says are missing.
fn left_out(text: &str) -> Option<u32> {
    let count = text.strip_prefix("[fairlane] ")?.split_once(" line")?.0;
    text.contains("were left out here").then(|| count.replace(',', "").parse().ok())?
}

#[test]
fn lines_that_are_lost_doubled_or_in_the_wrong_place_are_found() {
    let log = |numbers: &[u32]| -> Vec<String> {
        numbers.iter().map(|number| format!("line {number} of n1")).collect()
    };
    let faults = |numbers: &[u32], whole| read(&log(numbers), whole).faults;
    assert!(faults(&[1, 2, 3], Some(3)).is_empty() && faults(&[1, 2], None).is_empty());
    assert_eq!(faults(&[1, 3], Some(3)), ["line 3 where line 2 belongs"]);
    assert_eq!(faults(&[1, 2, 2, 3], Some(3)), ["line 2 where line 3 belongs"]);
    assert_eq!(faults(&[1, 2], Some(3)), ["the last line is 2, not 3"]);
    assert_eq!(faults(&[2], None), ["line 2 where line 1 belongs"]);
    let mut with_gap = log(&[1, 1235]);
    with_gap.insert(1, "[fairlane] 1,233 lines (9 KB) were left out here: no memory".to_owned());
    assert_eq!(read(&with_gap, Some(1235)), Reading { lines: 2, marked: 1233, faults: vec![] });
}
