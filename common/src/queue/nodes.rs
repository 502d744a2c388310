//! Nodes that builds had better not go to.
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
            Self::Unclear { cause } => ("unclear", cause),
            Self::Certain => ("certain", ""),
        }
    }
}

impl Queue {
    /// The nodes that are avoided, those first that will be longest.
    pub async fn nodes(&self) -> Result<Vec<NodeView>> {
        let mut reply = self.call(&NODES_VIEW, Args::new()).await?;
        if reply.tag != "nodes" {
            return Err(reply.unknown());
        }
        let now: u64 = reply.parse()?;
        let mut nodes = Vec::new();
        while let Some(name) = reply.maybe::<NodeName>()? {
            let until = reply.parse()?;
            nodes.push(NodeView {
                name,
                until,
                since: reply.maybe()?.unwrap_or(now),
                cluster: reply.next()?,
                reason: reply.next()?,
                lanes: reply.maybe()?.unwrap_or(0),
                probed: reply.maybe()?,
            });
        }
        Ok(nodes)
    }

    /// Has a node used again, its failures forgotten. `false`: it was not avoided.
    pub async fn clear_node(&self, node: &NodeName, by: &str) -> Result<bool> {
        let reply = self.call(&CLEAR_NODE, Args::new().text(node.as_str()).text(by)).await?;
        match reply.tag.as_str() {
            "cleared" => Ok(true),
            "unknown" => Ok(false),
            _ => Err(reply.unknown()),
        }
    }
}
