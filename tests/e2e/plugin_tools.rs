//! Plugins before any request needs them: `tidegate check` holds one against a policy, `tidegate
//! test` decides with it, `tidegate doctor` says whether `tidegate serve` would start with it.

use anyhow::Context;
use harness::{Result, parts, plugin, stage};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// A policy that uses a plugin.
fn policy() -> Value {
    json!({
        "tidegate": 1, "domain": "shop", "host": { "cluster": "tidegate" },
        "plugins": plugin::section(),
        "limits": [{
            "name": "tiers", "rate": "2/1h", "key": { "plugin": "tiers.tier" },
            "cost": { "plugin": "tiers.cost", "max": 2 },
        }],
    })
}

/// A folder with that policy and the plugin.
fn folder(component: &[u8]) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    write(&folder, "shop.json", &policy())?;
    fs::write(folder.path().join("tiers.wasm"), component)?;
    Ok(folder)
}

fn write(folder: &TempDir, name: &str, document: &Value) -> Result<()> {
    Ok(fs::write(folder.path().join(name), document.to_string())?)
}

/// What the program ends with, and all that it says.
fn tidegate(folder: &TempDir, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(parts::host()?);
    command.current_dir(folder).env("XDG_CACHE_HOME", parts::target().join("modules"));
    // To `tidegate doctor` these would be settings.
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    let output = command.args(arguments).output().context("cannot run it")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(said)?))
}

/// `tidegate test` of the folder's cases.
fn test(folder: &TempDir) -> Result<(Option<i32>, String)> {
    let filter = parts::filter()?.display().to_string();
    tidegate(folder, &["test", "--filter-file", &filter, "shop.test.json"])
}

#[test]
fn check_says_what_a_plugin_is_and_what_of_it_does_not_fit() -> Result<()> {
    stage(async {
        let folder = folder(&plugin::component("1.0")?)?;
        let check = |plugin| tidegate(&folder, &["check", "shop.json", "--plugin", plugin]);
        let (code, said) = check("tiers=tiers.wasm")?;
        let told = "plugin tiers: tiers 1.0 gives cost, tier; wants: [{ header: x-do }]";
        assert!(code == Some(0) && said.ends_with(&format!("\n{told}\n")), "{said}");

        fs::write(folder.path().join("module.wasm"), b"\0asm\x01\0\0\0")?;
        for (plugin, told) in [
            ("tears=tiers.wasm", "the policy does not use it; it uses tiers"),
            ("tiers=none.wasm", "none.wasm: cannot be read"),
            ("tiers=module.wasm", "it is a core module; wanted one of the world policy-plugin"),
        ] {
            let (code, said) = check(plugin)?;
            assert!(code == Some(1) && said.contains(told), "{plugin}: {code:?}: {said}");
        }
        assert_eq!(check("tiers.wasm")?.0, Some(64), "no NAME=FILE");

        let mut other_facts = policy();
        other_facts["plugins"]["tiers"]["wants"] = json!(["path"]);
        let mut other_outputs = policy();
        other_outputs["plugins"]["tiers"]["defaults"]["owner"] = json!("nobody");
        for (policy, told) in [
            (other_facts, "the policy hands over other facts; it wants: [{ header: x-do }]"),
            (other_outputs, "the policy uses owner; it gives cost, tier"),
        ] {
            write(&folder, "shop.json", &policy)?;
            let (code, said) = check("tiers=tiers.wasm")?;
            assert!(code == Some(1) && said.contains(told), "{code:?}: {said}");
        }
        Ok(())
    })
}

#[test]
fn a_plugin_of_a_later_compatible_version_is_taken_and_one_of_another_series_is_not() -> Result<()>
{
    stage(async {
        let plugin = plugin::component("1.0")?;
        for (version, code, told) in [
            ("@0.1.7", 0, "plugin tiers: tiers 1.0 gives cost, tier"),
            (
                "@0.2.0",
                1,
                "exports tidegate:edge/policy@0.2.0; this host wants tidegate:edge/policy@0.1.0",
            ),
        ] {
            let folder = folder(&with_version(&plugin, version))?;
            let (found, said) =
                tidegate(&folder, &["check", "shop.json", "--plugin", "tiers=tiers.wasm"])?;
            assert!(found == Some(code) && said.contains(told), "{version}: {found:?}: {said}");
        }
        Ok(())
    })
}

