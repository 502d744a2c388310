//! The users of a test's redis-server. Fairlane's have exactly the rights that its documentation gives them; the
//! default user, which tests use for commands of their own, has all.

use std::fmt::Write as _;

/// Fairlane's users and their rights.
const USERS: &str = include_str!("../../common/src/redis.acl");
/// Variable that takes away the rights to Redis functions, if it is `off`: everything then runs as scripts. Redis 6.2
/// needs this.
const FUNCTIONS_VARIABLE: &str = "FAIRLANE_TEST_REDIS_FUNCTIONS";
/// A user with the rights of both a dispatcher and a worker, in the two forms of a URL.
pub(crate) const USER_IN_URL: &str = "user=fairlane&pass=x";
pub(crate) const USER_AT_HOST: &str = "fairlane:x";

/// The URL of a test's server for the user of one role: `dispatcher`, `worker` or `reader`.
pub fn redis_url_for(role: &str, url: &str) -> String {
    url.replace(USER_IN_URL, &format!("user=fairlane-{role}&pass=x"))
        .replace(USER_AT_HOST, &format!("fairlane-{role}:x"))
}

/// Whether the servers of tests let Fairlane use functions.
pub fn redis_has_functions() -> bool {
    !std::env::var(FUNCTIONS_VARIABLE).is_ok_and(|value| value == "off")
}

/// Whether a command exists only in a Redis that has functions.
pub(crate) fn is_of_functions(command: &str) -> bool {
    command.starts_with("fcall") || command.starts_with("function")
}

/// The lines of a server's configuration that create them, for any prefix.
pub(crate) fn lines() -> String {
    let mut lines = String::new();
    let mut both = String::new();
    for user in USERS.lines().filter(|line| !line.starts_with('#')) {
        let Some((role, rights)) = user.split_once(' ') else { continue };
        let rights: Vec<String> = rights
            .split(' ')
            .filter(|right| redis_has_functions() || !right.strip_prefix('+').is_some_and(is_of_functions))
            .map(|right| right.replace("PREFIX", "*"))
            .collect();
        let rights = rights.join(" ");
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "user fairlane-{role} on nopass {rights}");
        if role != "reader" {
            both = format!("{both} {rights}");
        }
    }
    let _ = writeln!(lines, "user fairlane on nopass {both}");
    lines
}
