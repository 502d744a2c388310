//! Nodes that builds should avoid.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use fairlane_common::id::NodeName;
use fairlane_common::queue::{By, Cleared};

use crate::api::{NodeAnswer, NodeList, Problem};
use crate::problem::{AMBIGUOUS_NODE, Answer, Refusal, UNKNOWN_NODE};
use crate::routes::caller::{Operator, Reader};
use crate::routes::input::{Params, PathText};
use crate::routes::view;
use crate::state::App;

/// The avoided nodes and hosts of process workers, and why. Scope `read`.
#[utoipa::path(
    get, path = "/v1/nodes", operation_id = "list_nodes", tag = "workers",
    responses((status = 200, description = "the nodes that are avoided", body = NodeList))
)]
pub(super) async fn list(State(app): State<Arc<App>>, _: Reader, params: Params) -> Answer<Json<NodeList>> {
    params.only(&[])?;
    let nodes = app.ask(app.queue.nodes()).await?;
    Ok(Json(NodeList { nodes: nodes.into_iter().map(view::node).collect() }))
}

/// Put a node or a host back into use, and forget its failures. Scope `operate`.
#[utoipa::path(
    delete, path = "/v1/nodes/{node}", operation_id = "clear_node", tag = "workers",
    params(
        ("node" = String, Path, description = "the node's name"),
        ("cluster" = Option<String>, Query, description = "the node's cluster; needed if nodes of several clusters have this name"),
        ("reason" = Option<String>, Query, description = "why, for the audit log"),
    ),
    responses(
        (status = 200, description = "builds go to the node again", body = NodeAnswer),
        (status = 404, description = "no such node is avoided", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "avoided nodes of several clusters have this name", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn clear(
    State(app): State<Arc<App>>,
    Operator(caller): Operator,
    PathText(name): PathText,
    params: Params,
) -> Answer<Json<NodeAnswer>> {
    let unknown = || {
        let detail = "node: no node of that name is avoided; GET /v1/nodes lists those that are";
        Refusal::new(UNKNOWN_NODE, detail).field("node")
    };
    let params = params.only(&["cluster", "reason"])?;
    let reason = params.reason()?;
    let node: NodeName = name.parse().map_err(|_| unknown())?;
    let by = By { name: &caller.name, reason: &reason };
    match app.ask(app.queue.clear_node(&node, params.text("cluster"), by)).await? {
        Cleared::Cleared(cluster) => {
            tracing::info!(%node, cluster, by = caller.name, "node cleared");
            Ok(Json(NodeAnswer { node, cluster }))
        }
        Cleared::Unknown => Err(unknown()),
        Cleared::Ambiguous(clusters) => {
            let detail = format!(
                "cluster: several clusters have an avoided node named {node}: {}; choose one with ?cluster= (`fairlane nodes clear --cluster`)",
                clusters.join(", ")
            );
            Err(Refusal::new(AMBIGUOUS_NODE, detail).field("cluster"))
        }
    }
}
