//! How many more build pods the namespace's quotas admit.

use fairlane_worker::pod::fit::{asked, limited, requested};
use fairlane_worker::pod::quantity::{amount, shown};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ScopedResourceSelectorRequirement};

use crate::commands::doctor::findings::Findings;

/// How much of a resource one build takes from a quota.
enum Share {
    /// This amount.
    Takes(f64),
    /// The build pod must set this, but does not.
    Unnamed(&'static str),
    Nothing,
}

/// Checks how many more build pods each quota allows.
pub(super) fn judge(pod: &Pod, quotas: &[ResourceQuota], findings: &mut Findings) {
    for quota in quotas.iter().filter(|quota| applies(quota, pod)) {
        one(pod, quota, findings);
    }
    if quotas.is_empty() {
        findings.ok("quota", "the namespace has none");
    }
}

fn one(pod: &Pod, quota: &ResourceQuota, findings: &mut Findings) {
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    let status = quota.status.as_ref();
    let hard = status.and_then(|status| status.hard.as_ref());
    let hard = hard.or(quota.spec.as_ref().and_then(|spec| spec.hard.as_ref()));
    let used = status.and_then(|status| status.used.as_ref());
    let mut tightest: Option<(f64, String)> = None;
    for resource in hard.into_iter().flat_map(|hard| hard.keys()) {
        let Some(most) = amount(hard, resource) else { continue };
        let in_use = amount(used, resource).unwrap_or(0.0);
        let takes = match share(pod, resource) {
            Share::Takes(takes) => takes,
            Share::Nothing => continue,
            Share::Unnamed(kind) => {
                findings.error(
                    "quota",
                    format!("{name} limits {resource}, but build pods set no {kind} for it: they are refused unless something else sets one"),
                    "Set resources for the container `builder` in the pod template, or add a LimitRange to the namespace.",
                );
                continue;
            }
        };
        let fits = ((most - in_use) / takes).floor().max(0.0);
        let left = shown(resource, (most - in_use).max(0.0));
        let about = format!(
            "{resource}: {left} left of {}, one build takes {}",
            shown(resource, most),
            shown(resource, takes)
        );
        if tightest.as_ref().is_none_or(|(fewest, _)| fits < *fewest) {
            tightest = Some((fits, about));
        }
    }
    match tightest {
        Some((fits, about)) if fits < 1.0 => findings.warning(
            "quota",
            format!("{name} is used up ({about}): no build starts until it has room"),
            "Builds wait, none fails. Raise the quota, or lower the slots of the workers to what fits.",
        ),
        Some((fits, about)) => {
            findings.ok("quota", format!("{name} has room for {fits} more builds ({about})"));
        }
        None => findings.ok("quota", format!("{name} limits nothing that builds use")),
    }
}

fn share(pod: &Pod, resource: &str) -> Share {
    let named = |amount: f64| if amount > 0.0 { Share::Takes(amount) } else { Share::Nothing };
    let must = |amount: Option<f64>, kind| amount.map_or(Share::Unnamed(kind), named);
    match resource {
        "pods" | "count/pods" => Share::Takes(1.0),
        // Quotas on CPU and memory reject pods that do not request any.
        "cpu" | "requests.cpu" => must(asked(pod, "cpu", false), "request"),
        "memory" | "requests.memory" => must(asked(pod, "memory", false), "request"),
        "limits.cpu" => must(limited(pod, "cpu"), "limit"),
        "limits.memory" => must(limited(pod, "memory"), "limit"),
        "ephemeral-storage" | "requests.ephemeral-storage" => named(requested(pod, "ephemeral-storage")),
        "limits.ephemeral-storage" => named(limited(pod, "ephemeral-storage").unwrap_or(0.0)),
        _ => Share::Nothing,
    }
}

/// Whether the quota applies to build pods at all.
fn applies(quota: &ResourceQuota, pod: &Pod) -> bool {
    let Some(spec) = &quota.spec else { return true };
    let best_effort = ["cpu", "memory"]
        .iter()
        .all(|of| requested(pod, of) == 0.0 && limited(pod, of).unwrap_or(0.0) == 0.0);
    let has_deadline = pod.spec.as_ref().is_some_and(|spec| spec.active_deadline_seconds.is_some());
    let in_scope = |scope: &str| match scope {
        "Terminating" => has_deadline,
        "NotTerminating" => !has_deadline,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        // Scopes unknown to this release are assumed to apply.
        _ => true,
    };
    let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
    let selected = |one: &ScopedResourceSelectorRequirement| {
        let among = class.is_some_and(|class| one.values.iter().flatten().any(|value| value == class));
        match (one.scope_name.as_str(), one.operator.as_str()) {
            ("PriorityClass", "In") => among,
            ("PriorityClass", "NotIn") => !among,
            ("PriorityClass", "Exists") => class.is_some(),
            ("PriorityClass", "DoesNotExist") => class.is_none(),
            (scope, _) => in_scope(scope),
        }
    };
    let selector = spec.scope_selector.as_ref().and_then(|selector| selector.match_expressions.as_deref());
    spec.scopes.iter().flatten().all(|scope| in_scope(scope))
        && selector.unwrap_or_default().iter().all(selected)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::commands::doctor::findings::Level;
    use fairlane_testkit::kube::examples::pod;

    fn quota(hard: &Value, used: &Value, spec: &Value) -> ResourceQuota {
        let mut spec = spec.clone();
        spec["hard"] = hard.clone();
        let quota =
            json!({ "metadata": { "name": "q" }, "spec": spec, "status": { "hard": hard, "used": used } });
        serde_json::from_value(quota).unwrap()
    }

    fn sized() -> Value {
        let resources = json!({ "requests": { "cpu": "500m", "memory": "2Gi", "ephemeral-storage": "10Gi" },
                                "limits": { "memory": "4Gi" } });
        json!({ "activeDeadlineSeconds": 60, "priorityClassName": "low",
                "containers": [{ "name": "builder", "resources": resources }] })
    }

    fn said(spec: &Value, quotas: &[ResourceQuota]) -> Vec<(Level, String)> {
        let mut findings = Findings::default();
        judge(&pod(spec), quotas, &mut findings);
        findings.0.iter().map(|one| (one.level, one.in_full())).collect()
    }

    #[test]
    fn the_tightest_resource_says_how_many_builds_fit() {
        for (hard, used, level, words) in [
            (json!({ "pods": "10" }), json!({ "pods": "4" }), Level::Ok, "room for 6 more builds"),
            (json!({ "pods": "10" }), json!({ "pods": "10" }), Level::Warning, "used up (pods: 0 left of 10"),
            (
                json!({ "pods": "10", "requests.memory": "8Gi" }),
                json!({ "pods": "1", "requests.memory": "5Gi" }),
                Level::Ok,
                "1 more builds (requests.memory: 3 GiB left of 8 GiB, one build takes 2 GiB)",
            ),
            (
                json!({ "requests.ephemeral-storage": "15Gi" }),
                json!({ "requests.ephemeral-storage": "10Gi" }),
                Level::Warning,
                "5 GiB left of 15 GiB, one build takes 10 GiB",
            ),
            (json!({ "limits.cpu": "8" }), json!({}), Level::Error, "build pods set no limit for it"),
            (json!({ "services": "1" }), json!({ "services": "1" }), Level::Ok, "nothing that builds use"),
        ] {
            let found = said(&sized(), &[quota(&hard, &used, &json!({}))]);
            assert!(found.iter().any(|(of, text)| *of == level && text.contains(words)), "{hard}: {found:?}");
        }
        assert!(matches!(&said(&sized(), &[])[..], [(Level::Ok, _)]));
    }

    #[test]
    fn quotas_of_other_pods_are_left_out() {
        let full = |spec: Value| quota(&json!({ "pods": "1" }), &json!({ "pods": "1" }), &spec);
        let selects = |operator: &str, values: Value| {
            json!({ "scopeSelector": { "matchExpressions": [
                { "scopeName": "PriorityClass", "operator": operator, "values": values }] } })
        };
        for spec in [
            json!({ "scopes": ["NotTerminating"] }),
            json!({ "scopes": ["BestEffort"] }),
            selects("In", json!(["high"])),
            selects("DoesNotExist", json!([])),
        ] {
            assert_eq!(said(&sized(), &[full(spec.clone())]), [], "{spec}");
        }
        for spec in [
            json!({ "scopes": ["Terminating"] }),
            json!({ "scopes": ["NotBestEffort"] }),
            selects("In", json!(["low"])),
            selects("NotIn", json!(["high"])),
        ] {
            assert!(matches!(&said(&sized(), &[full(spec.clone())])[..], [(Level::Warning, _)]), "{spec}");
        }
    }
}
