//! How long a client's request waits for Redis.

use std::time::Duration;

use crate::problem::{Answer, Refusal};

/// A call to the queue for a waiting client, with a time limit.
pub(crate) fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = fairlane_common::Result<T>>,
) -> impl Future<Output = Answer<T>> {
    // Boxed: calls to Redis are large, and a stream that waits for lines should not hold that memory.
    let call = Box::pin(call);
    async move {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Refusal::redis_away()),
        }
    }
}
