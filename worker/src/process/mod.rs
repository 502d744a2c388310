//! Runs as processes on this host.
//!
//! A process must not outlive its lease, but its worker can be killed or frozen. So there is a supervisor between
//! the two: a small process of the same program that starts the build command in a process group and has a pipe to
//! the worker. After each renewal the worker sends it the new end of the lease. The supervisor kills the whole
//! tree of processes when it is told to, when the lease ends, or when the pipe closes. If the supervisor itself is
//! killed, the worker kills the process group in its place.
//!
//! The command's output goes through the supervisor to the worker, line by line. If the worker reads slowly, the
//! command waits.
//!
//! Nobody can adopt a process. When its worker is gone, its build goes back into line, without using an
//! attempt.
//!
//! A host may be broken: no disk, no container engine. After failures in a row the worker checks its host before
//! it claims again, and then one build at a time shows whether it can build.

pub(crate) mod executor;
mod host;
pub(crate) mod supervisor;
