//! One plugin in three languages: each is built by its own tools, needs nothing of a host but the
//! log, answers the same table, and is taken by the host.

use anyhow::Context;
use harness::workshop::{Workshop, output};
use harness::{Result, parts, stage};
use serde_json::{Value, json};
use std::fs;

/// The key and the path of a request, and what any of the plugins says of it.
fn table() -> [(Value, Value); 8] {
    [
        (json!(["gk_7f3a", "/items"]), json!(["gold", "1"])),
        (json!(["sk_7f3a", "/items"]), json!(["silver", "1"])),
        (json!(["gk_7f3a", "/export/all"]), json!(["gold", "10"])),
        (json!([null, "/export/all"]), json!([null, "10"])),
        (json!(["", "/"]), json!([null, "1"])),
        (json!(["GK_7f3a", "/export"]), json!([null, "1"])),
        (json!(["\u{ff}\u{80}_", "/\u{e9}"]), json!([null, "1"])),
        (json!(["gk_7f3a", null]), json!("a request without a path")),
    ]
}

/// Builds the plugin of a language, and holds it against the table and its size.
fn check(language: &str, bytes_max: u64) -> Result<()> {
    let workshop = Workshop::open()?;
    workshop.run(&format!("{language}-plugin"))?;
    let component = workshop.example(language).join("plugin.wasm");
    let bytes = component.metadata().context("the README's block makes no plugin.wasm")?.len();
    assert!(bytes <= bytes_max, "{language}: {bytes} bytes; the README says at most {bytes_max}");

    let (cases, answers): (Vec<_>, Vec<_>) = table().into_iter().unzip();
    let mut ask = workshop.command(&format!("{language}-ask"), r#"python3 "$0" "$@""#)?;
    ask.arg(parts::root().join("tests/foreign/ask.py")).arg(&component);
    let told: Value = serde_json::from_str(&output(ask.arg(json!(cases).to_string()))?)?;
    let said = json!({
        "name": "tiers",
        "version": "1.0.0",
        "wants": [["header", "x-api-key"], ["header", ":path"]],
        "gives": ["tier", "cost"],
    });
    let logged = json!([["info", "tiers by the prefixes of API keys"]]);
    assert_eq!(told, json!({ "said": said, "logged": logged, "answers": answers }), "{language}");
    is_taken(&workshop, language)
}

/// Holds it against what `tidegate serve` takes.
fn is_taken(workshop: &Workshop, language: &str) -> Result<()> {
    let config = json!({ "provider": "memory", "plugins": { "tiers": { "file": "plugin.wasm" } } });
    fs::write(workshop.example(language).join("tidegate.json"), config.to_string())?;
    let doctor = "tidegate doctor --json --config tidegate.json";
    let mut examine = workshop.command(&format!("{language}-doctor"), doctor)?;
    examine.env_remove("TIDEGATE_COMPONENT"); // to a host that would be a setting
    let report: Value = serde_json::from_str(&output(&mut examine)?)?;
    let mut findings = report["findings"].as_array().into_iter().flatten();
    let finding = findings.find(|finding| finding["check"] == "plugin");
    let finding = finding.with_context(|| format!("nothing about the plugin: {report}"))?;
    assert_eq!(finding["level"], "OK", "{language}: {finding}");
    Ok(())
}

#[test]
fn a_plugin_in_javascript_is_built_and_answers() -> Result<()> {
    stage(async { check("javascript", 2_000_000) })
}

#[test]
fn a_plugin_in_python_is_built_and_answers() -> Result<()> {
    stage(async { check("python", 20_000_000) })
}

#[test]
fn a_plugin_in_rust_is_built_and_answers() -> Result<()> {
    stage(async { check("rust", 20_000) })
}
