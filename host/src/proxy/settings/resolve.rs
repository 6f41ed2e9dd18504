//! From as typed to as meant: what is missing, what contradicts itself, what is left out.

use super::text::{self, Text};
use super::{
    AccessLog, Bounds, Component, Configuration, Filter, Listener, Protocol, Settings, Target,
    Timeouts, Upstream, Url,
};
use crate::config::{Node, Problem};
use proxy_wasm_host::plugin::{self, FailurePolicy, Limits, PluginConfig};
use std::path::Path;
use std::time::Duration;

/// The name, root and machine of the shipped filter; counts belong to the machine's id.
const SHIPPED: &str = "tidegate";

/// Envoy's own pause before a failed filter starts anew, and that of the files that we ship
/// for it.
const RELOAD_PAUSE: Duration = Duration::from_millis(100);

/// Where messages point to, if there is a file.
#[derive(Clone, Copy)]
struct Place<'a>(Option<&'a Node>);

impl Place<'_> {
    fn problem(self, path: &str, what: &str, hint: &str) -> Problem {
        let problem = Problem::new(what.to_owned()).hint(hint.to_owned());
        match self.0 {
            Some(tree) => problem.located(tree, path),
            None => problem,
        }
    }
}

pub(super) fn settings(text: Text, tree: Option<&Node>) -> Result<Settings, Problem> {
    let place = Place(tree);
    if text.listeners.is_empty() {
        let hint = "say where to listen: listeners: [{ address: 127.0.0.1:8080 }]";
        return Err(place.problem("listeners", "there is none", hint));
    }
    let mut clusters = std::collections::BTreeMap::new();
    for (name, cluster) in &text.clusters {
        let path = format!("clusters.{name}");
        clusters.insert(name.clone(), upstream(cluster, &path, place)?);
    }
    let mut listeners = Vec::with_capacity(text.listeners.len());
    for (index, typed) in text.listeners.iter().enumerate() {
        let listener = listener(&text, typed, index, place)?;
        let is_taken = |other: &Listener| other.address == listener.address;
        if listener.address.port() != 0 && listeners.iter().any(is_taken) {
            let path = format!("listeners[{index}].address");
            return Err(place.problem(&path, "is another listener's too", "keep one of them"));
        }
        listeners.push(listener);
    }
    let host = text.host.as_ref().map(|host| upstream(host, "host", place)).transpose()?;
    let plugins = crate::plugins::text::resolve(text.plugins).map_err(|(name, what)| {
        place.problem(&format!("plugins.{name}"), &what, "write plugins: { tiers: { file: … } }")
    })?;
    let cores = || std::thread::available_parallelism().map_or(1, Into::into);
    Ok(Settings {
        listeners,
        clusters,
        // The filter asks with HTTP/2.
        host: host.map(|host| Upstream { is_http2: true, ..host }),
        memory_keys_max: text.memory.keys_max.0,
        plugins,
        timeouts: timeouts(&text.timeouts),
        bounds: bounds(&text.bounds),
        workers: text.workers.map_or_else(cores, |workers| workers.0.into()),
        access_log: AccessLog { format: text.access_log.format, path: text.access_log.path },
        admin: text.admin,
        log_level: text.log_level,
        log_format: text.log_format,
    })
}

fn timeouts(typed: &text::Timeouts) -> Timeouts {
    Timeouts {
        connect: typed.connect.0,
        request: typed.request.0,
        request_headers: typed.request_headers.0,
        stream_idle: typed.stream_idle.0,
        idle: typed.idle.0,
        upstream_idle: typed.upstream_idle.0,
        drain: typed.drain.0,
    }
}

fn bounds(typed: &text::Bounds) -> Bounds {
    Bounds {
        connections_max: typed.connections_max.0 as usize,
        exchanges_max: typed.exchanges_max.0 as usize,
        streams_max: typed.streams_max.0,
        headers_bytes: usize::from(typed.headers_kib.0) << 10,
        buffer_bytes: (typed.buffer_kib.0 as usize) << 10,
    }
}

