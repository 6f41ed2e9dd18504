//! The service: doors opened, asks answered, drained when told to stop.
//!
//! - [`door`]: listeners and connections, and the bounds on both
//! - [`together`]: a connection and the asks on it, as one task
//! - [`routes`]: which request is for whom
//! - [`asks`]: one ask, from bytes to bytes; [`leases`]: one for leases; [`revokes`]: one about
//!   revocations
//! - [`resolves`]: one for a plugin
//! - [`outcome`]: how it ended; [`turns`]: how many one proxy may have in flight
//! - [`revoking`]: what is revoked, and where that is said
//! - [`store`]: who keeps the truth
//! - [`embedded`]: the same answers for filters in this very process
//! - [`clock`]: the time by which they are counted
//! - [`shares`]: who asks how much; [`census`]: and of all hosts together
//! - [`health`]: whether to send requests here
//! - [`metrics`]: what is counted
//!
//! Stopping: on SIGTERM or SIGINT `/readyz` turns 503, the doors close, HTTP/2 connections
//! get a GOAWAY and HTTP/1 ones are closed after their answer, asks in flight are finished,
//! until the drain timeout or a second signal. The operator's door closes last.

mod asks;
mod census;
mod clock;
mod door;
pub(crate) mod embedded;
mod health;
mod leases;
mod metrics;
mod outcome;
mod resolves;
mod revokes;
mod revoking;
mod routes;
mod shares;
mod store;
mod together;
mod turns;

use crate::config::{Config, Http, Provider};
use crate::plugins::Plugins;
use crate::revocations::SharedLog;
use clock::Clock;
use door::{Door, Use};
use metrics::Metrics;
use revoking::Kept;
use shares::Shares;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{Predecessor, Store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use turns::Turns;

/// Why the service could not start.
#[derive(Debug)]
pub struct Failure {
    what: String,
    source: io::Error,
}

/// What every connection shares.
struct Site {
    store: Arc<Store>,
    clock: Clock,
    shares: Mutex<Shares>,
    metrics: Metrics,
    bounds: Http,
    /// Whether to admit what the store gives no answer to.
    fail_open: bool,
    /// Whether those who ask run in this process too.
    is_embedded: bool,
    in_flight: Semaphore,
    /// Of those, asks for leases by proxy.
    turns: Turns,
    /// Polls that wait for news.
    polls: Semaphore,
    revocations: Kept,
    plugins: Plugins,
    /// Whether it was told to stop.
    stopping: watch::Sender<bool>,
}

/// Serves until told to stop.
///
/// # Errors
///
/// [`Failure`] if a door cannot be opened. What happens afterwards is answered, counted and
/// logged, and ends nothing.
pub fn run(config: Config) -> Result<(), Failure> {
    // Loading them blocks, so it comes before all that must not be.
    let plugins = load_plugins(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tidegate")
        .build()
        .map_err(|source| Failure { what: "cannot start threads".to_owned(), source })?;
    let ended = runtime.block_on(serve(config, plugins));
    // Whatever still runs after the drain (a dial to Redis) is of no use to anybody.
    runtime.shutdown_background();
    ended
}

async fn serve(config: Config, plugins: Plugins) -> Result<(), Failure> {
    // First of all: from here on a signal drains instead of killing.
    let mut stop = Stop::new()?;
    let mut asks = vec![Door::tcp(config.listen, Use::Asks)?];
    if let Some(path) = &config.unix_socket {
        asks.push(Door::unix(path)?);
    }
    let admin = Door::tcp(config.admin, Use::Admin)?;
    let revocations = revoking::ledger(&config)?;
    let clock = Clock::of_this_machine();
    let kept = Kept::Open(revocations.clone());
    let _hangup = looks_at_hangup(&plugins)?;
    let site =
        Site::new(&config.provider, &config.http, clock, Predecessor::Perhaps, kept, plugins);
    let site = Arc::new(Site { fail_open: config.fail_open, ..site });
    let revoking = match config.revocations.as_ref().zip(revocations.as_ref()) {
        Some((settings, revocations)) => revoking::door(settings, revocations, &site.metrics)?,
        None => None,
    };
    if config.fail_open {
        tracing::warn!(
            "rate_limit_fail_open: without its store this host admits everything, uncharged, \
             whatever a limit's on_error says"
        );
    }
    tracing::info!(store = site.store.name(), version = env!("CARGO_PKG_VERSION"), "serving");
    let _census = census::start(&site);
    let asks = door::Open::new(asks, &site, config.http.connections_max);
    let admin = door::Open::new(vec![admin], &site, ADMIN_CONNECTIONS_MAX);

    stop.told().await;
    site.stopping.send_replace(true);
    tracing::info!(asks_in_flight = site.in_flight(), "draining");
    let drained = async {
        tokio::join!(asks.drain(), async {
            if let Some(revoking) = revoking {
                revoking.drain().await;
            }
        })
    };
    tokio::select! {
        _ = drained => tracing::info!("drained"),
        () = tokio::time::sleep(config.drain_timeout) => {
            tracing::warn!(asks_in_flight = site.in_flight(), "drain timeout: ending anyway");
        }
        () = stop.told() => tracing::warn!("told twice: ending at once"),
    }
    let _ = tokio::time::timeout(ADMIN_DRAIN_MAX, admin.drain()).await;
    Ok(())
}

/// Before any door is open: a host that cannot run what it is to run does not start.
fn load_plugins(config: &Config) -> Result<Plugins, Failure> {
    Plugins::load(&config.plugins, crate::shipped::cache())
        .map_err(|why| Failure { what: "cannot start".to_owned(), source: io::Error::other(why) })
}

/// On SIGHUP files of plugins are looked at, for who does not want to wait a second. Without
/// plugins it ends the process, as it does by default.
fn looks_at_hangup(plugins: &Plugins) -> Result<Option<AbortOnDrop>, Failure> {
    if !plugins.are_any() {
        return Ok(None);
    }
    let mut hangup = signal(SignalKind::hangup())
        .map_err(|source| Failure { what: "cannot listen for signals".to_owned(), source })?;
    let plugins = plugins.clone();
    let task = tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            plugins.look();
        }
    });
    Ok(Some(AbortOnDrop(task)))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The operator's connections: a scraper, some probes, a person.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// A scrape under way may end; nothing more is owed.
