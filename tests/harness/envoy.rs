//! A real Envoy with the filter in it, running `envoy/envoy.yaml`; or, with
//! `TIDEGATE_HOME=bundled`, `tidegate proxy` in its place; or, with `TIDEGATE_HOME=component`, that
//! with the component in the filter's.
//!
//! The harness changes in that file only what belongs to a machine: ports, paths and
//! addresses; and what a test is about: the policy, and what it edits by name.
//!
//! When an Envoy ends, it is looked over: a filter whose machine was ever made anew, that
//! panicked, or for which Envoy had to answer, fails the test, whatever else it promised.

use crate::bundled::Bundled;
use crate::client::{Answer, Call, Client};
use crate::process::Process;
use crate::stage::{NotHere, leave_wrong};
use crate::{Result, parts, ports, wait, yaml};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where `envoy.yaml` has its listener.
pub const LISTENER: &str = "/static_resources/listeners/0";

/// Where the listener has its HTTP connection manager.
pub const HTTP: &str = "/filter_chains/0/filters/0/typed_config";

/// Where the HTTP connection manager has the filter's configuration.
const FILTER: &str = "/http_filters/0/typed_config/config";

/// The longest that Envoy's admin page may take.
const ADMIN_DEADLINE: Duration = Duration::from_secs(10);

/// What an Envoy shall be like.
pub struct Plan {
    policy: Policy,
    workers: u32,
    origin: SocketAddr,
    host: SocketAddr,
    filter: Option<PathBuf>,
    filters: u32,
    updatable: bool,
    faulty: bool,
    trusted_hops: u32,
    headers_kib: u32,
    edits: Vec<Edit>,
    home: Home,
}

/// What the filter runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Envoy, with V8.
    Envoy,
    /// `tidegate proxy`, with wasmtime.
    Bundled,
    /// `tidegate proxy` with the component instead.
    Component,
}

type Edit = Box<dyn Fn(&mut Value)>;

/// A policy, in one of the spellings in which Envoy hands one to the filter.
#[derive(Clone, Debug)]
pub enum Policy {
    /// As a protobuf `Struct`: inline YAML.
    Struct(Value),
    /// As a protobuf `StringValue` that holds JSON.
    Json(Value),
    /// As a protobuf `StringValue`, whatever it holds.
    Text(String),
}

/// A running Envoy; it is looked over and killed when dropped.
pub struct Envoy {
    plan: Plan,
    address: SocketAddr,
    admin: SocketAddr,
    machines: u64,
    runs: Runs,
}

/// What it really is.
enum Runs {
    Envoy { process: Process, folder: TempDir },
    Bundled(Bundled),
}

/// What Envoy said to a new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// It is in force.
    Accepted,
    /// The one before stays in force; the log says why.
    Refused,
}

/// Begins an Envoy with this policy, one worker, and nothing behind it.
pub fn envoy(policy: Policy) -> Plan {
    Plan {
        policy,
        workers: 1,
        origin: ports::REFUSED,
        host: ports::REFUSED,
        filter: None,
        filters: 1,
        updatable: false,
        faulty: false,
        trusted_hops: 0,
        headers_kib: 60,
        edits: Vec::new(),
        home: Home::asked_for(),
    }
}

/// Begins an Envoy that answers everything itself: an origin that takes little of the machine.
pub fn answering() -> Plan {
    let plan = envoy(Policy::Text(String::new())).filters(0).in_envoy();
    plan.http(|http| {
        answer_directly(http);
        http["http_filters"] = json!([http["http_filters"][1]]);
    })
}

/// Has an HTTP connection manager answer everything itself, and write no log: that costs as much
/// as a filter.
pub fn answer_directly(http: &mut Value) {
    http["access_log"] = json!([]);
    http["route_config"]["virtual_hosts"][0]["routes"][0] = json!({
        "match": { "prefix": "/" },
        "direct_response": { "status": 200, "body": { "inline_string": "ok" } },
    });
}

