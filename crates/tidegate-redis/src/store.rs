//! Asks in, replies out, whatever kind of Redis there is behind.

use crate::call::Call;
use crate::census::{self, Census, Fleet};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::health::{Backend, BackendKind, Health};
use crate::keeper::Keeper;
use crate::lane::Lane;
use crate::lease::{self as leasing, Leasing};
use crate::link::Link;
use crate::log::{Home, Log};
use crate::probe::Probe;
use crate::sentinel::Sentinels;
use crate::settings::{Access, Address, Servers, Settings};
use crate::stats::Stats;
use crate::take::{self, Kind, Taking};
use futures_util::future::join_all;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidegate_core::ask::{Ask, Reply};
use tidegate_core::key::Key;
use tidegate_core::lease::{self, Grant, Heard, Place, Replays, Want};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A Redis, as a store.
pub struct Store {
    servers: Backing,
    settings: Arc<Settings>,
    stats: Arc<Stats>,
    /// Which asks for leases have come already.
    replays: Mutex<Replays>,
    started: Instant,
}

/// Who answers.
enum Backing {
    One(One),
    Cluster {
        cluster: Arc<Cluster>,
        /// What keeps its map, and ends with this.
        _scout: JoinSet<()>,
    },
}

/// What is asked of some keys, counted as unanswered if it ends without an answer: because
/// there is none, or because whoever asked no longer waits for it.
struct Asked<'a, K: Iterator<Item = (Key, u32)> + Clone> {
    store: &'a Store,
    /// Of each key so many units.
    keys: K,
    is_answered: bool,
}

/// One server, the same for all keys.
struct One {
    lane: Lane,
    /// Who it is, if anybody knows.
    target: watch::Receiver<Option<Address>>,
    sentinels: Option<Arc<Sentinels>>,
    /// What runs beside the lane, and ends with this.
    _tasks: JoinSet<()>,
}

impl Store {
    /// Starts to connect, and returns at once. Call within a tokio runtime.
    pub fn start(settings: Settings) -> Self {
        warn_if_insecure("redis", &settings.access);
        let settings = Arc::new(settings);
        let stats = Arc::new(Stats::default());
        let servers = match &settings.servers {
            Servers::Cluster { seeds } => {
                let cluster = Arc::new(Cluster::new(settings.clone(), seeds, stats.clone()));
                let mut scout = JoinSet::new();
                scout.spawn(cluster.clone().follow());
                Backing::Cluster { cluster, _scout: scout }
            }
            Servers::Standalone(address) => {
                let target = watch::Sender::new(Some(address.clone()));
                Backing::One(One::start(&settings, &stats, target, None))
            }
            Servers::Sentinel { master_name, sentinels, access } => {
                warn_if_insecure("sentinel", access);
                let news = Arc::new(Notify::new());
                let named = Sentinels::new(&settings, master_name, sentinels, access, news.clone());
                let named = Some((Arc::new(named), news));
                Backing::One(One::start(&settings, &stats, watch::Sender::new(None), named))
            }
        };
        let (replays, started) = (Mutex::default(), Instant::now());
        Self { servers, settings, stats, replays, started }
    }

    /// Answers an ask by the server's clock, and charges if every item is admitted.
    ///
    /// # Errors
    ///
    /// [`Error`]; no later than `pool_timeout` and `read_timeout` together (again for each node
    /// that a cluster sends it on to, five at most), and at once while there is no
    /// connection. [`Error::may_have_run`] says whether it may be charged.
    pub async fn answer(&self, ask: impl Into<Arc<Ask>>) -> Result<Reply, Error> {
        self.answer_at(ask, 0).await
    }

    /// As [`Self::answer`], for somebody who can wait no longer than `patience`. A server that
    /// was silent for all of that, 10 ms or more, is not asked on until it is heard of.
    ///
    /// # Errors
    ///
    /// As [`Self::answer`], but no later than that: then [`Error::Late`].
    pub async fn answer_within(
        &self,
        ask: impl Into<Arc<Ask>>,
        patience: Duration,
    ) -> Result<Reply, Error> {
        self.put(ask.into(), 0, Some(Instant::now() + patience)).await
    }

    /// As [`Self::answer`], by a clock of one's own, in microseconds since its zero. Must not
    /// be mixed with the server's clock on one key. Meant for tests against other stores.
    ///
    /// # Errors
    ///
    /// As [`Self::answer`].
    pub async fn answer_at(&self, ask: impl Into<Arc<Ask>>, now_us: u64) -> Result<Reply, Error> {
        self.put(ask.into(), now_us, None).await
    }

