//! One build, from its claim to its end.
//!
//! # Three values
//!
//! A build goes through three values, each moved into the next: a [`ClaimedBuild`] is started and becomes a
//! running one, which is followed and becomes an ended one, which is settled. So no build can be started or
//! finished twice. Only a run whose log Redis has lost goes back to the first value: its own holder attaches to it
//! again, as another worker would.
//!
//! # The order of things
//!
//! 1. Start. At least half of the lease must be left, because the claim may have been answered late. If runs
//!    outlive their worker, the log is taken over first, and from then on nobody else can add to it. Then a run is
//!    started, or a live one is attached to. If a run cannot be started (a forbidden argument, secrets that cannot
//!    be opened) or is not needed (the image already exists), the build ends here.
//! 2. Follow. One loop waits for whatever comes first: an order, a renewal, a deadline, a line. Orders and
//!    deadlines are checked before lines, so a flood of lines delays neither. While the log has no room, no line
//!    is read, and the run waits.
//! 3. Settle. The rest of the log is written, then the outcome is reported to the queue until it has accepted it.
//!
//! # Who may act
//!
//! The worker may start, stop and settle only while its lease holds. Orders only get stronger: go on, leave (the
//! worker shuts down), cancel, let go (another worker has the lease). A worker that has to let go kills its
//! process or leaves its pod alone, and reports nothing to the queue.
//!
//! # Why it failed
//!
//! The pod's own reason comes first, then the log, then the exit code; a success outweighs all of them. Each cause
//! says what it points at: the repository, the node, or neither.

pub(crate) mod deadlines;
pub(crate) mod end;
pub(crate) mod judge;
pub(crate) mod log_cause;
pub(crate) mod log_rules;
pub(crate) mod pushing;
pub(crate) mod registry_check;
pub(crate) mod reporter;
pub(crate) mod start;
pub(crate) mod task;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fairlane_common::queue::{Claimed, Outcome};
use fairlane_common::trace::{Kind, Span};
use fairlane_common::{Build, NodeName};
use tracing::Instrument;

use self::judge::Verdict;
use self::task::Followed;
use crate::claiming::leases::{Lease, Wanted};
use crate::claiming::state::Worker;
use crate::time::boot_time::BootTime;

/// A build with a lease and without a run.
pub(crate) struct ClaimedBuild {
    pub(crate) worker: Arc<Worker>,
    pub(crate) lease: Lease,
    pub(crate) build: Build,
    pub(crate) adopted: bool,
    /// How long its run has been up, if there is one and this is known.
    pub(crate) ran: Option<Duration>,
    /// Nodes that no build should go to.
    pub(crate) avoided: Vec<NodeName>,
}

/// Works on a claimed build in a separate task.
pub(crate) fn take_on(worker: &Arc<Worker>, claimed: Claimed, deadline: BootTime) {
    let span = tracing::info_span!(
        "build",
        build.id = %claimed.build.id,
        build.run = claimed.build.attempt,
        build.attempt = claimed.build.attempt_shown(),
        build.lane = %claimed.build.lane,
        worker.id = %worker.id,
    );
    let mut lease = worker.leases.enter(claimed.token.clone(), deadline);
    lease.note_claimed(claimed.build.claimed);
    // It came while the others were told already.
    if worker.draining.is_cancelled() {
        worker.leases.want(&claimed.token, Wanted::Drained);
    }
    span.in_scope(|| tracing::info!(adopted = claimed.adopted, "claimed"));
    worker.builds.spawn(Box::pin(work_on(Arc::clone(worker), lease, claimed)).instrument(span));
}

/// Takes a claimed build to its end.
async fn work_on(worker: Arc<Worker>, lease: Lease, claimed: Claimed) {
    worker.counts.claimed(&claimed);
    let Claimed { build, adopted, avoided, .. } = claimed;
    let ran = if adopted { ran_before(&build, &lease) } else { None };
    let mut trace = trace_of(&worker, &build, adopted);
    let mut claimed = ClaimedBuild { worker, lease, build, adopted, ran, avoided };
    // Boxed: each is large, and only one is alive at a time.
    let ended = loop {
        let step = trace.step("start");
        let started = Box::pin(claimed.start()).await;
        drop(step);
        match started {
            Ok(running) => {
                let _step = trace.step("run");
                match Box::pin(running.follow()).await {
                    Followed::Ended(ended) => break *ended,
                    Followed::Again(again) => claimed = *again,
                }
            }
            Err(ended) => break ended,
        }
    };
    note_end(&mut trace, &ended.verdict);
    let _step = trace.step("end");
    Box::pin(ended.settle()).await;
}

/// The span of a claimed build, and that of its time in line.
fn trace_of(worker: &Worker, build: &Build, adopted: bool) -> Span {
    let mut span = Span::of_build(Kind::Consumer, "build", build.spec.traceparent.parse().ok(), build.id);
    span.set("build.id", &build.id);
    span.set("build.lane", &build.lane);
    span.set("build.run", &build.attempt);
    span.set("build.attempt", &build.attempt_shown());
    span.set("build.adopted", &adopted);
    span.set("worker.id", &worker.id);
    if build.attempt == 1 && !adopted {
        drop(span.step("queued").since(SystemTime::UNIX_EPOCH + Duration::from_millis(build.asked)));
    }
    span
}

/// Notes in the trace how it ended.
fn note_end(trace: &mut Span, verdict: &Verdict) {
    let (end, why) = match verdict {
        Verdict::Finish(Outcome::Succeeded) => ("succeeded", None),
        Verdict::Finish(Outcome::AlreadyThere) => ("already in the registry", None),
        Verdict::Finish(Outcome::Cancelled) => ("cancelled", None),
        Verdict::Finish(Outcome::Failed { class, cause, reason, .. }) => {
            trace.set("build.class", class);
            trace.set("build.cause", cause);
            ("failed", Some(reason.clone()))
        }
        Verdict::Lost(reason) => ("lost", Some(reason.clone())),
        Verdict::HandOver => ("handed over", None),
        Verdict::LetGo => ("taken over by another worker", None),
    };
    trace.set("build.end", end);
    if let Some(why) = why {
        trace.fail(&why);
    }
}

/// How long an adopted run had been up when it was claimed, if it was up; without the time for which it waited to push.
/// All times are Redis's: an epoch is never less than the time of its claim.
fn ran_before(build: &Build, lease: &Lease) -> Option<Duration> {
    let (started, claimed) = (build.started?, lease.token().epoch);
    let waited = build.push_since.map_or(0, |since| build.push_go.unwrap_or(claimed).saturating_sub(since));
    Some(Duration::from_millis(claimed.saturating_sub(started).saturating_sub(waited)))
}
