//! The manifests are what Kubernetes takes, and hang together: what one names, another has.

use crate::checkers::Checkers;
use crate::lab::{USERS, shipped};
use anyhow::{Context, ensure};
use harness::parts::root;
use harness::{Result, stage, yaml};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Folders that are applied, and how many objects each is.
const FORMS: &[(&str, usize)] =
    &[("host", 5), ("sidecar", 2), ("redis-sentinel", 10), ("redis-cluster", 8), ("monitoring", 4)];

/// What a form is when it is applied.
fn applied(checkers: &Checkers, form: &str) -> Result<(String, Vec<Value>)> {
    let text = checkers.kustomize(&shipped(form))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("all.yaml");
    fs::write(&file, &text)?;
    Ok((text, yaml::read(&file)?))
}

/// All scripts that run in containers.
fn scripts() -> Result<Vec<PathBuf>> {
    let mut scripts = Vec::new();
    for form in ["redis", "redis-sentinel", "redis-cluster"] {
        for entry in fs::read_dir(shipped(form))? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "sh") {
                scripts.push(path);
            }
        }
    }
    Ok(scripts)
}

/// The containers of a workload, those before the others first.
fn containers(object: &Value) -> Vec<&Value> {
    let pod = &object["spec"]["template"]["spec"];
    let lists = [&pod["initContainers"], &pod["containers"]];
    lists.into_iter().filter_map(Value::as_array).flatten().collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn kubernetes_knows_every_field_and_takes_every_value() -> Result<()> {
    stage(async {
        let checkers = Checkers::find()?;
        for (form, objects) in FORMS {
            let (text, documents) = applied(&checkers, form)?;
            ensure!(documents.len() == *objects, "{form} has {} objects", documents.len());
            let folder = tempfile::tempdir()?;
            let (of_operator, of_kubernetes): (Vec<&Value>, Vec<&Value>) =
                documents.iter().partition(|document| {
                    document["apiVersion"].as_str().unwrap_or_default().contains("coreos.com")
                });
            for document in &of_operator {
                checkers.operator(document, folder.path())?;
            }
            let file = folder.path().join("kubernetes.yaml");
            if of_operator.is_empty() {
                fs::write(&file, text)?;
                checkers.kubernetes(&file)?;
            } else {
                for document in of_kubernetes {
                    fs::write(&file, document.to_string())?;
                    checkers.kubernetes(&file)?;
                }
            }
        }
        // The checkers do check.
        let (text, documents) = applied(&checkers, "host")?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("wrong.yaml");
        fs::write(&file, text.replace("failureThreshold", "failureTreshold"))?;
        ensure!(checkers.kubernetes(&file).is_err() && !documents.is_empty());
        let (_, mut documents) = applied(&checkers, "monitoring")?;
        let monitor = documents.iter_mut().find(|document| document["kind"] == "ServiceMonitor");
        let monitor = monitor.context("a ServiceMonitor")?;
        monitor["spec"]["endpoints"][0]["intervall"] = "5s".into();
        ensure!(checkers.operator(monitor, folder.path()).is_err());
        Ok(())
    })
}

#[test]
fn shellcheck_finds_nothing_wrong_with_the_scripts() -> Result<()> {
    stage(async {
        let scripts = scripts()?;
        ensure!(scripts.len() > 10);
        Checkers::find()?.shellcheck(&scripts, &shipped("redis")).map(drop)
    })
}

#[test]
fn what_a_manifest_names_is_there() -> Result<()> {
    stage(async {
        let checkers = Checkers::find()?;
        for (form, _) in FORMS {
            let (_, documents) = applied(&checkers, form)?;
            let named = |kind: &str| -> BTreeSet<&str> {
                let all = documents.iter().filter(|document| document["kind"] == kind);
                all.filter_map(|document| document["metadata"]["name"].as_str()).collect()
            };
            let maps = named("ConfigMap");
            let files: BTreeSet<&String> = documents
                .iter()
                .filter(|document| document["kind"] == "ConfigMap")
                .filter_map(|document| document["data"].as_object())
                .flat_map(|data| data.keys())
                .collect();
            for object in documents.iter().filter(|object| !containers(object).is_empty()) {
                let name = format!("{form}: {}", object["metadata"]["name"]);
                hangs_together(object).with_context(|| name.clone())?;
                let text = object.to_string();
                for (_, rest) in text
                    .match_indices("/etc/tidegate-redis/")
                    .map(|(at, it)| (at, &text[at + it.len()..]))
                {
                    let file: String = rest
                        .chars()
                        .take_while(|c| c.is_alphanumeric() || "-._".contains(*c))
                        .collect();
                    ensure!(file.is_empty() || files.contains(&file), "{name}: no file {file}");
                }
                for volume in
                    object["spec"]["template"]["spec"]["volumes"].as_array().into_iter().flatten()
                {
                    let direct = volume["configMap"]["name"].as_str();
                    let sources = volume["projected"]["sources"].as_array();
                    let projected = sources.into_iter().flatten();
                    let projected = projected.filter_map(|it| it["configMap"]["name"].as_str());
                    for map in direct.into_iter().chain(projected) {
                        // That one is made of envoy.yaml, by whoever knows the origin.
                        ensure!(map == "gateway-envoy" || maps.contains(map), "{name}: no {map}");
                    }
                    for item in volume["secret"]["items"].as_array().into_iter().flatten() {
                        let key = item["key"].as_str().unwrap_or_default();
                        ensure!(USERS.contains(&key), "{name}: no user {key}");
                    }
                }
            }
        }
        Ok(())
    })
}

/// A workload's own parts: selectors, volumes, ports, probes.
fn hangs_together(object: &Value) -> Result<()> {
    let template = &object["spec"]["template"];
    if let Some(wanted) = object["spec"]["selector"]["matchLabels"].as_object() {
        for (label, value) in wanted {
            ensure!(template["metadata"]["labels"][label] == *value, "its pods lack {label}");
        }
    }
    let pod = &template["spec"];
    let mut volumes: Vec<&str> = Vec::new();
    let claims = object["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten();
    volumes.extend(claims.filter_map(|claim| claim["metadata"]["name"].as_str()));
    let of_pod = pod["volumes"].as_array().into_iter().flatten();
    volumes.extend(of_pod.filter_map(|volume| volume["name"].as_str()));
    ensure!(pod["automountServiceAccountToken"] == false, "it needs no token");
    ensure!(pod["enableServiceLinks"] == false, "variables named TIDEGATE_ would come in");
    ensure!(pod["securityContext"]["runAsNonRoot"] == true);
    let mut mounted = BTreeSet::new();
    for container in containers(object) {
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let name = mount["name"].as_str().context("a mount's name")?;
            ensure!(volumes.contains(&name), "no volume {name}");
            ensure!(mount["subPath"].is_null(), "{name}: what is mounted so is never updated");
            mounted.insert(name);
        }
        let ports = container["ports"].as_array().into_iter().flatten();
        let ports: Vec<&str> = ports.filter_map(|port| port["name"].as_str()).collect();
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let probe = &container[probe];
            for port in [&probe["httpGet"]["port"], &probe["tcpSocket"]["port"]] {
                let port = port.as_str();
                ensure!(port.is_none_or(|port| ports.contains(&port)), "no port {port:?}");
            }
            let command = texts(&probe["exec"]["command"]);
            ensure!(
                command.is_empty() || command[..2] == ["sh", "/etc/tidegate-redis/probe.sh"],
                "a probe that would pass on NOAUTH: {command:?}"
            );
        }
        let confined = &container["securityContext"];
        ensure!(confined["readOnlyRootFilesystem"] == true);
        ensure!(confined["allowPrivilegeEscalation"] == false);
        ensure!(!container["resources"]["limits"]["memory"].is_null());
    }
    ensure!(volumes.iter().all(|name| mounted.contains(name)), "of {volumes:?} only {mounted:?}");
    Ok(())
}

