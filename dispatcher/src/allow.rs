//! Which arguments of repo2docker a request may carry.

use crate::problem::{ARGUMENT_NOT_ALLOWED, Answer, Refusal};

/// What requests may carry unless the operator says otherwise: settings of the image alone, each
/// of which takes a value. Left out on purpose: what changes the ref, the image, the push or the
/// engine, what runs or mounts something, and what reads files of the worker (`--config`).
pub const DEFAULT_ALLOWED: &[&str] = &[
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

/// Refused whatever the list says: a pattern such as `--Repo2Docker.*` must not open these.
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

/// The list of arguments that requests may carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedArgs(Vec<String>);

impl Default for AllowedArgs {
    fn default() -> Self {
        Self::new(DEFAULT_ALLOWED.iter().map(ToString::to_string).collect())
    }
}

impl AllowedArgs {
    /// A list of option names; one that ends in `*` stands for all that begin so.
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    fn allows(&self, option: &str) -> bool {
        let listed = self.0.iter().any(|name| match name.strip_suffix('*') {
            Some(start) => !start.is_empty() && option.starts_with(start),
            None => name == option,
        });
        // Single-letter options are not read: `-v` mounts, `-e` sets, and they can be run together.
        listed && option.starts_with("--") && !NEVER.contains(&option)
    }

    /// Checks the arguments of one request. A value may stand in the same argument
    /// (`--label=a=b`), or after an option of the default list.
    pub(crate) fn check(&self, args: &[String]) -> Answer<()> {
        let mut value_may_follow = false;
        for arg in args {
            if !arg.starts_with('-') && value_may_follow {
                value_may_follow = false;
                continue;
            }
            let (option, value) =
                arg.split_once('=').map_or((arg.as_str(), None), |(name, value)| (name, Some(value)));
            if !self.allows(option) {
                let shown: String = option.chars().take(60).flat_map(char::escape_default).collect();
                let detail = format!(
                    "repo2docker_args: '{shown}' is not allowed here; allowed are {}, written --option=value. \
                     The operator sets the list with --allow-arg",
                    self.0.join(", ")
                );
                return Err(Refusal::new(ARGUMENT_NOT_ALLOWED, detail).field("repo2docker_args"));
            }
            // Only of these is it known that they take a value; after a flag, repo2docker would take
            // the next word for the repository.
            value_may_follow = value.is_none() && DEFAULT_ALLOWED.contains(&option);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &AllowedArgs, args: &[&str]) -> bool {
        allowed.check(&args.iter().map(ToString::to_string).collect::<Vec<_>>()).is_ok()
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
    }

    #[test]
    fn a_pattern_opens_nothing_dangerous() {
        let list = AllowedArgs::new(vec!["--Repo2Docker.*".to_owned(), "*".to_owned(), "--*".to_owned()]);
        assert!(check(&list, &["--Repo2Docker.appendix=RUN true"]));
        for bad in ["--Repo2Docker.ref=x", "--Repo2Docker.volumes={}", "--config=x", "-v", "plain"] {
            assert!(!check(&list, &[bad]), "{bad}");
        }
    }
}
