//! Who may do what, and how much of it.
//!
//! A request passes four questions, in this order:
//!
//! 1. **Where does it come from?** `address` names the client: the peer of the connection or, where that is a
//!    trusted proxy, whom the proxy speaks for.
//! 2. **Whose token does it show?** `tokens` knows only digests, compares with all of them, and reads the
//!    tokens file again while the dispatcher runs. Without any token the dispatcher listens on a loopback
//!    address only, and everybody there may do everything.
//! 3. **Has this client used up its rate?** `rate_limit` counts in Redis, because a client that is refused at
//!    one dispatcher must not try the next. While Redis is away everybody passes: whatever they ask for
//!    needs Redis, too.
//! 4. **Does the token allow this?** A token has one or more of three scopes (`scope`). A route names the scope
//!    that it needs by the type of its caller (`routes::caller`), so that no route can forget to ask.

pub(crate) mod address;
pub(crate) mod rate_limit;
pub(crate) mod scope;
pub(crate) mod tokens;