/// Whom the host service's configuration asks is who is deployed.
#[test]
fn addresses_are_those_of_the_pods() -> Result<()> {
    stage(async {
        let checkers = Checkers::find()?;
        for (form, set, file) in [
            ("redis-sentinel", "tidegate-sentinel", "host/tidegate.yaml"),
            ("redis-sentinel", "tidegate-sentinel", "sidecar/tidegate.yaml"),
            ("redis-cluster", "tidegate-redis", "redis-cluster/tidegate.yaml"),
        ] {
            let (_, documents) = applied(&checkers, form)?;
            let workload = documents.iter().find(|document| {
                document["kind"] == "StatefulSet" && document["metadata"]["name"] == set
            });
            let workload = workload.with_context(|| format!("{form} has no {set}"))?;
            let count = workload["spec"]["replicas"].as_u64().context("replicas")?;
            let service = workload["spec"]["serviceName"].as_str().context("its service")?;
            let space = workload["metadata"]["namespace"].as_str().context("a namespace")?;
            let port = &containers(workload)[0]["ports"][0]["containerPort"];
            let pods: Vec<String> = (0..count)
                .map(|pod| format!("{set}-{pod}.{service}.{space}.svc.cluster.local:{port}"))
                .collect();
            let settings = &yaml::read(&shipped(file))?[0]["redis"];
            let addresses = texts(&settings["addresses"]);
            ensure!(addresses.len() >= 3, "{file}: {addresses:?}");
            for address in &addresses {
                ensure!(pods.iter().any(|pod| pod == address), "{file}: {address} is no pod's");
            }
            if settings["cluster_mode"].is_null() {
                ensure!(addresses.len() == pods.len(), "{file}: not all sentinels");
            } else {
                let listed = fs::read_to_string(shipped("redis-cluster/nodes.env"))?;
                let listed = listed.trim().strip_prefix("NODES=").context("NODES")?;
                ensure!(listed.split(' ').eq(&pods), "nodes.env: {listed}");
            }
        }
        Ok(())
    })
}

