//! Which arguments of repo2docker a build may use. Dispatchers check requests against this list; workers
//! check again, because builds can also reach the queue another way.

/// What builds may use unless the operator says otherwise: only settings of the image that take a value. Left
/// out on purpose: arguments that change the ref, the image, the push or the engine, that run or mount
/// something, or that read files of the worker (`--config`). Also left out: `--build-memory-limit`, because
/// repo2docker 2025.08 exits when it gets one.
const ALLOWED: &[&str] = &[
    "--cache-from",
    "--label",
    "--build-arg",
    "--subdir",
    "--appendix",
    "--target-repo-dir",
    "--Repo2Docker.appendix",
    "--Repo2Docker.base_image",
    "--Repo2Docker.cache_from",
    "--Repo2Docker.extra_build_args",
    "--Repo2Docker.labels",
    "--Repo2Docker.platform",
    "--Repo2Docker.subdir",
    "--Repo2Docker.target_repo_dir",
];

/// Refused whatever the list says: even a pattern such as `--Repo2Docker.*` must not allow these.
const NEVER: &[&str] = &[
    "--config",
    "--config_file",
    "--env",
    "--image",
    "--image-name",
    "--push",
    "--no-push",
    "--publish",
    "--publish-all",
    "--ref",
    "--run",
    "--no-run",
    "--volume",
    "--user-id",
    "--user-name",
    "--engine",
    "--Repo2Docker.all_ports",
    "--Repo2Docker.config_file",
    "--Repo2Docker.config_files",
    "--Repo2Docker.content_providers",
    "--Repo2Docker.dry_run",
    "--Repo2Docker.engine",
    "--Repo2Docker.git_workdir",
    "--Repo2Docker.output_image_spec",
    "--Repo2Docker.ports",
    "--Repo2Docker.push",
    "--Repo2Docker.ref",
    "--Repo2Docker.repo",
    "--Repo2Docker.run",
    "--Repo2Docker.run_cmd",
    "--Repo2Docker.user_id",
    "--Repo2Docker.user_name",
    "--Repo2Docker.volumes",
];

/// The list of arguments that builds may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedArgs(Vec<String>);

impl Default for AllowedArgs {
    fn default() -> Self {
        Self(ALLOWED.iter().map(ToString::to_string).collect())
    }
}

impl AllowedArgs {
    /// A list of names of long options; a trailing `*` matches a prefix. Without names it is the default
    /// list.
    pub fn new(names: &[String]) -> Self {
        if names.is_empty() {
            Self::default()
        } else {
            Self(names.iter().map(|name| name.trim().to_owned()).collect())
        }
    }

    /// The names on the list.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The first of a build's arguments that is not allowed. A value may stand in the same argument
    /// (`--label=a=b`), or after an option of the default list.
    pub fn first_forbidden<'a>(&self, args: &'a [String]) -> Option<&'a str> {
        let mut value_may_follow = false;
        for arg in args {
            if !arg.starts_with('-') && value_may_follow {
                value_may_follow = false;
                continue;
            }
            let (option, value) =
                arg.split_once('=').map_or((arg.as_str(), None), |(name, value)| (name, Some(value)));
            if !self.allows(option) {
                return Some(arg);
            }
            // Only these are known to take a value; after a flag, repo2docker would read the next word as the
            // repository.
            value_may_follow = value.is_none() && ALLOWED.contains(&option);
        }
        None
    }

    fn allows(&self, option: &str) -> bool {
        let listed = self.0.iter().any(|name| match name.strip_suffix('*') {
            Some(start) => !start.is_empty() && option.starts_with(start),
            None => name == option,
        });
        // Single-letter options are not parsed: `-v` mounts, `-e` sets, and they can be combined.
        listed && option.starts_with("--") && !NEVER.contains(&option)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &AllowedArgs, args: &[&str]) -> bool {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        allowed.first_forbidden(&args).is_none()
    }

    #[test]
    fn only_listed_options_pass() {
        let list = AllowedArgs::default();
        assert!(check(&list, &["--label=a=b", "--subdir", "docs", "--Repo2Docker.cache_from=['x']"]));
        for bad in [
            "--ref=x",
            "--re=x",
            "-v",
            "--config=/etc/passwd",
            "x",
            "",
            "--Repo2Docker.push=True",
            "--labelx",
        ] {
            assert!(!check(&list, &[bad]), "{bad}");
        }
        assert!(!check(&list, &["--label=a=b", "https://elsewhere.example.org/o/n"]));
        assert!(!check(&list, &["--subdir", "docs", "more"]));
        assert!(!check(&list, &["--subdir", "--volume"]));
        // For an option that the operator added, it is not known whether it takes a value.
        assert!(!check(&AllowedArgs::new(&["--flag".to_owned()]), &["--flag", "b"]));
    }

    #[test]
    fn a_pattern_opens_nothing_dangerous() {
        let list = AllowedArgs::new(&["--Repo2Docker.*", "*", "--*"].map(str::to_owned));
        assert!(check(&list, &["--Repo2Docker.appendix=RUN true"]));
        for bad in ["--Repo2Docker.ref=x", "--Repo2Docker.volumes={}", "--config=x", "-v", "plain"] {
            assert!(!check(&list, &[bad]), "{bad}");
        }
    }
}
