//! What an API server refuses.

use serde_json::Value;

use super::object::{Kind, list, text};
use super::quantity;
use super::status::Cause;

/// Bytes of a label's value.
const LABEL_BYTES_MAX: usize = 63;
/// Bytes of all annotations together.
const ANNOTATION_BYTES_MAX: usize = 262_144;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 253;
/// How Kubernetes describes a valid name.
const NAME_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                         and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
                         validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
/// Fields a pod's spec may have.
const POD_SPEC_FIELDS: &str = " activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig \
    dnsPolicy enableServiceLinks ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostUsers hostname \
    hostnameOverride imagePullSecrets initContainers nodeName nodeSelector os overhead preemptionPolicy priority \
    priorityClassName readinessGates resourceClaims resources restartPolicy runtimeClassName schedulerName \
    schedulingGates securityContext serviceAccount serviceAccountName setHostnameAsFQDN shareProcessNamespace \
    subdomain terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes workloadRef ";

/// Everything that is wrong with an object.
pub(super) fn causes(kind: &Kind, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    metadata(object, &mut causes);
    if kind.name == "Pod" {
        let containers = list(object, "/spec/containers");
        if containers.is_empty() {
            causes.push(Cause::required("spec.containers", ""));
        }
        for (index, one) in containers.iter().enumerate() {
            container(one, &format!("spec.containers[{index}]"), &mut causes);
        }
        for (index, one) in list(object, "/spec/initContainers").iter().enumerate() {
            container(one, &format!("spec.initContainers[{index}]"), &mut causes);
        }
    }
    causes
}

fn metadata(object: &Value, causes: &mut Vec<Cause>) {
    let name = text(object, "/metadata/name");
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", ": name or generateName is required"));
    } else if !is_name(name) {
        causes.push(Cause::invalid("metadata.name", &format!("\"{name}\""), NAME_RULE));
    }
    let labels = object["metadata"]["labels"].as_object();
    for value in labels.into_iter().flatten().filter_map(|(_, value)| value.as_str()) {
        if value.len() > LABEL_BYTES_MAX {
            causes.push(Cause::invalid(
                "metadata.labels",
                &format!("\"{value}\""),
                "must be no more than 63 bytes",
            ));
        } else if !is_label_value(value) {
            let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                        and must start and end with an alphanumeric character";
            causes.push(Cause::invalid("metadata.labels", &format!("\"{value}\""), rule));
        }
    }
    let annotations = object["metadata"]["annotations"].as_object();
    let bytes =
        annotations.into_iter().flatten().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len));
    if bytes.sum::<usize>() > ANNOTATION_BYTES_MAX {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {ANNOTATION_BYTES_MAX} bytes"),
            field: "metadata.annotations".to_owned(),
        });
    }
}

fn container(container: &Value, field: &str, causes: &mut Vec<Cause>) {
    for required in ["name", "image"] {
        if text(container, &format!("/{required}")).is_empty() {
            causes.push(Cause::required(format!("{field}.{required}"), ""));
        }
    }
    let requests = container["resources"]["requests"].as_object();
    for (resource, request) in requests.into_iter().flatten() {
        let limit = text(container, &format!("/resources/limits/{resource}"));
        let request = request.as_str().unwrap_or_default();
        if let (Some(asked), Some(most)) = (quantity::parse(request), quantity::parse(limit))
            && asked > most
        {
            let why = format!("must be less than or equal to {resource} limit of {limit}");
            causes.push(Cause::invalid(
                format!("{field}.resources.requests"),
                &format!("\"{request}\""),
                &why,
            ));
        }
    }
    for (index, variable) in list(container, "/env").iter().enumerate() {
        if text(variable, "/name").is_empty() {
            causes.push(Cause::required(format!("{field}.env[{index}].name"), ""));
        }
    }
}

fn is_name(name: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= NAME_BYTES_MAX
        && name.split('.').all(|part| {
            part.bytes().all(|byte| lower(byte) || byte == b'-')
                && part.bytes().next().is_some_and(lower)
                && part.bytes().last().is_some_and(lower)
        })
}

fn is_label_value(value: &str) -> bool {
    let ends = |byte: u8| byte.is_ascii_alphanumeric();
    value.is_empty()
        || (value.bytes().all(|byte| ends(byte) || b"-_.".contains(&byte))
            && value.bytes().next().is_some_and(ends)
            && value.bytes().last().is_some_and(ends))
}

/// The first field of a pod's spec that no pod has.
pub(super) fn unknown_field(kind: &Kind, object: &Value) -> Option<String> {
    if kind.name != "Pod" {
        return None;
    }
    let fields = object["spec"].as_object()?;
    let unknown = fields.keys().find(|field| !POD_SPEC_FIELDS.contains(&format!(" {field} ")))?;
    Some(format!("spec.{unknown}"))
}

/// Removes such a field, as an API server does that only warns.
pub(super) fn drop_field(object: &mut Value, field: &str) {
    if let Some(name) = field.strip_prefix("spec.")
        && let Some(spec) = object["spec"].as_object_mut()
    {
        spec.remove(name);
    }
}

/// What a decoder says about an invalid quantity.
pub(super) fn wrong_quantity(object: &Value) -> Option<&'static str> {
    let containers = list(object, "/spec/containers").iter().chain(list(object, "/spec/initContainers"));
    let mut amounts = containers
        .flat_map(|one| [&one["resources"]["limits"], &one["resources"]["requests"]])
        .filter_map(Value::as_object)
        .flatten();
    amounts
        .any(|(_, amount)| amount.as_str().is_some_and(|amount| quantity::parse(amount).is_none()))
        .then_some(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        )
}