    /// Answers an ask for leases by the servers' clocks: of each want what it is granted, or why
    /// there is no answer to it, as each is asked of the server that has its key. `None` if
    /// the ask has come before: its answer is on its way, or was lost.
    ///
    /// Whoever asks waits no longer than `patience`, if that is said, nor than [`Self::answer`]
    /// would. An ask that no request waits for goes out a millisecond later, if there is nothing
    /// else to send, so that those of many proxies go together. Nothing is sent again that may
    /// have run, so what a want settles is never settled twice; one that got no answer may have
    /// been granted units, which then lapse.
    pub async fn lease(
        &self,
        ask: impl Into<Arc<lease::Ask>>,
        patience: impl Into<Option<Duration>>,
    ) -> Option<Vec<Result<Grant, Error>>> {
        let now = Instant::now();
        let age = u64::try_from(now.duration_since(self.started).as_nanos()).unwrap_or(u64::MAX);
        let heard_at = tidegate_core::time::Instant(age);
        let until = patience.into().map(|patience| now + patience);
        self.put_lease(ask.into(), None, heard_at, until).await
    }

    /// As [`Self::lease`], at a place of one's own. Must not be mixed with the servers' on one
    /// key. Meant for tests against other stores.
    pub async fn lease_at(
        &self,
        ask: impl Into<Arc<lease::Ask>>,
        place: Place,
    ) -> Option<Vec<Result<Grant, Error>>> {
        self.put_lease(ask.into(), Some(place), place.now, None).await
    }

    /// Tells how much is asked of this host, and hears how much it is in all of them.
    ///
    /// # Errors
    ///
    /// [`Error`]; no later than `read_timeout`, or twice that the first time, for every 256
    /// records. The others may have heard it all the same: what is told next puts it right.
    pub async fn census(&self, own: &Census) -> Result<Fleet, Error> {
        match &self.servers {
            Backing::One(one) => census::take(&one.lane.link, own).await,
            Backing::Cluster { cluster, .. } => cluster.census(own).await,
        }
    }

    /// The log of revocations, wherever this store's servers have it. It is to be used no longer
    /// than the store.
    pub fn log(&self) -> Log {
        let home = match &self.servers {
            Backing::One(one) => Home::One(one.target.clone()),
            Backing::Cluster { cluster, .. } => Home::Cluster(cluster.clone()),
        };
        Log::new(home, self.settings.clone(), self.stats.clone())
    }

    /// How long the servers of this ask have given no answers, of several the longest; `None`
    /// if all of them do, as far as is known.
    pub fn away_for(&self, ask: &Ask) -> Option<Duration> {
        ask.items.iter().filter_map(|item| self.away_for_key(item.key)).max()
    }

    /// How long the server of this key has given no answers; `None` if it does, as far as is
    /// known.
    pub fn away_for_key(&self, key: Key) -> Option<Duration> {
        match &self.servers {
            Backing::One(one) => one.lane.link.outages.current().map(|outage| outage.lasts),
            Backing::Cluster { cluster, .. } => cluster.away_for(key),
        }
    }

    /// How many asks for leases were answered and settled nothing, for their holders were not
    /// heard of before: see [`Replays`].
    pub fn unsettled_leases(&self) -> u64 {
        self.replays.lock().unwrap_or_else(PoisonError::into_inner).unsettled()
    }

    async fn put(
        &self,
        ask: Arc<Ask>,
        now_us: u64,
        until: Option<Instant>,
    ) -> Result<Reply, Error> {
        let keys = ask.items.iter().map(|item| (item.key, item.cost));
        let mut asked = Asked { store: self, keys, is_answered: false };
        let reply = match &self.servers {
            Backing::One(one) => one.answer(&ask, now_us, until).await,
            Backing::Cluster { cluster, .. } => cluster.answer(ask.clone(), now_us, until).await,
        };
        asked.is_answered = reply.is_ok();
        reply
    }

