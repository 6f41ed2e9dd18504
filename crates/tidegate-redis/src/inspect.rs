//! A Redis looked at once, for a person: what each server and each sentinel says of itself and
//! of the others. Nothing is judged here.
//!
//! Everything is asked at once, each on a connection of its own that is dialled as those for
//! asks are. What the server does not let us ask (managed services rename `CONFIG` away or
//! forbid it) is told as that, never guessed. The scripts alone write, on keys of
//! their own that expire.
//!
//! - `told`: an answer, or why there is none
//! - `entry`: getting in, and the certificate that was shown
//! - `server`: one Redis server; `info`: the lines of its `INFO`
//! - `sentinel`: one sentinel
//! - `node`: a server as a node of a cluster
//! - `log`: the log of revocations

mod entry;
mod info;
mod log;
mod node;
mod sentinel;
mod server;
mod told;

pub use entry::{Certificate, Entry, NoEntry, Stage};
pub use info::{Info, Replica};
pub use log::{LogSight, log};
pub use node::{ClusterView, NodeLine};
pub use sentinel::{SentinelSight, Watched};
pub use server::{Expected, Script, ServerSight};
pub use told::Told;

use crate::settings::{Access, Address, Servers, Settings};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::JoinSet;

/// The most servers that are looked at. A larger cluster is judged by a part of it, and by
/// what that says of the others.
const SERVERS_MAX: usize = 64;

/// The shortest deadline for one answer: a person waits longer than an ask.
const ANSWER_WITHIN_MIN: Duration = Duration::from_secs(2);

/// All that was seen.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Each sentinel that is configured, in that order.
    pub sentinels: Vec<SentinelSight>,
    /// The masters first.
    pub servers: Vec<ServerSight>,
    /// Servers that were not looked at, for there are too many.
    pub unseen: usize,
}

/// How to ask.
#[derive(Clone, Debug)]
struct Asking {
    access: Access,
    db: u32,
    within: Duration,
    unacknowledged: Duration,
}

/// Looks at all servers and sentinels of these settings.
///
/// Takes as long as the slowest of them; each answer is waited for `dial_timeout` or two
/// seconds, whichever is longer. Runs on a tokio runtime.
pub async fn inspect(settings: &Settings) -> Sight {
    let asking = Asking {
        access: settings.access.clone(),
        db: settings.db,
        within: settings.dial_timeout.max(ANSWER_WITHIN_MIN),
        unacknowledged: settings.write_timeout,
    };
    match &settings.servers {
        Servers::Standalone(address) => {
            let servers = vec![(address.clone(), Expected::Master)];
            look(&asking, Vec::new(), servers).await
        }
        Servers::Sentinel { master_name, sentinels, access } => {
            let of_sentinels = Asking { access: access.clone(), db: 0, ..asking.clone() };
            let sentinels = all(sentinels.iter().cloned().map(|address| {
                let (asking, name) = (of_sentinels.clone(), master_name.clone());
                async move { sentinel::look(address, &asking, &name).await }
            }));
            let sentinels = sentinels.await;
            let servers = sentinel::servers(&sentinels);
            look(&asking, sentinels, servers).await
        }
        Servers::Cluster { seeds } => {
            let mut sight = look(&asking, Vec::new(), unknown(seeds)).await;
            let others = node::others(&sight.servers);
            let seen = look(&asking, Vec::new(), others).await;
            sight.servers.extend(seen.servers);
            sight.unseen += seen.unseen;
            node::once_each(&mut sight.servers);
            sight.servers.sort_by_key(ServerSight::is_replica);
            sight
        }
    }
}

/// Looks at these servers.
async fn look(
    asking: &Asking,
    sentinels: Vec<SentinelSight>,
    mut servers: Vec<(Address, Expected)>,
) -> Sight {
    let unseen = servers.len().saturating_sub(SERVERS_MAX);
    servers.truncate(SERVERS_MAX);
    let servers = all(servers.into_iter().map(|(address, expected)| {
        let asking = asking.clone();
        async move { server::look(address, expected, &asking).await }
    }));
    Sight { sentinels, servers: servers.await, unseen }
}

fn unknown(seeds: &[Address]) -> Vec<(Address, Expected)> {
    let once: BTreeSet<&Address> = seeds.iter().collect();
    once.into_iter().map(|address| (address.clone(), Expected::Node)).collect()
}

/// All at once; results in the order of the work.
async fn all<T: Send + 'static>(
    work: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut under_way = JoinSet::new();
    for (place, one) in work.enumerate() {
        under_way.spawn(async move { (place, one.await) });
    }
    let mut done = under_way.join_all().await;
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}
