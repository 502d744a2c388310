//! Keeps docs/nodes.md true: its commands parse, its values render, and its pools are what its pod template selects.

use clap::Parser as _;
use fairlane_testkit::kube::examples::node;
use fairlane_worker::command::CommandTemplate;
use fairlane_worker::pod::fit::{obstacles, requested, room};
use fairlane_worker::pod::{PodSettings, PodTemplate, sample};
use serde_json::{Value, json};

use super::helm::{case, minimal, render};
use super::{TempDir, pod_template, read};
use crate::args::Cli;

const PAGE: &str = "docs/nodes.md";

/// The values on a page, in the part of this name.
fn values_of(page: &str, part: &str) -> Value {
    let start = format!("<!-- {part} -->\n```yaml\n");
    let page = read(page);
    let part = page.split_once(&start).unwrap().1.split_once("```").unwrap().0;
    serde_saphyr::from_str(part).unwrap()
}

fn values() -> Value {
    values_of(PAGE, "pool")
}

/// The page's commands for pools, each with the name of its cloud.
fn pools() -> Vec<(String, String)> {
    let page = read(PAGE);
    let (part, _) = page.split_once("We have not run these commands").unwrap();
    let clouds = part.split("\n**").skip(1);
    clouds
        .map(|cloud| {
            let (name, rest) = cloud.split_once("**").unwrap();
            (name.to_owned(), rest.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0.to_owned())
        })
        .collect()
}

#[test]
fn a_pool_made_as_on_the_page_is_one_that_the_page_s_pod_template_selects() {
    let template = PodTemplate::parse(&values()["builds"]["podTemplate"].to_string()).unwrap();
    let settings = PodSettings { template: Some(template), ..PodSettings::default() };
    let pod = sample(&settings);
    assert!(requested(&pod, "ephemeral-storage") > 0.0, "nodes without disk get no build");
    let pools = pools();
    let clouds: Vec<&str> = pools.iter().map(|(cloud, _)| cloud.as_str()).collect();
    assert_eq!(clouds, ["GKE", "EKS", "AKS", "OVHcloud", "k3s"]);
    for (cloud, command) in pools {
        let label = ["mybinder.org/pool-type=builds", "mybinder.org/pool-type: builds"];
        assert!(label.iter().any(|label| command.contains(label)), "{cloud}: {command}");
        let taints = ["hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated"];
        let key = taints.into_iter().find(|key| {
            let written = [
                format!("{key}=user:NoSchedule"),
                format!("{{key: {key}, value: user, effect: NoSchedule}}"),
            ];
            written.iter().any(|taint| command.contains(taint))
        });
        let key = key.unwrap_or_else(|| panic!("{cloud} has no taint that build pods tolerate: {command}"));
        let of_pool = json!({
            "metadata": { "labels": { "mybinder.org/pool-type": "builds" } },
            "spec": { "taints": [{ "key": key, "value": "user", "effect": "NoSchedule" }] },
        });
        let of_pool = node("n", "100Gi", &of_pool);
        assert_eq!(obstacles(&pod, &of_pool), [], "{cloud}");
        assert_eq!(room(&pod, &of_pool), Some((10.0, "ephemeral-storage")));
        assert!(!obstacles(&pod, &node("other", "100Gi", &json!({}))).is_empty());
    }
}

#[test]
fn the_commands_on_the_page_are_the_program_s() {
    let page = read(PAGE);
    let commands: Vec<&str> = page
        .lines()
        .filter_map(|line| {
            line.strip_prefix("kubectl -n fairlane exec deployment/fairlane-worker -- ").or(Some(line))
        })
        .filter(|line| line.starts_with("fairlane "))
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.contains('`'))
        .collect();
    for wanted in ["fairlane doctor --nodes", "fairlane nodes probe NODE", "fairlane nodes clear node-3"] {
        assert!(commands.contains(&wanted), "{wanted} is not in {commands:?}");
    }
    for command in commands {
        let parsed = Cli::try_parse_from(command.split_whitespace());
        assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
    }
}

#[test]
fn the_chart_takes_the_values_on_the_page() {
    let archive = values_of("docs/logs.md", "archive");
    let Some(rendered) = render(&[case(&minimal(&values())), case(&minimal(&archive))]) else { return };
    let dispatcher = rendered[1].object("Deployment", "fairlane-dispatcher");
    assert!(dispatcher.to_string().contains("s3://logs/fairlane"), "{dispatcher}");
    let home = TempDir::new();
    let file = pod_template(&rendered[0].objects(), &home);
    let template = Some(PodTemplate::read(&file).unwrap());
    let settings = PodSettings { template, command: CommandTemplate::default(), ..PodSettings::default() };
    let spec = sample(&settings).spec.unwrap();
    assert_eq!(spec.node_selector.unwrap()["mybinder.org/pool-type"], "builds");
}
