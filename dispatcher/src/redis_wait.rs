//! How long a client's request may wait for Redis.

use std::time::Duration;

use crate::problem::{Answer, Refusal};

/// Limits the time of a call to the queue for a waiting client.
pub(crate) fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = fairlane_common::Result<T>>,
) -> impl Future<Output = Answer<T>> {
    // Boxed, because calls to Redis are large, and a stream that waits for lines should not hold that memory.
    let call = Box::pin(call);
    async move {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Refusal::redis_away()),
        }
    }
}