fn listener(
    text: &Text,
    typed: &text::Listener,
    index: usize,
    place: Place<'_>,
) -> Result<Listener, Problem> {
    let own = format!("listeners[{index}]");
    let path_of = |is_own: bool, name: &str| match is_own {
        true => format!("{own}.{name}"),
        false => name.to_owned(),
    };
    let text::Node { id, cluster, metadata } = text.node.clone();
    let node = plugin::Node { id, cluster, metadata };
    let filters_path = path_of(typed.filters.is_some(), "filters");
    let filters = typed.filters.as_ref().unwrap_or(&text.filters).iter().enumerate();
    let filters = filters
        .map(|(index, typed)| filter(typed, &node, &format!("{filters_path}[{index}]"), place))
        .collect::<Result<_, _>>()?;
    let component = typed.component.as_ref().or(text.component.as_ref());
    if typed.protocol == Protocol::Tcp && typed.component.is_some() {
        let path = path_of(true, "component");
        let hint = "a TCP listener's connections go through filters only";
        return Err(place.problem(&path, "decides HTTP requests", hint));
    }
    let path = path_of(typed.component.is_some(), "component");
    let component = component.filter(|_| typed.protocol == Protocol::Http);
    let component = component.map(|typed| component_of(typed, &node, &path, place)).transpose()?;
    let has_own = typed.upstream.is_some() || typed.respond.is_some();
    let (to, respond) = match has_own {
        true => (&typed.upstream, &typed.respond),
        false => (&text.upstream, &text.respond),
    };
    let target = match (to, respond) {
        (Some(_), Some(_)) => {
            let path = path_of(has_own, "respond");
            return Err(place.problem(&path, "is set, and upstream too", "keep one of them"));
        }
        (Some(to), None) => Target::Upstream(upstream(to, &path_of(has_own, "upstream"), place)?),
        (None, Some(_)) if typed.protocol == Protocol::Tcp => {
            let path = path_of(has_own, "respond");
            let hint = "give the listener an upstream";
            return Err(place.problem(&path, "answers HTTP, and this listener is TCP's", hint));
        }
        (None, Some(respond)) => Target::Respond {
            status: respond.status.0,
            headers: respond.headers.clone(),
            body: respond.body.clone(),
        },
        (None, None) => {
            let hint = "say where requests go: upstream: http://127.0.0.1:9000";
            return Err(place.problem(&own, "has neither upstream nor respond", hint));
        }
    };
    Ok(Listener {
        address: typed.address,
        protocol: typed.protocol,
        tls: typed.tls.clone(),
        trusted_hops: typed.trusted_hops.into(),
        normalize_path: typed.normalize_path,
        upgrades: typed.upgrades.iter().map(|name| name.to_ascii_lowercase()).collect(),
        component,
        filters,
        target,
    })
}

fn component_of(
    typed: &text::Component,
    node: &plugin::Node,
    path: &str,
    place: Place<'_>,
) -> Result<Component, Problem> {
    let policy = match (&typed.policy, &typed.configuration) {
        (Some(file), None) => Configuration::Policy(file.clone()),
        (None, Some(inline)) => Configuration::InlinePolicy(inline.0.clone()),
        (Some(_), Some(_)) => {
            let path = format!("{path}.configuration");
            return Err(place.problem(&path, "is set, and policy too", "keep one of them"));
        }
        (None, None) => {
            let hint = "say what to decide by: policy: FILE";
            return Err(place.problem(path, "has no policy", hint));
        }
    };
    Ok(Component {
        wasm: typed.wasm.clone(),
        name: typed.name.clone().unwrap_or_else(|| SHIPPED.to_owned()),
        policy,
        node: node.clone(),
        memory_bytes: (typed.limits.memory_mib.0 as usize) << 20,
        table_elements: typed.limits.table_elements.0 as usize,
        call: typed.limits.callback.0,
        start: typed.limits.start.0,
    })
}

