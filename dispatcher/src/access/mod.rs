//! Who may do what, and how often.
//!
//! A request passes four checks, in this order:
//!
//! 1. **Where does it come from?** `address` finds the client: the peer of the connection or, if that is a
//!    trusted proxy, the address that the proxy forwards.
//! 2. **Whose token does it carry?** `tokens` stores only digests, compares with all of them, and rereads the
//!    tokens file while the dispatcher runs. Without any tokens, the dispatcher only listens on a loopback
//!    address, and everybody there may do everything.
//! 3. **Has this client used up its rate?** `rate_limit` counts in Redis, so that a client that is refused at
//!    one dispatcher cannot simply try the next. While Redis is away, everybody passes: their requests need
//!    Redis anyway.
//! 4. **Does the token allow this?** A token has one or more of three scopes (`scope`). A route declares the
//!    scope it needs by the type of its caller (`routes::caller`), so no route can forget the check.

pub(crate) mod address;
pub(crate) mod rate_limit;
pub(crate) mod scope;
pub(crate) mod tokens;
