//! Builds as pods. Tests that a real cluster can run as well use one if the environment names it.

mod building;
mod credentials;
mod faults;
mod figures;
mod leftovers;
mod losing;
mod metrics;
mod nodes;
mod pushing;
mod scene;
mod secrets;
mod sharing;