impl Home {
    /// As `TIDEGATE_HOME` has it; Envoy if it is not set.
    fn asked_for() -> Self {
        match std::env::var("TIDEGATE_HOME").as_deref() {
            Ok("bundled") => Self::Bundled,
            Ok("component") => Self::Component,
            _ => Self::Envoy,
        }
    }
}

impl Plan {
    /// Sets the number of worker threads.
    #[must_use]
    pub fn workers(self, workers: u32) -> Self {
        Self { workers, ..self }
    }

    /// Sets where admitted requests go.
    #[must_use]
    pub fn origin(self, origin: SocketAddr) -> Self {
        Self { origin, ..self }
    }

    /// Sets where the filter's asks go. Without, connecting is refused.
    #[must_use]
    pub fn host(self, host: SocketAddr) -> Self {
        Self { host, ..self }
    }

    /// Sets another build of the filter.
    #[must_use]
    pub fn filter(self, filter: PathBuf) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// Sets the build of the filter that panics where a request asks for it; that it caught
    /// its panics is then no complaint.
    ///
    /// # Errors
    ///
    /// [`parts::Missing`].
    pub fn faulty(self) -> Result<Self> {
        Ok(Self { faulty: true, ..self }.filter(parts::filter_faults()?))
    }

    /// Says how many filters, each in a machine of its own (another `vm_id`), the edits make.
    #[must_use]
    pub fn filters(self, filters: u32) -> Self {
        Self { filters, ..self }
    }

    /// Serves the listener from a watched file, so that [`Envoy::update`] can change it.
    #[must_use]
    pub fn updatable(self) -> Self {
        Self { updatable: true, ..self }
    }

    /// Sets how many proxies stand before this one whose word on the client's address counts.
    #[must_use]
    pub fn trusted_hops(self, trusted_hops: u32) -> Self {
        Self { trusted_hops, ..self }
    }

    /// Sets how many KiB of fields a request may have.
    #[must_use]
    pub fn headers_kib(self, headers_kib: u32) -> Self {
        Self { headers_kib, ..self }
    }

    /// Runs it in Envoy, whatever home was asked for: for what is Envoy's alone to show.
    #[must_use]
    pub fn in_envoy(self) -> Self {
        self.within(Home::Envoy)
    }

    /// Runs it in this home.
    #[must_use]
    pub fn within(self, home: Home) -> Self {
        Self { home, ..self }
    }

    /// Changes the HTTP connection manager's configuration.
    #[must_use]
    pub fn http(self, edit: impl Fn(&mut Value) + 'static) -> Self {
        self.edit(move |config| {
            if let Some(http) = config.pointer_mut(&format!("{LISTENER}{HTTP}")) {
                edit(http);
            }
        })
    }

