//! Three masters with a replica each. Faults are of the first shard.

use super::{Lab, say};
use crate::fault::{A_BURST, Fault, Heals, MENDED, NONE, nothing};
use crate::server::Server;
use crate::server::cluster::{Cluster, MASTERS, PASSWORD};
use harness::host::Environment;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::time::Duration;

/// A vote that is split is repeated after twice the node-timeout of 2 s.
const FAILS_OVER: Heals = Heals::Itself(Duration::from_secs(9));

/// The first shard's replica.
const REPLICA: usize = MASTERS;

impl Lab for Cluster {
    const NAME: &'static str = "Cluster";
    const UNDER: Duration = Duration::from_secs(8);
    const FAULTS: &'static [Fault<Self>] = &[
        Fault {
            name: "master killed",
            make: |cluster| cluster.nodes[0].kill(),
            mend: |cluster| cluster.nodes[0].restart(),
            heals: FAILS_OVER,
            over_max: A_BURST,
        },
        Fault {
            name: "master frozen (SIGSTOP)",
            make: |cluster| cluster.nodes[0].signal(Signal::STOP),
            mend: |cluster| cluster.nodes[0].signal(Signal::CONT),
            heals: FAILS_OVER,
            over_max: A_BURST,
        },
        Fault {
            name: "master busy (DEBUG SLEEP)",
            make: |cluster| say(&cluster.nodes[0], &["DEBUG", "SLEEP", "8"]),
            mend: nothing,
            heals: FAILS_OVER,
            over_max: A_BURST,
        },
        Fault {
            name: "replica promoted (CLUSTER FAILOVER)",
            make: |cluster| say(&cluster.nodes[REPLICA], &["CLUSTER", "FAILOVER"]),
            mend: nothing,
            heals: Heals::Itself(Duration::from_secs(1)),
            over_max: NONE,
        },
        Fault {
            name: "a replica killed",
            make: |cluster| cluster.nodes[REPLICA].kill(),
            mend: |cluster| cluster.nodes[REPLICA].restart(),
            heals: Heals::Unhurt,
            over_max: NONE,
        },
        Fault {
            name: "slots moved, and moved back",
            make: |cluster| move_all(cluster, 0, 1),
            mend: |cluster| move_all(cluster, 1, 0),
            heals: Heals::Unhurt,
            over_max: NONE,
        },
        Fault {
            name: "master full (OOM)",
            make: |cluster| say(&cluster.nodes[0], &["CONFIG", "SET", "maxmemory", "1"]),
            mend: |cluster| say(&cluster.nodes[0], &["CONFIG", "SET", "maxmemory", "0"]),
            heals: MENDED,
            over_max: NONE,
        },
        Fault {
            name: "scripts flushed everywhere",
            make: |cluster| cluster.nodes.iter().for_each(|node| say(node, &["SCRIPT", "FLUSH"])),
            mend: nothing,
            heals: Heals::Unhurt,
            over_max: NONE,
        },
    ];

    fn start() -> Option<Self> {
        Self::start()
    }

    fn environment(&self) -> Environment {
        let nodes = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        vec![
            ("TIDEGATE_PROVIDER", "redis".to_owned()),
            ("TIDEGATE_REDIS_CLUSTER_NODES", nodes.collect::<Vec<_>>().join(",")),
            ("TIDEGATE_REDIS_PASSWORD", PASSWORD.to_owned()),
        ]
    }

    fn keys(&mut self) -> Vec<u64> {
        let count = |node: &Server| node.command(&["DBSIZE"])[1..].parse().expect("a number");
        self.nodes[..MASTERS].iter().map(count).collect()
    }
}

/// Moves every slot of a node that has a key, with its keys.
fn move_all(cluster: &mut Cluster, from: usize, to: usize) {
    let keys = cluster.nodes[from].command(&["KEYS", "*"]);
    let slot = |key| cluster.nodes[from].command(&["CLUSTER", "KEYSLOT", key]);
    let slots: BTreeSet<String> = keys.lines().map(slot).collect();
    for slot in slots {
        cluster.move_slot(slot[1..].parse().expect("a slot"), from, to);
    }
}
