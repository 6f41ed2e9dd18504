//! What a node says of its cluster: which master serves which slots, and how new that is.
//!
//! `CLUSTER SLOTS` names the masters as clients are meant to reach them; `CLUSTER NODES` has
//! each master's config epoch, which rises with every fail-over and every slot that moves. So
//! the highest epoch of a view is its version, and of two views the one with the higher
//! version is the newer: a master that was frozen, and wakes, is known by it.

use super::slot::SLOTS;
use crate::settings::Address;
use redis::Value;
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// The most shards of a cluster that are looked at; Redis itself advises against more nodes.
const SHARDS_MAX: usize = 1_000;

/// A view of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    /// The newest config epoch of all that serve slots.
    pub(crate) version: u64,
    /// Who serves slots.
    pub(crate) shards: Vec<Shard>,
    /// All others that one may ask for a view.
    pub(crate) replicas: Vec<Address>,
}

/// A master, and what it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) master: Address,
    pub(crate) slots: Vec<RangeInclusive<u16>>,
}

impl Topology {
    /// The commands that ask for it.
    pub(crate) fn question() -> redis::Pipeline {
        let mut question = redis::Pipeline::new();
        question.cmd("CLUSTER").arg("SLOTS");
        question.cmd("CLUSTER").arg("NODES");
        question
    }

    /// The view in the answers of the node at `asked`; `None` if they hold none.
    pub(crate) fn of(answers: &[Value], asked: &Address) -> Option<Self> {
        let [Value::Array(ranges), nodes] = answers else { return None };
        let epochs = epochs(&text(nodes)?);
        let mut topology = Self { version: 0, shards: Vec::new(), replicas: Vec::new() };
        for range in ranges {
            topology.add(range, &epochs, asked)?;
        }
        Some(topology)
    }

    fn add(&mut self, range: &Value, epochs: &HashMap<String, u64>, asked: &Address) -> Option<()> {
        let Value::Array(parts) = range else { return None };
        let [first, last, nodes @ ..] = &parts[..] else { return None };
        let slots = slot(first)?..=slot(last)?;
        let (master, replicas) = nodes.split_first()?;
        // A master whose name nobody knows yet: as if its slots were nobody's.
        let Some((master, id)) = node(master, asked) else { return Some(()) };
        self.version = self.version.max(epochs.get(&id).copied().unwrap_or(0));
        if let Some(shard) = self.shards.iter_mut().find(|shard| shard.master == master) {
            shard.slots.push(slots);
        } else if self.shards.len() < SHARDS_MAX {
            self.shards.push(Shard { master, slots: vec![slots] });
            let replicas = replicas.iter().filter_map(|replica| node(replica, asked));
            self.replicas.extend(replicas.map(|(address, _)| address));
        }
        Some(())
    }
}

/// Config epochs by node, from the lines of `CLUSTER NODES`:
/// `id address flags master ping pong epoch link slots…`.
fn epochs(nodes: &str) -> HashMap<String, u64> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.nth(5)?.parse().ok()?))
    };
    nodes.lines().filter_map(line).collect()
}

fn slot(value: &Value) -> Option<u16> {
    let Value::Int(slot) = value else { return None };
    u16::try_from(*slot).ok().filter(|slot| usize::from(*slot) < SLOTS)
}

/// `[host, port, id, …]`. No host is that of the node that was asked; `?` is one that has not
/// been told its name.
fn node(value: &Value, asked: &Address) -> Option<(Address, String)> {
    let Value::Array(parts) = value else { return None };
    let [host, Value::Int(port), id, ..] = &parts[..] else { return None };
    let host = match host {
        Value::Nil => asked.host.clone(),
        host => match text(host)? {
            host if host.is_empty() => asked.host.clone(),
            host if host == "?" => return None,
            host => host,
        },
    };
    Some((Address::new(host, u16::try_from(*port).ok()?), text(id)?))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn node_of(host: Value, port: i64, id: &str) -> Value {
        Value::Array(vec![host, Value::Int(port), bulk(id), Value::Array(Vec::new())])
    }

    fn range(first: i64, last: i64, nodes: &[Value]) -> Value {
        Value::Array([&[Value::Int(first), Value::Int(last)], nodes].concat())
    }

    #[test]
    fn masters_are_named_as_clients_reach_them() {
        let asked = Address::new("seed", 1);
        let a = node_of(bulk("10.0.0.1"), 6379, "a");
        let b = node_of(Value::Nil, 6380, "b");
        let unnamed = node_of(bulk("?"), 6381, "c");
        let slots = Value::Array(vec![
            range(0, 99, &[a.clone(), node_of(bulk("10.0.0.9"), 6379, "r")]),
            range(100, 200, &[b]),
            range(201, 201, &[a]),
            range(202, 16_383, &[unnamed]),
        ]);
        let nodes = "a 10.0.0.1:6379@16379,host-a master - 0 0 4 connected 0-99 201\n\
                     b :6380@16380 myself,master - 0 0 7 connected 100-200\n\
                     r 10.0.0.9:6379@16379 slave a 0 0 12 connected\n";
        let topology = Topology::of(&[slots, bulk(nodes)], &asked).unwrap();
        assert_eq!(topology.version, 7, "a replica's epoch is its master's or nothing");
        assert_eq!(topology.replicas, [Address::new("10.0.0.9", 6379)]);
        let shards = [
            Shard { master: Address::new("10.0.0.1", 6379), slots: vec![0..=99, 201..=201] },
            Shard { master: Address::new("seed", 6380), slots: vec![100..=200] },
        ];
        assert_eq!(topology.shards, shards);
    }

    #[test]
    fn what_is_no_view_is_none() {
        let asked = Address::new("seed", 1);
        let nodes = bulk("");
        for strange in [
            Value::Nil,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![range(0, 16_384, &[node_of(bulk("a"), 1, "a")])]),
            Value::Array(vec![range(-1, 5, &[node_of(bulk("a"), 1, "a")])]),
            Value::Array(vec![range(0, 5, &[])]),
        ] {
            assert_eq!(
                Topology::of(&[strange.clone(), nodes.clone()], &asked),
                None,
                "{strange:?}"
            );
        }
        let none = Topology::of(&[Value::Array(Vec::new()), nodes], &asked).unwrap();
        assert!(none.shards.is_empty());
    }
}
