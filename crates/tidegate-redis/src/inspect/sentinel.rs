//! One sentinel: whom it calls the master, and how it thinks that and the others are.

use super::Asking;
use super::entry::{self, Entry, NoEntry};
use super::server::Expected;
use super::told::{Told, ask_for};
use crate::dial;
use crate::settings::Address;
use std::collections::{BTreeSet, HashMap};
use tokio::time::timeout;

/// A sentinel, as it was seen.
#[derive(Clone, Debug)]
pub struct SentinelSight {
    /// As it is configured.
    pub address: Address,
    /// Whether we got in. If not, nothing else is known.
    pub entry: Result<Entry, NoEntry>,
    /// What it says of the master.
    pub master: Told<Watched>,
    /// The master's replicas.
    pub replicas: Told<Vec<Watched>>,
    /// The other sentinels.
    pub others: Told<Vec<Watched>>,
    /// Whether it could have the master replaced, in its words: `OK …`, or why not.
    pub quorum: Told<String>,
    /// Whether it would tell us of a switch.
    pub news: Told<()>,
}

/// Somebody a sentinel watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Where that is.
    pub address: Address,
    /// What it thinks of it: `master`, `s_down`, `disconnected` …
    pub flags: BTreeSet<String>,
    /// All that it says.
    fields: HashMap<String, String>,
}

impl Watched {
    /// A number that it says, such as `config-epoch` or `quorum`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.fields.get(name)?.parse().ok()
    }

    /// Whether this stands in its flags.
    pub fn is(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    /// From what `SENTINEL MASTER` says, and its like; `None` if it lacks an address.
    pub fn of(fields: HashMap<String, String>) -> Option<Self> {
        let port = fields.get("port")?.parse().ok()?;
        let address = Address::new(fields.get("ip")?.clone(), port);
        let flags = fields.get("flags")?.split(',').map(str::to_owned).collect();
        Some(Self { address, flags, fields })
    }
}

/// What a sentinel publishes when another becomes the master.
const NEWS: &str = "+switch-master";

/// Looks at one sentinel.
pub(super) async fn look(address: Address, asking: &Asking, master_name: &str) -> SentinelSight {
    let (entry, mut line) = match entry::enter(&address, asking).await {
        Ok(entered) => entered,
        Err(why) => return SentinelSight::unseen(address, why),
    };
    type Fields = HashMap<String, String>;
    let connection = &mut line.connection;
    let within = asking.within;
    let master = ask_for::<Fields>(connection, &["SENTINEL", "MASTER", master_name], within).await;
    let mut master = master.and_then(Watched::of);
    // While a fail-over is under way the address there is the old one's still.
    let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", master_name];
    let at = ask_for::<(String, u16)>(connection, &question, within).await;
    if let (Told::Is(master), Told::Is((host, port))) = (&mut master, at) {
        master.address = Address::new(host, port);
    }
    let all = |told: Told<Vec<Fields>>| {
        told.and_then(|all| all.into_iter().map(Watched::of).collect::<Option<Vec<_>>>())
    };
    let replicas = all(ask_for(connection, &["SENTINEL", "REPLICAS", master_name], within).await);
    let others = all(ask_for(connection, &["SENTINEL", "SENTINELS", master_name], within).await);
    let quorum = ask_for(connection, &["SENTINEL", "CKQUORUM", master_name], within).await;
    let news = news(&address, asking).await;
    SentinelSight { address, entry: Ok(entry), master, replicas, others, quorum, news }
}

/// Whether one may subscribe to its news.
async fn news(address: &Address, asking: &Asking) -> Told<()> {
    let mut listener = match dial::listen(address, &asking.access, entry::how(asking)).await {
        Ok(listener) => listener,
        Err(why) => return Told::Failed(why.to_string()),
    };
    match timeout(asking.within, listener.subscribe(NEWS)).await {
        Err(_) => Told::Failed("no answer in time".to_owned()),
        Ok(Ok(())) => Told::Is(()),
        Ok(Err(error)) if error.code() == Some("NOPERM") => Told::NotAllowed,
        Ok(Err(error)) => Told::Failed(error.to_string()),
    }
}

/// Whom sentinels speak of: the master by the latest epoch, and its replicas by any.
pub(super) fn servers(sentinels: &[SentinelSight]) -> Vec<(Address, Expected)> {
    let masters = sentinels.iter().filter_map(|sentinel| sentinel.master.is());
    let latest = masters.max_by_key(|master| master.number("config-epoch"));
    let Some(master) = latest.map(|master| master.address.clone()) else { return Vec::new() };
    let replicas = sentinels.iter().filter_map(|sentinel| sentinel.replicas.is()).flatten();
    let replicas: BTreeSet<Address> = replicas.map(|replica| replica.address.clone()).collect();
    let replicas = replicas.into_iter().filter(|address| *address != master).collect::<Vec<_>>();
    let replicas = replicas.into_iter().map(|address| (address, Expected::Replica));
    [(master, Expected::Master)].into_iter().chain(replicas).collect()
}

impl SentinelSight {
    fn unseen(address: Address, why: NoEntry) -> Self {
        let none = || "we did not get in".to_owned();
        Self {
            address,
            entry: Err(why),
            master: Told::Failed(none()),
            replicas: Told::Failed(none()),
            others: Told::Failed(none()),
            quorum: Told::Failed(none()),
            news: Told::Failed(none()),
        }
    }
}
