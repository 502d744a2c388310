//! Nodes that builds had better not go to; the hosts of process workers are such, too.
//!
//! A node on which builds of three lanes fail within ten minutes, for causes that lie with it, is
//! avoided for half an hour; at most a third of a cluster's nodes at once. Its only node is not
//! avoided but probed: it gets one build a minute, and is taken back when one succeeds.

use super::Queue;
use super::views::NodeView;
use crate::error::Result;
use crate::id::NodeName;
use crate::library::{CLEAR_NODE, NODES_VIEW};
use crate::script::Args;

/// How far a failure is the fault of the node that it happened on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Blame {
    /// Nothing points at the node (the registry refuses, the API fails).
    #[default]
    Nobody,
    /// Only words in the log do, which a repository may have printed itself. The build is tried on
    /// another node: if it succeeds there, this one is counted against; if it fails of the same
    /// cause there, the failure is put down to the repository.
    Suspect {
        /// What it failed of in one word or a few, the same on any node: `disk full`.
        cause: String,
    },
    /// The same of words on what no repository answers for (the container engine is away): wherever the build
    /// fails of it, it is not put down to the repository.
    Machine {
        /// What it failed of, as in `Suspect`.
        cause: String,
    },
    /// The log does not tell whether the repository or the outside is to blame: the build is tried once
    /// more, elsewhere where that is possible. If it fails of the same cause again, that is put down to the
    /// repository; if it succeeds, the first node is counted against.
    Unclear {
        /// What it failed of, as in `Suspect`.
        cause: String,
    },
    /// The cluster says so itself (an eviction, a condition of the node, a mount that failed).
    Certain,
}

impl Blame {
    pub(super) fn words(&self) -> (&str, &str) {
        match self {
            Self::Nobody => ("", ""),
            Self::Suspect { cause } => ("suspect", cause),
            Self::Machine { cause } => ("machine", cause),
            Self::Unclear { cause } => ("unclear", cause),
            Self::Certain => ("certain", ""),
        }
    }
}

/// The cluster that the hosts of process workers are the nodes of.
pub const HOSTS: &str = "process";

/// What became of an operator's wish to have a node used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleared {
    /// It is used again; it is a node of this cluster.
    Cleared(String),
    /// No such node is avoided.
    Unknown,
    /// Avoided nodes of these clusters are called so.
    Ambiguous(Vec<String>),
}

impl Queue {
    /// The nodes that are avoided, those first that will be longest.
    pub async fn nodes(&self) -> Result<Vec<NodeView>> {
        let mut reply = self.call(&NODES_VIEW, Args::new()).await?;
        if reply.tag != "nodes" {
            return Err(reply.unknown());
        }
        let now: u64 = reply.parse("now")?;
        let mut nodes = Vec::new();
        for mut node in reply.items("nodes")? {
            nodes.push(NodeView {
                name: node.parse("name")?,
                cluster: node.get("cluster")?,
                until: node.parse("until")?,
                since: node.maybe("since")?.unwrap_or(now),
                reason: node.get("reason")?,
                lanes: node.maybe("lanes")?.unwrap_or(0),
                probed: node.maybe("probed")?,
            });
        }
        Ok(nodes)
    }

    /// Has a node used again, its failures forgotten. Its cluster need not be said where only one has an
    /// avoided node of that name.
    pub async fn clear_node(&self, node: &NodeName, cluster: Option<&str>, by: &str) -> Result<Cleared> {
        let args = Args::new().text("node", node.as_str()).maybe("cluster", cluster).text("by", by);
        let mut reply = self.call(&CLEAR_NODE, args).await?;
        match reply.tag.as_str() {
            "cleared" => Ok(Cleared::Cleared(reply.get("cluster")?)),
            "unknown" => Ok(Cleared::Unknown),
            "ambiguous" => Ok(Cleared::Ambiguous(reply.get("clusters")?)),
            _ => Err(reply.unknown()),
        }
    }
}
