//! One worker thread: its machines, its connections, and what it runs now.
//!
//! Machines and their streams belong to one thread, so everything of an exchange does. A lane
//! shares with others only what [`Shared`] holds. A new plan is first prepared by all lanes,
//! and then taken by all or by none; exchanges under way end with what they began with.

use super::access_log::LogBuffer;
use super::calls::{Callees, Calls, Directory};
use super::guard::{Guard, Guards};
use super::listener::{self, Socket};
use super::metrics::LaneCounts;
use super::plan::{FilterPlan, Plan, TargetPlan};
use super::shared::Shared;
use super::upstream::Cluster;
use bytes::Bytes;
use proxy_wasm_host::exchange::ListenerFacts;
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::worker::{Filter, Worker};
use rustls::ServerConfig;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::LocalSet;

/// How often connections at rest are looked over, and lines of the access log let go.
const SWEEP: Duration = Duration::from_secs(1);

/// What a lane is told.
pub(super) enum Order {
    /// Make everything ready for a plan; say whether it could be.
    Prepare(Arc<Plan>, oneshot::Sender<Result<(), String>>),
    /// Run what was prepared.
    Commit,
    /// Forget what was prepared.
    Abandon,
    /// Let clients in through these.
    Serve(Vec<Socket>),
    /// Let nobody in any more, and end when the last has left.
    Drain,
}

/// A lane's means, on its thread.
pub(super) struct Lane {
    pub(super) shared: Arc<Shared>,
    pub(super) counts: Arc<LaneCounts>,
    pub(super) log: LogBuffer,
    worker: Rc<Worker>,
    calls: Rc<Calls>,
    directory: Rc<Directory>,
    running: RefCell<Rc<Running>>,
    stop: watch::Sender<bool>,
    /// Of connections, upgraded ones included.
    guests: Rc<Guests>,
}

/// What a plan has become on this thread.
pub(super) struct Running {
    pub(super) plan: Arc<Plan>,
    routes: Vec<Rc<Route>>,
    guards: Guards,
    callees: Callees,
}

/// What is behind a listener.
pub(super) struct Route {
    pub(super) plan: Arc<Plan>,
    pub(super) guard: Option<Rc<Guard>>,
    pub(super) filters: Vec<Filter>,
    pub(super) target: Target,
    pub(super) facts: Rc<ListenerFacts>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) trusted_hops: usize,
    pub(super) normalize_path: bool,
    pub(super) upgrades: BTreeSet<String>,
}

/// Where requests go.
pub(super) enum Target {
    Cluster(Rc<Cluster>),
    Respond { status: u16, headers: HeaderMap, body: Bytes },
}

/// How many are here, and a word when the last has left.
#[derive(Default)]
pub(super) struct Guests {
    count: Cell<usize>,
    left: Notify,
}

/// One of them.
pub(super) struct Guest(Rc<Guests>);

