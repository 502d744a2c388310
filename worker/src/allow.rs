//! Which arguments of repo2docker a build may bring along. The dispatcher checks the same list at
//! the door; this one holds also for what came into the queue another way.

/// What builds may bring along unless the operator says otherwise: settings of the image alone,
/// each of which takes a value. The same as the dispatcher's.
pub const ALLOWED_ARGS_DEFAULT: &[&str] = &[
    "--build-memory-limit",
    "--cache-from",
    "--label",
    "--build-arg",
    "--subdir",
    "--appendix",
    "--target-repo-dir",
    "--Repo2Docker.appendix",
    "--Repo2Docker.base_image",
    "--Repo2Docker.build_memory_limit",
    "--Repo2Docker.cache_from",
    "--Repo2Docker.extra_build_args",
    "--Repo2Docker.labels",
    "--Repo2Docker.platform",
    "--Repo2Docker.subdir",
    "--Repo2Docker.target_repo_dir",
];

/// The first of `args` that is not allowed. An entry of `allowed` is the name of a long option, or
/// the beginning of some with a final `*`; a value stands behind its `=`, or in the next argument
/// where the option is one of the default list.
pub fn first_forbidden<'a>(args: &'a [String], allowed: &[String]) -> Option<&'a str> {
    let mut value_may_follow = false;
    for arg in args {
        if !arg.starts_with('-') && value_may_follow {
            value_may_follow = false;
            continue;
        }
        let (option, value) =
            arg.split_once('=').map_or((arg.as_str(), None), |(name, value)| (name, Some(value)));
        if !allows(allowed, option) {
            return Some(arg);
        }
        // Only of these is it known: behind a flag, repo2docker would take the next word for the
        // repository.
        value_may_follow = value.is_none() && ALLOWED_ARGS_DEFAULT.contains(&option);
    }
    None
}

fn allows(allowed: &[String], option: &str) -> bool {
    let listed = allowed.iter().any(|entry| match entry.strip_suffix('*') {
        Some(start) => !start.is_empty() && option.starts_with(start),
        None => entry == option,
    });
    // Single letters can be run together: one that is allowed would hide one that is not.
    listed && option.starts_with("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_arguments_pass() {
        let allowed = ["--subdir", "--appendix", "--flag", "--Repo2Docker.*", "-v"].map(str::to_owned);
        let table: &[(&[&str], Option<&str>)] = &[
            (&["--subdir=a", "--appendix"], None),
            (&["--subdir", "a", "--Repo2Docker.x=1"], None),
            (&["--subdirectory=a"], Some("--subdirectory=a")),
            (&["--subdir=a", "--volume=/:/host"], Some("--volume=/:/host")),
            (&["--subdir", "a", "b"], Some("b")),
            (&["--subdir=a", "b"], Some("b")),
            (&["--flag", "b"], Some("b")),
            (&["-v"], Some("-v")),
            (&["--subdir", "--volume"], Some("--volume")),
        ];
        for (args, bad) in table {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            assert_eq!(first_forbidden(&args, &allowed), *bad);
        }
    }
}