    /// Changes anything.
    #[must_use]
    pub fn edit(mut self, edit: impl Fn(&mut Value) + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Starts it, and waits until it serves and every worker's filter is up.
    ///
    /// # Errors
    ///
    /// [`parts::Missing`], [`NotHere`], or if it does not come up; its own words included.
    pub async fn start(self) -> Result<Envoy> {
        match self.home {
            Home::Envoy => self.start_envoy().await,
            Home::Bundled | Home::Component => self.start_bundled().await,
        }
    }

    async fn start_bundled(self) -> Result<Envoy> {
        let proxy = Bundled::start(&self.settings()?).await?;
        let address = *proxy.listeners().first().context("a listener")?;
        let admin = proxy.admin();
        Ok(Envoy { plan: self, address, admin, machines: 0, runs: Runs::Bundled(proxy) })
    }

    async fn start_envoy(self) -> Result<Envoy> {
        let program = parts::envoy()?;
        let folder = tempfile::tempdir()?;
        let file = self.write(folder.path())?;
        let mut command = Command::new(program);
        command.arg("--config-path").arg(&file);
        command.args(["--concurrency", &self.workers.to_string()]);
        // No shared memory with other Envoys, so no ids to quarrel over.
        command.arg("--disable-hot-restart");
        command.arg("--admin-address-path").arg(folder.path().join("admin"));
        command.args(["--service-node", "test", "--service-cluster", "test"]);
        // Of the start-up log, which lists all that was ever compiled in, only warnings.
        command.args(["--log-level", "info", "--component-log-level", "main:warning"]);
        command.args(["--drain-time-s", "1"]);
        command.args(["--file-flush-interval-msec", "20"]);
        let mut process = Process::start("envoy", &mut command, folder.path())?;
        let admin = come_up(&mut process, folder.path()).await?;
        let address = listeners(admin)?.into_values().next().context("a listener")?;
        let mut envoy = Envoy {
            plan: self,
            address,
            admin,
            machines: 0,
            runs: Runs::Envoy { process, folder },
        };
        envoy.settle().await?;
        Ok(envoy)
    }

    /// Asks Envoy whether the configuration would do, the filter's opinion included.
    ///
    /// # Errors
    ///
    /// [`parts::Missing`], or what Envoy says against it.
    pub fn validate(&self) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = self.write(folder.path())?;
        let mut command = Command::new(parts::envoy()?);
        command.args(["--mode", "validate", "--disable-hot-restart", "--config-path"]).arg(file);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Writes the whole configuration into `folder`; its path.
    fn write(&self, folder: &Path) -> Result<PathBuf> {
        let mut config = self.config()?;
        if self.updatable {
            let listeners = place(&mut config, "/static_resources/listeners")?.take();
            let listener = listeners.get(0).context("a listener")?;
            rename_into(&folder.join("listeners.json"), &resources(listener))?;
            place(&mut config, "/static_resources")?["listeners"] = json!([]);
            let source = json!({ "path": folder.join("listeners.json") });
            config["dynamic_resources"] = json!({ "lds_config": { "path_config_source": source, "resource_api_version": "V3" } });
        }
        let file = folder.join("envoy.json");
        rename_into(&file, &config)?;
        Ok(file)
    }

    /// The same for `tidegate proxy`.
    fn settings(&self) -> Result<Value> {
        if !self.edits.is_empty() {
            bail!(NotHere("it changes Envoy's own configuration"));
        }
        let mut filter = json!({ "name": "tidegate", "configuration": self.policy.plain() });
        let host = json!({ "url": format!("http://{}", self.host), "http2": true });
        let mut clusters = json!({});
        if let Some(path) = &self.filter {
            // Not known to be Tidegate's: nobody looks into its policy for whom it asks.
            filter["wasm"] = json!(path);
            clusters["tidegate_host"] = host.clone();
        }
        let mut listener = json!({ "trusted_hops": self.trusted_hops, "filters": [filter] });
        if self.home == Home::Component {
            if self.faulty {
                bail!(NotHere("it panics as the filter is told to"));
            }
            let (wasm, policy) = (parts::component()?, self.policy.plain());
            listener["component"] = json!({ "wasm": wasm, "configuration": policy });
            listener["filters"] = json!([]);
        }
        Ok(json!({
            "listeners": [listener],
            "upstream": format!("http://{}", self.origin),
            "host": host,
            "clusters": clusters,
            "bounds": { "headers_kib": self.headers_kib },
            "access_log": { "format": "json" },
            "workers": self.workers,
        }))
    }

    /// `envoy.yaml` with this machine's ports and paths, and this test's policy.
    fn config(&self) -> Result<Value> {
        let documents = yaml::read(&parts::root().join("envoy/envoy.yaml"))?;
        let mut config = documents.into_iter().next().context("a document in envoy.yaml")?;
        let any_port = address(SocketAddr::from(([127, 0, 0, 1], 0)));
        place(&mut config, "/admin")?["address"] = any_port.clone();
        place(&mut config, LISTENER)?["address"] = any_port;
        for (name, at) in [("origin", self.origin), ("tidegate_host", self.host)] {
            let clusters = place(&mut config, "/static_resources/clusters")?.as_array_mut();
            let mut clusters = clusters.into_iter().flatten();
            let cluster = clusters.find(|it| it["name"] == name).context("its clusters")?;
            let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint";
            place(cluster, endpoint)?["address"] = address(at);
        }
        let wasm = match &self.filter {
            Some(path) => path.clone(),
            None => parts::filter()?,
        };
        let filter = place(&mut config, &format!("{LISTENER}{HTTP}{FILTER}"))?;
        place(filter, "/vm_config/code/local")?["filename"] = json!(wasm);
        filter["configuration"] = self.policy.any();
        let http = place(&mut config, &format!("{LISTENER}{HTTP}"))?;
        http["xff_num_trusted_hops"] = json!(self.trusted_hops);
        http["max_request_headers_kb"] = json!(self.headers_kib);
        self.edits.iter().for_each(|edit| edit(&mut config));
        Ok(config)
    }
}

impl Policy {
    /// The policy that `envoy.yaml` itself holds.
    ///
    /// # Errors
    ///
    /// If that file has another shape.
    pub fn shipped() -> Result<Self> {
        let documents = yaml::read(&parts::root().join("envoy/envoy.yaml"))?;
        let at = format!("{LISTENER}{HTTP}{FILTER}/configuration/value");
        let policy = documents.first().and_then(|config| config.pointer(&at));
        Ok(Self::Struct(policy.context("a policy in envoy.yaml")?.clone()))
    }

