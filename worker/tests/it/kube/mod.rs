//! Builds as pods. What a real cluster can do as well runs on one where the environment names it.

mod building;
mod credentials;
mod faults;
mod figures;
mod leftovers;
mod losing;
mod metrics;
mod nodes;
mod scene;
mod secrets;
mod sharing;
