//! Keeps the map right: asks any healthy node how the cluster is.
//!
//! It asks when the bell rings (a node sent us elsewhere, a connection was lost), every
//! [`ASK_EVERY_AMISS`] while some shard is away, and every [`ASK_EVERY`] anyway. However often
//! the bell rings, views are at least [`PAUSE_MIN`] apart: a slot that moves makes every ask
//! for it ring, and a view costs the node that gives it.
//!
//! A frozen master says nothing, and the others name it for as long as they believe in it:
//! its connection is given up by missed deadlines, and the others are asked until they name
//! its successor.

use super::Cluster;
use super::topology::Topology;
use crate::dial::{self, DialError, Dialled, How, Step};
use crate::error::{Error, chain};
use crate::settings::Address;
use redis::RedisError;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How often a view is asked for when all is well.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// And while some shard is away, or some slot is nobody's.
const ASK_EVERY_AMISS: Duration = Duration::from_millis(100);

/// The shortest time between two views.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// How long views that are older than the one that is known are not believed. Whoever was
/// away hears from the others within a second; a cluster that was made anew begins at epoch
/// 0, and is believed after this.
const BEHIND_FOR: Duration = Duration::from_secs(10);

/// Nodes that are asked one after the other before the next pause.
const ASKED_MAX: usize = 4;

/// What is known of views that were not believed.
#[derive(Default)]
pub(super) struct Scout {
    behind_since: Option<Instant>,
}

impl Scout {
    /// Keeps the map of `cluster` right, for as long as this is polled.
    pub(super) async fn run(mut self, cluster: &Cluster) {
        loop {
            let asked = self.look(cluster).await;
            cluster.set_trouble(asked.err());
            let pause = if cluster.is_well() { ASK_EVERY } else { ASK_EVERY_AMISS };
            sleep(PAUSE_MIN).await;
            tokio::select! {
                () = cluster.bell.notified() => {}
                () = sleep(pause.mul_f64(0.75 + 0.5 * fastrand::f64())) => {}
            }
        }
    }

    /// Asks one node after the other, until one has a view that is to be believed.
    async fn look(&mut self, cluster: &Cluster) -> Result<(), String> {
        let mut troubles = Vec::new();
        for (address, connection) in connected(cluster) {
            match view(connection, &address, cluster.settings.dial_timeout).await {
                Ok(topology) if self.believes(cluster, &topology) => return Ok(()),
                Ok(_) => troubles.push(format!("{address}: its view is old")),
                Err(why) => troubles.push(format!("{address}: {why}")),
            }
        }
        for address in strangers(cluster) {
            match meet(cluster, &address).await {
                Ok(topology) if self.believes(cluster, &topology) => return Ok(()),
                Ok(_) => troubles.push(format!("{address}: its view is old")),
                Err(why) => troubles.push(format!("{address}: {why}")),
            }
        }
        Err(format!("no node tells how the cluster is ({})", troubles.join("; ")))
    }

    /// Puts a view into the map, unless it is older than that.
    fn believes(&mut self, cluster: &Cluster, topology: &Topology) -> bool {
        let known = cluster.map.load().version;
        if topology.version < known {
            let since = *self.behind_since.get_or_insert_with(Instant::now);
            if since.elapsed() < BEHIND_FOR {
                return false;
            }
            tracing::warn!(version = topology.version, known, "the redis cluster began anew");
        }
        self.behind_since = None;
        cluster.follow_map(cluster.nodes.map(topology));
        true
    }
}

/// Some nodes that are connected to, in any order.
fn connected(cluster: &Cluster) -> Vec<(Address, MultiplexedConnection)> {
    let map = cluster.map.load();
    let live =
        |node: &super::map::Node| Some((node.address.clone(), node.lane.link.live()?.connection()));
    let mut some: Vec<_> = map.nodes.iter().filter_map(live).collect();
    fastrand::shuffle(&mut some);
    some.truncate(ASKED_MAX);
    some
}

/// Some others, in any order: where none is connected to, or all that are know nothing new.
fn strangers(cluster: &Cluster) -> Vec<Address> {
    let map = cluster.map.load();
    let mut some: Vec<_> = cluster.seeds.iter().chain(&map.replicas).cloned().collect();
    fastrand::shuffle(&mut some);
    some.truncate(ASKED_MAX);
    some
}

/// Connects to a node just to ask it.
async fn meet(cluster: &Cluster, address: &Address) -> Result<Topology, DialError> {
    let settings = &cluster.settings;
    let how = How { db: 0, within: settings.dial_timeout, unacknowledged: settings.write_timeout };
    let Dialled { connection, driver, .. } = dial::dial(address, &settings.access, how).await?;
    tokio::select! {
        () = driver => Err(Step::Prepare.said("the connection was closed".to_owned())),
        asked = view(connection, address, how.within) => asked.map_err(|why| Step::Prepare.said(why)),
    }
}

async fn view(
    mut connection: MultiplexedConnection,
    address: &Address,
    within: Duration,
) -> Result<Topology, String> {
    let question = Topology::question();
    let asked = connection.req_packed_commands(&question, 0, question.len());
    let said = |error: RedisError| chain(&Error::of(error));
    let answers = timeout(within, asked).await.map_err(|_| "no answer in time".to_owned())?;
    let answers = answers.map_err(said)?;
    for answer in &answers {
        if let redis::Value::ServerError(error) = answer {
            return Err(said(RedisError::from(error.clone())));
        }
    }
    let topology = Topology::of(&answers, address).ok_or("its answer is no view of a cluster")?;
    match topology.shards.is_empty() {
        true => Err("it knows of no slots".to_owned()),
        false => Ok(topology),
    }
}
