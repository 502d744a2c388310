//! The program as users run it: as a process, with a real redis-server.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test has nothing better to do with an error")]

mod authority;
mod bad_input;
mod campaign;
mod campaign_plan;
mod chaos;
mod compose;
mod crowd;
mod doctor;
mod doctor_kubernetes;
mod failover;
mod faults;
mod git;
mod help;
mod import_binderhub;
mod kube_rights;
mod kubernetes;
mod lists;
mod monitoring;
mod night;
mod nodes_probe;
mod numbered;
mod operate;
mod passed_on;
mod release;
mod rolling_upgrade;
mod samples;
mod secrets;
mod seeing;
mod semaphore;
mod settings;
mod setup;
mod system;
mod top;
mod tracing;
mod two_releases;
mod up;
