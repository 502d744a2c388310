//! `fairlane nodes`.

use anyhow::Result;
use fairlane_clikit::exit::Exit;
use fairlane_clikit::human;
use fairlane_clikit::output::{Align, Output, Table};
use fairlane_common::id::HOSTS;
use fairlane_common::id::NodeName;
use fairlane_dispatcher::api::{NodeAnswer, NodeList, QueueView};
use reqwest::Method;

use crate::args::{Nodes, NodesAct, Reach};
use crate::client::Client;
use crate::commands::doctor::kubernetes::probe;

pub(crate) async fn run(args: Nodes, output: Output) -> Result<Exit> {
    match args.act {
        None => list(args.reach, output).await,
        Some(NodesAct::Clear { node, cluster, reach }) => clear(&node, cluster, reach, output).await,
        Some(NodesAct::Probe(args)) => Box::pin(probe::run(*args, output)).await,
    }
}

async fn list(reach: Reach, output: Output) -> Result<Exit> {
    let client = Client::new(reach)?;
    let list: NodeList = client.get("v1/nodes", &[]).await?;
    if output.is_json() {
        for node in &list.nodes {
            output.json(node);
        }
        return Ok(Exit::Good);
    }
    if list.nodes.is_empty() {
        output.talk("No node and no host is avoided.");
        return Ok(Exit::Good);
    }
    let now = client.get::<QueueView>("v1/queue", &[]).await?.totals.now_ms;
    let mut table = Table::new([
        ("NODE", Align::Left),
        ("AVOIDED", Align::Right),
        ("USED AGAIN", Align::Right),
        ("LANES", Align::Right),
        ("CLUSTER", Align::Left),
        ("LATEST FAILURE", Align::Left),
    ]);
    for node in &list.nodes {
        table.row([
            (&node.node).into(),
            human::ago(node.since_ms, now).into(),
            human::ahead(node.until_ms, now).into(),
            node.lanes.into(),
            (if node.cluster == HOSTS { "process workers" } else { &node.cluster }).into(),
            (&node.reason).into(),
        ]);
    }
    output.table(&table);
    Ok(Exit::Good)
}

async fn clear(node: &NodeName, cluster: Option<String>, reach: Reach, output: Output) -> Result<Exit> {
    let client = Client::new(reach)?;
    let query: Vec<(&str, String)> = cluster.into_iter().map(|cluster| ("cluster", cluster)).collect();
    let answer: NodeAnswer = client.send(Method::DELETE, &format!("v1/nodes/{node}"), &query, None).await?;
    if output.is_json() {
        output.json(&answer);
    } else {
        output.talk(&format!("Builds go to {} again; its failures are forgotten.", answer.node));
    }
    Ok(Exit::Good)
}
