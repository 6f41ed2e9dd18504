//! The connection, and the supervisor that keeps one there.
//!
//! Whoever asks takes the connection that is there, or none: only the supervisor dials, and
//! only it waits. It replaces a connection
//!
//! - that broke, or on which [`MISSES_MAX`] batches in a row, over as many deadlines, got no
//!   reply: a frozen server's kernel still acknowledges, so nothing but an application's
//!   deadline notices;
//! - whose server said that it is the wrong one (a replica, not ready, not letting us in);
//! - that is old or idle, as set: its successor is ready before it goes.
//!
//! A connection counts as there once the script has run on it and written something, which
//! is what asks will do. The same probe runs every [`PROBE_EVERY`], so trouble is known
//! before an ask meets it.

use crate::dial::{self, DialError, Dialled, Driver, How, Step};
use crate::error::{Error, chain};
use crate::script;
use crate::settings::{Servers, Settings};
use crate::stats::Stats;
use arc_swap::ArcSwapOption;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_core::ask::{Ask, Item, LimitTag};
use tidegate_core::key::Key;
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::Span;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// So many batches in a row without a reply, and as many deadlines of silence, and the
/// connection is given up. Several batches may miss one slow moment of the server's
/// together; three deadlines are no moment.
const MISSES_MAX: u32 = 3;

/// How often an established connection is probed.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// The first wait after a failed dial; it doubles …
const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// … to this one. A server that is back is so found within half a second.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// A connection that lasted so long was no failed attempt.
const PROVEN_AFTER: Duration = Duration::from_secs(2);

/// The place of the one connection.
pub(crate) struct Link {
    live: ArcSwapOption<Live>,
    /// Rings when `live` was taken away.
    lost: Notify,
    /// Why there is no connection, or what is wrong with it.
    trouble: Mutex<Option<String>>,
    /// For replies.
    deadline: Duration,
    pub(crate) stats: Stats,
}

/// A connection that works as far as is known.
pub(crate) struct Live {
    connection: MultiplexedConnection,
    born: Instant,
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
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            live: ArcSwapOption::empty(),
            lost: Notify::new(),
            deadline: settings.read_timeout,
            trouble: Mutex::new(Some("not connected yet".to_owned())),
            stats: Stats::default(),
        }
    }

    /// The connection, if there is one.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Whether there is one.
    pub(crate) fn is_there(&self) -> bool {
        self.live.load().is_some()
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what came of a batch, and gives the connection up if that says so.
    pub(crate) fn note(&self, live: &Arc<Live>, outcome: Result<(), &Error>) {
        match outcome {
            Ok(()) => live.heard(),
            Err(Error::Unknown(cause)) if cause.is_timeout() => {
                self.stats.timeout();
                if live.missed(self.deadline) {
                    self.give_up(live, "no replies");
                }
            }
            Err(error @ Error::Unknown(_)) => self.give_up(live, &chain(error)),
            Err(error @ Error::Refused(refusal, _)) => {
                live.heard();
                if refusal.wants_another_connection() {
                    self.give_up(live, &chain(error));
                }
            }
            Err(Error::Away | Error::Busy | Error::Garbled(_)) => {}
        }
    }

    /// Takes this connection away; a successor that is there already stays.
    fn give_up(&self, live: &Arc<Live>, why: &str) {
        let before = self.live.compare_and_swap(live, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, live)) {
            tracing::warn!(why, "redis connection lost");
            self.set_trouble(Some(why));
            self.lost.notify_one();
        }
    }

    fn set_trouble(&self, trouble: Option<&str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble.map(str::to_owned);
    }
}

