//! A plan: settings with all that they name read, compiled and judged.
//!
//! It is made before anything is started or changed, so that whatever is wrong with a new
//! configuration leaves the running one alone. It belongs to no thread; each worker makes its
//! filters of it.

use super::settings::{Configuration, Filter, Listener, Protocol, Settings, Target, Upstream, Url};
use crate::files::Files;
use crate::policy_file::{self, Judged};
use crate::shipped::{Build, Source};
use crate::tls::{self, Own};
use bytes::Bytes;
use proxy_wasm_host::engine::{Engine, Module};
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::plugin::PluginConfig;
use rustls::pki_types::ServerName;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What policies call their host in all that is shipped: there also for a build of the filter
/// whose configuration is not known to be a policy.
const HOST_CLUSTER: &str = "tidegate_host";

/// What workers run.
pub(super) struct Plan {
    pub(super) settings: Settings,
    /// As `settings.listeners`, in the same order.
    pub(super) routes: Vec<RoutePlan>,
    /// Whom filters may call, by name.
    pub(super) peers: BTreeMap<String, Arc<Peer>>,
    /// The names by which policies call the store in this process.
    pub(super) embedded: BTreeSet<String>,
}

/// What is behind a listener.
pub(super) struct RoutePlan {
    pub(super) filters: Vec<(Module, PluginConfig)>,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) target: TargetPlan,
}

/// Where its requests go.
#[derive(Clone)]
pub(super) enum TargetPlan {
    Peer(Arc<Peer>),
    Respond { status: u16, headers: HeaderMap, body: Bytes },
}

/// Somebody to connect to.
pub(super) struct Peer {
    pub(super) upstream: Upstream,
    pub(super) tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
}

/// What plans are made with; it outlives them.
pub(super) struct Maker {
    engine: Engine,
    /// Where the shipped filter is, if the command line says so.
    filter_file: Option<PathBuf>,
    /// The modules of the last plan, which the next one mostly has as well.
    modules: Vec<(Vec<u8>, Module)>,
}

/// A plan, what it was made of, and what is odd about it.
pub(super) struct Made {
    pub(super) plan: Plan,
    pub(super) warnings: Vec<String>,
}

impl Maker {
    pub(super) fn new(engine: Engine, filter_file: Option<PathBuf>) -> Self {
        Self { engine, filter_file, modules: Vec::new() }
    }

    /// Makes a plan; `files` learns which files that took, also if it fails.
    ///
    /// # Errors
    ///
    /// What is wrong, a line for each thing.
    pub(super) fn make(&mut self, settings: Settings, files: &mut Files) -> Result<Made, String> {
        let mut making = Making {
            maker: self,
            files,
            modules: Vec::new(),
            policy_clusters: BTreeSet::from([HOST_CLUSTER.to_owned()]),
            warnings: Vec::new(),
        };
        let mut routes = Vec::with_capacity(settings.listeners.len());
        for listener in &settings.listeners {
            routes.push(making.route(listener)?);
        }
        let mut peers = BTreeMap::new();
        for (name, upstream) in &settings.clusters {
            peers.insert(name.clone(), Arc::new(making.peer(upstream)?));
        }
        let mut embedded = BTreeSet::new();
        for name in std::mem::take(&mut making.policy_clusters) {
            match (&settings.host, peers.contains_key(&name)) {
                (_, true) => {}
                (Some(host), false) => {
                    peers.insert(name, Arc::new(making.peer(host)?));
                }
                (None, false) => {
                    embedded.insert(name);
                }
            }
        }
        let (warnings, modules) = (making.warnings, making.modules);
        self.modules = modules;
        Ok(Made { plan: Plan { settings, routes, peers, embedded }, warnings })
    }
}

/// A plan in the making.
struct Making<'a> {
    maker: &'a mut Maker,
    files: &'a mut Files,
    modules: Vec<(Vec<u8>, Module)>,
    policy_clusters: BTreeSet<String>,
    warnings: Vec<String>,
}

