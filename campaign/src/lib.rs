//! What a campaign builds, found out before it starts: [`events`] reads launches, [`plan`] reads and writes the list of
//! builds.

pub mod events;
pub mod lines;
pub mod plan;
