//! A cluster: each key asked of the master that serves its slot.
//!
//! Each master has a lane of its own, with its own connection, deadlines and keeper, so one
//! that is frozen or gone harms nobody else's keys. The `map` says whose slot it is; the
//! `scout` keeps it right. A node that was asked wrongly says who is right (`MOVED`, `ASK`),
//! and nothing ran there: then that one is asked, at once.
//!
//! Nothing that may have run is sent again. An ask for several budgets, which are in slots of
//! their own, is answered as in `all_or_nothing`.

mod all_or_nothing;
mod map;
mod scout;
mod slot;
pub(crate) mod topology;

use crate::call::Call;
use crate::census::{self, Census, Fleet};
use crate::error::{Error, Refusal};
use crate::health::{Backend, BackendKind, Health};
use crate::outage::Outages;
use crate::settings::{Address, Settings};
use crate::stats::Stats;
use crate::take::{self, Kind, Taking};
use arc_swap::ArcSwap;
use map::{Map, Nodes};
use redis::Value;
use scout::Scout;
pub(crate) use slot::{SLOTS, slot_of, slot_of_tag};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidegate_core::ask::{Ask, Reply};
use tidegate_core::key::Key;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
pub(crate) use topology::Topology;

/// How often an ask is sent on to another node. One redirection is common while slots move,
/// two where a move is just being made known; more are nodes that do not agree yet, and are
/// given a moment each to hear of each other: 31 ms in all, as busy as their machines may be.
const REDIRECTS: [Duration; 7] = [
    Duration::ZERO,
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(4),
    Duration::from_millis(8),
    Duration::from_millis(16),
];

/// A cluster.
pub(crate) struct Cluster {
    settings: Arc<Settings>,
    seeds: Vec<Address>,
    map: ArcSwap<Map>,
    nodes: Nodes,
    /// Of slots that are nobody's.
    uncovered: Outages,
    /// Why nobody tells how the cluster is.
    trouble: Mutex<Option<String>>,
    /// Rings when a connection is lost, or slots have moved.
    bell: Arc<Notify>,
    stats: Arc<Stats>,
}

impl Cluster {
    pub(crate) fn new(settings: Arc<Settings>, seeds: &[Address], stats: Arc<Stats>) -> Self {
        let bell = Arc::new(Notify::new());
        Self {
            seeds: seeds.to_vec(),
            map: ArcSwap::from_pointee(Map::empty()),
            nodes: Nodes::new(settings.clone(), stats.clone(), bell.clone()),
            uncovered: Outages::new(),
            trouble: Mutex::new(Some("not connected yet".to_owned())),
            bell,
            stats,
            settings,
        }
    }

    /// Keeps the map right, for as long as this is polled.
    pub(crate) async fn follow(self: Arc<Self>) {
        Scout::default().run(&self).await;
    }

