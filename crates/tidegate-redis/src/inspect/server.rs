//! One Redis server: what it says of itself, and whether the scripts do there what asks need.

use super::Asking;
use super::entry::{self, Entry, Line, NoEntry};
use super::info::Info;
use super::node::{self, ClusterView};
use super::told::{Told, ask, ask_for};
use crate::call;
use crate::cluster::{SLOTS, slot_of};
use crate::error::{Error, chain};
use crate::probe::Asked;
use crate::settings::Address;
use redis::Value;
use redis::aio::ConnectionLike;
use std::time::{Duration, Instant, SystemTime};
use tidegate_core::key::Key;
use tokio::time::timeout;

/// How often the scripts are run to see how long they take.
const SCRIPT_RUNS: usize = 15;

/// Keys by chance until one is in a slot that the server has: of a cluster's smallest part,
/// one slot, one in so many is.
const KEYS_TRIED_MAX: usize = 16 * SLOTS;

/// What a server is for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The one that is asked.
    Master,
    /// One that may take its place.
    Replica,
    /// A cluster's node, of either kind.
    Node,
}

/// A server, as it was seen.
#[derive(Clone, Debug)]
pub struct ServerSight {
    /// As it is called by whoever told of it.
    pub address: Address,
    /// What it was said to be.
    pub expected: Expected,
    /// Whether we got in. If not, nothing else is known.
    pub entry: Result<Entry, NoEntry>,
    /// What it says of itself.
    pub info: Told<Info>,
    /// As whom it knows us.
    pub user: Told<String>,
    /// How far its clock is ahead of this machine's, in microseconds; and how far that may be
    /// off.
    pub clock: Told<(i64, u64)>,
    /// What became of the scripts; `None` where there is none to run.
    pub script: Option<Script>,
    /// Whether that user may also do what nobody should (`FLUSHALL`); asked only of `default`.
    pub may_flush: Told<bool>,
    /// Of a cluster's node: whether one may follow a key that is on its way (`ASKING`).
    pub asking: Option<Told<()>>,
    /// Of a cluster's node: `cluster-require-full-coverage`, which only `CONFIG` tells.
    pub full_coverage: Option<Told<bool>>,
    /// How it sees its cluster, if it is in one.
    pub cluster: Option<Told<ClusterView>>,
}

/// What became of the scripts that answer asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// They ran, and the slower one took so long, the round trip included: half of the runs less
    /// than the first, none more than the second.
    Ran {
        /// Half of the runs took less.
        median: Duration,
        /// The slowest run.
        slowest: Duration,
    },
    /// One did not: a short name for why, as in metrics, and the server's words.
    Refused {
        /// One of those of [`crate::Error::kind`].
        kind: &'static str,
        /// What the server said.
        text: String,
    },
}

impl ServerSight {
    /// Whether it is a replica: by its own word, else by that of others.
    pub fn is_replica(&self) -> bool {
        let own = self.info.is().and_then(Info::is_master);
        own.map_or(self.expected == Expected::Replica, |is_master| !is_master)
    }

    fn unseen(address: Address, expected: Expected, why: NoEntry) -> Self {
        let none = || "we did not get in".to_owned();
        Self {
            address,
            expected,
            entry: Err(why),
            info: Told::Failed(none()),
            user: Told::Failed(none()),
            clock: Told::Failed(none()),
            script: None,
            may_flush: Told::Failed(none()),
            asking: None,
            full_coverage: None,
            cluster: None,
        }
    }
}

/// Looks at one server.
pub(super) async fn look(address: Address, expected: Expected, asking: &Asking) -> ServerSight {
    let (entry, mut line) = match entry::enter(&address, asking).await {
        Ok(entered) => entered,
        Err(why) => return ServerSight::unseen(address, expected, why),
    };
    let within = asking.within;
    let connection = &mut line.connection;
    let info = ask_for::<String>(connection, &["INFO"], within).await.and_then(|text| {
        let info = Info::of(&text);
        info.is_master().is_some().then_some(info)
    });
    let user: Told<String> = ask_for(connection, &["ACL", "WHOAMI"], within).await;
    // Asked of nobody else: a refusal would stand in the server's log, as if it were an attack.
    let may_flush = match user.is() {
        Some(user) if user == "default" => may_flush(&mut line, user, within).await,
        _ => Told::NotAllowed,
    };
    let clock = clock(&mut line, within).await;
    let mut sight = ServerSight {
        address,
        expected,
        entry: Ok(entry),
        info,
        user,
        clock,
        script: None,
        may_flush,
        asking: None,
        full_coverage: None,
        cluster: None,
    };
    if expected == Expected::Node {
        sight.cluster = Some(node::view(&mut line, &sight.address, within).await);
        sight.asking = Some(ask_for(&mut line.connection, &["ASKING"], within).await);
        let coverage = config(&mut line, "cluster-require-full-coverage", within).await;
        sight.full_coverage = Some(coverage.and_then(|value| Some(value == "yes")));
    }
    if let Some(key) = key_for(&sight) {
        sight.script = Some(run_scripts(&mut line, key, within).await);
    }
    sight
}

