use super::*;
use crate::kubernetes::pod::{Placement, PodSettings, pod, sample};

fn refused(text: &str) -> String {
    format!("{:#}", PodTemplate::parse(text).expect_err(text))
}

/// A build pod with a template in it, unless it does not fit.
fn merged(text: &str) -> Result<Pod> {
    let template = PodTemplate::parse(text)?;
    let settings = PodSettings { template: Some(template), ..PodSettings::default() };
    settings.check().map(|()| sample(&settings))
}

#[test]
fn what_is_no_pod_is_refused() {
    for (text, says) in [
        ("", "not a pod"),
        ("- a", "not a pod"),
        ("just text", "not a pod"),
        ("kind: Deployment\nspec: {}", "kind is \"Deployment\", not Pod"),
        ("apiVersion: v2\nspec: {}", "apiVersion is \"v2\", not v1"),
        ("kind: Pod", "neither `metadata` nor `spec`"),
        ("spec: {}\nspec: {}", "not YAML"),
        ("spec: {}\n---\nspec: {}", "not YAML"),
        ("spec: [", "not YAML"),
        ("spec: {}\nstatus: {}", "status is Fairlane's own"),
    ] {
        assert!(refused(text).contains(says), "{text}: {}", refused(text));
    }
}

#[test]
fn a_misspelling_is_found_wherever_it_stands() {
    for (text, place) in [
        ("specs: {}\nspec: {}", "specs: no pod has"),
        ("spec: { nodeSelectr: { a: b } }", "spec.nodeSelectr: no pod has"),
        ("metadata: { label: { a: b } }", "metadata.label: no pod has"),
        (
            "spec: { containers: [{ name: builder, resources: { limts: { cpu: 1 } } }] }",
            "spec.containers[0].resources.limts: no pod has",
        ),
        (
            "spec: { containers: [{ name: builder, env: [{ name: A, valueFrom: { secretRef: { name: s } } }] }] }",
            "spec.containers[0].env[0].valueFrom.secretRef: no pod has",
        ),
        (
            "spec: { tolerations: [{ key: a, operator: Exists, tolerationSecond: 1 }] }",
            "spec.tolerations[0].tolerationSecond: no pod has",
        ),
        ("spec: { $patch: replace }", "spec.$patch: no pod has"),
    ] {
        assert!(refused(text).contains(place), "{text}: {}", refused(text));
    }
}

#[test]
fn a_wrong_type_is_told_by_its_place() {
    for (text, place) in [
        ("spec: { containers: { name: builder } }", "spec.containers: "),
        ("spec: { priority: high }", "spec.priority: "),
        ("spec: { terminationGracePeriodSeconds: 1.5 }", "spec.terminationGracePeriodSeconds: "),
        (
            "spec: { containers: [{ name: builder, env: [{ name: A, value: 1 }] }] }",
            "spec.containers[0].env[0].value: ",
        ),
        ("spec: { nodeSelector: }", "spec.nodeSelector is empty"),
        (
            "spec: { containers: [{ resources: { limits: { cpu: 1 } } }] }",
            "spec.containers[0].name: it is missing",
        ),
        (
            "spec: { containers: [{ name: builder, env: [{ value: a }] }] }",
            "spec.containers[0].env[0].name: it is missing",
        ),
    ] {
        assert!(refused(text).contains(place), "{text}: {}", refused(text));
    }
}

#[test]
fn what_is_fairlanes_own_is_refused_with_the_way_to_say_it() {
    for (path, _) in OWNED {
        let text = text_of(path);
        assert!(refused(&text).contains("is Fairlane's own"), "{text}: {}", refused(&text));
    }
    assert!(
        refused("metadata: { labels: { fairlane/lane: a } }")
            .contains("labels.fairlane/lane is Fairlane's own")
    );
    // The same fields of other containers are anybody's.
    assert!(PodTemplate::parse("spec: { containers: [{ name: side, image: i, args: [a] }] }").is_ok());
}

/// A template that says something at `path`.
fn text_of(path: &str) -> String {
    let steps: Vec<&str> = path.split('.').collect();
    let mut value = Value::from("x");
    for (i, step) in steps.iter().enumerate().rev() {
        let above = i.checked_sub(1).map(|i| steps[i]);
        value = if matches!(above, Some("containers" | "env")) {
            if !value.is_object() {
                value = serde_json::json!({ "value": value });
            }
            value["name"] = Value::from(*step);
            Value::Array(vec![value])
        } else {
            serde_json::json!({ *step: value })
        };
    }
    if value.get("spec").is_none() && value.get("metadata").is_none() {
        value["spec"] = serde_json::json!({});
    }
    value.to_string()
}

