//! The long-running tasks of a process; if one of them ends, the process notices.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};

/// Tasks that run for as long as their process. A process without one of them would look healthy but do only
/// half of its work, so it exits and is restarted.
#[derive(Debug, Default)]
pub struct Duties {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

/// A task that ended although it was not asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task '{name}' failed: {why}. Restart this process")]
pub struct DutyFailed {
    /// The duty.
    pub name: &'static str,
    /// The panic's message.
    pub why: String,
}

impl Duties {
    /// Starts one; `name` is what it does, for the log.
    pub fn spawn(&mut self, name: &'static str, duty: impl Future<Output = ()> + Send + 'static) {
        self.names.insert(self.tasks.spawn(duty).id(), name);
    }

    /// Waits until one of them is gone, which may be never.
    pub async fn failed(&mut self) -> DutyFailed {
        let Some(gone) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let (id, why) = match gone {
            Ok((id, ())) => (id, "it returned".to_owned()),
            Err(error) => (error.id(), why(error)),
        };
        DutyFailed { name: self.names.get(&id).copied().unwrap_or("?"), why }
    }

    /// Waits until all have ended after a shutdown; tasks that take longer than `limit` are aborted.
    pub async fn ended(mut self, limit: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

fn why(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "it panicked".to_owned()),
        Err(_) => "it was stopped".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_gone_is_named_with_the_reason() {
        let mut duties = Duties::default();
        duties.spawn("watching", std::future::pending());
        duties.spawn("counting", async { panic!("no number {}", 7) });
        let failed = duties.failed().await;
        assert_eq!((failed.name, failed.why.as_str()), ("counting", "no number 7"));
        duties.spawn("reading", async {});
        assert_eq!(duties.failed().await.name, "reading");
        duties.ended(Duration::from_millis(1)).await;
    }
}
