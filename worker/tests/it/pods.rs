//! The pods and Secrets that workers create, as a cluster sees them.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use fairlane_common::{Build, BuildId, Token, WorkerId};
use fairlane_testkit::kube::TestCluster;
use fairlane_worker::command::CommandTemplate;
use fairlane_worker::kubernetes::client::Cluster;
use fairlane_worker::pod::{self, Placement, PodSettings, PodTemplate};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};

/// Everything that a template can add without objects in the cluster: priority classes and the like must exist
/// when a pod is created.
const TEMPLATE: &str = "
metadata: { labels: { team: a }, annotations: { cluster-autoscaler.kubernetes.io/safe-to-evict: 'false' } }
spec:
  nodeSelector: { kubernetes.io/os: linux }
  imagePullSecrets: [{ name: image-pull-secret }]
  tolerations: [{ key: builds, operator: Exists, effect: NoSchedule }]
  securityContext: { seccompProfile: { type: RuntimeDefault } }
  topologySpreadConstraints:
  - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway,
      labelSelector: { matchLabels: { component: fairlane-build } } }
  affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [
    { matchExpressions: [{ key: kubernetes.io/os, operator: Exists }] } ] } } }
  volumes: [{ name: cache, emptyDir: { sizeLimit: 1Gi } }]
  initContainers: [{ name: warm, image: 'example.org/warm:1', volumeMounts: [{ name: cache, mountPath: /cache }] }]
  containers:
  - { name: side, image: 'example.org/side:1' }
  - name: builder
    env: [{ name: HTTPS_PROXY, value: 'http://proxy.example.org:3128' }]
    volumeMounts: [{ name: cache, mountPath: /cache }]
    resources: { requests: { cpu: 100m, memory: 64Mi, ephemeral-storage: 64Mi }, limits: { memory: 128Mi } }
";

/// A build of a unique image.
fn build() -> Build {
    let id = BuildId::new();
    let image = format!("r.example.org/test:{id}");
    let fields: HashMap<String, String> = [
        ("repo", "https://github.com/Owner/Some.Name_here"),
        ("ref", "3f2a91c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6"),
        ("image", &image),
        ("priority", "interactive"),
        ("lane", "github.com/owner/some.name_here"),
        ("state", "starting"),
        ("attempt", "1"),
        ("seq", "2"),
        ("people", "1"),
        ("asked", "1"),
        ("due", "1"),
        ("expected", "1"),
        ("push", "1"),
        ("name", "a name with \"quotes\" and é"),
        ("args", "[\"--appendix=RUN echo $(A)\\n\"]"),
        ("labels", "{\"class\":\"week 1\"}"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    Build::from_fields(id, fields).unwrap()
}

fn token(build: &Build) -> Token {
    Token { build: build.id, epoch: 7, worker: WorkerId::new("test") }
}

fn env() -> BTreeMap<String, String> {
    [("GIT_CREDENTIAL_ENV", "username=u"), ("CONTAINER_ENGINE_REGISTRY_CREDENTIALS", "{\"auths\":{}}")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

async fn connect(cluster: &TestCluster) -> Result<Cluster> {
    Cluster::of_file(cluster.kubeconfig(), Some(cluster.namespace()), None).await
}

/// A dry run: what the API would say, without creating a pod.
fn only_look() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

#[tokio::test]
async fn kube_takes_the_pods_of_every_setting() -> Result<()> {
    let cluster = TestCluster::from_env_or_fake();
    let way = connect(&cluster).await?;
    let pods: Api<Pod> = Api::namespaced(way.client.clone(), &way.namespace);
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<String>>();
    let usual = PodSettings { build_image: cluster.image().to_owned(), ..PodSettings::default() };
    let with_template = PodSettings {
        template: Some(PodTemplate::parse(TEMPLATE)?),
        push_secret: Some("push".to_owned()),
        sticky: true,
        ..usual.clone()
    };
    with_template.check()?;
    let without_socket = PodSettings {
        command: CommandTemplate::parse(
            "/kaniko/executor --context={repo}#{ref} --destination={image} {args}",
        )?,
        replace_entrypoint: true,
        docker_socket: None,
        ..usual.clone()
    };
    let some = Placement {
        builders: names(&["node-a", "node-b", "node-c"]),
        nodes: names(&["node-a", "node-b", "node-c"]),
        avoid: names(&["node-b", "node.example.org"]),
    };
    for settings in [usual, with_template, without_socket] {
        for (placement, avoid) in [(&Placement::default(), &[][..]), (&some, &["node-a", "node-d"])] {
            let build = Build { avoid: names(avoid), ..build() };
            for env in [BTreeMap::new(), env()] {
                let secret = pod::secret(&build, env, &settings, "mark");
                let token = token(&build);
                let pod = pod::pod(&build, &token, &settings, placement, secret.as_ref());
                let taken = pods.create(&only_look(), &pod).await?;
                let identity = pod::identity(&taken.metadata)?;
                assert_eq!((identity.token, identity.spec), (token, build.spec.clone()));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn kube_pods_are_marked_by_those_who_have_seen_them_and_take_their_secrets_along() -> Result<()> {
    let cluster = TestCluster::from_env_or_fake();
    let way = connect(&cluster).await?;
    let pods: Api<Pod> = Api::namespaced(way.client.clone(), &way.namespace);
    let secrets: Api<Secret> = Api::namespaced(way.client.clone(), &way.namespace);
    let settings = PodSettings {
        build_image: cluster.image().to_owned(),
        command: CommandTemplate::parse("sh -c 'test -n \"$GIT_CREDENTIAL_ENV\" && sleep 60' {repo}")?,
        docker_socket: None,
        ..PodSettings::default()
    };
    let build = build();
    let mut secret = pod::secret(&build, env(), &settings, "mark").unwrap_or_default();
    secret.metadata.uid = secrets.create(&PostParams::default(), &secret).await?.metadata.uid;
    let made = pod::pod(&build, &token(&build), &settings, &Placement::default(), Some(&secret));
    let name = pod::pod_name(&build, 1, &settings.installation);
    let seen = pods.create(&PostParams::default(), &made).await?;
    let (secret, uid) = pod::identity(&seen.metadata)?.secret.unwrap_or_default();
    let owner = Patch::Merge(pod::owner_patch(&seen.metadata, &uid));
    let owned = secrets.patch(&secret, &PatchParams::default(), &owner).await?;
    assert_eq!(
        owned.metadata.owner_references.unwrap_or_default()[0].uid,
        seen.metadata.uid.clone().unwrap_or_default()
    );

    // Two holders have seen the same pod: one of them patches it.
    let first = Token { epoch: 8, worker: WorkerId::new("first"), ..token(&build) };
    let second = Token { epoch: 9, worker: WorkerId::new("second"), ..token(&build) };
    let mark = async |token: &Token, seen: &Pod| {
        let patch = Patch::Merge(pod::token_patch(token, &seen.metadata));
        pods.patch(&name, &PatchParams::default(), &patch).await
    };
    let seen = loop {
        let seen = pods.get(&name).await?;
        match mark(&first, &seen).await {
            Ok(_) => break seen,
            // The kubelet was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
    };
    let refused = mark(&second, &seen).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 409));
    assert_eq!(pod::identity(&pods.get(&name).await?.metadata)?.token, first);
    pods.delete(&name, &DeleteParams::default().grace_period(0)).await?;
    let _ = secrets.delete(&secret, &DeleteParams::default()).await;
    Ok(())
}