/// The same component, built against another version of the package.
fn with_version(component: &[u8], version: &str) -> Vec<u8> {
    const OURS: &[u8] = b"@0.1.0";
    let mut component = component.to_vec();
    for at in 0..component.len() {
        if component[at..].starts_with(OURS) {
            component[at..][..OURS.len()].copy_from_slice(version.as_bytes());
        }
    }
    component
}

/// Cases whose first tells how the plugin tells requests apart; `tier` is what its third request
/// is: that of the first two again, or another.
fn cases(folder: &TempDir, plugins: &Value, third: &str) -> Result<(Option<i32>, String)> {
    let request = |tier: &str| json!({ "path": "/", "headers": { "x-do": tier } });
    let cases = json!({
        "policy": "shop.json",
        "plugins": plugins,
        "cases": [{
            "name": "who is who",
            "steps": [
                { "times": 2, "request": request("a"), "expect": "allowed" },
                { "request": request("b"), "expect": third },
                { "store": "away" },
                { "at": "1h", "times": 2, "request": request("c"), "expect": "allowed" },
                { "request": request("d"), "expect": "limited" },
            ],
        }],
    });
    write(folder, "shop.test.json", &cases)?;
    test(folder)
}

#[test]
fn cases_are_decided_with_the_plugins_that_they_name_and_without_by_the_defaults() -> Result<()> {
    stage(async {
        let folder = folder(&plugin::component("1.0")?)?;
        for (plugins, third) in
            [(json!({ "tiers": "tiers.wasm" }), "allowed"), (json!({}), "limited")]
        {
            let (code, said) = cases(&folder, &plugins, third)?;
            assert_eq!(code, Some(0), "{plugins}: {said}");
        }
        let (code, said) = cases(&folder, &json!({ "tiers": "tiers.wasm" }), "limited")?;
        assert_eq!(code, Some(1), "{said}");
        for (plugins, told) in [
            (json!({ "tier": "tiers.wasm" }), "did you mean tiers?"),
            (json!({ "tiers": "none.wasm" }), "which is no file"),
            (json!({ "tiers": "shop.json" }), "plugins.tiers: shop.json: not a component"),
            (json!(["tiers.wasm"]), "a map of names and files"),
        ] {
            let (code, said) = cases(&folder, &plugins, "allowed")?;
            assert!(code == Some(64) && said.contains(told), "{plugins}: {code:?}: {said}");
        }
        Ok(())
    })
}

#[test]
fn a_plugin_that_looks_around_finds_nothing_of_the_system() -> Result<()> {
    stage(async {
        let folder = folder(&plugin::nosy()?)?;
        // What it found is the tier; were it another, or the default, no limit would apply.
        let mut policy = policy();
        policy["limits"][0]["when"] = json!({ "plugin": { "tiers.tier": "nothing" } });
        write(&folder, "shop.json", &policy)?;
        let request = json!({ "path": "/", "headers": { "x-do": "a" } });
        let cases = json!({
            "policy": "shop.json",
            "plugins": { "tiers": "tiers.wasm" },
            "cases": [{
                "name": "nothing is there",
                "steps": [
                    { "times": 2, "request": request, "expect": "allowed" },
                    { "request": request, "expect": "limited" },
                ],
            }],
        });
        write(&folder, "shop.test.json", &cases)?;
        let (code, said) = test(&folder)?;
        assert_eq!(code, Some(0), "{said}");
        Ok(())
    })
}

#[test]
fn the_doctor_says_whether_serve_would_start_with_a_plugin() -> Result<()> {
    stage(async {
        let folder = folder(&plugin::component("1.0")?)?;
        let examine = |settings: Value| {
            let config = json!({ "provider": "memory", "plugins": { "tiers": settings } });
            write(&folder, "tidegate.json", &config)?;
            tidegate(&folder, &["doctor", "--config", "tidegate.json"])
        };
        let (_, said) = examine(json!({ "file": "tiers.wasm" }))?;
        let told = "OK         plugin  tiers  tiers 1.0 gives cost, tier; wants: [{ header: x-do }]; 0.2 of 64 MiB";
        assert!(said.contains(told), "{said}");
        for (settings, code, told) in [
            (json!({ "file": "none.wasm" }), 2, "none.wasm: cannot be read"),
            (json!({ "file": "shop.json" }), 2, "shop.json: not a component"),
        ] {
            let (found, said) = examine(settings)?;
            assert!(found == Some(code) && said.contains(told), "{found:?}: {said}");
        }
        Ok(())
    })
}
