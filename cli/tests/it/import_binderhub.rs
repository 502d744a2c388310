//! `fairlane import-binderhub`: values on one stream, what became of each setting on the other.

use fairlane_testkit::TempDir;
use serde_json::Value;

use crate::setup::{fairlane, run};

const VALUES: &str = "\
binderhub:
  imageBuilderType: pink
  config:
    BinderHub: {concurrent_build_limit: 4}
    KubernetesBuildExecutor: {sticky_builds: true}
";

#[tokio::test]
async fn binderhubs_values_become_ours_and_every_setting_is_named() {
    let home = TempDir::new();
    std::fs::write(home.join("values.yaml"), VALUES).unwrap();
    let said =
        run(fairlane(&home, ["import-binderhub", "values.yaml", "--namespace", "prod"])).await.expect(0, "");
    let values: Value = serde_saphyr::from_str(&said.data).unwrap();
    assert_eq!((&values["builder"], &values["builds"]["namespace"]), (&"pink".into(), &"prod".into()));
    assert_eq!(values["builds"]["sticky"], true);
    assert!(said.data.contains("c.BinderHub.build_class = \"fairlane_binderhub"), "{}", said.data);
    for line in [
        "moved       binderhub.imageBuilderType",
        "by hand     binderhub.config.BinderHub.concurrent_build_limit",
    ] {
        assert!(said.talk.contains(line), "{}", said.talk);
    }
    let said = run(fairlane(&home, ["import-binderhub", "values.yaml", "--json"])).await.expect(0, "");
    let lines: Vec<Value> = said.data.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["fate"], "moved");
    assert_eq!(lines.last().unwrap()["values"]["builder"], "pink");
}

#[tokio::test]
async fn a_file_that_is_not_binderhubs_is_refused_with_what_was_expected() {
    let home = TempDir::new();
    for (text, why) in [
        ("hub: {config: {}}", "has no settings of BinderHub. Expected are Helm values"),
        ("- a", "holds no settings: expected Helm values, or traits as JSON"),
        ("a: [", "is not YAML or JSON"),
    ] {
        std::fs::write(home.join("other.yaml"), text).unwrap();
        run(fairlane(&home, ["import-binderhub", "other.yaml"])).await.expect(2, why);
    }
    run(fairlane(&home, ["import-binderhub", "gone.yaml"])).await.expect(2, "'gone.yaml' cannot be read");
}
