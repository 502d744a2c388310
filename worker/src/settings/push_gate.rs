//! The gate at which a run waits before it pushes its image: a file that is empty or missing until the run may push.
//! repo2docker is made to wait by a configuration file; any other command finds the gate's path in a variable.

use std::collections::BTreeMap;
use std::path::Path;

/// The variable with the gate's path.
const GATE_VARIABLE: &str = "FAIRLANE_PUSH_GATE";
/// The variable with the path of repo2docker's own configuration file, if the command names one.
const CONFIG_VARIABLE: &str = "FAIRLANE_REPO2DOCKER_CONFIG";
/// The option that names repo2docker's configuration file.
const CONFIG: &str = "--config";
/// The gate's name in its folder.
pub(crate) const GATE: &str = "push-gate";
/// The name of repo2docker's configuration file in the same folder.
pub(crate) const HOOK: &str = "push_hook.py";
/// What is in that file.
pub(crate) const HOOK_TEXT: &str = include_str!("push_hook.py");
/// What is in an open gate.
pub(crate) const OPEN: &str = "open";

/// A command that waits at its gate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gated {
    /// The program and its arguments.
    pub(crate) words: Vec<String>,
    /// Additional variables.
    pub(crate) env: BTreeMap<String, String>,
    /// Whether it needs the configuration file.
    pub(crate) hooked: bool,
}

/// Makes a command wait at a gate in `folder`.
pub(crate) fn gated(mut words: Vec<String>, folder: &str) -> Gated {
    let mut env = BTreeMap::from([(GATE_VARIABLE.to_owned(), format!("{folder}/{GATE}"))]);
    let Some(at) = after_repo2docker(&words) else { return Gated { words, env, hooked: false } };
    if let Some(own) = take_config(&mut words, at) {
        env.insert(CONFIG_VARIABLE.to_owned(), own);
    }
    words.insert(at, format!("{CONFIG}={folder}/{HOOK}"));
    Gated { words, env, hooked: true }
}

/// Where the arguments of repo2docker begin, if that is what the command runs.
fn after_repo2docker(words: &[String]) -> Option<usize> {
    let program = Path::new(words.first()?).file_name()?.to_str()?;
    if matches!(program, "jupyter-repo2docker" | "repo2docker") {
        return Some(1);
    }
    let module = words.windows(2).position(|pair| pair[0] == "-m" && pair[1] == "repo2docker");
    module.filter(|_| program.starts_with("python")).map(|at| at + 2)
}

/// Removes the options that name a configuration file; the last one counts.
fn take_config(words: &mut Vec<String>, from: usize) -> Option<String> {
    let (mut at, mut found) = (from, None);
    while at < words.len() {
        if words[at] == CONFIG && at + 1 < words.len() {
            words.remove(at);
            found = Some(words.remove(at));
        } else if let Some(file) = words[at].strip_prefix("--config=") {
            found = Some(file.to_owned());
            words.remove(at);
        } else {
            at += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Gated {
        gated(line.split(' ').map(str::to_owned).collect(), "/g")
    }

    #[test]
    fn repo2docker_is_given_the_hook_and_its_own_configuration_by_a_variable() {
        for (line, words, config) in [
            ("jupyter-repo2docker --ref=1 r", "jupyter-repo2docker --config=/g/push_hook.py --ref=1 r", None),
            (
                "/v/bin/repo2docker --config a.py r",
                "/v/bin/repo2docker --config=/g/push_hook.py r",
                Some("a.py"),
            ),
            (
                "/usr/bin/python3 -m repo2docker --config=a.py --config=b.json r",
                "/usr/bin/python3 -m repo2docker --config=/g/push_hook.py r",
                Some("b.json"),
            ),
        ] {
            let found = of(line);
            assert_eq!((found.words.join(" ").as_str(), found.hooked), (words, true), "{line}");
            assert_eq!(found.env.get(CONFIG_VARIABLE).map(String::as_str), config, "{line}");
            assert_eq!(found.env[GATE_VARIABLE], "/g/push-gate");
        }
    }

    #[test]
    fn any_other_command_stays_as_it_is_and_finds_the_gate_in_a_variable() {
        for line in ["build --config a.py -m repo2docker", "/opt/kaniko/executor --config=x"] {
            let found = of(line);
            assert_eq!((found.words.join(" ").as_str(), found.hooked, found.env.len()), (line, false, 1));
        }
    }
}
