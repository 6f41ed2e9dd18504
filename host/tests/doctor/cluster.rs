//! A cluster: whose slots are whose, and whose are nobody's.

use crate::doctor;
use crate::server::cluster::{Cluster, MASTERS, PASSWORD};
use crate::server::wait;

fn of(cluster: &Cluster, seeds: &[usize]) -> String {
    let seeds: Vec<String> =
        seeds.iter().map(|&node| format!("127.0.0.1:{}", cluster.nodes[node].port)).collect();
    format!(
        "redis:\n  cluster_mode: true\n  addresses: [{}]\n  password: {PASSWORD}\n",
        seeds.join(", ")
    )
}

#[test]
fn a_cluster_is_found_from_one_node_and_looked_at_as_a_whole() {
    let Some(mut cluster) = Cluster::start() else { return };
    for node in &cluster.nodes {
        let said = node.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
        assert_eq!(said, "+OK");
    }
    wait("all replicas", || {
        (0..MASTERS).all(|node| {
            cluster.nodes[node].command(&["INFO", "replication"]).contains("state=online")
        })
    });
    wait("a replica that knows the others", || {
        let told = cluster.nodes[4].command(&["CLUSTER", "SLOTS"]);
        cluster.nodes.iter().all(|node| told.contains(&node.port.to_string()))
    });
    let told = doctor(&of(&cluster, &[4]));
    told.is_well();
    told.has("OK", "slots", "all are served");
    told.has("OK", "agreement", "6 nodes agree");
    let ran = told.findings.iter().filter(|it| it["check"] == "script").count();
    assert_eq!(ran, MASTERS, "the script on every master: {}", told.all());

    // One lost shard need not stop the others.
    let said = cluster.nodes[0].command(&["CONFIG", "SET", "cluster-require-full-coverage", "yes"]);
    assert_eq!(said, "+OK");
    let told = doctor(&of(&cluster, &[0]));
    assert_eq!(told.exit, 1);
    told.has("WARNING", "coverage", "stops all others");
    cluster.nodes[0].command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);

    // A slot on its way.
    cluster.begin_move(0, 0, 1);
    let told = doctor(&of(&cluster, &[1]));
    assert_eq!(told.exit, 1);
    told.has("WARNING", "slots", "on their way");
    for node in [0, 1] {
        assert_eq!(cluster.nodes[node].command(&["CLUSTER", "SETSLOT", "0", "STABLE"]), "+OK");
    }

    // A slot of nobody's.
    for node in &cluster.nodes {
        assert_eq!(node.command(&["CLUSTER", "DELSLOTS", "100", "101"]), "+OK");
    }
    let told = doctor(&of(&cluster, &[1, 2]));
    assert_eq!(told.exit, 2, "{}", told.all());
    told.has("CRITICAL", "slots", "2 of 16384 are not served: 100-101");

    // A master without its replica, and then without itself: one of three shards is lost.
    cluster.nodes[MASTERS + 2].kill();
    cluster.nodes[2].kill();
    wait("the others to notice", || {
        let said = cluster.nodes[0].command(&["CLUSTER", "NODES"]);
        said.lines().filter(|line| line.contains(",fail ") || line.contains(" fail ")).count() >= 1
    });
    let told = doctor(&of(&cluster, &[0]));
    assert_eq!(told.exit, 2);
    told.has("CRITICAL", "nodes", "it serves slots");
    told.has("CRITICAL", "slots", "are not served");
    told.has("OK", "script", "half of the runs");

    // And now as Redis comes: the others stop with it.
    for node in [0, 1] {
        let set = ["CONFIG", "SET", "cluster-require-full-coverage", "yes"];
        assert_eq!(cluster.nodes[node].command(&set), "+OK");
        // A node looks again when a slot changes.
        assert_eq!(cluster.nodes[node].command(&["CLUSTER", "DELSLOTS", "102"]), "+OK");
    }
    wait("the others to stop", || {
        [0, 1].iter().all(|&node| {
            cluster.nodes[node].command(&["CLUSTER", "INFO"]).contains("cluster_state:fail")
        })
    });
    let told = doctor(&of(&cluster, &[0]));
    told.has("CRITICAL", "script", "The cluster is down");
    told.has("WARNING", "coverage", "stops all others");
}
