//! Every user can do its work, and nothing else.

use crate::sentinel::trio;
use anyhow::ensure;
use harness::{Result, stage};

/// Commands that a user on a server must not be able to run.
const NOT_ON_SERVERS: &[(&str, &[&str])] = &[
    ("tidegate", &["GET", "session:1"]),
    ("tidegate", &["SET", "session:1", "stolen"]),
    ("tidegate", &["DEL", "tidegate:1"]),
    ("tidegate", &["UNLINK", "session:1"]),
    ("tidegate", &["XDEL", "tidegate:1", "1-1"]),
    ("tidegate", &["XRANGE", "stream:1", "-", "+"]),
    ("tidegate", &["KEYS", "*"]),
    ("tidegate", &["SCAN", "0"]),
    ("tidegate", &["FLUSHALL"]),
    ("tidegate", &["CONFIG", "GET", "*"]),
    ("tidegate", &["CONFIG", "SET", "maxmemory", "1"]),
    ("tidegate", &["EVAL", "return 1", "0"]),
    ("tidegate", &["SCRIPT", "FLUSH"]),
    ("tidegate", &["ACL", "LIST"]),
    ("tidegate", &["CLIENT", "LIST"]),
    ("tidegate", &["REPLICAOF", "NO", "ONE"]),
    ("tidegate", &["CLUSTER", "RESET"]),
    ("tidegate", &["PUBLISH", "__sentinel__:hello", "a lie"]),
    ("tidegate", &["SHUTDOWN"]),
    ("sentinel", &["GET", "tidegate:1"]),
    ("sentinel", &["CONFIG", "SET", "requirepass", ""]),
    ("sentinel", &["PUBLISH", "another", "channel"]),
    ("replica", &["GET", "tidegate:1"]),
    ("replica", &["REPLICAOF", "NO", "ONE"]),
    ("probe", &["GET", "tidegate:1"]),
    ("probe", &["CONFIG", "GET", "masterauth"]),
];

/// The same, on a sentinel.
const NOT_ON_SENTINELS: &[(&str, &[&str])] = &[
    ("tidegate", &["SENTINEL", "FAILOVER", "tidegate"]),
    ("tidegate", &["SENTINEL", "SET", "tidegate", "quorum", "1"]),
    ("tidegate", &["SENTINEL", "REMOVE", "tidegate"]),
    ("tidegate", &["SENTINEL", "RESET", "*"]),
    ("tidegate", &["PUBLISH", "+switch-master", "a lie"]),
    ("tidegate", &["SUBSCRIBE", "__sentinel__:hello"]),
    ("tidegate", &["SHUTDOWN"]),
    ("peer", &["SENTINEL", "MASTERS"]),
    ("peer", &["PUBLISH", "+switch-master", "a lie"]),
    ("probe", &["SENTINEL", "FAILOVER", "tidegate"]),
];

/// What the host service asks of a server, and of a sentinel: see `Credentials` in
/// `crates/tidegate-redis/src/settings.rs`.
const OF_SERVERS: &[&[&str]] = &[
    &["PING"],
    &["ROLE"],
    &["INFO"],
    &["TIME"],
    &["SCRIPT", "LOAD", "return redis.call('TIME')"],
    &["MGET", "tidegate:1", "tidegate:2"],
    &["SET", "tidegate:1", "x", "PX", "1000"],
    &["SELECT", "0"],
    &["XADD", "tidegate:1", "1-1", "c", "0", "r", ""],
    &["XREAD", "COUNT", "1", "STREAMS", "tidegate:1", "0"],
    &["XRANGE", "tidegate:1", "-", "+"],
    &["XREVRANGE", "tidegate:1", "+", "-"],
    &["XTRIM", "tidegate:1", "MINID", "0"],
    &["UNLINK", "tidegate:1"],
    &["WAIT", "0", "1"],
];

const OF_SENTINELS: &[&[&str]] = &[
    &["PING"],
    &["INFO"],
    &["ROLE"],
    &["SENTINEL", "MASTER", "tidegate"],
    &["SENTINEL", "MASTERS"],
    &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "tidegate"],
    &["SENTINEL", "REPLICAS", "tidegate"],
    &["SENTINEL", "SENTINELS", "tidegate"],
    &["SENTINEL", "CKQUORUM", "tidegate"],
    &["SUBSCRIBE", "+switch-master"],
];

#[test]
fn every_user_can_do_its_work_and_nothing_else() -> Result<()> {
    stage(async {
        let lab = trio().await?;
        for (pod, refused) in
            [("tidegate-redis-0", NOT_ON_SERVERS), ("tidegate-sentinel-0", NOT_ON_SENTINELS)]
        {
            for (user, command) in refused {
                let said = lab.say(pod, user, command)?;
                ensure!(said.contains("NOPERM"), "{user} on {pod}: {command:?}: {said}");
            }
        }
        for (pod, allowed) in
            [("tidegate-redis-0", OF_SERVERS), ("tidegate-sentinel-0", OF_SENTINELS)]
        {
            for command in allowed {
                let said = lab.say(pod, "tidegate", command)?;
                let wrong = ["NOPERM", "ERR", "NOAUTH"].iter().find(|it| said.starts_with(**it));
                ensure!(wrong.is_none(), "tidegate on {pod}: {command:?}: {said}");
            }
        }
        // Nobody comes in without a name, nor as another.
        for pod in ["tidegate-redis-0", "tidegate-sentinel-0"] {
            lab.set_passwords("default", &["any"])?;
            let said = lab.say(pod, "default", &["PING"])?;
            ensure!(said.contains("WRONGPASS"), "{pod}: {said}");
        }
        Ok(())
    })
}
