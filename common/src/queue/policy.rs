//! The numbers that decide the order of the queue. They stand in Redis, in the hash of totals, so
//! that all processes go by the same ones and an operator can read them there.

use super::Queue;
use crate::error::Result;
use crate::id::Invalid;
use crate::library::CONFIGURE;
use crate::script::Args;

/// What may be set; `None` leaves what is in force.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// How many expected build times one person is made to wait for; 0 is first come, first served.
    /// Default 30.
    pub patience: Option<f64>,
    /// Nothing asked for more than this later can overtake, in milliseconds. Default 4 h.
    pub overtake_max_ms: Option<u64>,
    /// Permits of a lane without a rule. Default 2, and 1 while there are fewer than 4 slots.
    pub limit: Option<u32>,
    /// Permits up to which a lane without a rule may borrow on an idle cluster. Default 3.
    pub burst: Option<u32>,
    /// Lanes whose mean build takes longer share one limit, in milliseconds; 0 for never.
    /// Default 60 min.
    pub slow_after_ms: Option<u64>,
    /// That shared limit. Default half of all slots.
    pub slow_limit: Option<u32>,
    /// Most people that count for one build's place. Default 200.
    pub people_max: Option<u32>,
}

impl Queue {
    /// Puts `policy` in force for everybody.
    pub async fn configure(&self, policy: &Policy) -> Result<()> {
        let zero = [policy.limit, policy.burst, policy.slow_limit, policy.people_max].contains(&Some(0));
        if zero || policy.patience.is_some_and(|patience| !patience.is_finite() || patience < 0.0) {
            return Err(Invalid::new("policy", "limits are at least 1, and patience is not negative").into());
        }
        let mut args = Args::new();
        let fields = [
            ("patience", policy.patience.map(|n| n.to_string())),
            ("overtake_max", policy.overtake_max_ms.map(|n| n.to_string())),
            ("limit", policy.limit.map(|n| n.to_string())),
            ("burst", policy.burst.map(|n| n.to_string())),
            ("slow_after", policy.slow_after_ms.map(|n| n.to_string())),
            ("slow_limit", policy.slow_limit.map(|n| n.to_string())),
            ("people_max", policy.people_max.map(|n| n.to_string())),
        ];
        let mut said = false;
        for (field, value) in fields {
            if let Some(value) = value {
                args = args.text(field).text(value);
                said = true;
            }
        }
        if said {
            let reply = self.call(&CONFIGURE, args).await?;
            if reply.tag != "configured" {
                return Err(reply.unknown());
            }
        }
        Ok(())
    }
}
