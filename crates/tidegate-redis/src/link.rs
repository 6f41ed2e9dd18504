//! The place of one server's connection: taken by whoever asks, given up by whoever sees that
//! it is of no more use.
//!
//! Whoever asks takes the connection that is there, or none: only the keeper (`keeper`) dials,
//! and only it waits. A connection is given up
//!
//! - that broke, or on which [`MISSES_MAX`] batches in a row, over as many deadlines, got no
//!   reply: a frozen server's kernel still acknowledges, so nothing but an application's
//!   deadline notices;
//! - whose server said that it is the wrong one (a replica, not ready, not letting us in);
//! - whose server is no longer the one to ask, by the word of Sentinel or of the cluster.
//!
//! It is then closed at once, whatever is under way on it: a master that was replaced goes on
//! taking writes for ten seconds, and what it counts is lost.

use crate::breaker::Breaker;
use crate::error::{Error, Refusal, chain};
use crate::lineage::History;
use crate::outage::Outages;
use crate::settings::{Address, Settings};
use crate::stats::Stats;
use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// So many batches in a row without a reply, and as many deadlines of silence, and the
/// connection is given up. Several batches may miss one slow moment of the server's
/// together; three deadlines are no moment.
const MISSES_MAX: u32 = 3;

/// Shorter silence says nothing: a server that forks, or a busy machine, takes as long.
const SILENCE_MIN: Duration = Duration::from_millis(10);

/// The place of one connection.
pub(crate) struct Link {
    live: ArcSwapOption<Live>,
    state: watch::Sender<State>,
    /// Whether it is of any use to ask over it.
    pub(crate) breaker: Breaker,
    pub(crate) outages: Outages,
    /// Why there is no connection, or what is wrong with it. Locked while one comes or goes: who
    /// hears of either finds it so.
    trouble: Mutex<Option<String>>,
    /// For replies.
    deadline: Duration,
    connects: AtomicU64,
    losses: AtomicU64,
    misses: AtomicU64,
    /// Rings when the connection is lost, or its server sends us elsewhere: whoever knows
    /// where to look then looks.
    bell: Arc<Notify>,
    /// Of the whole store.
    pub(crate) stats: Arc<Stats>,
}

/// Whether there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not yet, and the first attempt is not over.
    New,
    /// Yes.
    Up,
    /// No.
    Away,
}

/// A connection that works as far as is known. Closed when nobody uses it any more.
pub(crate) struct Live {
    connection: MultiplexedConnection,
    /// Whom it leads to.
    pub(crate) address: Address,
    pub(crate) born: Instant,
    /// It is replaced at so much of the age, and of the idleness, that are set: connections
    /// that many hosts made in one moment are not all replaced in one.
    spread: f64,
    /// What its server has counted for us, if it tells which history it is part of.
    pub(crate) history: Option<Arc<History>>,
    driver: AbortHandle,
    signs: Mutex<Signs>,
}

/// Signs of its life.
struct Signs {
    /// Batches in a row without a reply.
    misses: u32,
    /// When it last replied.
    heard: Instant,
    /// When it last carried an ask.
    used: Instant,
}

impl Link {
    pub(crate) fn new(deadline: Duration, stats: Arc<Stats>, bell: Arc<Notify>) -> Self {
        Self {
            bell,
            live: ArcSwapOption::empty(),
            state: watch::Sender::new(State::New),
            breaker: Breaker::default(),
            outages: Outages::new(),
            trouble: Mutex::new(Some("not connected yet".to_owned())),
            deadline,
            connects: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            stats,
        }
    }

