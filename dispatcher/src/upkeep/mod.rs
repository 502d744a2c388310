//! What a dispatcher does all the time, whoever asks.

pub(crate) mod outage;
pub(crate) mod people;
pub(crate) mod reaper;