const ADMIN_DRAIN_MAX: Duration = Duration::from_millis(200);

impl Site {
    fn new(
        provider: &Provider,
        bounds: &Http,
        clock: Clock,
        predecessor: Predecessor,
        revocations: Kept,
        plugins: Plugins,
    ) -> Self {
        let store = Arc::new(Store::new(provider, predecessor));
        // Whoever has a Redis shares what is revoked with all who have the same.
        let shared_log = revocations.open().zip(store.log());
        let shared_log = shared_log.map(|(ledger, log)| SharedLog::start(ledger, &log));
        Self {
            metrics: Metrics::new(&store, &revocations, shared_log, &plugins),
            store,
            clock,
            shares: Mutex::new(Shares::new()),
            in_flight: Semaphore::new(bounds.in_flight_max),
            turns: Turns::default(),
            bounds: bounds.clone(),
            fail_open: false,
            is_embedded: false,
            polls: Semaphore::new(bounds.connections_max),
            revocations,
            plugins,
            stopping: watch::Sender::new(false),
        }
    }

    /// Returns when this process has been told to stop.
    async fn is_told_to_stop(&self) {
        // It lives as long as the site does.
        let _ = self.stopping.subscribe().wait_for(|is_stopping| *is_stopping).await;
    }

    fn in_flight(&self) -> usize {
        self.bounds.in_flight_max - self.in_flight.available_permits()
    }
}

/// SIGTERM, from whoever manages processes, and SIGINT, from a person.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|source| Failure { what: "cannot listen for signals".to_owned(), source })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for Failure {}
