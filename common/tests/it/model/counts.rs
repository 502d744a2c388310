//! What happened is counted, each event once.

use fairlane_common::queue::{Claimed, Counts};
use fairlane_common::{Build, BuildState, FailureCause};

use super::invariants::{Broken, State};
use super::world::ensure;

/// Each end, each failed attempt and each lost lease is counted once, however often it was reported, and failures under
/// their class and cause. `only_reaps`: no process has let go of a build in this step.
pub(crate) fn check(before: &State, after: &State, only_reaps: bool) -> Result<(), Broken> {
    let mut expected = before.counts.clone();
    for build in after.builds.values() {
        let old = before.builds.get(&build.id);
        let kind = |build: &Build| {
            let cause: FailureCause = build.cause.as_deref().map_or(FailureCause::OTHER, FailureCause::of);
            build.class.map(|class| (class, cause))
        };
        if build.state.is_ended() && old.is_none_or(|old| !old.state.is_ended()) {
            match build.state {
                BuildState::Succeeded => expected.succeeded += 1,
                BuildState::Cancelled => expected.cancelled += 1,
                _ => *expected.failed.entry(kind(build).ok_or("a failure has no class")?).or_default() += 1,
            }
        }
        let Some(old) = old else { continue };
        if build.state == BuildState::Queued && build.failed_attempts > old.failed_attempts {
            *expected.retried.entry(kind(build).ok_or("a retry has no class")?).or_default() += 1;
        }
        let runs = |build: &Build| matches!(build.state, BuildState::Starting | BuildState::Running);
        expected.leases_lost += u64::from(only_reaps && runs(old) && !runs(build));
    }
    let now = &after.counts;
    if !only_reaps {
        expected.leases_lost = now.leases_lost;
    }
    // Starts and adoptions are checked with each claim.
    (expected.started, expected.adopted) = (now.started.clone(), now.adopted);
    ensure(expected == *now, || format!("{now:?} were counted, not {expected:?}"))
}

/// Each start and each adoption is counted once, even if the claim was repeated.
pub(crate) fn check_counted_claim(
    counted: &Counts,
    after: &State,
    claimed: &[Claimed],
) -> Result<(), Broken> {
    let (mut started, mut adopted) = (counted.started.clone(), counted.adopted);
    for one in claimed {
        if one.adopted {
            adopted += 1;
        } else {
            *started.entry(one.build.spec.priority).or_default() += 1;
        }
    }
    ensure(started == after.counts.started && adopted == after.counts.adopted, || {
        format!("{started:?} starts and {adopted} adoptions are due, not {:?}: {claimed:?}", after.counts)
    })
}