    /// As it stands.
    fn plain(&self) -> Value {
        match self {
            Self::Struct(policy) | Self::Json(policy) => policy.clone(),
            Self::Text(text) => json!(text),
        }
    }

    fn any(&self) -> Value {
        let string = |text: &str| json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": text });
        match self {
            Self::Struct(policy) => {
                json!({ "@type": "type.googleapis.com/google.protobuf.Struct", "value": policy })
            }
            Self::Json(policy) => string(&policy.to_string()),
            Self::Text(text) => string(text),
        }
    }
}

impl Envoy {
    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its admin pages are.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Where each of its listeners serves, by name.
    ///
    /// # Errors
    ///
    /// If the admin page does not answer.
    pub fn listeners(&self) -> Result<BTreeMap<String, SocketAddr>> {
        listeners(self.admin)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        match &self.runs {
            Runs::Envoy { process, .. } => process.id(),
            Runs::Bundled(proxy) => proxy.id(),
        }
    }

    /// Sends one request on a new HTTP/1.1 connection.
    ///
    /// # Errors
    ///
    /// If no answer comes.
    pub async fn send(&self, call: Call) -> Result<Answer> {
        Client::http1(self.address).await?.send(call).await
    }

    /// Opens `connections` at once and sends `each` requests one after the other on every
    /// one of them; all answers.
    ///
    /// # Errors
    ///
    /// If any answer does not come.
    pub async fn burst(&self, connections: usize, each: usize, call: &Call) -> Result<Vec<Answer>> {
        self.press(connections, call, move |sent, _| sent < each).await
    }

    /// Opens `connections` at once and keeps every one of them busy for `span`; all answers.
    ///
    /// # Errors
    ///
    /// If any answer does not come.
    pub async fn flood(
        &self,
        connections: usize,
        span: Duration,
        call: &Call,
    ) -> Result<Vec<Answer>> {
        self.press(connections, call, move |_, passed| passed < span).await
    }

    /// Sends on each connection as long as `more` says so of the requests sent on it and
    /// the time passed.
    async fn press(
        &self,
        connections: usize,
        call: &Call,
        more: impl Fn(usize, Duration) -> bool + Copy + Send + 'static,
    ) -> Result<Vec<Answer>> {
        let begun = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let (address, call) = (self.address, call.clone());
            running.spawn(async move {
                let mut client = Client::http1(address).await?;
                let mut answers = Vec::new();
                while more(answers.len(), begun.elapsed()) {
                    answers.push(client.send(call.clone()).await?);
                }
                Result::Ok(answers)
            });
        }
        let mut answers = Vec::new();
        while let Some(more) = running.join_next().await {
            answers.extend(more??);
        }
        Ok(answers)
    }

    /// How many workers have had connections so far: a promise about several workers is
    /// only kept if several worked.
    ///
    /// # Errors
    ///
    /// If the admin page does not answer.
    pub fn workers_used(&self) -> Result<usize> {
        if let Runs::Bundled(_) = &self.runs {
            let page = self.admin("/metrics")?;
            let used = |line: &&str| {
                line.starts_with("tidegate_proxy_worker_connections_total{")
                    && !line.ends_with(" 0")
            };
            return Ok(page.lines().filter(used).count());
        }
        let used = |(name, value): &(String, u64)| {
            name.starts_with("listener.")
                && name.contains(".worker_")
                && name.ends_with(".downstream_cx_total")
                && !name.starts_with("listener.admin")
                && *value > 0
        };
        Ok(self.stats()?.into_iter().filter(used).count())
    }