    /// Answers an ask, and charges if every item is admitted.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        ask: Arc<Ask>,
        now_us: u64,
        until: Option<Instant>,
    ) -> Result<Reply, Error> {
        if ask.items.len() > 1 {
            // Whoever asks may go away meanwhile; what was taken must be given back all the same.
            let whole = tokio::spawn(all_or_nothing::answer(self.clone(), ask, now_us, until));
            return whole.await.unwrap_or(Err(Error::Away));
        }
        let taking = Taking::all(ask.clone(), now_us, Kind::Take);
        let value = self.call(Call::take(taking, until)).await?;
        take::reply(&ask.items, &value)
    }

    /// Notes, for whoever serves the key now, what was asked about it in vain.
    pub(crate) fn note_unanswered(&self, key: Key, units: u64) {
        if let Some(lane) = self.map.load().lane(slot_of(key)) {
            lane.link.outages.add_unanswered(units);
        }
    }

    /// How long nobody has answered for the key, if nobody does.
    pub(crate) fn away_for(&self, key: Key) -> Option<Duration> {
        let map = self.map.load();
        let outages = map.lane(slot_of(key)).map_or(&self.uncovered, |lane| &lane.link.outages);
        outages.current().map(|outage| outage.lasts)
    }

    /// Tells how much is asked here, and hears how much it is in all hosts: all in one slot.
    pub(crate) async fn census(&self, own: &Census) -> Result<Fleet, Error> {
        let lane = self.map.load().lane(slot_of_tag(census::HASH_TAG)).cloned();
        census::take(&lane.ok_or(Error::Away)?.link, own).await
    }

    /// Who serves the slot, as far as is known.
    pub(crate) fn owner(&self, slot: u16) -> Option<Address> {
        self.map.load().owner(slot).cloned()
    }

    /// Somebody found that the map is wrong.
    pub(crate) fn look_again(&self) {
        self.bell.notify_one();
    }

    /// Puts a new map in the place of the old one.
    fn follow_map(&self, map: Map) {
        self.map.store(Arc::new(map));
        self.uncovered.review(|| self.map.load().uncovered() == 0);
    }

    /// How it is, shard by shard.
    pub(crate) fn health(&self) -> Health {
        let map = self.map.load();
        let shards = map.nodes.iter().map(|node| {
            let link = &node.lane.link;
            Backend::server(BackendKind::Shard, Some(&node.address), node.slots, link)
        });
        let backends: Vec<Backend> = shards.collect();
        let answers = backends.iter().any(|shard| shard.trouble.is_none());
        Health { answers, trouble: self.trouble_of(&map, &backends), backends }
    }

    /// What the server says that is asked about the one key of `call`.
    pub(crate) async fn call(&self, mut call: Call) -> Result<Value, Error> {
        let slot = slot_of(call.key().ok_or(Error::Garbled("nothing was asked"))?);
        let mut lane = self.map.load().lane(slot).cloned().ok_or(Error::Away)?;
        for pause in REDIRECTS {
            let answer = lane.send(call.clone()).await;
            let Err(Error::Refused(refusal, said)) = &answer else { return answer };
            let Some(other) = refusal.is_redirect().then(|| redirected(said)).flatten() else {
                return answer;
            };
            // An ASK is about this key only: the slot is still where it was.
            call.asking = *refusal == Refusal::Ask;
            if !call.asking {
                self.bell.notify_one();
            }
            self.stats.redirect();
            match self.nodes.lane_to(&other) {
                Some(next) => lane = next,
                None => return answer,
            }
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        lane.send(call).await
    }

    fn is_well(&self) -> bool {
        let map = self.map.load();
        map.uncovered() == 0 && map.nodes.iter().all(|node| node.lane.link.is_up())
    }

    fn set_trouble(&self, trouble: Option<String>) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != trouble
            && let Some(why) = &trouble
        {
            tracing::warn!(why, "the redis cluster cannot be looked at");
        }
        *known = trouble;
    }

    fn trouble_of(&self, map: &Map, shards: &[Backend]) -> Option<String> {
        if map.nodes.is_empty() {
            return self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        let uncovered = map.uncovered();
        if uncovered > 0 {
            return Some(format!("{uncovered} slots are served by nobody"));
        }
        let amiss = map.nodes.iter().zip(shards);
        let amiss = amiss.filter_map(|(node, s)| Some((node, &s.address, s.trouble.as_ref()?)));
        // A shard that stopped with another is not the cause.
        let (stopped, mut causes): (Vec<_>, Vec<_>) =
            amiss.partition(|(node, ..)| node.lane.link.breaker.why().is_some_and(is_stopped));
        let has_cause = !causes.is_empty();
        causes.extend(stopped.iter().copied());
        let (_, address, why) = causes.first()?;
        let more = match (causes.len() - 1, stopped.len()) {
            (0, _) => String::new(),
            (_, stopped @ 1..) if has_cause => format!(
                "; and {stopped} of {} refuse everything while it is lost: set \
                 cluster-require-full-coverage no on every node",
                shards.len()
            ),
            (more, _) => format!(", and {more} more of {}", shards.len()),
        };
        Some(format!("shard {address}: {why}{more}"))
    }
}

/// Whether that is why nothing is answered: the whole cluster has stopped.
fn is_stopped(why: Error) -> bool {
    matches!(why, Error::Refused(Refusal::ClusterStopped, _))
}

/// Where a node sends us: `MOVED slot host:port`. No host is the node's own, but which one
/// that is an error does not tell; the next view will.
fn redirected(said: &redis::RedisError) -> Option<Address> {
    Address::parse(said.redirect_node()?.0)
}