impl Lane {
    /// Runs a lane until it has drained, on a thread of its own.
    pub(super) fn run(
        shared: Arc<Shared>,
        counts: Arc<LaneCounts>,
        orders: mpsc::UnboundedReceiver<Order>,
    ) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let here = LocalSet::new();
        here.block_on(&runtime, async move {
            let lane = Self::new(shared, counts);
            lane.obey(orders).await;
            lane.log.flush();
        });
        Ok(())
    }

    fn new(shared: Arc<Shared>, counts: Arc<LaneCounts>) -> Rc<Self> {
        let due = Arc::new(Notify::new());
        let directory = Rc::new(Directory::default());
        let calls = Rc::new(Calls::new(&shared, &counts, &directory));
        let wake = {
            let due = Arc::clone(&due);
            Arc::new(move || due.notify_one())
        };
        let worker = Worker::new(&shared.process, calls.clone(), wake);
        calls.answer_to(&worker);
        tokio::task::spawn_local(tick(Rc::clone(&worker), due, Arc::clone(&shared)));
        let running = Running {
            plan: Arc::clone(&shared.empty_plan),
            routes: Vec::new(),
            guards: Guards::default(),
            callees: Callees::new(),
        };
        Rc::new(Self {
            log: LogBuffer::new(&shared.access_log),
            shared,
            counts,
            worker,
            calls,
            directory,
            running: RefCell::new(Rc::new(running)),
            stop: watch::channel(false).0,
            guests: Rc::default(),
        })
    }

    async fn obey(self: &Rc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut prepared = None;
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                _ = sweep.tick() => {
                    self.sweep();
                    continue;
                }
            };
            match order {
                Some(Order::Prepare(plan, told)) => {
                    let result = self.prepare(&plan);
                    let said = result.as_ref().map(|_| ()).map_err(Clone::clone);
                    prepared = result.ok();
                    let _ = told.send(said);
                }
                Some(Order::Commit) => {
                    if let Some(running) = prepared.take() {
                        self.take(running);
                    }
                }
                Some(Order::Abandon) => self.forget(&mut prepared),
                Some(Order::Serve(sockets)) => {
                    for (index, socket) in sockets.into_iter().enumerate() {
                        let lane = Rc::clone(self);
                        tokio::task::spawn_local(listener::accept(lane, index, socket));
                    }
                }
                // Whoever gave orders is gone: the process is ending.
                Some(Order::Drain) | None => {
                    self.forget(&mut prepared);
                    let _ = self.stop.send(true);
                    return self.guests.all_gone().await;
                }
            }
        }
    }

    /// Starts a plan's filters, beside those that run.
    fn prepare(&self, plan: &Arc<Plan>) -> Result<Running, String> {
        let known = self.running.borrow().clusters();
        let cluster = |peer: &Arc<super::plan::Peer>| {
            let connect = plan.settings.timeouts.connect;
            let kept = known.iter().find(|cluster| cluster.serves(peer)).cloned();
            kept.unwrap_or_else(|| Cluster::new(peer, connect))
        };
        let callees = super::calls::callees(plan, &cluster);
        let before = self.running.borrow().callees.clone();
        // Filters may call out while they start, and nobody else does anything meanwhile.
        self.directory.replace(joined(&before, &callees));
        let started = self.guards(plan).and_then(|guards| {
            let routes = self.routes(plan, &guards, &cluster)?;
            Ok((routes, guards))
        });
        // Until the plan is taken those at work go on as they are.
        self.directory.replace(match started {
            Ok(_) => joined(&callees, &before),
            Err(_) => before,
        });
        let (routes, guards) = started?;
        Ok(Running { plan: Arc::clone(plan), routes, guards, callees })
    }

    /// Those of the plan that runs go on with a new policy, once it is taken.
    fn guards(&self, plan: &Plan) -> Result<Guards, String> {
        self.running.borrow().guards.prepare(plan.guards(), &self.shared, &self.calls)
    }

    fn routes(
        &self,
        plan: &Arc<Plan>,
        guards: &Guards,
        cluster: &dyn Fn(&Arc<super::plan::Peer>) -> Rc<Cluster>,
    ) -> Result<Vec<Rc<Route>>, String> {
        let mut routes = Vec::with_capacity(plan.routes.len());
        for (listener, route) in plan.settings.listeners.iter().zip(&plan.routes) {
            let start = |filter: &FilterPlan| {
                let started = self.worker.start(&filter.module, &filter.lane_config());
                started.map_err(|error| error.to_string())
            };
            let filters = route.filters.iter().map(start);
            routes.push(Rc::new(Route {
                plan: Arc::clone(plan),
                guard: route.guard.as_ref().and_then(|wanted| guards.of(wanted)),
                filters: filters.collect::<Result<_, _>>()?,
                target: match &route.target {
                    TargetPlan::Peer(peer) => Target::Cluster(cluster(peer)),
                    TargetPlan::Respond { status, headers, body } => Target::Respond {
                        status: *status,
                        headers: headers.clone(),
                        body: body.clone(),
                    },
                },
                facts: Rc::new(ListenerFacts {
                    cluster_name: "upstream".to_owned(),
                    route_name: "default".to_owned(),
                    virtual_host_name: "default".to_owned(),
                    filter_chain_name: listener.address.to_string(),
                    ..ListenerFacts::default()
                }),
                tls: route.tls.clone(),
                trusted_hops: listener.trusted_hops,
                normalize_path: listener.normalize_path,
                upgrades: listener.upgrades.clone(),
            }));
        }
        Ok(routes)
    }

    /// Goes on as before: whom filters may call was already put in place.
    fn forget(&self, prepared: &mut Option<Running>) {
        if prepared.take().is_some() {
            self.directory.replace(self.running.borrow().callees.clone());
        }
    }

    fn take(&self, running: Running) {
        for cluster in running.clusters() {
            cluster.set_connect_timeout(running.plan.settings.timeouts.connect);
        }
        self.directory.replace(running.callees.clone());
        running.guards.commit();
        self.log.set_format(running.plan.settings.access_log.format);
        self.running.replace(Rc::new(running));
        self.count_machines();
    }

    /// What is behind a listener now.
    pub(super) fn route(&self, listener: usize) -> Option<Rc<Route>> {
        self.running.borrow().routes.get(listener).cloned()
    }

    /// Whether this lane is to let nobody in any more, for whoever waits for that.
    pub(super) fn stop(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Counts a connection for as long as it is there; the lane does not end before.
    pub(super) fn guest(&self) -> Guest {
        self.guests.count.set(self.guests.count.get() + 1);
        Guest(Rc::clone(&self.guests))
    }

    fn sweep(&self) {
        let running = Rc::clone(&self.running.borrow());
        for cluster in running.clusters() {
            cluster.sweep(running.plan.settings.timeouts.upstream_idle);
        }
        self.count_machines();
        self.log.flush();
    }

    fn count_machines(&self) {
        let (machines, restarts) = self.worker.machines();
        self.counts.machines(machines, restarts);
    }
}

impl Running {
    fn clusters(&self) -> Vec<Rc<Cluster>> {
        let behind = self.routes.iter().filter_map(|route| match &route.target {
            Target::Cluster(cluster) => Some(Rc::clone(cluster)),
            Target::Respond { .. } => None,
        });
        behind.chain(super::calls::clusters(&self.callees)).collect()
    }
}

impl Guests {
    async fn all_gone(&self) {
        while self.count.get() > 0 {
            self.left.notified().await;
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get().saturating_sub(1));
        if self.0.count.get() == 0 {
            self.0.left.notify_one();
        }
    }
}

/// All of both; of a name that both have, the second's.
fn joined(first: &Callees, second: &Callees) -> Callees {
    first.iter().chain(second).map(|(name, callee)| (name.clone(), callee.clone())).collect()
}

/// Runs the machines' ticks when they are due, and what other threads send.
async fn tick(worker: Rc<Worker>, due: Arc<Notify>, shared: Arc<Shared>) {
    loop {
        let at = worker.due_ns().map(|ns| shared.instant(ns));
        let is_due = async {
            match at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = is_due => {}
            () = due.notified() => {}
        }
        worker.run_due();
    }
}
