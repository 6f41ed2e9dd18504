//! The files in `envoy/` are what they claim to be: configurations that work.
//!
//! `envoy.yaml` runs in every test. Here it is held to what it says, and the forms for
//! Istio and Envoy Gateway, which want a cluster to run in, are checked as far as can be
//! without one: their fields are known ones, and what they hold works in Envoy.

use harness::client::get;
use harness::envoy::{HTTP, LISTENER, Policy, envoy};
use harness::origin::Origin;
use harness::parts::root;
use harness::{Result, stage, stage_for_workers, yaml};
use serde_json::{Value, json};
use tidegate_policy::resolve::resolve;
use tidegate_policy::text::Document;

/// Where each file keeps a policy: the file, the document's kind, and the place in it.
const POLICIES: &[(&str, &str, &str)] = &[
    ("istio/traffic-extension.yaml", "TrafficExtension", "/spec/wasm/pluginConfig"),
    ("istio/wasm-plugin.yaml", "WasmPlugin", "/spec/pluginConfig"),
    ("gateway/envoy-extension-policy.yaml", "EnvoyExtensionPolicy", "/spec/wasm/0/config"),
];

/// The fields that these kinds have at these places, of those that we may want to use.
const FIELDS: &[(&str, &str, &[&str])] = &[
    (
        "TrafficExtension",
        "/spec",
        &["targetRefs", "selector", "phase", "priority", "match", "wasm"],
    ),
    (
        "TrafficExtension",
        "/spec/wasm",
        &[
            "url",
            "sha256",
            "imagePullPolicy",
            "imagePullSecret",
            "pluginConfig",
            "pluginName",
            "failStrategy",
            "vmConfig",
            "type",
        ],
    ),
    (
        "WasmPlugin",
        "/spec",
        &[
            "targetRefs",
            "selector",
            "phase",
            "priority",
            "match",
            "url",
            "sha256",
            "imagePullPolicy",
            "imagePullSecret",
            "pluginConfig",
            "pluginName",
            "failStrategy",
            "vmConfig",
            "type",
        ],
    ),
    ("EnvoyFilter", "/spec", &["targetRefs", "workloadSelector", "configPatches", "priority"]),
    ("EnvoyExtensionPolicy", "/spec", &["targetRefs", "wasm", "extProc", "lua"]),
    (
        "EnvoyExtensionPolicy",
        "/spec/wasm/0",
        &["name", "rootID", "code", "config", "failOpen", "env"],
    ),
    ("EnvoyExtensionPolicy", "/spec/wasm/0/code", &["type", "http", "image", "pullPolicy"]),
    ("EnvoyPatchPolicy", "/spec", &["targetRef", "type", "jsonPatches", "priority"]),
    ("EnvoyPatchPolicy", "/spec/jsonPatches/0", &["type", "name", "operation"]),
    (
        "EnvoyPatchPolicy",
        "/spec/jsonPatches/0/operation",
        &["op", "path", "from", "jsonPath", "value"],
    ),
];

/// The document of this kind in a file of `envoy/`.
fn document(file: &str, kind: &str) -> Result<Value> {
    let documents = yaml::read(&root().join("envoy").join(file))?;
    let found = documents.into_iter().find(|document| document["kind"] == kind);
    found.ok_or_else(|| anyhow::anyhow!("{file} has no {kind}"))
}

#[test]
fn envoy_finds_nothing_wrong_with_envoy_yaml() -> Result<()> {
    stage(async { envoy(Policy::shipped()?).validate() })
}

#[test]
fn envoy_yaml_lets_a_request_through_and_limits_a_burst() -> Result<()> {
    stage_for_workers(|workers| async move {
        let origin = Origin::start().await?;
        let plan = envoy(Policy::shipped()?).workers(workers).origin(origin.address());
        let envoy = plan.start().await?;
        let answer = envoy.send(get("/api/cart")).await?;
        assert_eq!((answer.status.as_u16(), origin.seen().len()), (200, 1), "{answer:?}");
        let access = envoy.access("/api/cart").await?;
        assert_eq!((&access["status"], &access["client"]), (&json!(200), &json!("127.0.0.1")));
        let answers = envoy.burst(16, 5, &get("/api/burst")).await?;
        let refused = crate::count(&answers, 429);
        assert!(refused >= 58, "{refused} of 80 refused; 20 may pass at once and 5 in 3 s");
        Ok(())
    })
}

