//! Every bound of the system, in one place: what it protects, and what breaks if it is moved.

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
/// How often a worker renews its leases whose runs outlive it: nothing is lost when one runs out, so
/// that this only decides how soon others adopt.
pub const HEARTBEAT: Duration = Duration::from_secs(3);
/// The same where runs die with their lease. Redis may be away for the lease less 3 s, which is 7 s:
/// the last renewal that was acknowledged began [`HEARTBEAT_MORTAL`] before the absence at most, a try
/// begins every [`RENEWAL_PATIENCE`] and so at most that long after its end, and the holder stops
/// [`LEASE_MARGIN`] before the lease ends: 10 - 1 - 0.5 - 1 = 7.5 s, and 0.5 s for calls that take
/// their time. Rarer renewals shorten the absence; more frequent ones cost Redis more.
pub const HEARTBEAT_MORTAL: Duration = Duration::from_secs(1);
/// How long a renewal may wait for its answer until another one is sent beside it, over a fresh
/// connection; half of this where a try failed at once. Longer, and a reply that never comes costs
/// part of the absence that a lease survives; shorter sends more to a Redis that is only slow.
pub const RENEWAL_PATIENCE: Duration = Duration::from_millis(500);
/// How much earlier than its lease's expiry a holder stops: the time a kill takes
/// ([`KILL_GRACE`] and what the system needs), and clocks' drift. The lease is counted from before the
/// call that renewed it, Redis counts it from after: the call's way is in the holder's favor. Smaller
/// risks two live runs; larger shortens the absence of Redis that runs survive.
pub const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// From being asked to end to being killed, for a run whose lease is over. Well below
/// [`LEASE_MARGIN`]; shorter gives builds no time to say a last word.
pub const KILL_GRACE: Duration = Duration::from_millis(300);
/// How long after Redis was emptied nothing is begun, so that workers can register what still runs:
/// a lease, within which every holder's heartbeat comes, and 5 s for others to register what holders
/// that died have left. Shorter risks building twice; longer only delays.
pub const REFILL: Duration = Duration::from_secs(15);
/// A dispatcher is forgotten, with its people, after this long without a heartbeat.
pub const DISPATCHER_TTL: Duration = Duration::from_secs(10);
/// Most leases renewed in one call; 500 hold Redis for some 3 ms.
pub const RENEW_BATCH: usize = 500;
/// Most requests for builds that go to Redis in one call; 32 hold it for less than a millisecond.
pub const SUBMIT_BATCH: usize = 32;
/// Most builds handed out by one claim.
pub const CLAIM_BATCH: usize = 64;

/// Most log lines appended in one call.
pub const APPEND_LINES: usize = 500;
/// Longest log line kept, in bytes: containers' logs come in parts of 16 KiB.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// Most log entries read in one call.
pub const LOG_PAGE: usize = 500;
/// The head of a log that is always kept, in bytes of text.
pub const LOG_HEAD_BYTES: usize = 1024 * 1024;
/// The tail of a log that is kept beyond the head, in bytes of text.
pub const LOG_TAIL_BYTES: usize = 1024 * 1024;
/// What is left of a log that was shortened, in bytes of text: half of it its first lines, half its last ones. Running
/// builds write no more than this while memory is short.
pub const LOG_SHORT_BYTES: usize = 128 * 1024;
/// Of Redis's memory, in percent, beyond which logs of ended builds make room. Well below [`MEMORY_FULL_PERCENT`]: logs
/// go before anything is refused.
pub const MEMORY_PRUNE_PERCENT: u64 = 80;
/// Of Redis's memory, in percent, beyond which no new builds are taken: what is left is for ending those that are there.
pub const MEMORY_FULL_PERCENT: u64 = 85;
/// Of Redis's memory, in percent, beyond which no build starts: a start needs some, and a log does.
pub const MEMORY_PAUSE_PERCENT: u64 = 95;
/// How long logs and ended builds stay.
pub const KEEP: Duration = Duration::from_hours(24);

/// Builds in line whose start is foreseen one by one, from the beginning of the line; those behind go by the pace of
/// these. A second's look at so many holds Redis for some 2 ms.
pub const FORESEEN: usize = 500;
/// Runs that are looked at for it.
pub const FORESEEN_RUNS: usize = 1000;

/// Most entries of one page of a list.
pub const PAGE: usize = 200;
