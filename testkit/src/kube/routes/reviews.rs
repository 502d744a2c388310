//! "May I?": reviews of one's own rights.

use serde_json::{Value, json};

use crate::kube::call::Call;
use crate::kube::object::text;
use crate::kube::shared::Shared;
use crate::kube::status::{Answer, Status, json_response};

/// Answers a `SelfSubjectAccessReview` or `SelfSubjectRulesReview`.
pub(super) fn answer(shared: &Shared, call: &Call, body: &[u8]) -> Answer {
    let mut review = serde_json::from_slice::<Value>(body)
        .map_err(|error| Status::bad_request(format!("the object provided is unrecognized: {error}")))?;
    let (kind, status) = match call.resource.as_str() {
        "selfsubjectaccessreviews" => ("SelfSubjectAccessReview", access(shared, call, &review)),
        "selfsubjectrulesreviews" => ("SelfSubjectRulesReview", rules(shared, &review)),
        _ => return Err(Status::no_such_resource()),
    };
    review["kind"] = json!(kind);
    review["apiVersion"] = json!("authorization.k8s.io/v1");
    review["metadata"] = json!({});
    review["status"] = status;
    Ok(json_response(201, &review))
}

fn access(shared: &Shared, call: &Call, review: &Value) -> Value {
    let wanted = &review["spec"]["resourceAttributes"];
    let (verb, resource) = (text(wanted, "/verb"), text(wanted, "/resource"));
    let right = match text(wanted, "/subresource") {
        "" => format!("{verb} {resource}"),
        subresource => format!("{verb} {resource}/{subresource}"),
    };
    let namespace = Some(text(wanted, "/namespace")).filter(|namespace| !namespace.is_empty());
    if !shared.rights.allow(call.user, &right, namespace) {
        return json!({ "allowed": false });
    }
    let account = shared.rights.name(call.user);
    json!({ "allowed": true, "reason": format!("RBAC: allowed by RoleBinding of Role \"builder\" to {account}") })
}

fn rules(shared: &Shared, review: &Value) -> Value {
    let rights = shared.rights.of_namespace(text(review, "/spec/namespace"));
    let rules = rights
        .iter()
        .filter_map(|right| right.split_once(' '))
        .map(|(verb, resource)| {
            let group = if resource == "daemonsets" { "apps" } else { "" };
            json!({ "verbs": [verb], "apiGroups": [group], "resources": [resource] })
        })
        .collect::<Vec<_>>();
    json!({ "resourceRules": rules, "nonResourceRules": [], "incomplete": false })
}
