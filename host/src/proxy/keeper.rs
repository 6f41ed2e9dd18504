//! Start, reload and end: what the process's first thread does.
//!
//! A reload is all or nothing. A new plan is made beside the old one, and what is new in it is tried;
//! then every lane prepares it, which starts its filters and components; and only if all could do that
//! do all run it. Whatever is wrong is logged, and the old plan goes on. Shared data, queues, metrics
//! and the store belong to the process, so limits keep their counts.

use super::access_log::{AccessLog, Writer};
use super::arguments::Arguments;
use super::guard;
use super::lane::{Lane, Order};
use super::listener::{self, Socket};
use super::plan::{Made, Maker, Plan};
use super::settings::{Settings, Source};
use super::shared::Shared;
use super::trial::{self, STACK_BYTES};
use super::{Failure, admin};
use crate::files::Files;
use crate::plugins::Plugins;
use crate::service::embedded::Embedded;
use proxy_wasm_host::engine::Engine;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks after the process from its start to its end.
struct Keeper {
    source: Source,
    settings: Settings,
    maker: Arc<Mutex<Maker>>,
    files: Files,
    shared: Arc<Shared>,
    lanes: Vec<mpsc::UnboundedSender<Order>>,
    /// What the lanes run.
    at_work: Arc<Plan>,
}

/// A word of each lane that has ended.
type Ended = mpsc::UnboundedReceiver<String>;

/// SIGTERM from whoever manages processes, SIGINT from a person, SIGHUP to read settings anew.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let source = arguments.source().map_err(Failure::Usage)?;
    let settings = source.read(&environment).map_err(Failure::Settings)?;
    crate::logs::start(settings.log_level, settings.log_format);
    let engine = Engine::new(arguments.cache()).map_err(|error| other(error.to_string()))?;
    let mut files = Files::default();
    watch_source(&source, &mut files);
    let mut maker = Maker::new(engine, arguments.filter_file(), arguments.cache());
    let made = maker.make(settings.clone(), &mut files).map_err(Failure::Other)?;
    let (log, writer) = AccessLog::start(&settings.access_log).map_err(Failure::Other)?;
    let plugins = Plugins::load(&settings.plugins, arguments.cache()).map_err(Failure::Other)?;
    let embedded = Embedded::in_memory(settings.memory_keys_max, plugins.clone());
    let shared = Arc::new(Shared::new(embedded, plugins, log, nothing(&settings)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| other(format!("cannot start: {error}")))?;
    runtime.block_on(keep(source, settings, maker, files, &shared, made, writer))
}

/// A plan in which nothing is served.
fn nothing(settings: &Settings) -> Plan {
    Plan {
        settings: Settings { listeners: Vec::new(), ..settings.clone() },
        routes: Vec::new(),
        peers: BTreeMap::new(),
        embedded: BTreeSet::new(),
    }
}

