//! Slots to lanes: who is asked about which key now.

use super::slot::{SLOTS, slot_of};
use super::topology::Topology;
use crate::keeper::Keeper;
use crate::lane::Lane;
use crate::lineage::Histories;
use crate::link::Link;
use crate::probe::Probe;
use crate::settings::{Address, Settings};
use crate::stats::Stats;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_core::key::Key;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The most nodes that a lane is kept to.
const NODES_MAX: usize = 1_024;

/// How long a node that no view has is kept, after another node has sent us there: views are
/// behind while slots move.
const KEPT_UNSEEN: Duration = Duration::from_secs(60);

/// Keys tried to find one in a node's slots. With one slot in 16,384 it takes that many.
const KEYS_TRIED_MAX: usize = 200_000;

/// Nobody's slot.
const NOBODY: u16 = u16::MAX;

/// Who serves which slot, as far as is known.
pub(super) struct Map {
    owners: Box<[u16; SLOTS]>,
    pub(super) nodes: Vec<Node>,
    pub(super) version: u64,
    /// All that may be asked for a newer view.
    pub(super) replicas: Vec<Address>,
}

/// A node of the cluster that is asked.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) lane: Arc<Lane>,
    probe: Arc<Probe>,
    /// How many slots it serves.
    pub(super) slots: u16,
    /// When a view had it, or somebody sent us there.
    seen: Instant,
}

/// All lanes, those too that no view has yet.
pub(super) struct Nodes {
    all: Mutex<HashMap<Address, Node>>,
    settings: Arc<Settings>,
    stats: Arc<Stats>,
    histories: Arc<Histories>,
    /// Rings when a connection is lost, or slots have moved.
    bell: Arc<Notify>,
}

impl Map {
    /// Of a cluster of which nothing is known.
    pub(super) fn empty() -> Self {
        let owners = Box::new([NOBODY; SLOTS]);
        Self { owners, nodes: Vec::new(), version: 0, replicas: Vec::new() }
    }

    /// The lane to who serves the slot, if anybody does.
    pub(super) fn lane(&self, slot: u16) -> Option<&Arc<Lane>> {
        self.node(slot).map(|node| &node.lane)
    }

    /// Who serves the slot, if anybody does.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        self.node(slot).map(|node| &node.address)
    }

    fn node(&self, slot: u16) -> Option<&Node> {
        let owner = *self.owners.get(usize::from(slot))?;
        self.nodes.get(usize::from(owner))
    }

    /// Slots that nobody serves.
    pub(super) fn uncovered(&self) -> usize {
        self.owners.iter().filter(|owner| **owner == NOBODY).count()
    }
}

impl Nodes {
    pub(super) fn new(settings: Arc<Settings>, stats: Arc<Stats>, bell: Arc<Notify>) -> Self {
        Self { all: Mutex::default(), settings, stats, histories: Arc::default(), bell }
    }

    /// The lane to where somebody sent us; `None` if there are too many already.
    pub(super) fn lane_to(&self, address: &Address) -> Option<Arc<Lane>> {
        let mut all = self.all();
        let node = self.node(&mut all, address)?;
        node.seen = Instant::now();
        Some(node.lane.clone())
    }

    /// The map by a view. Lanes that are there stay; those to nodes that are gone end.
    pub(super) fn map(&self, topology: &Topology) -> Map {
        let mut all = self.all();
        let mut map = Map { version: topology.version, ..Map::empty() };
        map.replicas.clone_from(&topology.replicas);
        for shard in &topology.shards {
            let Some(node) = self.node(&mut all, &shard.master) else { continue };
            let number = u16::try_from(map.nodes.len()).unwrap_or(NOBODY);
            node.slots = 0;
            for slot in shard.slots.iter().cloned().flatten() {
                map.owners[usize::from(slot)] = number;
                node.slots += 1;
            }
            node.seen = Instant::now();
            map.nodes.push(node.clone());
        }
        for (number, node) in (0..).zip(&map.nodes) {
            let is_own = |key: &Key| map.owners[usize::from(slot_of(*key))] == number;
            if !node.probe.key().is_some_and(|key| is_own(&key)) {
                let by_chance = || Key(fastrand::u128(..).to_be_bytes());
                let key = std::iter::repeat_with(by_chance).take(KEYS_TRIED_MAX).find(is_own);
                node.probe.use_key(key);
            }
        }
        let is_in = |address: &Address| topology.shards.iter().any(|s| s.master == *address);
        all.retain(|address, node| is_in(address) || node.seen.elapsed() < KEPT_UNSEEN);
        map
    }

    fn node<'a>(
        &self,
        all: &'a mut HashMap<Address, Node>,
        address: &Address,
    ) -> Option<&'a mut Node> {
        if !all.contains_key(address) {
            if all.len() >= NODES_MAX {
                return None;
            }
            all.insert(address.clone(), self.start(address));
        }
        all.get_mut(address)
    }

    fn start(&self, address: &Address) -> Node {
        let bell = self.bell.clone();
        let link = Arc::new(Link::new(self.settings.read_timeout, self.stats.clone(), bell));
        let probe = Arc::new(Probe::new());
        // No slot of its own is known yet.
        probe.use_key(None);
        let keeper = Keeper {
            settings: self.settings.clone(),
            link: link.clone(),
            probe: probe.clone(),
            histories: self.histories.clone(),
        };
        let (teller, target) = watch::channel(Some(address.clone()));
        let keeper = tokio::spawn(async move {
            keeper.run(target).await;
            drop(teller);
        });
        let lane = Arc::new(Lane::new(&self.settings, link, keeper.abort_handle()));
        Node { address: address.clone(), lane, probe, slots: 0, seen: Instant::now() }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Address, Node>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