    /// The connection, if there is one.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Whether this is the connection that is there.
    pub(crate) fn holds(&self, live: &Arc<Live>) -> bool {
        self.live.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, live))
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Waits until it is so.
    pub(crate) async fn until(&self, wanted: State) {
        let _ = self.state.subscribe().wait_for(|state| *state == wanted).await;
    }

    /// Waits until the first attempt to connect is over.
    pub(crate) async fn until_tried(&self) {
        let _ = self.state.subscribe().wait_for(|state| *state != State::New).await;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state() == State::Up
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.known_trouble().clone()
    }

    /// Says what is wrong; true if that was not known before.
    pub(crate) fn set_trouble(&self, trouble: Option<&str>) -> bool {
        let mut known = self.known_trouble();
        let is_new = known.as_deref() != trouble;
        *known = trouble.map(str::to_owned);
        is_new
    }

    /// Connections made, connections lost, and deadlines missed, so far.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [&self.connects, &self.losses, &self.misses].map(|count| count.load(Ordering::Relaxed))
    }

    /// Puts a connection in its place, with what is wrong with it; that which was there ends with
    /// its last batch. True if none was there.
    pub(crate) fn put(&self, live: &Arc<Live>, trouble: Option<String>) -> bool {
        let mut known = self.known_trouble();
        self.connects.fetch_add(1, Ordering::Relaxed);
        let before = self.live.swap(Some(live.clone()));
        self.state.send_replace(State::Up);
        self.review();
        *known = trouble;
        before.is_none()
    }

    /// The attempt to connect is over, in vain.
    pub(crate) fn failed(&self) {
        self.state.send_if_modified(|state| {
            let was_new = *state == State::New;
            if was_new {
                *state = State::Away;
            }
            was_new
        });
    }

    /// Notes what came of a batch, and gives the connection up if that says so.
    pub(crate) fn note(&self, live: &Arc<Live>, outcome: Result<(), &Error>) {
        match outcome {
            Ok(()) => self.heard(live),
            Err(Error::Unknown(cause)) if cause.is_timeout() => {
                self.stats.timeout();
                self.misses.fetch_add(1, Ordering::Relaxed);
                if live.missed(self.deadline) {
                    self.give_up(live, "no replies");
                } else if self.holds(live) {
                    self.stop_asking(live, Error::Away, "no reply within read_timeout");
                }
            }
            Err(error @ Error::Unknown(_)) => self.give_up(live, &chain(error)),
            Err(error @ Error::Refused(refusal, _)) => {
                self.heard(live);
                if refusal.wants_another_connection() {
                    self.give_up(live, &chain(error));
                }
                if refusal.is_redirect() || *refusal == Refusal::ClusterStopped {
                    self.bell.notify_one();
                }
                if error.is_lasting() && self.holds(live) {
                    self.stop_asking(live, error.clone(), &error.with_remedy());
                }
            }
            Err(Error::Away | Error::Busy | Error::Late | Error::Garbled(_)) => {}
        }
    }

    /// Notes that somebody could wait no longer for the reply to what was asked then. If all
    /// was silent since, it is no use to ask on until something is heard.
    pub(crate) fn late(&self, asked: Instant) {
        if let Some(live) = self.live()
            && live.is_silent_since(asked)
        {
            self.stop_asking(&live, Error::Away, "no reply in the time that proxies wait");
        }
    }

    /// It has said something, whatever that was.
    fn heard(&self, live: &Live) {
        live.heard();
        if self.breaker.heard() {
            self.review();
            self.set_trouble(None);
        }
    }

    /// The server may be asked: the script has run on it.
    pub(crate) fn proved(&self, live: &Live) {
        if self.breaker.close() {
            self.review();
            tracing::info!(server = %live.address, "redis answers again");
        }
    }

    fn stop_asking(&self, live: &Live, why: Error, said: &str) {
        if self.breaker.open(why) {
            self.review();
            tracing::warn!(server = %live.address, why = said, "redis is not asked for now");
        }
        self.set_trouble(Some(said));
    }

    /// Takes this connection away and closes it; a successor that is there already stays.
    pub(crate) fn give_up(&self, live: &Arc<Live>, why: &str) {
        let mut known = self.known_trouble();
        let before = self.live.compare_and_swap(live, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, live)) {
            live.driver.abort();
            // What is not there need not be shunned.
            self.breaker.close();
            tracing::warn!(server = %live.address, why, "redis connection lost");
            self.losses.fetch_add(1, Ordering::Relaxed);
            self.state.send_replace(State::Away);
            self.review();
            *known = Some(why.to_owned());
            self.bell.notify_one();
        }
    }

    fn known_trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it gives answers may have changed.
    fn review(&self) {
        self.outages.review(|| self.is_up() && !self.breaker.is_open());
    }
}

impl Live {
    pub(crate) fn new(
        connection: MultiplexedConnection,
        driver: AbortHandle,
        address: Address,
        history: Option<Arc<History>>,
    ) -> Self {
        let now = Instant::now();
        let signs = Mutex::new(Signs { misses: 0, heard: now, used: now });
        let spread = 0.9 + 0.1 * fastrand::f64();
        Self { connection, address, born: now, spread, history, driver, signs }
    }

    pub(crate) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    pub(crate) fn carried_an_ask(&self) {
        self.signs().used = Instant::now();
    }

    /// Whether it is too old, or has carried no ask for too long.
    pub(crate) fn is_due(&self, settings: &Settings) -> bool {
        let is_over = |time: Duration, max: Option<Duration>| {
            max.is_some_and(|max| time >= max.mul_f64(self.spread))
        };
        is_over(self.born.elapsed(), settings.max_conn_age)
            || is_over(self.signs().used.elapsed(), settings.idle_timeout)
    }

    /// Whether the last batch got no reply.
    pub(crate) fn is_silent(&self) -> bool {
        self.signs().misses > 0
    }

    /// Whether it has said nothing since, long enough to mean something.
    fn is_silent_since(&self, asked: Instant) -> bool {
        asked.elapsed() >= SILENCE_MIN && self.signs().heard < asked
    }

    fn heard(&self) {
        let mut signs = self.signs();
        (signs.misses, signs.heard) = (0, Instant::now());
    }

    /// Whether it has missed too much to be waited for.
    fn missed(&self, deadline: Duration) -> bool {
        let mut signs = self.signs();
        signs.misses += 1;
        signs.misses >= MISSES_MAX && signs.heard.elapsed() >= deadline * MISSES_MAX
    }

    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