    /// Every counter and gauge by its name.
    ///
    /// # Errors
    ///
    /// If the admin page does not answer.
    pub fn stats(&self) -> Result<BTreeMap<String, u64>> {
        stats(self.admin)
    }

    /// The names of the filters' own counters and gauges.
    ///
    /// # Errors
    ///
    /// If the admin page does not answer.
    pub fn filters_stats(&self) -> Result<Vec<String>> {
        let page = match &self.runs {
            Runs::Envoy { .. } => self.admin("/stats")?,
            Runs::Bundled(_) => self.admin("/metrics")?,
        };
        let names = page.lines().filter_map(|line| line.split([':', ' ', '{']).next());
        Ok(names.filter(|name| name.starts_with("wasmcustom")).map(str::to_owned).collect())
    }

    /// One counter or gauge; zero if it is not there.
    ///
    /// # Errors
    ///
    /// If the admin page does not answer.
    pub fn stat(&self, name: &str) -> Result<u64> {
        if let Runs::Bundled(_) = &self.runs {
            let name = bundled_name(name).context(NotHere("it looks at a counter of Envoy's"))?;
            return counted(&self.admin("/metrics")?, &name);
        }
        Ok(self.stats()?.get(name).copied().unwrap_or_default())
    }

    /// A page of the admin interface, such as `/stats/prometheus`.
    ///
    /// # Errors
    ///
    /// If it does not answer 200.
    pub fn admin(&self, page: &str) -> Result<String> {
        if matches!(self.runs, Runs::Bundled(_)) && page.starts_with("/stats") {
            bail!(NotHere("it looks at a page of Envoy's"));
        }
        admin(self.admin, page)
    }

    /// How often a limit had an outcome, by the filter's own counters.
    ///
    /// # Errors
    ///
    /// If the admin page does not answer.
    pub fn outcomes(&self, limit: &str, outcome: &str) -> Result<u64> {
        self.stat(&format!("wasmcustom.wasm_filter.tidegate.limit.{limit}.{outcome}"))
    }