#[test]
fn the_policies_of_all_forms_mean_something_and_warn_of_nothing() -> Result<()> {
    let mut policies = Vec::new();
    for (file, kind, place) in POLICIES {
        let document = document(file, kind)?;
        let policy = document.pointer(place).unwrap_or_else(|| panic!("{file} has no {place}"));
        policies.push((*file, policy.clone()));
    }
    let Policy::Struct(policy) = Policy::shipped()? else {
        panic!("a Struct is the readable form")
    };
    policies.push(("envoy.yaml", policy));
    for (file, policy) in policies {
        let document: Document = serde_json::from_value(policy)?;
        let resolved = resolve(&document);
        assert_eq!(resolved.diagnostics, [], "{file}");
        assert!(resolved.policy.is_some_and(|policy| !policy.limits.is_empty()), "{file}");
    }
    Ok(())
}

#[test]
fn no_form_has_a_field_that_its_kind_does_not_know() -> Result<()> {
    let mut checked = 0;
    for file in [
        "istio/traffic-extension.yaml",
        "istio/wasm-plugin.yaml",
        "gateway/envoy-extension-policy.yaml",
    ] {
        for document in yaml::read(&root().join("envoy").join(file))? {
            let kind = document["kind"].as_str().unwrap_or_default();
            for wanted in ["/apiVersion", "/metadata/name", "/metadata/namespace", "/spec"] {
                assert!(document.pointer(wanted).is_some(), "{file}: {kind} has no {wanted}");
            }
            for (_, place, known) in FIELDS.iter().filter(|(of, _, _)| *of == kind) {
                let fields = document.pointer(place).and_then(Value::as_object);
                for name in fields.unwrap_or_else(|| panic!("{file}: no {place}")).keys() {
                    assert!(
                        known.contains(&name.as_str()),
                        "{file}: {kind} knows no {place}/{name}"
                    );
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 20, "{checked} fields looked at");
    Ok(())
}

/// All forms load in a real Envoy, spelled as Istio and Envoy Gateway spell them: as JSON.
#[test]
fn envoy_takes_the_policies_of_all_forms() -> Result<()> {
    stage(async {
        for (file, kind, place) in POLICIES {
            let document = document(file, kind)?;
            let policy = document.pointer(place).cloned().unwrap_or_default();
            let validated = envoy(Policy::Json(policy)).validate();
            validated.map_err(|error| error.context(*file))?;
        }
        Ok(())
    })
}

/// The cluster that Envoy Gateway is told to add is one that Envoy takes, and the same as
/// `envoy.yaml`'s but for its address.
#[test]
fn the_patched_cluster_is_the_one_of_envoy_yaml() -> Result<()> {
    let patch = document("gateway/envoy-extension-policy.yaml", "EnvoyPatchPolicy")?;
    let mut patched = patch["spec"]["jsonPatches"][0]["operation"]["value"].clone();
    let config = yaml::read(&root().join("envoy/envoy.yaml"))?;
    let mut shipped = config[0]["static_resources"]["clusters"][0].clone();
    for cluster in [&mut patched, &mut shipped] {
        cluster["load_assignment"]["endpoints"].take();
    }
    assert_eq!(patched, shipped);
    Ok(())
}

/// With nothing but what `capabilities.yaml` allows, the filter does all its work. A list
/// that lacks a callback would make it do nothing, silently.
#[test]
fn the_capabilities_listed_are_enough() -> Result<()> {
    stage(async {
        let allowed = yaml::read(&root().join("envoy/capabilities.yaml"))?[0].clone();
        let limits = json!([
            { "name": "local", "when": { "path": "/local" }, "rate": "1/1h", "burst": 2 },
            { "name": "global", "when": { "path": "/global" }, "rate": "2/1h", "scope": "global",
              "on_error": "closed" },
        ]);
        let (origin, host) = (Origin::start().await?, harness::host::Host::on_memory().await?);
        let plan = envoy(crate::policy(limits)).origin(origin.address()).host(host.address());
        let plan = plan.edit(move |config| {
            let place = format!("{LISTENER}{HTTP}/http_filters/0/typed_config/config");
            if let Some(Value::Object(filter)) = config.pointer_mut(&place) {
                let allowed = allowed["capability_restriction_config"].clone();
                filter.insert("capability_restriction_config".to_owned(), allowed);
            }
        });
        let envoy = plan.start().await?;
        for path in ["/local", "/global"] {
            let answers = envoy.burst(1, 3, &get(path)).await?;
            assert_eq!(crate::statuses(&answers), [200, 200, 429], "{path}");
        }
        // Counters are told on ticks.
        harness::wait::until("the counters", async || {
            (envoy.outcomes("local", "limited").ok()? == 1).then_some(())
        })
        .await
    })
}
