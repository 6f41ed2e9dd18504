//! A cluster of three masters with a replica each, every one a real process.

use super::{Server, TRIES, free_port, program, wait};
use tempfile::TempDir;

/// What clients must say.
pub const PASSWORD: &str = "secret-of-the-cluster";

/// How long a node must be silent to count as failed.
pub const NODE_TIMEOUT_MS: u32 = 2_000;

/// Masters; as many replicas follow them in `nodes`, in the same order.
pub const MASTERS: usize = 3;

const SLOTS: usize = 16_384;

/// They are killed, and their files gone, when this is dropped.
pub struct Cluster {
    pub nodes: Vec<Server>,
    /// Whether all stop once one shard is lost; Redis's own default, and not what we advise.
    needs_all_slots: bool,
    // Dropped last: nodes write their files there.
    folder: TempDir,
}

impl Cluster {
    /// A cluster that knows itself, or `None` if there is no Redis here.
    pub fn start() -> Option<Self> {
        Self::start_with(false)
    }

    /// One that stops once a slot is nobody's (`cluster-require-full-coverage yes`).
    pub fn start_that_needs_all_slots() -> Option<Self> {
        Self::start_with(true)
    }

    fn start_with(needs_all_slots: bool) -> Option<Self> {
        program()?;
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Self { nodes: Vec::new(), needs_all_slots, folder };
        for _ in 0..2 * MASTERS {
            cluster.start_node();
        }
        for (number, node) in cluster.nodes.iter().enumerate() {
            assert_eq!(
                node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]),
                "+OK"
            );
            if number < MASTERS {
                let first = (number * SLOTS / MASTERS).to_string();
                let last = ((number + 1) * SLOTS / MASTERS - 1).to_string();
                assert_eq!(node.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]), "+OK");
            }
        }
        for number in 1..cluster.nodes.len() {
            cluster.meet(number);
        }
        let ids: Vec<_> = (0..MASTERS).map(|number| cluster.id(number)).collect();
        for (number, master) in (MASTERS..).zip(&ids) {
            let replica = &cluster.nodes[number];
            wait("a replica that knows its master", || {
                replica.command(&["CLUSTER", "REPLICATE", master]) == "+OK"
            });
        }
        wait("a cluster that is well", || cluster.is_well());
        Some(cluster)
    }

    /// One more master, without slots; its number.
    pub fn add_master(&mut self) -> usize {
        self.start_node();
        let number = self.nodes.len() - 1;
        self.meet(number);
        let count = self.nodes.len();
        wait("a node that all know", || {
            let known = format!("cluster_known_nodes:{count}");
            self.nodes.iter().all(|node| {
                let info = node.command(&["CLUSTER", "INFO"]);
                info.contains(&known) && info.contains("cluster_state:ok")
            })
        });
        number
    }

    /// The name by which nodes know each other.
    pub fn id(&self, number: usize) -> String {
        self.nodes[number].command(&["CLUSTER", "MYID"])
    }

    /// Which master's slot a key is in, as it was at the start.
    pub fn shard(&self, key: u64) -> usize {
        self.slot(key) * MASTERS / SLOTS
    }

    /// A key's slot, by the word of the cluster.
    pub fn slot(&self, key: u64) -> usize {
        let said = self.nodes[1].command(&["CLUSTER", "KEYSLOT", &format!("{key:032x}")]);
        said[1..].parse().unwrap()
    }

    /// Moves a slot with all its keys, as `redis-cli --cluster reshard` does.
    pub fn move_slot(&self, slot: usize, from: usize, to: usize) {
        self.begin_move(slot, from, to);
        let (slot_text, port) = (slot.to_string(), self.nodes[to].port.to_string());
        loop {
            let keys = self.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot_text, "100"]);
            if keys.is_empty() {
                break;
            }
            let mut migrate =
                vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "AUTH", PASSWORD];
            migrate.push("KEYS");
            migrate.extend(keys.lines());
            let said = self.nodes[from].command(&migrate);
            assert!(said == "+OK" || said == "+NOKEY", "{said}");
        }
        let id = self.id(to);
        for node in [to, from] {
            let said = self.nodes[node].command(&["CLUSTER", "SETSLOT", &slot_text, "NODE", &id]);
            assert_eq!(said, "+OK");
        }
    }

    /// From now on keys of the slot that are not there are asked for at `to`.
    pub fn begin_move(&self, slot: usize, from: usize, to: usize) {
        let slot = slot.to_string();
        let say = |node: usize, what: &str, other: usize| {
            let id = self.id(other);
            let said = self.nodes[node].command(&["CLUSTER", "SETSLOT", &slot, what, &id]);
            assert_eq!(said, "+OK");
        };
        say(to, "IMPORTING", from);
        say(from, "MIGRATING", to);
    }

    fn meet(&self, number: usize) {
        let node = &self.nodes[number];
        let bus = node.argument("--cluster-port").unwrap();
        let said =
            self.nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), bus]);
        assert_eq!(said, "+OK");
    }

    fn is_well(&self) -> bool {
        self.nodes.iter().enumerate().all(|(number, node)| {
            let nodes = node.command(&["CLUSTER", "NODES"]);
            node.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
                && nodes.matches(" connected").count() == self.nodes.len()
                && nodes.matches("slave").count() == MASTERS
                && (number < MASTERS || node.info("master_link_status") == "up")
        })
    }

    fn start_node(&mut self) {
        for _ in 0..TRIES {
            let (port, bus) = (free_port(), free_port());
            let dir = self.folder.path().join(port.to_string());
            std::fs::create_dir(&dir).unwrap();
            let arguments = [
                ["--dir", &dir.display().to_string()],
                ["--cluster-enabled", "yes"],
                ["--cluster-port", &bus.to_string()],
                ["--cluster-config-file", "nodes.conf"],
                ["--cluster-node-timeout", &NODE_TIMEOUT_MS.to_string()],
                [
                    "--cluster-require-full-coverage",
                    if self.needs_all_slots { "yes" } else { "no" },
                ],
                ["--requirepass", PASSWORD],
                ["--masterauth", PASSWORD],
                ["--repl-diskless-sync-delay", "0"],
            ];
            let arguments = arguments.concat().into_iter().map(str::to_owned).collect();
            let started = Server::start_as(program().unwrap(), port, arguments, Some(PASSWORD));
            if let Some(node) = started {
                return self.nodes.push(node);
            }
        }
        panic!("redis-server did not start on any of {TRIES} pairs of ports");
    }
}
