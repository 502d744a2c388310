//! How long Redis takes for each operation, by its answer. Counted per process.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::Queue;
use crate::error::{Error, Result};
use crate::queue::script::Reply;

/// Upper bounds in seconds: a function takes less than a millisecond, a network some more, an outage seconds.
const BUCKETS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];
/// Longest tag of a reply; our own are shorter.
const TAG_MAX: usize = 20;

/// A call: the function, and the tag of its reply or the kind of error.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    function: &'static str,
    reply: String,
}

/// The calls of this process.
#[derive(Debug, Clone)]
pub(crate) struct Calls(Family<Call, Histogram, fn() -> Histogram>);

impl Default for Calls {
    fn default() -> Self {
        Self(Family::new_with_constructor(|| Histogram::new(BUCKETS)))
    }
}

impl Calls {
    /// Counts a call. Both labels are from closed lists: the functions, and the tags in their headers.
    pub(crate) fn count(&self, function: &'static str, took: Duration, answer: &Result<Reply>) {
        let reply = match answer {
            Ok(reply) if is_tag(&reply.tag) => &reply.tag,
            Ok(_) | Err(Error::Corrupt(_)) => "unreadable",
            Err(Error::Unavailable(_)) => "unavailable",
            Err(Error::OutOfMemory(_)) => "out_of_memory",
            Err(_) => "refused",
        };
        let call = Call { function, reply: reply.to_owned() };
        self.0.get_or_create(&call).observe(took.as_secs_f64());
    }
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= TAG_MAX && tag.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

impl Queue {
    /// Adds the times of this process's calls to its metrics.
    pub fn register_calls(&self, registry: &mut Registry) {
        let help = "Time until Redis answers a call of a Lua function, by function and reply";
        registry.register_with_unit("redis_call_duration", help, Unit::Seconds, self.calls().0.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_answers_makes_no_series_without_end() {
        assert!(is_tag("out_of_memory") && is_tag("claimed"));
        assert!(!is_tag("Claimed") && !is_tag("a b") && !is_tag(&"x".repeat(TAG_MAX + 1)));
    }
}