async fn keep(
    source: Source,
    settings: Settings,
    maker: Maker,
    files: Files,
    shared: &Arc<Shared>,
    made: Made,
    writer: Writer,
) -> Result<(), Failure> {
    // First of all: from here on a signal drains instead of killing.
    let mut signals = Signals::new().map_err(|error| other(format!("no signals: {error}")))?;
    let (sockets, door) = open(&settings).await.map_err(Failure::Other)?;
    let (lanes, mut ended) = start_lanes(shared).map_err(Failure::Other)?;
    let mut keeper = Keeper {
        source,
        settings,
        maker: Arc::new(Mutex::new(maker)),
        files,
        shared: Arc::clone(shared),
        lanes,
        at_work: Arc::clone(&shared.empty_plan),
    };
    tokio::select! {
        () = signals.stop() => return Ok(()),
        lane = ended.recv() => return Err(has_ended(lane)),
        taken = keeper.take(made) => taken.map_err(Failure::Other)?,
    }
    keeper.serve(sockets);
    if let Some(door) = door {
        tokio::spawn(admin::serve(door, Arc::clone(shared)));
    }
    tracing::info!(
        workers = keeper.settings.workers,
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    let served = keeper.attend(&mut signals, &mut ended).await;
    let drained = keeper.drain(&mut signals, &mut ended).await;
    shared.access_log.end(writer);
    served.and(drained)
}

/// Opens all doors; nobody is let in yet.
async fn open(settings: &Settings) -> Result<(Vec<Vec<Socket>>, Option<TcpListener>), String> {
    let mut sockets = Vec::with_capacity(settings.listeners.len());
    for listener in &settings.listeners {
        let cannot = |error| format!("cannot listen on {}: {error}", listener.address);
        let opened = listener::sockets(listener.address, settings.workers).map_err(cannot)?;
        if let Some(address) = opened.first().and_then(|socket| socket.address().ok()) {
            let protocol = listener.protocol.name();
            let is_tls = listener.tls.is_some();
            tracing::info!(door = protocol, tls = is_tls, %address, "listening");
        }
        sockets.push(opened);
    }
    let Some(address) = settings.admin else { return Ok((sockets, None)) };
    let cannot = |error| format!("cannot listen on {address}: {error}");
    let door = TcpListener::bind(address).await.map_err(cannot)?;
    let address = door.local_addr().map_err(cannot)?;
    tracing::info!(door = "admin", %address, "listening");
    Ok((sockets, Some(door)))
}

type Lanes = (Vec<mpsc::UnboundedSender<Order>>, Ended);

fn start_lanes(shared: &Arc<Shared>) -> Result<Lanes, String> {
    let (told, ended) = mpsc::unbounded_channel();
    let mut lanes = Vec::with_capacity(shared.lanes.len());
    for (number, counts) in shared.lanes.iter().enumerate() {
        let (to, orders) = mpsc::unbounded_channel();
        let (shared, counts, told) = (Arc::clone(shared), Arc::clone(counts), told.clone());
        let name = format!("lane-{number}");
        let lane = std::thread::Builder::new().name(name.clone()).stack_size(STACK_BYTES).spawn(
            move || {
                let last = Last { told, name };
                if let Err(error) = Lane::run(shared, counts, orders) {
                    tracing::error!(lane = last.name, %error, "cannot start");
                }
            },
        );
        lane.map_err(|error| format!("cannot start a thread: {error}"))?;
        lanes.push(to);
    }
    Ok((lanes, ended))
}

/// Tells that a lane has ended, however that came.
struct Last {
    told: mpsc::UnboundedSender<String>,
    name: String,
}

impl Drop for Last {
    fn drop(&mut self) {
        let _ = self.told.send(std::mem::take(&mut self.name));
    }
}

impl Keeper {
    /// Lets clients in.
    fn serve(&self, sockets: Vec<Vec<Socket>>) {
        let mut of_lane: Vec<Vec<Socket>> = self.lanes.iter().map(|_| Vec::new()).collect();
        for of_listener in sockets {
            for (lane, socket) in of_lane.iter_mut().zip(of_listener) {
                lane.push(socket);
            }
        }
        for (lane, sockets) in self.lanes.iter().zip(of_lane) {
            let _ = lane.send(Order::Serve(sockets));
        }
    }

    /// Reloads when it is time to, until told to stop.
    async fn attend(&mut self, signals: &mut Signals, ended: &mut Ended) -> Result<(), Failure> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_told = tokio::select! {
                _ = signals.terminate.recv() => return Ok(()),
                _ = signals.interrupt.recv() => return Ok(()),
                _ = signals.hangup.recv() => {
                    self.shared.plugins.look();
                    true
                },
                _ = look.tick() => match self.files.has_changed() {
                    true => false,
                    false => continue,
                },
                lane = ended.recv() => return Err(has_ended(lane)),
            };
            tokio::select! {
                () = signals.stop() => return Ok(()),
                () = self.reload(is_told) => {}
                lane = ended.recv() => return Err(has_ended(lane)),
            }
        }
    }

    /// Reads everything anew and runs it, or says why not.
    async fn reload(&mut self, is_told: bool) {
        let mut files = self.files.anew();
        watch_source(&self.source, &mut files);
        match self.try_reload(&mut files, is_told).await {
            Ok(()) => {
                self.files = files;
                // Who sees it counted finds it in the log.
                tracing::info!("reloaded");
                self.shared.reloads_taken.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => {
                self.files.add(files);
                tracing::error!("not reloaded, the last good configuration stays: {why}");
                self.shared.reloads_refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn try_reload(&mut self, files: &mut Files, is_told: bool) -> Result<(), String> {
        let settings = self.source.read(&environment).map_err(|problem| problem.to_string())?;
        self.may_become(&settings)?;
        let made = self.make(settings.clone(), files).await?;
        self.take(made).await?;
        // After a SIGHUP also at the same place: the file may have been moved away.
        if is_told || settings.access_log != self.settings.access_log {
            self.shared.access_log.reopen(&settings.access_log)?;
        }
        self.settings = settings;
        Ok(())
    }

    /// Makes a plan; signals and the operator are attended to meanwhile.
    async fn make(&self, settings: Settings, files: &mut Files) -> Result<Made, String> {
        let (maker, mut read) = (Arc::clone(&self.maker), files.anew());
        let make = move || {
            let mut maker = maker.lock().unwrap_or_else(PoisonError::into_inner);
            let made = maker.make(settings, &mut read);
            Ok((made, read))
        };
        let (made, read) = trial::apart("maker", make).await?;
        files.add(read);
        made
    }

    /// What was opened and started once stays as it is.
    fn may_become(&self, next: &Settings) -> Result<(), String> {
        let doors = |settings: &Settings| {
            let door = |listener: &super::settings::Listener| (listener.address, listener.protocol);
            settings.listeners.iter().map(door).collect::<Vec<_>>()
        };
        if doors(next) != doors(&self.settings) {
            return Err("listeners: addresses and protocols change with a restart only".to_owned());
        }
        if next.workers != self.settings.workers {
            return Err("workers: their number changes with a restart only".to_owned());
        }
        let at_start = |settings: &Settings| {
            let Settings { admin, memory_keys_max, log_level, log_format, .. } = settings;
            (*admin, *memory_keys_max, *log_level, *log_format)
        };
        if next.plugins != self.settings.plugins {
            return Err(
                "plugins: all but what is in their files changes with a restart only".to_owned()
            );
        }
        if at_start(next) != at_start(&self.settings) {
            tracing::warn!("admin, memory, log_level and log_format change with a restart only");
        }
        Ok(())
    }

    /// Has all lanes run a plan, or none.
    async fn take(&mut self, made: Made) -> Result<(), String> {
        for warning in &made.warnings {
            tracing::warn!("{warning}");
        }
        let plan = Arc::new(made.plan);
        guard::tried(&plan, &self.at_work, &self.shared).await?;
        trial::filters(&plan, &self.at_work, &self.shared).await?;
        let told = self.lanes.iter().map(|lane| {
            let (told, prepared) = oneshot::channel();
            let _ = lane.send(Order::Prepare(Arc::clone(&plan), told));
            prepared
        });
        let told: Vec<_> = told.collect();
        let mut result = Ok(());
        for prepared in told {
            let prepared = prepared.await.unwrap_or_else(|_| Err("a lane has ended".to_owned()));
            result = result.and(prepared);
        }
        for lane in &self.lanes {
            let _ = lane.send(if result.is_ok() { Order::Commit } else { Order::Abandon });
        }
        if result.is_ok() {
            self.at_work = plan;
        }
        result
    }

    /// Lets nobody in any more, and waits for those who are here.
    async fn drain(&mut self, signals: &mut Signals, ended: &mut Ended) -> Result<(), Failure> {
        self.shared.stop();
        tracing::info!("draining");
        for lane in &self.lanes {
            let _ = lane.send(Order::Drain);
        }
        // Each lane's thread has a sender of this, and takes it along.
        let all_ended = async { while ended.recv().await.is_some() {} };
        tokio::select! {
            () = all_ended => tracing::info!("drained"),
            () = tokio::time::sleep(self.settings.timeouts.drain) => {
                tracing::warn!("drain timeout: ending anyway");
            }
            _ = signals.terminate.recv() => tracing::warn!("told twice: ending at once"),
            _ = signals.interrupt.recv() => tracing::warn!("told twice: ending at once"),
        }
        Ok(())
    }
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that ends the process.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The settings file is watched as well. Whether it can be read is told by who reads it.
fn watch_source(source: &Source, files: &mut Files) {
    if let Source::File(path) = source {
        let _ = files.read(path);
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn has_ended(lane: Option<String>) -> Failure {
    other(format!("{} ended", lane.unwrap_or_default()))
}

fn other(what: String) -> Failure {
    Failure::Other(what)
}
