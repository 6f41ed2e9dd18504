//! A plan: settings with all that they name read, compiled and judged.
//!
//! It is made before anything is started or changed, so that whatever is wrong with a new
//! configuration leaves the running one alone. It belongs to no thread; each worker makes its
//! filters of it.

use super::guard::{Components, GuardPlan};
use super::settings::{
    self, Configuration, Filter, Listener, Protocol, Settings, Target, Upstream, Url,
};
use super::trial::Tried;
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
use tidegate_core::policy::Policy;

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
    /// Shared by the listeners that have the same one.
    pub(super) guard: Option<Arc<GuardPlan>>,
    pub(super) filters: Vec<FilterPlan>,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) target: TargetPlan,
}

/// A filter of a listener, for all lanes.
pub(super) struct FilterPlan {
    pub(super) module: Module,
    pub(super) config: PluginConfig,
    pub(super) tried: Tried,
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
    components: Components,
}

/// A plan, what it was made of, and what is odd about it.
pub(super) struct Made {
    pub(super) plan: Plan,
    pub(super) warnings: Vec<String>,
}

impl Maker {
    /// What is compiled of components is kept in `cache`, if that is given.
    pub(super) fn new(
        engine: Engine,
        filter_file: Option<PathBuf>,
        cache: Option<PathBuf>,
    ) -> Self {
        Self { engine, filter_file, modules: Vec::new(), components: Components::new(cache) }
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
            guards: Vec::new(),
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

impl Plan {
    pub(super) fn filters(&self) -> impl Iterator<Item = &FilterPlan> {
        self.routes.iter().flat_map(|route| &route.filters)
    }

    pub(super) fn guards(&self) -> impl Iterator<Item = &Arc<GuardPlan>> {
        self.routes.iter().filter_map(|route| route.guard.as_ref())
    }
}

impl FilterPlan {
    /// Whether nothing is new.
    pub(super) fn is_as(&self, next: &Self) -> bool {
        self.module.is(&next.module) && self.config == next.config
    }

    /// What a lane starts it with.
    pub(super) fn lane_config(&self) -> PluginConfig {
        PluginConfig { limits: self.tried.lane_limits(self.config.limits), ..self.config.clone() }
    }
}

/// A plan in the making.
struct Making<'a> {
    maker: &'a mut Maker,
    files: &'a mut Files,
    modules: Vec<(Vec<u8>, Module)>,
    guards: Vec<Arc<GuardPlan>>,
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
        let guard = listener.component.as_ref().map(|typed| self.guard(typed)).transpose()?;
        Ok(RoutePlan { guard, filters, tls: tls.transpose()?.map(Arc::new), target })
    }

    fn filter(&mut self, filter: &Filter) -> Result<FilterPlan, String> {
        let mut plugin = filter.plugin.clone();
        let mut build = Build::Plain;
        plugin.configuration = match &filter.configuration {
            Configuration::Inline(bytes) => bytes.clone(),
            Configuration::File(path) => self.files.read(path)?,
            typed @ (Configuration::Policy(_) | Configuration::InlinePolicy(_)) => {
                let judged = self.judged(typed, &format!("policy of filter {}", plugin.name))?;
                self.policy(judged, &mut build)?
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
        Ok(FilterPlan { module, config: plugin, tried: Tried::default() })
    }

    /// A component with its policy; the same for all listeners that name the same.
    fn guard(&mut self, typed: &settings::Component) -> Result<Arc<GuardPlan>, String> {
        if let Some(known) = self.guards.iter().find(|known| known.settings.name == typed.name) {
            if known.settings != *typed {
                return Err(format!(
                    "component {:?} is set up in two ways\n  hint: give each a `name` of its own",
                    typed.name
                ));
            }
            return Ok(Arc::clone(known));
        }
        let failed = |error| format!("{}: {error}", typed.wasm.display());
        let code = self.files.read(&typed.wasm)?;
        let component = self.maker.components.load(code).map_err(failed)?;
        let judged = self.judged(&typed.policy, &format!("policy of component {}", typed.name))?;
        let (policy, json) = self.usable(judged)?;
        let plan = Arc::new(GuardPlan::new(typed.clone(), component, &policy, json));
        self.guards.push(Arc::clone(&plan));
        Ok(plan)
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

    /// A policy looked over; `name` is what it is called if it is no file.
    fn judged(&mut self, typed: &Configuration, name: &str) -> Result<Judged, String> {
        Ok(match typed {
            Configuration::Policy(path) | Configuration::File(path) => {
                // Read once for the watch; the reader reads it again, bounded as policies are.
                self.files.read(path)?;
                policy_file::judge(path)
            }
            Configuration::InlinePolicy(json) | Configuration::Inline(json) => {
                policy_file::judge_json(name, &String::from_utf8_lossy(json))
            }
        })
    }

    /// A policy as the filter's configuration, and which of the shipped filter's builds it
    /// needs. What `tidegate check` would say against it is said here.
    fn policy(&mut self, judged: Judged, build: &mut Build) -> Result<Vec<u8>, String> {
        let (policy, json) = self.usable(judged)?;
        *build = Build::of(&policy);
        Ok(json.into_bytes())
    }

    /// A policy that can be used, and its text as JSON.
    fn usable(&mut self, judged: Judged) -> Result<(Policy, String), String> {
        let Some((document, policy)) = judged.usable else {
            return Err(judged.lines.join("\n"));
        };
        self.warnings.extend(judged.lines);
        if let Some(host) = &policy.host {
            self.policy_clusters.insert(host.cluster.to_string());
        }
        Ok((policy, policy_file::to_json(&document)))
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