    async fn put_lease(
        &self,
        ask: Arc<lease::Ask>,
        place: Option<Place>,
        heard_at: tidegate_core::time::Instant,
        until: Option<Instant>,
    ) -> Option<Vec<Result<Grant, Error>>> {
        let heard = {
            let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
            replays.hear(heard_at, ask.holder, ask.seq)
        };
        let may_settle = match heard {
            Heard::First => true,
            Heard::Perhaps => false,
            Heard::Again => return None,
        };
        let waits = ask.wants.iter().any(Want::is_waited_for);
        let grants = ask.wants.iter().enumerate().map(async |(number, want)| {
            // A quota that is not leased is nothing to ask a server about.
            let Some(terms) = leasing::terms(want) else { return Ok(Grant::default()) };
            let keys = std::iter::once((want.key, want.units));
            let mut asked = Asked { store: self, keys, is_answered: false };
            let leasing = Leasing::new(ask.clone(), number, may_settle, place);
            let call = Call::lease(leasing, until, waits);
            let value = match &self.servers {
                Backing::One(one) => one.lane.send(call).await,
                Backing::Cluster { cluster, .. } => cluster.call(call).await,
            };
            let grant = value.and_then(|value| leasing::grant(&terms, &value));
            asked.is_answered = grant.is_ok();
            grant
        });
        Some(join_all(grants).await)
    }

    /// Why asks are not answered now, or may not be; `None` if all is well.
    pub fn trouble(&self) -> Option<String> {
        match &self.servers {
            Backing::One(one) => one.lane.link.trouble(),
            Backing::Cluster { cluster, .. } => cluster.health().trouble,
        }
    }

    /// How it is, server by server.
    pub fn health(&self) -> Health {
        match &self.servers {
            Backing::One(one) => one.health(),
            Backing::Cluster { cluster, .. } => cluster.health(),
        }
    }

    /// Notes for whoever serves the key what was asked of it in vain.
    fn note_unanswered(&self, key: Key, units: u32) {
        let units = u64::from(units);
        self.stats.unanswered(units);
        match &self.servers {
            Backing::One(one) => one.lane.link.outages.add_unanswered(units),
            Backing::Cluster { cluster, .. } => cluster.note_unanswered(key, units),
        }
    }

    /// What has been counted so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}

impl One {
    /// Connects to whom `target` names; the sentinels, if there are any, keep that right.
    fn start(
        settings: &Arc<Settings>,
        stats: &Arc<Stats>,
        teller: watch::Sender<Option<Address>>,
        sentinels: Option<(Arc<Sentinels>, Arc<Notify>)>,
    ) -> Self {
        let (sentinels, bell) = sentinels.unzip();
        let bell = bell.unwrap_or_default();
        let link = Arc::new(Link::new(settings.read_timeout, stats.clone(), bell));
        let target = teller.subscribe();
        let mut tasks = JoinSet::new();
        match &sentinels {
            Some(sentinels) => tasks.spawn(sentinels.clone().follow(link.clone(), teller)),
            // It never changes; with its end the keeper's would come.
            None => tasks.spawn(async move { teller.closed().await }),
        };
        let keeper = Keeper {
            settings: settings.clone(),
            link: link.clone(),
            probe: Arc::new(Probe::new()),
            histories: Arc::default(),
        };
        let keeper = tokio::spawn(keeper.run(target.clone())).abort_handle();
        let lane = Lane::new(settings, link, keeper);
        Self { lane, target, sentinels, _tasks: tasks }
    }

    async fn answer(
        &self,
        ask: &Arc<Ask>,
        now_us: u64,
        until: Option<Instant>,
    ) -> Result<Reply, Error> {
        let taking = Taking::all(ask.clone(), now_us, Kind::Take);
        let value = self.lane.send(Call::take(taking, until)).await?;
        take::reply(&ask.items, &value)
    }

    fn health(&self) -> Health {
        let link = &self.lane.link;
        let address = self.target.borrow();
        let master = Backend::server(BackendKind::Master, address.as_ref(), 0, link);
        let trouble = master.trouble.clone();
        let sentinels = self.sentinels.as_ref().map(|sentinels| sentinels.backends());
        let backends = std::iter::once(master).chain(sentinels.into_iter().flatten()).collect();
        Health { answers: trouble.is_none(), trouble, backends }
    }
}

impl<K: Iterator<Item = (Key, u32)> + Clone> Drop for Asked<'_, K> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.keys.clone().for_each(|(key, units)| self.store.note_unanswered(key, units));
        }
    }
}

/// Said loudly, once for each start: nobody should find it by chance.
fn warn_if_insecure(whose: &str, access: &Access) {
    if access.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify) {
        tracing::warn!(
            "INSECURE: any certificate is taken for {whose}'s (tls.insecure_skip_verify). Whoever \
             is on the way can read and change everything, the password too. Name whom to trust \
             by tls.ca_file, and the certificate's name by tls.server_name, instead"
        );
    }
}
