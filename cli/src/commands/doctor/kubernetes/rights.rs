//! The only list of the rights that a worker uses. A test checks that the Helm chart grants exactly
//! these.

use super::answer::Answer;
use crate::commands::doctor::findings::Findings;

/// Where a right applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// In the namespace of the build pods, granted by a Role.
    Namespace,
    /// In the whole cluster, granted by a `ClusterRole`.
    Cluster,
}

/// One resource and the verbs that a worker uses on it.
#[derive(Debug)]
pub(super) struct Right {
    /// The resource; `pods/log` is the log of a pod.
    pub(super) resource: &'static str,
    pub(super) verbs: &'static [&'static str],
    pub(super) scope: Scope,
    /// Whether no build can run without it.
    needed: bool,
    /// What does not work without it.
    pub(super) cost: &'static str,
}

/// All rights. They are in the core API group, whose name is empty.
pub(super) static RIGHTS: &[Right] = &[
    Right {
        resource: "pods",
        verbs: &["create", "get", "list", "watch", "delete"],
        scope: Scope::Namespace,
        needed: true,
        cost: "nothing can be built",
    },
    Right {
        resource: "pods/log",
        verbs: &["get"],
        scope: Scope::Namespace,
        needed: true,
        cost: "no build log is shown, and failures are classified without it",
    },
    Right {
        resource: "pods",
        verbs: &["patch"],
        scope: Scope::Namespace,
        needed: false,
        cost: "a worker cannot take over the pods of another one that is gone: their builds restart",
    },
    Right {
        resource: "events",
        verbs: &["list"],
        scope: Scope::Namespace,
        needed: false,
        cost: "nobody can see why a pod waits for a mount or an image, and nodes that fail to mount or to create \
               sandboxes look merely slow",
    },
    Right {
        resource: "secrets",
        verbs: &["create", "list", "patch", "delete"],
        scope: Scope::Namespace,
        needed: false,
        cost: "builds that bring credentials (private repositories, per-user registries) fail, or their \
               Secrets are left behind",
    },
    Right {
        resource: "resourcequotas",
        verbs: &["list"],
        scope: Scope::Namespace,
        needed: false,
        cost: "`fairlane doctor` cannot say how much of the namespace's quota is left; workers do not need it",
    },
    Right {
        resource: "nodes",
        verbs: &["list"],
        scope: Scope::Cluster,
        needed: false,
        cost: "only nodes on which build pods were seen count, and `fairlane doctor` sees neither their disks nor \
               their taints",
    },
];

impl Right {
    /// The right as a rule of a Role.
    pub(super) fn rule(&self) -> String {
        format!(
            "- {{apiGroups: [\"\"], resources: [\"{}\"], verbs: [\"{}\"]}}",
            self.resource,
            self.verbs.join("\", \"")
        )
    }

    /// The value of the Helm chart that grants it.
    pub(super) fn value(&self) -> &'static str {
        match (self.scope, self.resource) {
            (Scope::Cluster, _) => "rbac.nodes",
            (Scope::Namespace, "secrets") => "rbac.secrets",
            (Scope::Namespace, _) => "rbac.create",
        }
    }
}

/// One verb of a right, and whether it is granted.
#[derive(Debug)]
pub(super) struct Review {
    pub(super) right: &'static Right,
    pub(super) verb: &'static str,
    pub(super) allowed: Answer<bool>,
}

/// Reports each right that is missing.
pub(super) fn judge(reviews: &[Review], namespace: &str, findings: &mut Findings) {
    let mut given = 0;
    for right in RIGHTS {
        let of_right = || reviews.iter().filter(|review| std::ptr::eq(review.right, right));
        let denied: Vec<&str> = of_right()
            .filter(|review| review.allowed == Answer::Known(false))
            .map(|review| review.verb)
            .collect();
        given += of_right().filter(|review| review.allowed == Answer::Known(true)).count();
        let scope = match right.scope {
            Scope::Namespace => format!("in the namespace {namespace}"),
            Scope::Cluster => "in the cluster".to_owned(),
        };
        if !denied.is_empty() {
            let text = format!("may not {} {} {scope}: {}", denied.join(", "), right.resource, right.cost);
            let advice =
                format!("The chart's value {} grants it, as this rule: {}", right.value(), right.rule());
            if right.needed {
                findings.error("rights", text, advice);
            } else {
                findings.warning("rights", text, advice);
            }
        }
    }
    let unknown = reviews.iter().find_map(|review| match &review.allowed {
        Answer::Failed(why) => Some(why.as_str()),
        Answer::Denied => Some("this account may not query its own rights"),
        Answer::Known(_) => None,
    });
    if let Some(why) = unknown {
        findings.warning(
            "rights",
            format!("not all rights could be checked: {why}"),
            "`kubectl auth can-i --list` shows them.",
        );
    } else if given == reviews.len() {
        findings.ok("rights", format!("all {given} that a worker can use are granted, in {namespace}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::findings::Level;

    fn reviews(allowed: impl Fn(&Right, &str) -> Answer<bool>) -> Vec<Review> {
        RIGHTS
            .iter()
            .flat_map(|right| right.verbs.iter().map(move |verb| (right, *verb)))
            .map(|(right, verb)| Review { right, verb, allowed: allowed(right, verb) })
            .collect()
    }

    fn judged(reviews: &[Review]) -> Vec<(Level, String)> {
        let mut findings = Findings::default();
        judge(reviews, "builds", &mut findings);
        findings.0.iter().map(|finding| (finding.level, finding.in_full())).collect()
    }

    #[test]
    fn every_right_that_lacks_is_named_with_its_rule() {
        let all = judged(&reviews(|_, _| Answer::Known(true)));
        assert!(matches!(&all[..], [(Level::Ok, text)] if text.contains("14 that")), "{all:?}");
        for (resource, verb, level) in [
            ("pods", "create", Level::Error),
            ("pods/log", "get", Level::Error),
            ("pods", "patch", Level::Warning),
            ("events", "list", Level::Warning),
            ("secrets", "create", Level::Warning),
            ("nodes", "list", Level::Warning),
        ] {
            let found = judged(&reviews(|right, of| Answer::Known((right.resource, of) != (resource, verb))));
            let [(found_level, text)] = &found[..] else { panic!("{found:?}") };
            assert_eq!(*found_level, level, "{text}");
            assert!(text.contains(&format!("may not {verb} {resource} in")), "{text}");
            assert!(text.contains(&format!("resources: [\"{resource}\"]")), "{text}");
        }
    }

    #[test]
    fn with_binderhubs_own_role_the_worker_runs_and_is_told_what_it_lacks() {
        let binderhub = |right: &Right, verb: &str| {
            Answer::Known(right.resource == "pods/log" || right.resource == "pods" && verb != "patch")
        };
        let found = judged(&reviews(binderhub));
        assert!(found.iter().all(|(level, _)| *level == Level::Warning), "{found:?}");
        for resource in ["patch pods", "list events", "create, list, patch, delete secrets", "list nodes"] {
            assert!(found.iter().any(|(_, text)| text.contains(&format!("may not {resource}"))), "{found:?}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_no_right_that_lacks() {
        let found = judged(&reviews(|_, _| Answer::Failed("timed out".to_owned())));
        assert!(matches!(&found[..], [(Level::Warning, text)] if text.contains("timed out")), "{found:?}");
    }
}