impl Making<'_> {
    fn route(&mut self, listener: &Listener) -> Result<RoutePlan, String> {
        let mut filters = Vec::with_capacity(listener.filters.len());
        for filter in &listener.filters {
            filters.push(self.filter(filter)?);
        }
        let is_http = listener.protocol == Protocol::Http;
        let tls = listener.tls.as_ref().map(|tls| {
            let own = Own { certificate: &tls.certificate, key: &tls.key };
            tls::server(own, tls.client_ca.as_deref(), is_http, self.files)
        });
        let target = match &listener.target {
            Target::Upstream(upstream) => TargetPlan::Peer(Arc::new(self.peer(upstream)?)),
            Target::Respond { status, headers, body } => TargetPlan::Respond {
                status: *status,
                headers: headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
                body: Bytes::from(body.clone()),
            },
        };
        Ok(RoutePlan { filters, tls: tls.transpose()?.map(Arc::new), target })
    }

    fn filter(&mut self, filter: &Filter) -> Result<(Module, PluginConfig), String> {
        let mut plugin = filter.plugin.clone();
        let mut build = Build::Plain;
        plugin.configuration = match &filter.configuration {
            Configuration::Inline(bytes) => bytes.clone(),
            Configuration::File(path) => self.files.read(path)?,
            Configuration::Policy(path) => {
                // Read once for the watch; the reader reads it again, bounded as policies are.
                self.files.read(path)?;
                self.policy(policy_file::judge(path), &mut build)?
            }
            Configuration::InlinePolicy(json) => {
                let text = String::from_utf8_lossy(json);
                let name = format!("policy of filter {}", plugin.name);
                self.policy(policy_file::judge_json(&name, &text), &mut build)?
            }
        };
        let module = match &filter.wasm {
            Some(path) => {
                let code = self.files.read(path)?;
                let failed = |error| format!("{}: {error}", path.display());
                self.module(&code).map_err(failed)?
            }
            None => {
                let code = match build.find(self.maker.filter_file.as_deref())? {
                    Source::File(path) => self.files.read(&path)?,
                    Source::Within(code) => code.to_vec(),
                };
                self.module(&code).map_err(|error| format!("{}: {error}", build.file_name()))?
            }
        };
        Ok((module, plugin))
    }

    fn module(&mut self, code: &[u8]) -> Result<Module, String> {
        let known = self.modules.iter().chain(&self.maker.modules);
        if let Some((_, module)) = known.into_iter().find(|(known, _)| known == code) {
            let module = module.clone();
            if !self.modules.iter().any(|(known, _)| known == code) {
                self.modules.push((code.to_vec(), module.clone()));
            }
            return Ok(module);
        }
        let module = self.maker.engine.load(code).map_err(|error| error.to_string())?;
        self.modules.push((code.to_vec(), module.clone()));
        Ok(module)
    }

    /// A policy as the filter's configuration, and which of the shipped filter's builds it
    /// needs. What `tidegate check` would say against it is said here.
    fn policy(&mut self, judged: Judged, build: &mut Build) -> Result<Vec<u8>, String> {
        let Some((document, policy)) = judged.usable else {
            return Err(judged.lines.join("\n"));
        };
        *build = Build::of(&policy);
        self.warnings.extend(judged.lines);
        if let Some(host) = policy.host {
            self.policy_clusters.insert(host.cluster.into());
        }
        Ok(policy_file::to_json(&document).into_bytes())
    }

    fn peer(&mut self, upstream: &Upstream) -> Result<Peer, String> {
        let tls = match &upstream.url {
            Url::Tcp { is_tls: true, .. } => {
                let name = upstream.server_name.as_str();
                let name = ServerName::try_from(name.to_owned())
                    .map_err(|_| format!("{name:?} is no name that a certificate may bear"))?;
                let config =
                    tls::client(upstream.ca.as_deref(), None, upstream.is_http2, self.files)?;
                Some((Arc::new(config), name))
            }
            _ => None,
        };
        Ok(Peer { upstream: upstream.clone(), tls })
    }
}
