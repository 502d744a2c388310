//! Runs as processes of this host.
//!
//! A process must not outlive its lease, and its worker can be killed or frozen. So between the two stands a
//! supervisor: a small process of the same program that starts the build command, leads its process group and holds
//! a pipe to the worker. The worker tells it the end of the lease after each renewal. The supervisor kills
//! the whole family of processes when it is told to, when that end has come, or when the pipe closes. If
//! the supervisor itself is killed, the worker kills the family in its place.
//!
//! The command's output goes through the supervisor to the worker, line by line. If the worker reads slowly, the
//! command waits.
//!
//! Nobody can adopt a process. When its worker is gone, its build goes back into line, without using an
//! attempt.
//!
//! A host can be broken: no disk, no container engine. After failures in a row the worker checks its host before it
//! claims again, and then one build at a time shows whether it can build.

pub(crate) mod executor;
mod host;
pub(crate) mod supervisor;
