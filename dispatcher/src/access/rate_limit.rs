//! Rate limits per client, shared by all dispatchers.
//!
//! Redis is not called if no limit is set, or if the client is known to be over its limit.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fairlane_common::queue::{Queue, Spend, Spent};
use fairlane_http::network_of;
use tokio::time::Instant;

use crate::problem::{Answer, Refusal, TOO_MANY_REQUESTS_FROM_HERE, TOO_MANY_REQUESTS_OF_TOKEN};
use crate::redis_wait::bounded;
use crate::settings::{ClientLimits, Rate};

/// Most refused clients that are remembered. For any others, Redis is called again.
const REFUSED_MAX: usize = 10_000;

/// The limits, and the clients that have reached them.
pub(crate) struct RateLimits {
    limits: ClientLimits,
    refused: Mutex<HashMap<String, Instant>>,
}

impl RateLimits {
    pub(crate) fn new(limits: ClientLimits) -> Self {
        Self { limits, refused: Mutex::default() }
    }

    /// Counts a request with `token` (its name, if there was one) from `address`. If Redis is away, every
    /// request passes; its own call to Redis will fail.
    ///
    /// # Errors
    /// 429, with the limit that was reached and how long to wait.
    pub(crate) async fn spend(
        &self,
        queue: &Queue,
        wait: Duration,
        token: Option<&str>,
        address: IpAddr,
    ) -> Answer<()> {
        let ClientLimits { per_token, per_address, people_per_token: _ } = &self.limits;
        let mut limits = Vec::new();
        if let (Some(rate), Some(name)) = (per_token, token) {
            limits.push(limit(format!("token:{name}"), *rate));
        }
        if let Some(rate) = per_address {
            limits.push(limit(format!("address:{}", network_of(address)), *rate));
        }
        if limits.is_empty() {
            return Ok(());
        }
        for limit in &limits {
            if let Some(left) = self.refused_for(&limit.whose) {
                return Err(self.refusal(&limit.whose, left));
            }
        }
        match bounded(wait, queue.spend(&limits)).await {
            Ok(Spent::Spent) | Err(_) => Ok(()),
            Ok(Spent::Limited { whose, wait }) => {
                self.remember(&whose, wait);
                Err(self.refusal(&whose, wait))
            }
        }
    }

    fn refused_for(&self, whose: &str) -> Option<Duration> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let left = refused.get(whose)?.saturating_duration_since(Instant::now());
        if left.is_zero() {
            refused.remove(whose);
            return None;
        }
        Some(left)
    }

    fn remember(&self, whose: &str, wait: Duration) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= REFUSED_MAX {
            let now = Instant::now();
            refused.retain(|_, until| *until > now);
        }
        if refused.len() < REFUSED_MAX {
            refused.insert(whose.to_owned(), Instant::now() + wait);
        }
    }

    fn refusal(&self, whose: &str, left: Duration) -> Refusal {
        let seconds = seconds(left);
        let (kind, who, rate) = match whose.split_once(':') {
            Some(("token", name)) => {
                (TOO_MANY_REQUESTS_OF_TOKEN, format!("the token '{name}'"), self.limits.per_token)
            }
            _ => (TOO_MANY_REQUESTS_FROM_HERE, "your address".to_owned(), self.limits.per_address),
        };
        let rate = rate.map_or_else(String::new, |Rate { count, per }| {
            format!("{count} requests in {}", humantime::format_duration(per))
        });
        let detail = format!("{who} may make {rate} across all dispatchers; retry in {seconds} s");
        Refusal::new(kind, detail).retry_after(seconds)
    }
}

fn limit(whose: String, rate: Rate) -> Spend {
    Spend { whose, count: rate.count, per: rate.per }
}

/// The remaining time in seconds, rounded up, so that a client that waits this long is not refused again.
fn seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}