    /// The access log's entries so far.
    pub fn accesses(&self) -> Vec<Value> {
        let written = match &self.runs {
            Runs::Envoy { process, .. } => process.out(),
            Runs::Bundled(proxy) => proxy.out(),
        };
        written.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for the access log's entry of a request by its path.
    ///
    /// # Errors
    ///
    /// If it does not come.
    pub async fn access(&self, path: &str) -> Result<Value> {
        wait::until(&format!("{path} in the access log"), async || {
            self.accesses().into_iter().find(|entry| entry["path"] == path)
        })
        .await
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        match &self.runs {
            Runs::Envoy { process, .. } => process.log(),
            Runs::Bundled(proxy) => proxy.log(),
        }
    }

    /// Puts another policy in force, as an operator would: the configuration file is
    /// replaced, and Envoy takes it up or refuses it. Needs [`Plan::updatable`].
    ///
    /// # Errors
    ///
    /// If Envoy does neither.
    pub async fn update(&mut self, policy: Policy) -> Result<Update> {
        ensure!(self.plan.updatable, "plan this Envoy as updatable() first");
        self.plan.policy = policy;
        let folder = match &self.runs {
            Runs::Envoy { folder, .. } => folder,
            Runs::Bundled(proxy) => return self.update_bundled(proxy).await,
        };
        let before = self.stats()?;
        let config = self.plan.config()?;
        let listener = config.pointer(LISTENER).context("a listener")?;
        rename_into(&folder.path().join("listeners.json"), &resources(listener))?;
        let grown = |stats: &BTreeMap<String, u64>, name: &str| stats.get(name) > before.get(name);
        let outcome = wait::until("Envoy to take up or refuse a configuration", async || {
            let stats = self.stats().ok()?;
            if grown(&stats, "listener_manager.lds.update_rejected") {
                return Some(Update::Refused);
            }
            let warming = stats.get("listener_manager.total_listeners_warming");
            let accepted = grown(&stats, "listener_manager.lds.update_success");
            (accepted && warming == Some(&0)).then_some(Update::Accepted)
        });
        let outcome = outcome.await?;
        self.settle().await?;
        Ok(outcome)
    }

    async fn update_bundled(&self, proxy: &Bundled) -> Result<Update> {
        let count = |outcome: &str| {
            let name = format!("tidegate_proxy_reloads_total{{outcome=\"{outcome}\"}}");
            counted(&self.admin("/metrics").ok()?, &name).ok()
        };
        let before = (count("taken"), count("refused"));
        if !proxy.rewrite(&self.plan.settings()?)? {
            return Ok(Update::Accepted);
        }
        wait::until("the proxy to take up or refuse a configuration", async || {
            if count("refused") > before.1 {
                return Some(Update::Refused);
            }
            (count("taken") > before.0).then_some(Update::Accepted)
        })
        .await
    }

    /// Waits until every worker's machine is up, and notes how many there ever were.
    ///
    /// A configuration is tried in a machine that is thrown away, so an update makes some;
    /// after that their number must not change.
    async fn settle(&mut self) -> Result<()> {
        // One each, the main thread's, and the one that they are copied from.
        let expected = u64::from(self.plan.filters * (self.plan.workers + 2));
        self.machines = wait::until("a machine for each worker", async || {
            let stats = self.stats().ok()?;
            (machines(&stats, "active") >= expected).then_some(machines(&stats, "created"))
        })
        .await?;
        Ok(())
    }

    /// What went wrong inside, if anything did.
    fn look_over(&mut self) -> Result<()> {
        let process = match &mut self.runs {
            Runs::Bundled(proxy) => return look_over_bundled(proxy, self.plan.faulty),
            Runs::Envoy { process, .. } => process,
        };
        if let Some(status) = process.ended()? {
            bail!("Envoy ended by itself: {status}");
        }
        let (log, accesses) = (process.log(), process.out());
        let stats = self.stats()?;
        for (name, value) in &stats {
            ensure!(!name.contains("vm_reload") || *value == 0, "{name} is {value}");
        }
        let created = machines(&stats, "created");
        ensure!(
            created == self.machines,
            "{created} machines of the filter were made, not {}",
            self.machines
        );
        // Refusing a policy is critical to Envoy, and what some tests are about.
        let is_evil = |line: &&str| {
            let critical = line.contains("[critical]")
                && !line.contains("failed to load")
                && !(self.plan.faulty && line.contains("a bug was caught at"));
            critical || line.contains("panicked") || line.contains("RuntimeError")
        };
        if let Some(line) = log.lines().find(is_evil) {
            bail!("Envoy's log says: {line}");
        }
        ensure!(!accesses.contains("wasm_fail"), "Envoy answered for a failed filter");
        Ok(())
    }
}

/// How many machines there are, or were; an Envoy without filters does not count them.
fn machines(stats: &BTreeMap<String, u64>, which: &str) -> u64 {
    stats.get(&format!("wasm.envoy.wasm.runtime.v8.{which}")).copied().unwrap_or(0)
}

/// As [`Envoy::look_over`].
fn look_over_bundled(proxy: &mut Bundled, is_faulty: bool) -> Result<()> {
    if let Some(status) = proxy.ended()? {
        bail!("the proxy ended by itself: {status}");
    }
    let restarts = "tidegate_proxy_machine_restarts_total";
    let restarts = counted(&admin(proxy.admin(), "/metrics")?, restarts)?;
    ensure!(restarts == 0, "{restarts} machines were started anew");
    let log = proxy.log();
    let is_evil = |line: &&str| {
        line.contains("panicked")
            || line.contains("trap")
            || line.contains("an instance failed")
            || (!is_faulty && line.contains("a bug was caught at"))
    };
    if let Some(line) = log.lines().find(is_evil) {
        bail!("the proxy's log says: {line}");
    }
    ensure!(!proxy.out().contains("wasm_fail"), "the proxy answered for a failed filter");
    Ok(())
}

/// What the bundled proxy calls a counter of Envoy's.
fn bundled_name(envoys: &str) -> Option<String> {
    match envoys {
        "http.ingress.downstream_rq_active" => Some("tidegate_proxy_exchanges".to_owned()),
        "cluster.tidegate_host.upstream_rq_active" => Some("tidegate_proxy_callouts".to_owned()),
        _ => envoys.starts_with("wasmcustom.").then(|| envoys.replace(['.', '-'], "_")),
    }
}

/// A number of a page of metrics; zero if it is not there.
fn counted(page: &str, name: &str) -> Result<u64> {
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.map_or(Ok(0), str::parse)?)
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if let Err(wrong) = self.look_over() {
            leave_wrong(format!("{wrong:#}"));
        }
    }
}