/// The faults of manifests that are copied around, each of which made a Redis that failed when
/// it was needed. What can only be seen in a running one is in the other tests.
#[test]
fn faults_that_are_copied_around_are_not_here() -> Result<()> {
    let mut files = Vec::new();
    for form in ["redis", "redis-sentinel", "redis-cluster"] {
        for entry in fs::read_dir(shipped(form))? {
            let path = entry?.path();
            // Comments may speak of what is to be avoided.
            let text = fs::read_to_string(&path)?;
            let plain: Vec<String> = text
                .lines()
                .filter(|line| !line.trim_start().starts_with('#'))
                .map(|line| line.split(" # ").next().unwrap_or_default().to_owned())
                .collect();
            files.push((path.strip_prefix(root())?.display().to_string(), plain));
        }
    }
    for (file, lines) in &files {
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            for (fault, why) in [
                ("rename-command", "Sentinel could not tell a replica to become the master"),
                ("allkeys-", "would evict what must be kept"),
                ("volatile-", "would evict what must be kept"),
                ("RedisFailover", "is one master with replicas, and no cluster"),
                ("DEBUG", "is refused by Redis 7, and by us"),
            ] {
                ensure!(!line.contains(fault), "{file}: {fault} {why}: {line}");
            }
            let binds_networks = words.first() == Some(&"bind") && line.contains('/');
            ensure!(!binds_networks, "{file}: bind takes addresses: {line}");
            let is_conf = file.ends_with(".conf");
            ensure!(!(is_conf && line.contains("${")), "{file}: Redis fills in nothing: {line}");
            let follows_by_file = is_conf && words.first() == Some(&"replicaof");
            ensure!(!follows_by_file, "{file}: an old master would be a second one: {line}");
        }
    }
    let has = |file: &str, line: &str| {
        files.iter().any(|(name, lines)| name.ends_with(file) && lines.iter().any(|it| it == line))
    };
    ensure!(has("redis-sentinel/sentinel.conf", "sentinel resolve-hostnames yes"));
    ensure!(has("redis-sentinel/sentinel.conf", "sentinel announce-hostnames yes"));
    for form in ["redis-sentinel", "redis-cluster"] {
        ensure!(has(&format!("{form}/redis.conf"), "maxmemory-policy noeviction"), "{form}");
    }
    Ok(())
}
