//! How `BinderHub` builds without Fairlane: every request holds a thread until its build ends.
//!
//! A request goes to a random replica. It takes one thread of that replica's pool to start the build and watch it
//! until it ends, and queues for a second thread to follow the log. Both wait in one line, first come, first
//! served. A task that gets a thread after its image is ready releases it at once. Only the threads limit how many
//! builds run, and nobody gives up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::args::ThreadPool;
use super::day::Day;
use super::outcome::{BuildSpan, Outcome};

/// Plays `day` with such a pool. `seed` decides which request goes to which replica.
pub(super) fn play(day: &Day, pool: ThreadPool, seed: u64) -> Outcome {
    let replica = || Replica { free: pool.threads, line: VecDeque::new() };
    let mut hub = Hub {
        day,
        replicas: (0..pool.replicas).map(|_| replica()).collect(),
        images: day.specs.iter().map(|_| Image::default()).collect(),
        ends: BinaryHeap::new(),
        outcome: Outcome { ready: vec![0; day.asks.len()], builds: Vec::new() },
    };
    let mut random = fastrand::Rng::with_seed(seed);
    let mut asks = day.asks.iter().enumerate().peekable();
    loop {
        let end = hub.ends.peek().map(|Reverse((at, _))| *at);
        match (end, asks.peek().map(|(_, ask)| ask.at)) {
            (None, None) => return hub.outcome,
            (Some(end), at) if at.is_none_or(|at| end <= at) => hub.end(end),
            _ => {
                let Some((index, ask)) = asks.next() else { return hub.outcome };
                hub.images[ask.spec].asked.get_or_insert(ask.at);
                if hub.images[ask.spec].built {
                    hub.outcome.ready[index] = ask.at;
                } else {
                    let replica = random.usize(..pool.replicas);
                    hub.replicas[replica].line.push_back(Task::Build(index));
                    hub.serve(replica, ask.at);
                }
            }
        }
    }
}

struct Hub<'a> {
    day: &'a Day,
    replicas: Vec<Replica>,
    /// By spec.
    images: Vec<Image>,
    /// When each spec's build ends.
    ends: BinaryHeap<Reverse<(u64, usize)>>,
    outcome: Outcome,
}

struct Replica {
    free: usize,
    line: VecDeque<Task>,
}

/// What waits for a thread.
#[derive(Clone, Copy)]
enum Task {
    /// A request: by launch.
    Build(usize),
    /// The log of a request whose build runs: by spec.
    Log(usize),
}

#[derive(Default)]
struct Image {
    asked: Option<u64>,
    building: bool,
    built: bool,
    /// Threads that its build holds: the replica, and the launch, if any.
    holds: Vec<(usize, Option<usize>)>,
}

impl Hub<'_> {
    /// The next build ends: its threads become free and serve waiting tasks.
    fn end(&mut self, now: u64) {
        let Some(Reverse((_, spec))) = self.ends.pop() else { return };
        self.images[spec].built = true;
        for (replica, launch) in std::mem::take(&mut self.images[spec].holds) {
            self.replicas[replica].free += 1;
            if let Some(launch) = launch {
                self.outcome.ready[launch] = now;
            }
        }
        for replica in 0..self.replicas.len() {
            self.serve(replica, now);
        }
    }

    /// Gives a replica's free threads to waiting tasks.
    fn serve(&mut self, at: usize, now: u64) {
        while self.replicas[at].free > 0
            && let Some(task) = self.replicas[at].line.pop_front()
        {
            let (spec, launch) = match task {
                Task::Build(launch) => (self.day.asks[launch].spec, Some(launch)),
                Task::Log(spec) => (spec, None),
            };
            let image = &mut self.images[spec];
            if image.built {
                if let Some(launch) = launch {
                    self.outcome.ready[launch] = now;
                }
                continue;
            }
            self.replicas[at].free -= 1;
            image.holds.push((at, launch));
            if !image.building {
                image.building = true;
                let ended = now + self.day.specs[spec].build_ms;
                self.ends.push(Reverse((ended, spec)));
                let asked = image.asked.unwrap_or(now);
                self.outcome.builds.push(BuildSpan { asked, started: now, ended, ahead: false });
            }
            if launch.is_some() {
                self.replicas[at].line.push_back(Task::Log(spec));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::day;
    use super::*;

    fn waits(day: &Day, outcome: &Outcome) -> Vec<u64> {
        day.asks.iter().zip(&outcome.ready).map(|(ask, ready)| (ready - ask.at) / 1000).collect()
    }

    #[test]
    fn watchers_of_a_slow_build_hold_up_a_quick_one() {
        // Two people watch a build of 100 s and hold all 4 threads; a third one's takes 10 s.
        let day = day(&[100, 10], &[], &[(0, 0), (1, 0), (2, 1), (120, 1)]);
        let outcome = play(&day, ThreadPool { replicas: 1, threads: 4 }, 1);
        assert_eq!(waits(&day, &outcome), [100, 99, 108, 0]);
        let quick = BuildSpan { asked: 2000, started: 100_000, ended: 110_000, ahead: false };
        assert_eq!(outcome.builds[1], quick);
        // With one more thread, that build starts at once, and only its log waits.
        let outcome = play(&day, ThreadPool { replicas: 1, threads: 5 }, 1);
        assert_eq!(waits(&day, &outcome), [100, 99, 10, 0]);
    }

    #[test]
    fn a_log_queues_behind_earlier_requests() {
        // One thread: the first request holds it, its log and the others wait in line.
        let day = day(&[100, 10, 10], &[], &[(0, 0), (1, 1), (2, 2), (3, 1)]);
        let outcome = play(&day, ThreadPool { replicas: 1, threads: 1 }, 1);
        assert_eq!(waits(&day, &outcome), [100, 109, 118, 117]);
        assert_eq!(outcome.figures(&day).running_max, 1);
    }

    #[test]
    fn replicas_are_drawn_by_the_seed() {
        // Ten people watch the first build; which replica they fill decides who waits behind them.
        let asks: Vec<(u64, usize)> =
            (0..10).map(|at| (at, 0)).chain([(10, 1), (11, 2), (12, 3), (13, 4), (14, 5)]).collect();
        let day = day(&[100, 10, 10, 10, 10, 10], &[], &asks);
        let pool = ThreadPool { replicas: 2, threads: 8 };
        assert_eq!(play(&day, pool, 7), play(&day, pool, 7));
        assert!((0..20).any(|seed| play(&day, pool, seed) != play(&day, pool, 7)));
    }
}
