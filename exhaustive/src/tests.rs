//! Every promise holds in every interleaving, and every planted fault breaks one.

use stateright::{Checker, HasDiscoveries, Model};

use crate::model::{Fault, Lane};
use crate::world::{Budget, Outcome, State, World};

const NONE: Budget = Budget {
    deaths: 0,
    freezes: 0,
    late: 0,
    lost_answers: 0,
    lost_pods: 0,
    stuck: 0,
    cancels: 0,
    failovers: 0,
};

const DEATH: Budget = Budget { deaths: 1, ..NONE };
const FREEZE: Budget = Budget { freezes: 1, ..NONE };
const LATE: Budget = Budget { late: 1, ..NONE };
const LOST_ANSWER: Budget = Budget { lost_answers: 1, ..NONE };
const LOST_POD: Budget = Budget { lost_pods: 1, ..NONE };
const STUCK: Budget = Budget { stuck: 1, ..NONE };
const CANCEL: Budget = Budget { cancels: 1, ..NONE };
const FAILOVER: Budget = Budget { failovers: 1, ..NONE };

/// One mishap each.
const SINGLE: [(&str, Budget); 8] = [
    ("a worker dies", DEATH),
    ("a worker freezes", FREEZE),
    ("a holder is late", LATE),
    ("a claim's answer is lost", LOST_ANSWER),
    ("a pod is lost", LOST_POD),
    ("a run is stuck", STUCK),
    ("a build is cancelled", CANCEL),
    ("Redis fails over", FAILOVER),
];

fn both(one: Budget, other: Budget) -> Budget {
    Budget {
        deaths: one.deaths + other.deaths,
        freezes: one.freezes + other.freezes,
        late: one.late + other.late,
        lost_answers: one.lost_answers + other.lost_answers,
        lost_pods: one.lost_pods + other.lost_pods,
        stuck: one.stuck + other.stuck,
        cancels: one.cancels + other.cancels,
        failovers: one.failovers + other.failovers,
    }
}

/// Goes through all states; returns how many there are.
fn holds(name: &str, limit: usize, budget: Budget) -> usize {
    let checked = Lane { limit, budget, fault: None }.checker().threads(2).spawn_bfs().join();
    let states = checked.unique_state_count();
    println!("{name}, {limit} at once: {states} states, at most {} steps deep", checked.max_depth());
    if let Some((property, path)) = checked.discoveries().into_iter().next() {
        panic!("{name}: not \"{property}\": {:#?}", path.into_actions());
    }
    states
}

/// Whether the model reaches a state.
fn reaches(budget: Budget, wanted: fn(&World) -> bool) -> bool {
    let lane = Lane { limit: 2, budget, fault: None };
    let mut seen: std::collections::HashSet<World> = lane.init_states().into_iter().collect();
    let mut left: Vec<World> = seen.iter().copied().collect();
    while let Some(world) = left.pop() {
        if wanted(&world) {
            return true;
        }
        left.extend(lane.next_states(&world).into_iter().filter(|next| seen.insert(*next)));
    }
    false
}

#[test]
fn no_interleaving_breaks_a_promise() {
    let states: usize = SINGLE
        .iter()
        .flat_map(|(name, budget)| [1, 2].map(|limit| holds(name, limit, *budget)))
        .chain([holds("a holder is late, and a run is stuck", 2, both(LATE, STUCK))])
        .chain([holds("a holder is late, and a build is cancelled", 2, both(LATE, CANCEL))])
        .sum();
    println!("{states} states");
}

/// Long: `cargo xtask exhaustive` runs it.
#[test]
#[ignore = "takes minutes: cargo xtask exhaustive"]
fn no_interleaving_of_two_mishaps_breaks_a_promise() {
    let mut states = 0;
    for (at, (name, budget)) in SINGLE.iter().enumerate() {
        for (other, more) in &SINGLE[at..] {
            states += holds(&format!("{name}; {other}"), 2, both(*budget, *more));
        }
    }
    println!("{states} states");
}

/// Promises that hold because nothing ever happens would be worth nothing.
#[test]
fn what_the_mishaps_are_for_does_happen() {
    let cancelled = |world: &World| {
        world.builds[0].cancelling && world.builds[0].state == State::Ended(Outcome::Cancelled)
    };
    assert!(reaches(CANCEL, cancelled), "a running build is cancelled");
    assert!(reaches(DEATH, |world| world.ended_by_adopter), "an adopted run succeeds");
    assert!(reaches(FAILOVER, |world| world.ends[0] == 2), "a failover loses an end");
    assert!(reaches(LOST_POD, |world| world.builds[1].state == State::Ended(Outcome::Succeeded)));
    let twice = both(LOST_POD, LOST_POD);
    assert!(
        reaches(twice, |world| world.builds[0].state == State::Ended(Outcome::Failed)),
        "both runs are lost"
    );
}

#[test]
fn every_planted_fault_is_found() {
    let late_and_stuck = both(LATE, STUCK);
    for (fault, budget, broken) in [
        (Fault::FinishUnfenced, LATE, "a stale holder changes nothing"),
        (Fault::RenewUnfenced, LATE, "a stale holder changes nothing"),
        (Fault::CountedEpochs, FAILOVER, "nobody takes a pod from its holder"),
        (Fault::AdopterMarksNot, late_and_stuck, "nobody stops a run that another holds"),
        (Fault::StopUnfenced, late_and_stuck, "nobody stops a run that another holds"),
        (Fault::AdopterLooksNot, DEATH, "a run that lives is kept"),
        (Fault::BesideOthers, both(LOST_POD, FAILOVER), "a build has at most one live run"),
        (Fault::CancelEndsAtOnce, CANCEL, "a lane runs no more than its limit"),
        (Fault::OrphanWithoutPermit, DEATH, "a lane runs no more than its limit"),
        (Fault::NoMargin, NONE, "a run that lives is kept"),
        (Fault::NoExpiry, DEATH, "every build ends"),
    ] {
        let found = [1, 2].iter().find_map(|limit| {
            let lane = Lane { limit: *limit, budget, fault: Some(fault) };
            let wanted = HasDiscoveries::AnyOf([broken].into());
            let checked = lane.checker().threads(2).finish_when(wanted).spawn_bfs().join();
            let steps = checked.discovery(broken)?.into_actions().len();
            println!(
                "{fault:?}: after {steps} steps and {} states, not \"{broken}\"",
                checked.unique_state_count()
            );
            Some(steps)
        });
        assert!(found.is_some(), "{fault:?} breaks no promise");
    }
}
