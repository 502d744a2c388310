//! Request limits per client, shared by all dispatchers.

use std::time::Duration;

use super::Queue;
use crate::error::Result;
use crate::library::SPEND;
use crate::queue::script::Args;

/// A limit that a request counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spend {
    /// Whose it is: `token:<name>` or `address:<address>`.
    pub whose: String,
    /// This many requests…
    pub count: u32,
    /// …are allowed within this time. They may come all at once.
    pub per: Duration,
}

/// Whether a request is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spent {
    /// It was counted.
    Spent,
    /// It was not: one limit is used up.
    Limited {
        /// Whose limit.
        whose: String,
        /// How long until the next request is allowed.
        wait: Duration,
    },
}

impl Queue {
    /// Counts a request against all of `limits`, or against none if one of them is used up.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn spend(&self, limits: &[Spend]) -> Result<Spent> {
        let mut args = Args::new();
        for Spend { whose, count, per } in limits {
            args = args.text("whose", whose).show("count", count).show("per", per.as_millis());
        }
        let mut reply = self.call(&SPEND, args).await?;
        match reply.tag.as_str() {
            "spent" => Ok(Spent::Spent),
            "limited" => Ok(Spent::Limited {
                whose: reply.get("whose")?,
                wait: Duration::from_millis(reply.parse("wait")?),
            }),
            _ => Err(reply.unknown()),
        }
    }
}
