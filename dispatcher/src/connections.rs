//! Limits on connections to a dispatcher, and the responses to connections beyond them.

use axum::response::{IntoResponse, Response};
use fairlane_http::{Excess, Limits};

use crate::problem::{Refusal, TOO_MANY_CONNECTIONS, TOO_MANY_FROM_HERE};
use crate::settings::{Bounds, ConnectionLimits};

/// After how many seconds a client beyond a limit may retry.
const RETRY_AFTER: u64 = 5;

/// The limits from the settings, as the server needs them.
pub(crate) fn limits(of: &ConnectionLimits, bounds: &Bounds) -> Limits {
    let ConnectionLimits { total, per_address, trusted } = of.clone();
    Limits {
        total,
        per_address,
        exempt: trusted,
        first_request: bounds.head_wait,
        idle: bounds.idle_wait,
        stall: bounds.stall,
        send_buffer: bounds.send_buffer,
    }
}

/// The response to a connection beyond a limit.
pub(crate) fn refuse(excess: Excess) -> Response {
    let (kind, why) = match excess {
        Excess::All => (
            TOO_MANY_CONNECTIONS,
            "this dispatcher has reached its connection limit; retry in a moment, or at another dispatcher",
        ),
        Excess::Address => (
            TOO_MANY_FROM_HERE,
            "too many connections from your address; close some, or send several requests over one",
        ),
    };
    Refusal::new(kind, why).retry_after(RETRY_AFTER).into_response()
}
