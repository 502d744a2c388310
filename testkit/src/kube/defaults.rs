//! The defaults that an API server fills in.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::call::Call;
use super::object::{Kind, list, seconds};

/// Fills in the defaults of a new object.
pub(super) fn fill(kind: &Kind, object: &mut Value, call: &Call) {
    let manager = managed_fields(object, call);
    match kind.name {
        "Pod" => fill_pod(object),
        "Secret" => fill_secret(object),
        _ => {}
    }
    let counts_generations = object.get("spec").is_some();
    let metadata = &mut object["metadata"];
    if counts_generations {
        metadata["generation"] = json!(1);
    }
    metadata["managedFields"] = json!([manager]);
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
}

fn fill_pod(pod: &mut Value) {
    let quality = quality_of_service(pod);
    let spec = &mut pod["spec"];
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            default(container, "resources", json!({}));
            default(container, "terminationMessagePath", json!("/dev/termination-log"));
            default(container, "terminationMessagePolicy", json!("File"));
            default(container, "imagePullPolicy", json!("IfNotPresent"));
        }
    }
    if spec["initContainers"].is_null()
        && let Some(spec) = spec.as_object_mut()
    {
        spec.remove("initContainers");
    }
    default(spec, "restartPolicy", json!("Always"));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "serviceAccountName", json!("default"));
    let account = spec["serviceAccountName"].clone();
    default(spec, "serviceAccount", account);
    default(spec, "securityContext", json!({}));
    default(spec, "schedulerName", json!("default-scheduler"));
    default(spec, "priority", json!(0));
    default(spec, "enableServiceLinks", json!(true));
    default(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    let mut tolerations = list(spec, "/tolerations").to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !tolerations.iter().any(|toleration| toleration["key"] == key) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
            }));
        }
    }
    spec["tolerations"] = Value::Array(tolerations);
    pod["status"] = json!({ "phase": "Pending", "qosClass": quality });
}

fn quality_of_service(pod: &Value) -> &'static str {
    let containers = list(pod, "/spec/containers");
    let asks = |container: &Value, what: &str| {
        container["resources"][what].as_object().is_some_and(|one| !one.is_empty())
    };
    if containers.iter().any(|container| asks(container, "limits") || asks(container, "requests")) {
        "Burstable"
    } else {
        "BestEffort"
    }
}

fn fill_secret(secret: &mut Value) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    default(secret, "type", json!("Opaque"));
    let plain = secret["stringData"].take();
    if let Some(fields) = secret.as_object_mut() {
        fields.remove("stringData");
    }
    for (key, value) in plain.as_object().into_iter().flatten() {
        secret["data"][key] = json!(BASE64.encode(value.as_str().unwrap_or_default()));
    }
}

fn default(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    }
}

fn managed_fields(object: &Value, call: &Call) -> Value {
    let manager = call.text("fieldManager");
    let manager = if manager.is_empty() { "unknown" } else { manager };
    let mut fields = Map::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        if name != "status" {
            fields.insert(format!("f:{name}"), owned(value));
        }
    }
    json!({
        "manager": manager, "operation": "Update", "apiVersion": "v1", "time": seconds(Timestamp::now()),
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    })
}

/// The tree of the fields that are set.
fn owned(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (format!("f:{name}"), owned(value))).collect()
        }
        Value::Array(items) => items
            .iter()
            .filter_map(|item| Some((format!("k:{{\"name\":{}}}", item.get("name")?), owned(item))))
            .collect(),
        _ => json!({}),
    }
}
