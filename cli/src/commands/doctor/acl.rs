//! Redis's users: their rights on paper, and those that are missing.

use fairlane_clikit::output::Output;
use fairlane_common::acl::{self, User};
use fairlane_common::keys::Keys;
use fairlane_common::{Link, RedisUrl};

use super::findings::Findings;
use crate::args::AclFor;

/// Prints the users as lines of an ACL file, with placeholders for the passwords.
pub(super) fn print(keys: &Keys, kind: AclFor, output: Output) {
    for user in acl::ALL.iter() {
        let rights = user.rights(keys, kind == AclFor::Functions).join(" ");
        let password = user.role().to_uppercase();
        output.data(&format!("user {} on >{password}_PASSWORD {rights}", user.name()));
    }
}

/// Compares the rights of the user in the URL with those of its role: the one in its name, or else both that a
/// queue needs.
pub(super) async fn judge(
    link: &Link,
    url: &RedisUrl,
    keys: &Keys,
    findings: &mut Findings,
) -> fairlane_common::Result<()> {
    let name = url.user();
    let named = |user: &&User| name.as_deref().is_some_and(|name| name.ends_with(user.role()));
    let mut roles: Vec<&User> = acl::ALL.iter().filter(named).collect();
    if roles.is_empty() {
        roles = acl::ALL.iter().filter(|user| user.role() != "reader").collect();
    }
    let whose = name.as_deref().unwrap_or("default");
    let mut all = true;
    for user in roles {
        let Some(missing) = link.missing_rights(user, keys).await? else {
            findings
                .ok("rights", format!("the rights of '{whose}' are not checked: Redis 7.0 or later could"));
            return Ok(());
        };
        if !missing.is_empty() {
            all = false;
            findings.error(
                "rights",
                format!("'{whose}' lacks rights that a {} needs: {}", user.role(), missing.join(" ")),
                "`fairlane doctor --print-acl` prints all of them.",
            );
        }
    }
    if all {
        findings.ok("rights", format!("'{whose}' has all rights that it needs"));
    }
    Ok(())
}
