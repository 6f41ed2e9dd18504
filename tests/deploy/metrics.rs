//! Rules, dashboard and runbook speak of metrics that are there: of the host service and of the filter,
//! as they run.

use crate::{monitoring, runbook};
use anyhow::{Context, ensure};
use harness::client::{Client, get};
use harness::envoy::{Policy, envoy};
use harness::host::{Host, patient};
use harness::origin::Origin;
use harness::redis::Redis;
use harness::{Result, ports, stage, wait};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Not ours: Prometheus makes them.
const OF_PROMETHEUS: &[&str] = &["up"];

/// Labels that Prometheus gives to all it scrapes.
const OF_SCRAPES: &[&str] = &["job", "instance"];

/// Words of PromQL after which a list of labels stands.
const BEFORE_LABELS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Other words of PromQL that are no names.
const WORDS: &[&str] = &["and", "or", "unless", "bool", "offset"];

/// Metrics by name, with the labels that were seen.
type Exported = BTreeMap<String, BTreeSet<String>>;

/// Which metrics an expression speaks of, with the labels that it picks them by.
fn spoken_of(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut rest = expression;
    let mut skip_list = false;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        match first {
            '{' => {
                let end = end_of_labels(rest);
                let labels = rest[1..end].split('"').step_by(2);
                let names = labels.filter_map(|part| {
                    let name = part.trim_matches(|c: char| !is_name(c));
                    (!name.is_empty()).then(|| name.to_owned())
                });
                if let Some((_, labels)) = found.last_mut() {
                    labels.extend(names);
                }
                rest = &rest[end..];
            }
            '[' => rest = &rest[rest.find(']').map_or(rest.len(), |end| end + 1)..],
            '(' if skip_list => {
                skip_list = false;
                rest = &rest[rest.find(')').map_or(rest.len(), |end| end + 1)..];
            }
            c if c.is_ascii_alphabetic() || c == '_' => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                skip_list = BEFORE_LABELS.contains(&word);
                let is_function = after.trim_start().starts_with('(');
                if !skip_list && !is_function && !WORDS.contains(&word) && !is_aggregated(after) {
                    found.push((word.to_owned(), Vec::new()));
                }
                rest = after;
            }
            c if c.is_ascii_digit() => {
                // With its unit, or as 1e3.
                rest = rest.trim_start_matches(|c: char| is_name(c) || c == '.');
            }
            c => rest = &rest[c.len_utf8()..],
        }
    }
    found
}

/// The end of `{...}`: values between quotes may hold anything.
fn end_of_labels(text: &str) -> usize {
    let mut in_quotes = false;
    let end = text.find(|c| {
        in_quotes ^= c == '"';
        c == '}' && !in_quotes
    });
    end.map_or(text.len(), |end| end + 1)
}

/// `sum by (limit) (...)`: what stands before `by` is no metric.
fn is_aggregated(after: &str) -> bool {
    let next: String = after.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    ["by", "without"].contains(&next.as_str())
}

/// The samples of a page.
fn exported(page: &str) -> Exported {
    let mut exported = Exported::new();
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        // Every other piece between quotes is a value.
        let names = labels.unwrap_or_default().split('"').step_by(2);
        let names = names.map(|name| name.trim_matches([',', '=']).to_owned());
        exported.entry(name.to_owned()).or_default().extend(names.filter(|name| !name.is_empty()));
    }
    exported
}

#[test]
fn names_are_found_in_expressions() {
    let of = |expression: &str| spoken_of(expression);
    let plain = |names: &[&str]| {
        names.iter().map(|name| ((*name).to_owned(), Vec::new())).collect::<Vec<_>>()
    };
    assert_eq!(of("sum by (limit) (rate(a_total[5m])) / 1e3"), plain(&["a_total"]));
    assert_eq!(of("a and on (job) max by (job) (b) == 1"), plain(&["a", "b"]));
    assert_eq!(
        of("histogram_quantile(0.99, rate(a{job=\"x{y}\", le!=\"1\"}[5m])) or vector(0)"),
        [("a".to_owned(), vec!["job".to_owned(), "le".to_owned()])]
    );
}

#[test]
fn rules_dashboard_and_runbook_speak_only_of_what_is_exported() -> Result<()> {
    stage(async {
        let limits = json!([
            { "name": "counted", "rate": "2/1h", "scope": "global", "exact": true, "on_error": "open" },
            { "name": "leased", "rate": "1000/1h", "scope": "global", "on_error": "open" },
        ]);
        let policy = json!({
            "tidegate": 1, "domain": "shop", "limits": limits,
            "host": { "cluster": "tidegate_host", "deadline": "4s" },
            "token": { "from": { "jwt_authn": {} } }, "revocation": {},
        });
        let (mut redis, origin) = (Redis::start().await?, Origin::start().await?);
        // In its own folder: so it keeps revocations too, and shares their log.
        let mut environment = patient(&redis);
        let (api, folder) = (ports::free()?, tempfile::tempdir()?);
        let token = folder.path().join("token");
        std::fs::write(&token, "of-a-test-that-nobody-shows\n")?;
        environment.extend([
            ("TIDEGATE_REVOCATIONS_DATA_DIR", "ledger".to_owned()),
            ("TIDEGATE_REVOCATIONS_API_LISTEN", api.to_string()),
            ("TIDEGATE_REVOCATIONS_API_TOKEN_FILE", token.display().to_string()),
        ]);
        let host = Host::with(environment).await?;
        // Strangers are counted from the first one on.
        Client::http1(api).await?.send(get("/v1/revocations")).await?;
        let plan = envoy(Policy::Struct(policy)).host(host.address()).origin(origin.address());
        let envoy = plan.in_envoy().start().await?;
        envoy.burst(1, 4, &get("/")).await?;
        redis.kill()?;
        let page = async || {
            let mut client = Client::http1(host.admin()).await?;
            let page = client.send(get("/metrics")).await?;
            anyhow::Ok(String::from_utf8(page.body.to_vec())?)
        };
        let page = wait::until("the host service to count an ask in vain", async || {
            envoy.send(get("/")).await.ok()?;
            page().await.ok().filter(|page| page.contains("tidegate_store_errors_total{"))
        })
        .await?;
        let mut exported = exported(&page);
        let of_envoy = self::exported(&envoy.admin("/stats/prometheus")?);
        exported.extend(of_envoy);

        let mut checked = BTreeSet::new();
        let all = [monitoring::alerts()?, monitoring::dashboard()?, runbook::expressions()?];
        for (place, expression) in all.into_iter().flatten() {
            for (name, labels) in spoken_of(&expression) {
                if OF_PROMETHEUS.contains(&name.as_str()) {
                    continue;
                }
                let known = exported.get(&name);
                let known = known.with_context(|| format!("{place}: nobody exports {name}"))?;
                for label in labels.iter().filter(|label| !OF_SCRAPES.contains(&label.as_str())) {
                    ensure!(known.contains(label), "{place}: {name} has no label {label}");
                }
                checked.insert(name);
            }
        }
        ensure!(checked.len() > 12, "only {checked:?}");
        Ok(())
    })
}