#[test]
fn what_does_not_merge_is_refused() {
    for (text, says) in [
        (
            "spec: { containers: [{ name: side }] }",
            "spec.containers[1].image: the container 'side' needs an image",
        ),
        ("spec: { containers: [{ name: Side, image: i }] }", "spec.containers[1].name: 'Side' is invalid"),
        (
            "spec: { volumes: [{ name: docker-socket, emptyDir: {} }] }",
            "spec.volumes[0]: the volume 'docker-socket' has 2 sources",
        ),
        ("spec: { volumes: [{ name: cache }] }", "spec.volumes[1]: the volume 'cache' has 0 sources"),
        (
            "spec: { containers: [{ name: builder, volumeMounts: [{ name: cache, mountPath: /c }] }] }",
            "spec.containers[0].volumeMounts[1].name: there is no volume 'cache'",
        ),
        (
            "spec: { containers: [{ name: builder, resources: { limits: { memory: 2 GB } } }] }",
            "spec.containers[0].resources.limits.memory: '2 GB' is not a quantity",
        ),
        ("metadata: { labels: { team: a b } }", "metadata.labels.team: 'a b' is not a label value"),
        (
            "spec: { initContainers: [{ name: builder, image: i }] }",
            "spec.containers[0]: there are two containers 'builder'",
        ),
    ] {
        let error = format!("{:#}", merged(text).expect_err(text));
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn a_template_adds_to_the_pod_and_replaces_nothing_it_does_not_name() {
    let pod = merged(
        "kind: Pod\napiVersion: v1\nmetadata:\n  labels: { team: a }\nspec:\n  priorityClassName: builds\n  \
         runtimeClassName: gvisor\n  nodeSelector: { pool: builds }\n  imagePullSecrets: [{ name: pull }]\n  \
         tolerations: [{ key: builds, operator: Exists, effect: NoSchedule }]\n  \
         securityContext: { runAsUser: 1000 }\n  volumes: [{ name: cache, emptyDir: { sizeLimit: 1Gi } }]\n  \
         initContainers: [{ name: warm, image: i }]\n  containers:\n  - name: side\n    image: i\n  \
         - name: builder\n    image: 'example.org/builder:1'\n    imagePullPolicy: Never\n    env: [{ name: HTTPS_PROXY, value: 'http://p' }]\n    \
         volumeMounts: [{ name: cache, mountPath: /cache }]\n    \
         resources: { requests: { cpu: 0.5, ephemeral-storage: 1 }, limits: { memory: 2G } }\n",
    )
    .unwrap();
    let labels = pod.metadata.labels.unwrap();
    assert_eq!(
        (labels["team"].as_str(), labels["component"].as_str()),
        ("a", crate::kubernetes::pod::COMPONENT)
    );
    let spec = pod.spec.unwrap();
    let builder = &spec.containers[0];
    assert_eq!((builder.name.as_str(), builder.image_pull_policy.as_deref()), (CONTAINER, Some("Never")));
    assert_eq!(builder.image.as_deref(), Some("example.org/builder:1"));
    assert_eq!(builder.volume_mounts.as_ref().unwrap().len(), 2);
    assert_eq!(builder.resources.as_ref().unwrap().requests.as_ref().unwrap()["cpu"].0, "0.5");
    assert!(builder.args.as_ref().unwrap().len() > 5);
    assert_eq!(spec.volumes.unwrap().len(), 2);
    assert_eq!(spec.containers[1].name, "side");
    // A lost node is left soon, whatever else is tolerated.
    let tolerations = spec.tolerations.unwrap();
    let keys: Vec<&str> = tolerations.iter().filter_map(|found| found.key.as_deref()).collect();
    assert_eq!(keys, ["builds", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
    assert_eq!(spec.restart_policy.as_deref(), Some("Never"));
}

#[test]
fn avoided_nodes_are_left_out_of_every_way_that_a_template_opens() {
    let text = "spec: { affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { \
                nodeSelectorTerms: [{ matchExpressions: [{ key: a, operator: Exists }] }, \
                { matchExpressions: [{ key: b, operator: Exists }] }] } } } }";
    let settings =
        PodSettings { template: Some(PodTemplate::parse(text).unwrap()), ..PodSettings::default() };
    let placement = Placement { avoid: vec!["bad".to_owned()], ..Placement::default() };
    let build = crate::fixtures::build();
    let token = crate::fixtures::token(&build);
    let pod = pod(&build, &token, &settings, &placement, None);
    let affinity = pod.spec.unwrap().affinity.unwrap().node_affinity.unwrap();
    let terms = affinity.required_during_scheduling_ignored_during_execution.unwrap().node_selector_terms;
    assert_eq!(terms.len(), 2);
    for term in terms {
        assert_eq!(term.match_expressions.unwrap().len(), 1);
        assert_eq!(term.match_fields.unwrap()[0].values.as_deref(), Some(&["bad".to_owned()][..]));
    }
}
