//! Every limit of the system in one place: what it protects, and what breaks if you change it.

use std::time::Duration;

/// Longest repository address, in bytes. URLs beyond 2,000 characters work nowhere reliably.
pub const REPO_BYTES_MAX: usize = 2000;
/// Longest ref, in bytes. Git refuses refs longer than a path component allows (255).
pub const REF_BYTES_MAX: usize = 255;
/// Longest image name with tag: 255 for the name in registries, 128 for a tag.
pub const IMAGE_BYTES_MAX: usize = 384;
/// Most extra repo2docker arguments of one build.
pub const ARGS_MAX: usize = 32;
/// Longest single argument or label value, in bytes.
pub const ARG_BYTES_MAX: usize = 4096;
/// Most labels of one build.
pub const LABELS_MAX: usize = 32;
/// Longest secret, in bytes: a Docker configuration for a dozen registries fits.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;

/// How long a lease lasts after its last renewal.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often a worker renews its leases if its runs outlive it. No run is lost when a lease expires, so this
/// only decides how soon others adopt.
pub const HEARTBEAT: Duration = Duration::from_secs(3);
/// The same if runs die with their lease. Redis may be away for the lease minus 3 s, which is 7 s: the last
/// acknowledged renewal began at most [`HEARTBEAT_MORTAL`] before the outage, the next call begins at most
/// [`RENEWAL_PATIENCE`] after its end, and the holder stops [`LEASE_MARGIN`] before the lease ends. 10 - 1 -
/// 0.5 - 1 = 7.5 s, of which 0.5 s is for slow calls. Fewer renewals shorten the outage that runs survive;
/// more cost Redis more.
pub const HEARTBEAT_MORTAL: Duration = Duration::from_secs(1);
/// How long a renewal waits for its answer before another is sent in parallel, over a fresh connection; half
/// of this if a call failed at once. If longer, a lost reply uses up part of the outage that a lease
/// survives; if shorter, a slow Redis gets more calls.
pub const RENEWAL_PATIENCE: Duration = Duration::from_millis(500);
/// How much earlier than its lease's expiry a holder stops. This covers the time to kill a run
/// ([`KILL_GRACE`] plus what the system needs) and clock drift. The holder counts the lease from before its
/// call, Redis from after it, so network delay adds to the margin. Smaller risks two live runs; larger
/// shortens the outage of Redis that runs survive.
pub const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// Time between SIGTERM and SIGKILL for a run whose lease is over. Well below [`LEASE_MARGIN`]; if shorter, a
/// build has no time to write its last lines.
pub const KILL_GRACE: Duration = Duration::from_millis(300);
/// After Redis was emptied, nothing starts for this long, so that workers can register their runs: one lease,
/// within which every holder sends a heartbeat, plus 5 s for others to register the runs of dead holders.
/// Shorter risks building twice; longer only delays.
pub const REFILL: Duration = Duration::from_secs(15);
/// A dispatcher is forgotten, with its people, after this long without a heartbeat.
pub const DISPATCHER_TTL: Duration = Duration::from_secs(10);
/// Most leases renewed in one call; 500 block Redis for about 3 ms.
pub const RENEW_BATCH: usize = 500;
/// Most requests for builds sent to Redis in one call; 32 block it for less than a millisecond.
pub const SUBMIT_BATCH: usize = 32;
/// Most ends of runs sent to Redis in one call; 32 block it for less than two milliseconds.
pub const FINISH_BATCH: usize = 32;
/// Most reports of runs sent to Redis in one call.
pub const REPORT_BATCH: usize = 32;
/// Most builds handed out by one claim.
pub const CLAIM_BATCH: usize = 64;

/// Most log lines appended in one call.
pub const APPEND_LINES: usize = 500;
/// Longest log line kept, in bytes: container logs come in chunks of 16 KiB.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// Most log entries read in one call.
pub const LOG_PAGE: usize = 500;
/// The head of a log that is always kept, in bytes of text.
pub const LOG_HEAD_BYTES: usize = 1024 * 1024;
/// The tail of a log that is kept beyond the head, in bytes of text.
pub const LOG_TAIL_BYTES: usize = 1024 * 1024;
/// Size of a log after shortening, in bytes of text: half for its first lines, half for its last ones. While
/// memory is low, running builds write no more than this.
pub const LOG_SHORT_BYTES: usize = 128 * 1024;
/// Above this percentage of Redis's memory, logs of ended builds are shortened or removed. Well below
/// [`MEMORY_FULL_PERCENT`], so that logs go before anything is refused.
pub const MEMORY_PRUNE_PERCENT: u64 = 80;
/// Above this percentage of Redis's memory, new builds are refused; the rest is for finishing existing ones.
pub const MEMORY_FULL_PERCENT: u64 = 85;
/// Above this percentage of Redis's memory, no build starts, because a run and its log need memory.
pub const MEMORY_PAUSE_PERCENT: u64 = 95;
/// How long logs and ended builds stay.
pub const KEEP: Duration = Duration::from_hours(24);

/// How many builds, from the front of the line, get an individual forecast; the ones behind are estimated
/// from their pace. Looking at this many once a second blocks Redis for about 2 ms.
pub const FORESEEN: usize = 500;
/// How many runs the forecast looks at.
pub const FORESEEN_RUNS: usize = 1000;

/// A build is overdue when it has run this many times as long as expected, and for at least [`OVERDUE`].
const OVERDUE_TIMES: u64 = 3;
/// A shorter run is not overdue, whatever was expected.
pub const OVERDUE: Duration = Duration::from_mins(10);

/// Whether a build has run much longer than expected; both in milliseconds.
pub fn is_overdue(ran: u64, expected: u64) -> bool {
    ran > crate::clock::millis(OVERDUE) && ran > OVERDUE_TIMES * expected
}

/// Most entries of one page of a list.
pub const PAGE: usize = 200;
