//! Quotas of a namespace: what they count, and which pods they refuse.

use serde_json::{Value, json};

use super::object::{Object, list, text};
use super::quantity;
use super::status::Status;

/// Refuses a pod for which a quota has no room, or that does not set what a quota counts.
pub(super) fn check(quotas: &[Object], pods: &[Object], pod: &Value) -> Result<(), Status> {
    let name = text(pod, "/metadata/name");
    let refuse = |why: String| Err(Status::forbidden("pods", Some(name), &why));
    for quota in quotas {
        let quota_name = text(quota, "/metadata/name");
        let mut open = Vec::new();
        for (resource, hard) in hard(quota) {
            let Some(takes) = taken_by(pod, resource) else { continue };
            if takes == 0.0 {
                if !is_count(resource) {
                    open.push(resource);
                }
                continue;
            }
            let used = used(quota, pods, resource);
            let most = quantity::parse(hard).unwrap_or(f64::MAX);
            if used + takes > most {
                let (asked, used) = (shown(takes), shown(used));
                return refuse(format!(
                    "exceeded quota: {quota_name}, requested: {resource}={asked}, used: {resource}={used}, limited: \
                     {resource}={hard}"
                ));
            }
        }
        if !open.is_empty() {
            let container = text(pod, "/spec/containers/0/name");
            let open = open.iter().map(|resource| format!("{resource} for: {container}")).collect::<Vec<_>>();
            return refuse(format!("failed quota: {quota_name}: must specify {}", open.join("; ")));
        }
    }
    Ok(())
}

/// Writes what is used now into a quota's status.
pub(super) fn count(quota: &mut Value, pods: &[Object]) {
    let amounts =
        hard(quota).map(|(resource, _)| (resource.clone(), used(quota, pods, resource))).collect::<Vec<_>>();
    quota["status"]["hard"] = quota["spec"]["hard"].clone();
    for (resource, amount) in amounts {
        quota["status"]["used"][resource] = json!(shown(amount));
    }
}

fn hard(quota: &Value) -> impl Iterator<Item = (&String, &str)> {
    let hard = quota["spec"]["hard"].as_object();
    hard.into_iter().flatten().filter_map(|(resource, hard)| Some((resource, hard.as_str()?)))
}

/// What the pods use, or more if a test says so.
fn used(quota: &Value, pods: &[Object], resource: &str) -> f64 {
    let live = pods.iter().filter(|pod| !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"));
    let taken = live.filter_map(|pod| taken_by(pod, resource)).sum::<f64>();
    let told = quota["status"]["used"][resource].as_str().and_then(quantity::parse);
    told.unwrap_or_default().max(taken)
}

fn is_count(resource: &str) -> bool {
    matches!(resource, "pods" | "count/pods")
}

/// How much of a quota's resource a pod uses; `None` if it is not a resource of pods.
fn taken_by(pod: &Value, resource: &str) -> Option<f64> {
    let (kind, resource) = match resource.split_once('.') {
        _ if is_count(resource) => return Some(1.0),
        Some(("requests", resource)) => ("requests", resource),
        Some(("limits", resource)) => ("limits", resource),
        None if matches!(resource, "cpu" | "memory" | "ephemeral-storage") => ("requests", resource),
        _ => return None,
    };
    let pointer = format!("/resources/{kind}/{resource}");
    let containers = list(pod, "/spec/containers").iter();
    Some(containers.filter_map(|container| quantity::parse(text(container, &pointer))).sum())
}

fn shown(amount: f64) -> String {
    if amount.fract() == 0.0 { format!("{amount:.0}") } else { format!("{:.0}m", amount * 1_000.0) }
}
