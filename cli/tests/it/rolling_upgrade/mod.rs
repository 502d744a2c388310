//! A rolling upgrade and the way back: every dispatcher and every worker is replaced by another release, one after the
//! other, while builds run and people follow them. `cargo xtask rolling-upgrade` builds a former release and replaces
//! it by this one and back, with 200 builds and 400 streams. The suite has few builds, and replaces this release by
//! itself.

mod fleet;
mod report;
mod service;
mod visitor;

use std::time::Instant;

use fairlane_testkit::wait_for;
use futures::future::join_all;

use self::fleet::Fleet;
use self::report::Report;
use crate::release::Release;
use crate::setup::LIMIT;

/// The variable with the number of builds and of streams.
const SIZE: &str = "FAIRLANE_ROLLING_UPGRADE";

#[derive(Debug, Clone, Copy)]
struct Size {
    builds: usize,
    streams: usize,
    dispatchers: usize,
    /// Of each executor.
    workers: usize,
    slots: usize,
    /// Fewest lines of a build.
    lines: usize,
}

impl Size {
    fn small() -> Self {
        Self { builds: 48, streams: 96, dispatchers: 2, workers: 2, slots: 1, lines: 3 }
    }

    /// Few builds for the suite, or as many as the environment says.
    fn of_environment() -> Self {
        let Ok(text) = std::env::var(SIZE) else {
            return Self::small();
        };
        let numbers: Vec<usize> = text.split(',').map(|number| number.parse().unwrap()).collect();
        let [builds, streams] = numbers[..] else { panic!("{SIZE}={text}: two numbers are expected") };
        Self { builds, streams, dispatchers: 3, workers: 2, slots: 3, lines: 20 }
    }
}

/// What goes wrong on purpose.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// One process worker is killed instead of being told to end.
    kills: bool,
    /// Streams do not say where they were.
    forgets: bool,
}

async fn upgrade_and_go_back(size: Size, faults: Faults) -> Report {
    let began = Instant::now();
    let this = Release::this();
    let former = Release::former().unwrap_or_else(Release::this);
    let mut fleet = Fleet::start(&former, size).await;
    let ids = fleet.ask(size.builds).await;
    let visits: Vec<_> = (0..size.streams)
        .map(|number| {
            let url = format!("{}/v1/builds/{}/events", fleet.service.url(), ids[number % ids.len()]);
            tokio::spawn(visitor::follow(fleet.client.clone(), url, faults.forgets))
        })
        .collect();
    wait_for("everybody to be counted", LIMIT, async || {
        let people = fleet.queue.snapshot().await.unwrap().people;
        if people >= size.streams as u64 { Ok(()) } else { Err(people) }
    })
    .await;
    let mut report = Report::default();
    for release in [&this, &former] {
        for at in 0..fleet.len() {
            let kills = faults.kills && at == size.dispatchers && report.replaced.len() == at;
            report.replaced.push(fleet.replace(at, release, kills).await);
        }
    }
    fleet.let_all_builds_end(&ids).await;
    let visits = tokio::time::timeout(LIMIT, join_all(visits)).await.expect("all streams have ended");
    let visits: Vec<_> = visits.into_iter().map(Result::unwrap).collect();
    report.builds(&fleet, &ids).await;
    report.changes(&fleet, &ids).await;
    report.visits(&visits);
    report.afterwards(&fleet).await;
    report.took = began.elapsed();
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_upgrade_of_kube_and_process_workers_costs_nothing() {
    let report = upgrade_and_go_back(Size::of_environment(), Faults::default()).await;
    eprintln!("{report}");
    assert!(report.problems.is_empty(), "{report}");
}

/// The scene notices what it is there to notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_upgrade_that_kills_a_worker_and_forgets_places_is_found() {
    let report = upgrade_and_go_back(Size::small(), Faults { kills: true, forgets: true }).await;
    for problem in ["builds that ran more than once", "lines repeated in streams"] {
        assert!(report.problems.iter().any(|found| found.starts_with(problem)), "no {problem:?} in {report}");
    }
}
