//! Samples of the queue, one a minute for 7 days.

use std::time::Duration;

use redis::streams::{StreamId, StreamRangeReply};

use super::Queue;
use super::activity::{EntryId, text};
use super::inspect::first;
use crate::clock::millis;
use crate::error::Result;

/// How long samples and records of builds are kept.
pub const KEPT: Duration = Duration::from_hours(7 * 24);

/// Samples read in one round trip.
const READ: usize = 1000;

/// The queue at one minute; counters say what happened since the sample before.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// The minute, Unix milliseconds.
    pub at: u64,
    /// People who waited.
    pub people: f64,
    /// Builds with a slot, orphans among them.
    pub running: f64,
    /// Slots.
    pub slots: f64,
    /// How long the longest-waiting build had been waiting, in seconds.
    pub oldest_wait_s: u64,
    /// Builds that waited, by what the next one of their lane waited for.
    pub waiting: Waiting,
    /// Runs that started.
    pub started: u64,
    /// Builds that succeeded.
    pub succeeded: u64,
    /// Builds that were cancelled.
    pub cancelled: u64,
    /// Builds that failed.
    pub failed: FailedByClass,
}

/// Builds that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waiting {
    /// For a slot.
    pub slot: f64,
    /// For a permit of their lane.
    pub permit: f64,
    /// For a permit of a limit that lanes share.
    pub shared: f64,
    /// For a rule to end that holds them.
    pub held: f64,
    /// For the end of a backoff.
    pub backoff: f64,
}

/// Failed builds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FailedByClass {
    /// By their own fault.
    pub repository: u64,
    /// For a cause outside of the repository.
    pub infrastructure: u64,
    /// After too long.
    pub stuck: u64,
}

/// New samples, and the data set that they are of.
#[derive(Debug, Clone)]
pub struct Samples {
    /// Redis's clock, Unix milliseconds.
    pub now: u64,
    /// The life id of this Redis: another one means that earlier samples are gone.
    pub born: String,
    /// Oldest first.
    pub samples: Vec<Sample>,
}

impl Queue {
    /// Samples later than `after` (Unix milliseconds), oldest first.
    pub async fn samples(&self, after: u64) -> Result<Samples> {
        let mut from = (after + 1).to_string();
        let mut all = Samples { now: 0, born: String::new(), samples: Vec::new() };
        loop {
            let mut pipe = redis::pipe();
            pipe.cmd("GET").arg(self.keys().born());
            pipe.cmd("XRANGE").arg(self.keys().history()).arg(&from).arg("+").arg("COUNT").arg(READ);
            let mut answers = self.link().bulk(&pipe).await?.into_iter();
            all.born = first::<Option<String>>(answers.next().into_iter().collect())?.unwrap_or_default();
            let page: StreamRangeReply = first(answers.collect())?;
            all.samples.extend(page.ids.iter().filter_map(sample));
            match page.ids.last() {
                Some(last) if page.ids.len() == READ => from = format!("({}", last.id),
                _ => break,
            }
        }
        all.now = self.time().await?;
        Ok(all)
    }
}

fn sample(entry: &StreamId) -> Option<Sample> {
    let at = entry.id.parse::<EntryId>().ok()?.0;
    // Absent in samples of other releases.
    let count = |name| text(entry, name).parse::<u64>().unwrap_or(0);
    let gauge = |name| text(entry, name).parse::<f64>().unwrap_or(0.0);
    Some(Sample {
        at,
        people: gauge("people"),
        running: gauge("running"),
        slots: gauge("slots"),
        oldest_wait_s: count("oldest_s"),
        waiting: Waiting {
            slot: gauge("slot"),
            permit: gauge("permit"),
            shared: gauge("shared"),
            held: gauge("held"),
            backoff: gauge("backoff"),
        },
        started: count("started"),
        succeeded: count("succeeded"),
        cancelled: count("cancelled"),
        failed: FailedByClass {
            repository: count("repository"),
            infrastructure: count("infrastructure"),
            stuck: count("stuck"),
        },
    })
}

/// Samples in steps, oldest first: the means of what was measured, the sums of what was counted, the longest of the
/// waits. A step without a sample is left out.
pub fn in_steps(samples: &[Sample], step: Duration) -> Vec<Sample> {
    let step = millis(step).max(1);
    samples.chunk_by(|a, b| a.at / step == b.at / step).map(|chunk| mean_of(chunk, step)).collect()
}

fn mean_of(chunk: &[Sample], step: u64) -> Sample {
    let mut sum = Sample { at: chunk[0].at / step * step, ..Sample::default() };
    for one in chunk {
        for (into, gauge) in gauges(&mut sum).into_iter().zip(gauges(&mut one.clone())) {
            *into += *gauge;
        }
        sum.oldest_wait_s = sum.oldest_wait_s.max(one.oldest_wait_s);
        sum.started += one.started;
        sum.succeeded += one.succeeded;
        sum.cancelled += one.cancelled;
        sum.failed.repository += one.failed.repository;
        sum.failed.infrastructure += one.failed.infrastructure;
        sum.failed.stuck += one.failed.stuck;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 10,080")]
    let count = chunk.len() as f64;
    for gauge in gauges(&mut sum) {
        // Whole numbers have few digits in JSON, means would have many.
        *gauge = (*gauge / count * 100.0).round() / 100.0;
    }
    sum
}

fn gauges(of: &mut Sample) -> [&mut f64; 8] {
    let Sample { people, running, slots, waiting, .. } = of;
    let Waiting { slot, permit, shared, held, backoff } = waiting;
    [people, running, slots, slot, permit, shared, held, backoff]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_means_sums_and_the_longest_wait_and_gaps_stay_gaps() {
        let minute = |at: u64, people: f64, started: u64, oldest_wait_s: u64| Sample {
            at: at * 60_000,
            people,
            started,
            oldest_wait_s,
            ..Sample::default()
        };
        let samples = [minute(3, 1.0, 1, 7), minute(4, 2.0, 2, 3), minute(21, 9.0, 4, 1)];
        let steps = in_steps(&samples, Duration::from_mins(5));
        let seen: Vec<_> =
            steps.iter().map(|s| (s.at / 60_000, s.people, s.started, s.oldest_wait_s)).collect();
        assert_eq!(seen, [(0, 1.5, 3, 7), (20, 9.0, 4, 1)]);
        assert_eq!(in_steps(&samples, Duration::from_mins(1)), samples);
    }
}
