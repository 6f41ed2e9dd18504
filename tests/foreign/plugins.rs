//! One plugin in three languages: each is built by its own tools, needs nothing of a host but the
//! log, and answers the same table.

use anyhow::Context;
use harness::workshop::{Workshop, output};
use harness::{Result, parts, stage};
use serde_json::{Value, json};

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
    ask.arg(parts::root().join("tests/foreign/ask.py")).arg(component);
    let told: Value = serde_json::from_str(&output(ask.arg(json!(cases).to_string()))?)?;
    let said = json!({
        "name": "tiers",
        "version": "1.0.0",
        "wants": [["header", "x-api-key"], ["header", ":path"]],
        "gives": ["tier", "cost"],
    });
    let logged = json!([["info", "tiers by the prefixes of API keys"]]);
    assert_eq!(told, json!({ "said": said, "logged": logged, "answers": answers }), "{language}");
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
