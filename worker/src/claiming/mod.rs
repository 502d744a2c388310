//! Claiming builds, and keeping the leases on them.
//!
//! # One loop, and duties beside it
//!
//! The loop fills free slots: it claims, waits for a reason to claim again, and claims. A reason is a wake-up
//! token, a slot that became free, news of orphans, the end of a pause, or 5 s without any of them: so a lost token costs
//! seconds, never a build. A claim never blocks in Redis and is repeated until it is answered, because an answer
//! that was lost may have handed out builds. The wait for a token has a connection of its own, which is
//! closed while the worker has no room: it must take no token that another worker could use.
//!
//! Beside the loop run the heartbeat, the reaper, the watch for stalls and for Redis's memory, and the searches
//! for runs that Redis has lost. If one of them panics, the worker ends: without them no lease is safe.
//!
//! # The life of a lease
//!
//! A lease counts from before the call that claimed or renewed it, while Redis counts from after: so its holder always
//! stops first. One heartbeat renews all leases, every second or every three. A try that has no answer
//! after half a second gets a second try beside it, over a fresh connection, and the first answer counts. The
//! answer says of each lease whether it is kept, whether its build is cancelled, whether Redis has lost it, or whether
//! it is another worker's. One second before its end a lease that was not renewed is given up: processes are
//! killed; pods go on, unchanged, until it is clear whose they are.
//!
//! # Ends
//!
//! On SIGTERM the worker claims nothing more. Pods are handed over at once; processes get time to finish, and are then
//! killed and go back into line. A second signal ends it at once, and the supervisors kill the processes. A
//! drained worker is something else: it claims nothing until an operator undoes that, and ends nothing.
//!
//! A worker that cannot see its pods keeps them while nobody else could do better, and hands them over once a worker of
//! the same place sees them.

pub(crate) mod blind;
pub(crate) mod counts;
pub(crate) mod heartbeat;
pub(crate) mod hint;
pub(crate) mod leases;
pub(crate) mod memory;
pub(crate) mod probe;
pub(crate) mod refill;
pub(crate) mod runner;
pub(crate) mod shutdown;
pub(crate) mod state;
