//! The proxy's command line: a settings file, or flags that stand for one.

use super::settings::Source;
use super::settings::text::{
    AccessLog, AccessLogFormat, Component, Filter, Listener, Text, Tls, Upstream, UpstreamMap, Url,
};
use crate::config::kinds::Small;
use clap::{ArgGroup, Args};
use std::net::SocketAddr;
use std::path::PathBuf;

/// `tidegate proxy`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").required(true).multiple(true)
    .args(["settings", "policy", "filter", "upstream"])))]
pub struct Arguments {
    /// Everything, in one YAML file; see host/proxy.yaml
    #[arg(long, value_name = "FILE", alias = "config-file", conflicts_with_all = [
        "policy", "filter", "component", "config", "upstream", "http2", "listen", "host", "admin", "workers",
        "trusted_hops", "access_log", "tls_certificate", "tls_key",
    ])]
    settings: Option<PathBuf>,

    /// Limit requests by this policy, with the filter that is shipped or with --component
    #[arg(long, value_name = "FILE", requires = "upstream")]
    policy: Option<PathBuf>,

    /// Run this proxy-wasm filter; several are a chain, in this order
    #[arg(long, value_name = "WASM", requires = "upstream")]
    filter: Vec<PathBuf>,

    /// Decide requests by the policy with this component, such as tidegate.component.wasm, before
    /// filters see them
    #[arg(long, value_name = "WASM", requires = "policy")]
    component: Option<PathBuf>,

    /// What the filter is configured with: one for each --filter, or none at all
    #[arg(long, value_name = "FILE", requires = "filter")]
    config: Vec<PathBuf>,

    /// Where requests go: http://host:port, https://host:port or unix:/path
    #[arg(long, value_name = "URL", value_parser = url)]
    upstream: Option<Url>,

    /// Speak HTTP/2 to the upstream; without TLS by prior knowledge
    #[arg(long, requires = "upstream")]
    http2: bool,

    /// Where clients come in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Who answers the policy's asks; left out, this process does
    #[arg(long, value_name = "URL", value_parser = url)]
    host: Option<Url>,

    /// Where /metrics, /readyz and /healthz are
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,

    /// Threads; as many as cores if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,

    /// Proxies of your own before this one, each adding to x-forwarded-for
    #[arg(long, value_name = "N", default_value_t = 0)]
    trusted_hops: u8,

    /// Write a line for each exchange to standard output: text or json
    #[arg(long, value_name = "FORMAT", value_parser = access_log)]
    access_log: Option<AccessLogFormat>,

    /// Serve TLS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,

    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,

    /// Take the shipped filter from here
    #[arg(long, value_name = "WASM")]
    filter_file: Option<PathBuf>,

    /// Keep compiled filters here; left out, in the user's cache folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,

    /// Compile filters anew with each start
    #[arg(long)]
    no_cache: bool,
}

impl Arguments {
    /// What this asks for.
    ///
    /// # Errors
    ///
    /// If it contradicts itself, as a message for whoever typed it.
    pub(super) fn source(&self) -> Result<Source, String> {
        if let Some(path) = &self.settings {
            return Ok(Source::File(path.clone()));
        }
        let (filters, configs) = (self.filter.len(), self.config.len());
        if configs != 0 && configs != filters {
            return Err(format!(
                "{filters} --filter and {configs} --config\n  hint: give each --filter its \
                 --config, in the same order"
            ));
        }
        let component = self.component.clone().zip(self.policy.clone());
        let policy = self.policy.iter().filter(|_| self.component.is_none());
        let policy =
            policy.map(|policy| Filter { policy: Some(policy.clone()), ..Filter::default() });
        let filters = self.filter.iter().enumerate().map(|(place, wasm)| Filter {
            wasm: Some(wasm.clone()),
            configuration_file: self.config.get(place).cloned(),
            ..Filter::default()
        });
        let tls = self.tls_certificate.clone().zip(self.tls_key.clone());
        let listener = Listener {
            trusted_hops: self.trusted_hops,
            tls: tls.map(|(certificate, key)| Tls { certificate, key, client_ca: None }),
            ..Listener::http(self.listen)
        };
        let upstream = |url: &Url, http2| {
            Upstream(UpstreamMap { url: url.clone(), http2, ca: None, server_name: None })
        };
        Ok(Source::Flags(Box::new(Text {
            listeners: vec![listener],
            component: component.map(|(wasm, policy)| Component {
                wasm,
                policy: Some(policy),
                ..Component::default()
            }),
            filters: policy.chain(filters).collect(),
            upstream: self.upstream.as_ref().map(|url| upstream(url, self.http2)),
            host: self.host.as_ref().map(|url| upstream(url, true)),
            workers: self.workers.map(Small),
            access_log: AccessLog {
                format: self.access_log.unwrap_or(AccessLogFormat::Off),
                path: None,
            },
            admin: self.admin,
            ..Text::default()
        })))
    }

    pub(super) fn filter_file(&self) -> Option<PathBuf> {
        self.filter_file.clone()
    }

    /// Where compiled filters are kept, if anywhere: what was said, else the user's folder for
    /// such things, if there is one.
    pub(super) fn cache(&self) -> Option<PathBuf> {
        if self.no_cache {
            return None;
        }
        self.cache.clone().or_else(crate::shipped::cache)
    }
}

fn url(text: &str) -> Result<Url, &'static str> {
    Url::parse(text).ok_or("wanted http://host:port, https://host:port or unix:/path")
}

fn access_log(text: &str) -> Result<AccessLogFormat, &'static str> {
    match text {
        "text" => Ok(AccessLogFormat::Text),
        "json" => Ok(AccessLogFormat::Json),
        _ => Err("wanted text or json"),
    }
}