fn upstream(typed: &text::Upstream, path: &str, place: Place<'_>) -> Result<Upstream, Problem> {
    let typed = &typed.0;
    let (is_tls, host) = match &typed.url {
        Url::Tcp { is_tls, host, .. } => (*is_tls, host.as_str()),
        Url::Unix(_) => (false, ""),
    };
    for (is_set, name) in [(typed.ca.is_some(), "ca"), (typed.server_name.is_some(), "server_name")]
    {
        if is_set && !is_tls {
            let path = format!("{path}.{name}");
            return Err(place.problem(&path, "is for TLS", "write https:// in the url"));
        }
    }
    Ok(Upstream {
        url: typed.url.clone(),
        is_http2: typed.http2,
        ca: typed.ca.clone(),
        server_name: typed.server_name.clone().unwrap_or_else(|| host.to_owned()),
    })
}

fn filter(
    typed: &text::Filter,
    node: &plugin::Node,
    path: &str,
    place: Place<'_>,
) -> Result<Filter, Problem> {
    let problem = |name: &str, what: &str, hint: &str| {
        Err(place.problem(&format!("{path}{name}"), what, hint))
    };
    let is_ours = typed.wasm.is_none() || typed.policy.is_some();
    let has_any = typed.configuration.is_some() || typed.configuration_file.is_some();
    if typed.wasm.is_none() && typed.policy.is_none() && !has_any {
        let hint = "name a module, wasm: FILE, or a policy, policy: FILE";
        return problem("", "has neither wasm nor policy", hint);
    }
    let configuration =
        match (&typed.policy, typed.configuration.clone(), &typed.configuration_file) {
            (Some(_), Some(_), _) => {
                return problem(".configuration", "is set, and policy too", "keep one of them");
            }
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                let hint = "keep one of policy, configuration and configuration_file";
                return problem(".configuration_file", "is not the only one", hint);
            }
            (Some(policy), None, None) => Configuration::Policy(policy.clone()),
            (None, None, Some(file)) if is_ours => Configuration::Policy(file.clone()),
            (None, None, Some(file)) => Configuration::File(file.clone()),
            (None, Some(inline), None) if is_ours => Configuration::InlinePolicy(inline.0),
            (None, inline, None) => Configuration::Inline(inline.unwrap_or(text::Blob(vec![])).0),
        };
    let on_failure = typed.on_failure.unwrap_or(match is_ours {
        true => text::OnFailure::Reload,
        false => text::OnFailure::Closed,
    });
    let pause = typed.reload_pause.map_or(RELOAD_PAUSE, |pause| pause.0);
    let failure = match on_failure {
        text::OnFailure::Reload => FailurePolicy::Reload { pause },
        _ if typed.reload_pause.is_some() => {
            return problem(".reload_pause", "has no effect", "write on_failure: reload");
        }
        text::OnFailure::Closed => FailurePolicy::Closed,
        text::OnFailure::Open => FailurePolicy::Open,
    };
    let or_ours = |id: &Option<String>| {
        id.clone().unwrap_or_else(|| if is_ours { SHIPPED.to_owned() } else { String::new() })
    };
    let plugin = PluginConfig {
        name: typed.name.clone().unwrap_or_else(|| match (&typed.wasm, is_ours) {
            (Some(wasm), false) => stem(wasm),
            _ => SHIPPED.to_owned(),
        }),
        root_id: or_ours(&typed.root_id),
        vm_id: or_ours(&typed.vm_id),
        vm_configuration: typed.vm_configuration.clone().map(|blob| blob.0).unwrap_or_default(),
        environment: typed.environment.clone(),
        allowed_calls: typed.allowed_calls.clone(),
        failure,
        allow_on_headers_stop_iteration: typed.allow_on_headers_stop_iteration,
        limits: Limits {
            memory_bytes: (typed.limits.memory_mib.0 as usize) << 20,
            table_elements: typed.limits.table_elements.0 as usize,
            callback: typed.limits.callback.0,
            start: typed.limits.start.0,
        },
        node: node.clone(),
        ..PluginConfig::default()
    };
    Ok(Filter { wasm: typed.wasm.clone(), configuration, plugin })
}

/// What a module is called whom nobody named.
fn stem(wasm: &Path) -> String {
    wasm.file_stem().map_or_else(|| "filter".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
