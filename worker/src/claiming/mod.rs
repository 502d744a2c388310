//! Claiming builds, and keeping the leases on them.
//!
//! # One loop, and background tasks
//!
//! The loop fills free slots: it claims, waits for a reason to claim again, and claims. A reason is a wake-up
//! token, a freed slot, news of orphans, the end of a pause, or 5 s without any of these, so a lost token costs
//! seconds but never a build. A claim never blocks in Redis and is repeated until it is answered, because a lost
//! answer may have handed out builds. The wait for a token uses a separate connection, which is closed while the
//! worker has no room, so that it takes no token that another worker could use.
//!
//! In parallel run the heartbeat, the reaper, the checks for suspension of this process and for Redis's memory,
//! and the search for runs that Redis has lost. If one of them panics, the worker exits: without them no lease is
//! safe.
//!
//! # The life of a lease
//!
//! A lease counts from before the call that claimed or renewed it, while Redis counts from after: so its holder
//! always stops first. One heartbeat renews all leases, every second or every three. If a call is not answered
//! within half a second, a second one is sent in parallel, over a fresh connection, and the first answer counts.
//! The answer says for each lease whether it is kept, whether its build is cancelled, whether Redis has lost it,
//! or whether another worker has it. A lease that was not renewed is given up one second before it expires:
//! processes are killed; pods go on unchanged until it is clear which worker has them.
//!
//! # Shutting down
//!
//! On SIGTERM the worker claims nothing more. Pods are handed over at once. Processes get time to finish; then
//! they are killed, and their builds go back into line. A second signal ends the worker at once, and the
//! supervisors kill the processes. A drained worker is something else: it claims nothing until an operator undoes
//! that, and stops nothing.
//!
//! A worker that cannot see its pods keeps them while no other worker can see them either, and hands them over
//! once a worker of the same place can.

pub(crate) mod blind;
pub(crate) mod counts;
pub(crate) mod heartbeat;
pub(crate) mod hint;
pub(crate) mod leases;
pub(crate) mod memory;
pub(crate) mod probe;
pub(crate) mod pushes;
pub(crate) mod refill;
pub(crate) mod runner;
pub(crate) mod shutdown;
pub(crate) mod state;
