//! An image that is already in its registry is not built again.

use fairlane_common::build::ALREADY_THERE;
use fairlane_common::queue::{Submit, Submitted};
use fairlane_common::{BuildId, BuildState};
use fairlane_testkit::{Access, FakeRegistry};
use fairlane_worker::{RegistryCheckArgs, Settings};

use crate::scene::{Scene, settings};

fn checking(registry: &FakeRegistry, settings: Settings) -> Settings {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: RegistryCheckArgs,
    }
    let line = <Line as clap::Parser>::parse_from(["worker", "--registry-check", &registry.host()]);
    Settings { registry_check: line.args.check().unwrap(), ..settings }
}

async fn submit(scene: &Scene, image: &str, push: bool, force: bool) -> BuildId {
    let spec = fairlane_common::BuildSpec { image: image.parse().unwrap(), push, ..scene.spec() };
    let submit = Submit { id: BuildId::new(), spec, force, override_ban: None, dispatcher: None };
    match scene.queue.submit(&submit).await.unwrap() {
        Submitted::New(admitted) => admitted.id,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_image_that_was_pushed_meanwhile_is_not_built_again() {
    let scene = Scene::start().await;
    let registry = FakeRegistry::start(Access::Open).await;
    registry.push("binder/there:1");
    let script = scene.script("echo built");
    let worker = scene.worker(checking(&registry, settings(&script))).await;
    for (name, push, force, runs) in [
        ("there:1", true, false, false),
        ("missing:1", true, false, true),
        // Not pushed, so the registry does not matter.
        ("there:1", false, true, true),
        ("there:1", true, true, true),
    ] {
        let id = submit(&scene, &format!("{}/binder/{name}", registry.host()), push, force).await;
        let build = scene.build_in(id, BuildState::Succeeded).await;
        let lines = scene.log(id, 1).await;
        assert_eq!(!lines.is_empty(), runs, "{name}, push {push}, force {force}: {lines:?}");
        assert_eq!(build.reason.as_deref() == Some(ALREADY_THERE), !runs);
    }
    // A registry that fails does not block builds.
    registry.break_with(500);
    let id = submit(&scene, &format!("{}/binder/there:1", registry.host()), true, true).await;
    scene.build_in(id, BuildState::Succeeded).await;
    assert_eq!(scene.log(id, 1).await, ["built"]);
    worker.end().await.unwrap();
    scene.check().await;
}
