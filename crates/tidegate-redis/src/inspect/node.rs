//! A server as a node of a cluster: how it sees all others, and who serves which slots.

use super::entry::Line;
use super::server::{Expected, ServerSight};
use super::told::{Told, ask, ask_for, words};
use crate::cluster::Topology;
use crate::settings::Address;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A cluster, as one of its nodes sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// Whether it takes requests: `cluster_state`.
    pub is_ok: bool,
    /// All nodes that it knows.
    pub nodes: Vec<NodeLine>,
    /// Where clients reach those that serve slots, and their replicas.
    pub reached_at: Vec<(Address, Expected)>,
}

/// A node, as another sees it: a line of `CLUSTER NODES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLine {
    /// Its id.
    pub id: String,
    /// What it is, and how: `myself`, `master`, `slave`, `fail?`, `fail` …
    pub flags: BTreeSet<String>,
    /// Its address, and its name if it has one.
    pub address: String,
    /// The id of the master that it follows, if it does.
    pub master: Option<String>,
    /// Whether the one who tells is connected to it.
    pub is_linked: bool,
    /// Slots that it serves.
    pub slots: Vec<RangeInclusive<u16>>,
    /// Slots that are on their way, from it or to it.
    pub moving: usize,
}

impl ClusterView {
    /// Slots of the node that tells.
    pub fn own_slots(&self) -> &[RangeInclusive<u16>] {
        let own = self.nodes.iter().find(|node| node.flags.contains("myself"));
        own.map_or(&[], |node| &node.slots)
    }

    /// Who serves which slots: what nodes must agree on. Keys are the slots' first and last.
    pub fn owners(&self) -> BTreeMap<(u16, u16), &str> {
        let serving = self.nodes.iter().flat_map(|node| {
            node.slots.iter().map(|range| ((*range.start(), *range.end()), node.id.as_str()))
        });
        serving.collect()
    }
}

impl NodeLine {
    /// From a line of `CLUSTER NODES`; `None` if it is none.
    ///
    /// `ID HOST:PORT@BUS,NAME FLAGS MASTER PING PONG EPOCH LINK SLOTS…`; slots on their way
    /// are in brackets.
    pub fn of(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (id, address, flags) = (words.next()?, words.next()?, words.next()?);
        let master = words.next()?;
        let is_linked = words.nth(3)? == "connected";
        let (moving, slots): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with('['));
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        let (at, names) = address.split_once('@').unwrap_or((address, ""));
        let name = names.split(',').nth(1).filter(|name| !name.is_empty());
        let port = at.rsplit(':').next().unwrap_or_default();
        Some(Self {
            id: id.to_owned(),
            flags: flags.split(',').map(str::to_owned).collect(),
            address: name.map_or_else(|| at.to_owned(), |name| format!("{name}:{port}")),
            master: (master != "-").then(|| master.to_owned()),
            is_linked,
            slots: slots.into_iter().map(range).collect::<Option<_>>()?,
            moving: moving.len(),
        })
    }

    /// Whether this stands in its flags.
    pub fn is(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }
}

/// How a node sees its cluster.
pub(super) async fn view(line: &mut Line, asked: &Address, within: Duration) -> Told<ClusterView> {
    let connection = &mut line.connection;
    let nodes = match ask_for::<String>(connection, &["CLUSTER", "NODES"], within).await {
        Told::Is(nodes) => nodes,
        Told::NotAllowed => return Told::NotAllowed,
        Told::Failed(why) => return Told::Failed(why),
    };
    let slots = ask(connection, &words(&["CLUSTER", "SLOTS"]), within).await;
    let told = redis::Value::BulkString(nodes.clone().into_bytes());
    let topology = slots.and_then(|slots| Topology::of(&[slots, told], asked));
    let reached_at = topology.is().map(|topology| {
        let masters = topology.shards.iter().map(|shard| shard.master.clone());
        let all = masters.chain(topology.replicas.iter().cloned());
        all.map(|address| (address, Expected::Node)).collect()
    });
    let state = ask_for::<String>(connection, &["CLUSTER", "INFO"], within).await;
    let lines: Option<Vec<NodeLine>> = nodes.lines().map(NodeLine::of).collect();
    let Some(nodes) = lines else {
        return Told::Failed("its answer is no view of a cluster".to_owned());
    };
    // Whoever may not ask for the state has the others' flags.
    let is_ok = state.is().is_none_or(|state| state.contains("cluster_state:ok"));
    Told::Is(ClusterView { is_ok, nodes, reached_at: reached_at.unwrap_or_default() })
}

/// Nodes that those who were asked speak of, and who were not asked themselves.
pub(super) fn others(seen: &[ServerSight]) -> Vec<(Address, Expected)> {
    let known: BTreeSet<&Address> = seen.iter().map(|server| &server.address).collect();
    let views = seen.iter().filter_map(|server| server.cluster.as_ref()?.is());
    let told: BTreeMap<&Address, Expected> = views
        .flat_map(|view| view.reached_at.iter().map(|(address, expected)| (address, *expected)))
        .collect();
    let new = told.into_iter().filter(|(address, _)| !known.contains(address));
    new.map(|(address, expected)| (address.clone(), expected)).collect()
}

/// Leaves out nodes that were met twice: a seed's address is often not what the others call it.
pub(super) fn once_each(servers: &mut Vec<ServerSight>) {
    let mut known = BTreeSet::new();
    servers.retain(|server| {
        let view = server.cluster.as_ref().and_then(Told::is);
        let own = view.and_then(|view| view.nodes.iter().find(|node| node.is("myself")));
        own.is_none_or(|own| known.insert(own.id.clone()))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_nodes_are_read() {
        let line = "07c3 10.0.0.4:30004@31004,redis-4 slave,fail? e7d1 0 1426238317239 4 connected";
        let node = NodeLine::of(line).unwrap();
        assert_eq!(node.address, "redis-4:30004");
        assert_eq!(node.master.as_deref(), Some("e7d1"));
        assert!(node.is("fail?") && node.is_linked && node.slots.is_empty());
        let line = "67ed :30002@31002 myself,master - 0 0 2 disconnected 0-99 200 [93->-292f]";
        let node = NodeLine::of(line).unwrap();
        assert_eq!((node.slots, node.moving), (vec![0..=99, 200..=200], 1));
        assert!(!node.is_linked && node.master.is_none());
        for strange in ["", "a b c", "a b:1@2 master - 0 0 1 connected x-y"] {
            assert_eq!(NodeLine::of(strange), None, "{strange:?}");
        }
    }
}