/// Waits until an Envoy that was told to write its admin page's address into `folder/admin`
/// says that it is live; that address.
///
/// # Errors
///
/// If it does not come up; its own words included.
pub async fn come_up(process: &mut Process, folder: &Path) -> Result<SocketAddr> {
    let written = folder.join("admin");
    let state = wait::until("Envoy to be live", async || {
        if !matches!(process.ended(), Ok(None)) {
            return Some(None);
        }
        let at = std::fs::read_to_string(&written).ok()?.parse().ok()?;
        let live = admin(at, "/ready").is_ok_and(|state| state.trim() == "LIVE");
        live.then_some(Some(at))
    });
    match state.await? {
        Some(admin) => Ok(admin),
        None => bail!("Envoy ended at once:\n{}", process.log()),
    }
}

/// The addresses that the listeners got, by name.
///
/// # Errors
///
/// If the admin page does not answer.
pub fn listeners(at: SocketAddr) -> Result<BTreeMap<String, SocketAddr>> {
    let page: Value = serde_json::from_str(&admin(at, "/listeners?format=json")?)?;
    let listeners = page["listener_statuses"].as_array();
    let listeners = listeners.with_context(|| format!("listeners in {page}"))?;
    let place = |listener: &Value| {
        let name = listener["name"].as_str().context("a listener's name")?;
        let socket = &listener["local_address"]["socket_address"];
        let ip = socket["address"].as_str().context("its address")?;
        let port = socket["port_value"].as_u64().context("its port")?;
        Ok((name.to_owned(), SocketAddr::new(ip.parse()?, u16::try_from(port)?)))
    };
    listeners.iter().map(place).collect()
}

fn stats(at: SocketAddr) -> Result<BTreeMap<String, u64>> {
    let number = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Ok(admin(at, "/stats")?.lines().filter_map(number).collect())
}

/// Reads an admin page. Blocking, so that it can be done while cleaning up too.
fn admin(at: SocketAddr, page: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, ADMIN_DEADLINE)?;
    stream.set_read_timeout(Some(ADMIN_DEADLINE))?;
    write!(stream, "GET {page} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").context("an answer of the admin page")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "admin page {page}: {status}");
    if head.contains("transfer-encoding: chunked") { unchunk(body) } else { Ok(body.to_owned()) }
}

/// Takes the chunks' sizes out of a body.
fn unchunk(mut rest: &str) -> Result<String> {
    let mut body = String::with_capacity(rest.len());
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16)?;
        body.push_str(tail.get(..size).context("a whole chunk")?);
        rest = tail.get(size + 2..).unwrap_or_default();
    }
    Ok(body)
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}

fn resources(listener: &Value) -> Value {
    let mut listener = listener.clone();
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    json!({ "resources": [listener] })
}

fn place<'a>(config: &'a mut Value, pointer: &str) -> Result<&'a mut Value> {
    config.pointer_mut(pointer).with_context(|| format!("{pointer} in Envoy's configuration"))
}

/// Envoy watches for files renamed into place: it never sees half of one.
fn rename_into(file: &Path, content: &Value) -> Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, content.to_string())?;
    Ok(std::fs::rename(beside, file)?)
}