impl Live {
    pub(crate) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    pub(crate) fn carried_an_ask(&self) {
        self.signs().used = Instant::now();
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

    fn is_due(&self, settings: &Settings) -> bool {
        let idle = self.signs().used.elapsed();
        settings.max_conn_age.is_some_and(|max| self.born.elapsed() >= max)
            || settings.idle_timeout.is_some_and(|max| idle >= max)
    }

    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection in `link`, for as long as this is polled.
pub(crate) async fn supervise(settings: Settings, link: Arc<Link>) {
    let probe = Probe::new();
    let mut backoff = BACKOFF_MIN;
    loop {
        let dialled = timeout(settings.dial_timeout, dial(&settings, &probe)).await;
        link.stats.dial(matches!(dialled, Ok(Ok(_))));
        match dialled {
            Ok(Ok((live, driver))) => {
                watch(&link, &live, driver);
                link.set_trouble(None);
                if link.live.swap(Some(live.clone())).is_none() {
                    tracing::info!("redis connected");
                }
                tend(&settings, &link, &live, &probe).await;
                if live.born.elapsed() >= PROVEN_AFTER {
                    backoff = BACKOFF_MIN;
                    continue;
                }
            }
            Ok(Err(why)) => failed(&link, &why.to_string()),
            Err(_) => failed(&link, "no connection within dial_timeout"),
        }
        // Half of it fixed, half by chance: many hosts must not come back in one moment.
        sleep(backoff.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

fn failed(link: &Link, why: &str) {
    // A connection that was only to be replaced is still there, and stays.
    if !link.is_there() {
        if link.trouble().as_deref() != Some(why) {
            tracing::warn!(why, "cannot connect to redis");
        }
        link.set_trouble(Some(why));
    }
}

/// Drives the connection, and notices its end.
fn watch(link: &Arc<Link>, live: &Arc<Live>, driver: impl Future<Output = ()> + Send + 'static) {
    let (link, live) = (Arc::downgrade(link), Arc::downgrade(live));
    tokio::spawn(async move {
        driver.await;
        if let (Some(link), Some(live)) = (link.upgrade(), live.upgrade()) {
            link.give_up(&live, "the connection was closed");
        }
    });
}

/// Probes the connection until it is lost or due to be replaced.
async fn tend(settings: &Settings, link: &Link, live: &Arc<Live>, probe: &Probe) {
    let is_live = || link.live().is_some_and(|current| Arc::ptr_eq(&current, live));
    while is_live() && !live.is_due(settings) {
        tokio::select! {
            () = link.lost.notified() => {}
            () = sleep(PROBE_EVERY) => {
                let probed = probe.run(&mut live.connection()).await;
                link.note(live, probed.as_ref().map(|_| ()));
                if is_live() {
                    link.set_trouble(probed.err().map(|error| chain(&error)).as_deref());
                }
            }
        }
    }
}

/// Connects, signs in, loads the script and runs it.
async fn dial(settings: &Settings, probe: &Probe) -> Result<(Arc<Live>, Driver), DialError> {
    let Servers::Standalone(address) = &settings.servers else {
        return Err(Step::Resolve.said("only a standalone server is served".to_owned()));
    };
    let how = How {
        db: settings.db,
        within: settings.dial_timeout,
        unacknowledged: settings.write_timeout,
    };
    let Dialled { mut connection, mut driver, .. } =
        dial::dial(address, &settings.access, how).await?;
    let prepare = async {
        match probe.run(&mut connection).await {
            Err(Error::Refused(refusal, _)) if !refusal.wants_another_connection() => Ok(()),
            Err(error) => Err(Step::Prepare.said(chain(&error))),
            Ok(()) => Ok(()),
        }
    };
    tokio::select! {
        prepared = prepare => prepared?,
        () = &mut driver => return Err(Step::Prepare.said("the connection was closed".to_owned())),
    }
    connection.set_response_timeout(settings.read_timeout);
    let now = Instant::now();
    let signs = Mutex::new(Signs { misses: 0, heard: now, used: now });
    Ok((Arc::new(Live { connection, born: now, signs }), driver))
}

/// What asks do, on a key of this process's own: reading, counting, writing.
struct Probe(Ask);

impl Probe {
    fn new() -> Self {
        // A million a second: the probe itself is never refused.
        let second = Span::from_secs(1);
        let quota = Quota::new(Algorithm::TokenBucket, 1_000_000, second, 1_000_000);
        let key = Key(fastrand::u128(..).to_be_bytes());
        let item = quota.map(|quota| Item { key, limit: LimitTag(0), quota, cost: 1 });
        Self(Ask { items: item.into_iter().collect() })
    }

    /// Loads the script and runs it.
    async fn run(&self, connection: &mut MultiplexedConnection) -> Result<(), Error> {
        let _: Value = script::load().query_async(connection).await.map_err(Error::of)?;
        let value = script::call(&self.0, 0).query_async(connection).await.map_err(Error::of)?;
        script::reply(&self.0, &value).map(|_| ())
    }
}
