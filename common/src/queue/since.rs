//! How far back to look, by Redis's clock.

use std::str::FromStr;
use std::time::Duration;

use redis::Value;

use super::Queue;
use crate::clock::{Clock, millis};
use crate::error::{Error, Result};

/// How far back to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long ago, by Redis's clock.
    Ago(Duration),
    /// A time, Unix milliseconds.
    At(u64),
}

impl FromStr for Since {
    type Err = String;

    /// `10m`, `1h30m`, `2d`; or Unix milliseconds.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "must be a time span such as 10m, 2h or 1d, or a time in Unix milliseconds".to_owned();
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            // Seconds would be read as a moment in 1970, and everything would match.
            return match text.parse() {
                Ok(at) if at >= 1_000_000_000_000 => Ok(Self::At(at)),
                _ => Err(bad()),
            };
        }
        humantime::parse_duration(text).map(Self::Ago).map_err(|_| bad())
    }
}

impl Queue {
    /// A moment, Unix milliseconds.
    pub(super) async fn moment(&self, since: Since) -> Result<u64> {
        match since {
            Since::At(at) => Ok(at),
            Since::Ago(ago) => Ok(self.time().await?.saturating_sub(millis(ago))),
        }
    }

    /// Redis's clock, Unix milliseconds.
    pub(super) async fn time(&self) -> Result<u64> {
        if let Clock::Simulated(clock) = self.clock() {
            return Ok(clock.now_ms());
        }
        let mut pipe = redis::pipe();
        pipe.cmd("TIME");
        let answer = self.link().bulk(&pipe).await?.into_iter().next().unwrap_or(Value::Nil);
        let (seconds, micros): (u64, u64) = redis::from_redis_value(answer).map_err(Error::reply)?;
        Ok(seconds * 1000 + micros / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_back_is_a_span_or_a_time() {
        assert_eq!("10m".parse(), Ok(Since::Ago(Duration::from_mins(10))));
        assert_eq!("1h 30m".parse(), Ok(Since::Ago(Duration::from_mins(90))));
        assert_eq!("1795000000000".parse(), Ok(Since::At(1_795_000_000_000)));
        for bad in ["", "10", "1795000000", "yesterday", "-5m", "10 minutes ago"] {
            assert!(bad.parse::<Since>().is_err(), "{bad}");
        }
    }
}