/// A setting, where one may ask for it.
async fn config(line: &mut Line, name: &str, within: Duration) -> Told<String> {
    let told = ask_for::<Vec<String>>(&mut line.connection, &["CONFIG", "GET", name], within).await;
    told.and_then(|pair| pair.into_iter().nth(1))
}

/// Whether the server would let a user flush everything; it is only asked whether.
async fn may_flush(line: &mut Line, user: &str, within: Duration) -> Told<bool> {
    let question = ["ACL", "DRYRUN", user, "FLUSHALL"];
    ask_for::<String>(&mut line.connection, &question, within)
        .await
        .and_then(|said| Some(said == "OK"))
}

/// The server's time is compared with the middle of the round trip in which it was told.
async fn clock(line: &mut Line, within: Duration) -> Told<(i64, u64)> {
    let before = SystemTime::now();
    let start = Instant::now();
    let told = ask_for::<(u64, u64)>(&mut line.connection, &["TIME"], within).await;
    let round_trip = start.elapsed();
    told.and_then(|(seconds, micros)| {
        let there = i128::from(seconds) * 1_000_000 + i128::from(micros);
        let half = round_trip / 2;
        let here = (before + half).duration_since(SystemTime::UNIX_EPOCH).ok()?.as_micros();
        let ahead = there - i128::try_from(here).ok()?;
        Some((i64::try_from(ahead).ok()?, u64::try_from(half.as_micros()).ok()?))
    })
}

/// A key of our own to run the scripts on: none where a replica is asked, or a node without
/// slots.
fn key_for(sight: &ServerSight) -> Option<Key> {
    let by_chance = || Key(fastrand::u128(..).to_be_bytes());
    if sight.expected == Expected::Replica {
        return None;
    }
    match &sight.cluster {
        None => Some(by_chance()),
        Some(view) => {
            let slots = view.is()?.own_slots();
            if slots.is_empty() {
                return None;
            }
            (0..KEYS_TRIED_MAX)
                .map(|_| by_chance())
                .find(|key| slots.iter().any(|range| range.contains(&slot_of(*key))))
        }
    }
}

/// Loads the scripts and runs them, as asks do: they read, count and write.
async fn run_scripts(line: &mut Line, key: Key, within: Duration) -> Script {
    let refused = |told: Told<Value>| match told {
        Told::Is(_) => None,
        Told::NotAllowed => Some(("not_allowed", "the user lacks the right".to_owned())),
        Told::Failed(text) => Some(("refused", text)),
    };
    for script in call::Script::OF_ASKS {
        let loaded = ask(&mut line.connection, &script.load(), within).await;
        if let Some((kind, text)) = refused(loaded) {
            return Script::Refused { kind, text };
        }
    }
    let Some(asked) = Asked::about(key) else {
        return Script::Refused { kind: "garbled", text: "no quota to ask for".to_owned() };
    };
    let mut took = Vec::with_capacity(SCRIPT_RUNS);
    for _ in 0..SCRIPT_RUNS {
        match run_once(line, &asked, within).await {
            Ok(slower) => took.push(slower),
            Err((kind, text)) => return Script::Refused { kind, text },
        }
    }
    took.sort();
    Script::Ran { median: took[SCRIPT_RUNS / 2], slowest: took[SCRIPT_RUNS - 1] }
}

/// One run of each: how long the slower one took, or why one did not run.
async fn run_once(
    line: &mut Line,
    asked: &Asked,
    within: Duration,
) -> Result<Duration, (&'static str, String)> {
    let mut slower = Duration::ZERO;
    let mut replies = [Ok(Value::Nil), Ok(Value::Nil)];
    for (command, reply) in asked.commands().iter().zip(&mut replies) {
        let start = Instant::now();
        let sent = timeout(within, line.connection.req_packed_command(command)).await;
        let answer = match sent {
            Err(_) => return Err(("unknown_outcome", "no answer in time".to_owned())),
            Ok(Ok(Value::ServerError(error))) => Err(error.into()),
            Ok(answer) => answer,
        };
        slower = slower.max(start.elapsed());
        *reply = answer.map_err(Error::of);
    }
    asked.judge(replies).map(|()| slower).map_err(|error| (error.kind(), chain(&error)))
}
