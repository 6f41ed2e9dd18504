//! Rules wake whom they should and nobody else, and every expression is one that Prometheus
//! takes.

use crate::checkers::Checkers;
use crate::lab::shipped;
use crate::runbook;
use anyhow::{Context, ensure};
use harness::{Result, stage, yaml};
use serde_json::{Value, json};
use std::fs;

/// The rules as a file of Prometheus: what stands below `spec`.
pub(crate) fn rules() -> Result<Value> {
    let documents = yaml::read(&shipped("monitoring/rules.yaml"))?;
    Ok(documents[0]["spec"].clone())
}

/// Every expression of the dashboard and where it stands, with Grafana's variables filled in.
pub(crate) fn dashboard() -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(shipped("monitoring/dashboard.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        let title = panel["title"].as_str().context("a title")?;
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("an expression")?;
            let filled = expression
                .replace("$__rate_interval", "5m")
                .replace("$__range", "3h")
                .replace("$job", "tidegate");
            ensure!(!filled.contains('$'), "{title}: {expression}");
            found.push((title.to_owned(), filled));
        }
    }
    Ok(found)
}

/// Every expression of the rules, by the alert's name.
pub(crate) fn alerts() -> Result<Vec<(String, String)>> {
    let rules = rules()?;
    let groups = rules["groups"].as_array().context("groups")?;
    let all = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
    all.map(|rule| {
        let text = |field: &str| rule[field].as_str().map(str::to_owned).context("an alert");
        Ok((text("alert")?, text("expr")?))
    })
    .collect()
}

#[test]
fn every_alert_is_raised_when_it_should_be_and_only_then() -> Result<()> {
    stage(async {
        let checkers = Checkers::find()?;
        let folder = tempfile::tempdir()?;
        // JSON is YAML.
        fs::write(folder.path().join("rules.yaml"), rules()?.to_string())?;
        checkers.promtool(["check", "rules"], &folder.path().join("rules.yaml"))?;
        let tests = folder.path().join("rules.test.yaml");
        fs::copy(shipped("monitoring/rules.test.yaml"), &tests)?;
        checkers.promtool(["test", "rules"], &tests).map(drop)
    })
}

#[test]
fn every_alert_has_a_test_that_raises_it() -> Result<()> {
    let tests = &yaml::read(&shipped("monitoring/rules.test.yaml"))?[0]["tests"];
    let tests = tests.as_array().context("tests")?;
    let cases =
        tests.iter().flat_map(|test| test["alert_rule_test"].as_array().into_iter().flatten());
    let raised: Vec<&str> = cases
        .filter(|case| case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty()))
        .filter_map(|case| case["alertname"].as_str())
        .collect();
    for (alert, _) in alerts()? {
        ensure!(raised.contains(&alert.as_str()), "no test raises {alert}");
    }
    Ok(())
}

#[test]
fn every_expression_of_the_dashboard_and_the_runbook_is_one() -> Result<()> {
    stage(async {
        let checkers = Checkers::find()?;
        let mut expressions = dashboard()?;
        expressions.extend(runbook::expressions()?);
        ensure!(expressions.len() > 20, "{} expressions", expressions.len());
        let record = |(at, (_, expression)): (usize, &(String, String))| json!({ "record": format!("panel:{at}"), "expr": expression });
        let rules: Vec<Value> = expressions.iter().enumerate().map(record).collect();
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("panels.yaml");
        fs::write(&file, json!({ "groups": [{ "name": "panels", "rules": rules }] }).to_string())?;
        checkers.promtool(["check", "rules"], &file).map(drop)
    })
}

/// What Grafana would refuse, or show as an empty page.
#[test]
fn the_dashboard_is_laid_out() -> Result<()> {
    let text = fs::read_to_string(shipped("monitoring/dashboard.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    for field in ["title", "uid", "schemaVersion", "time", "templating"] {
        ensure!(!dashboard[field].is_null(), "no {field}");
    }
    let panels = dashboard["panels"].as_array().context("panels")?;
    let mut taken = std::collections::BTreeMap::new();
    let mut ids = std::collections::BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().context("a title")?;
        ensure!(ids.insert(panel["id"].as_u64().context("an id")?), "{title}: its id is another's");
        let place = |side: &str| panel["gridPos"][side].as_u64().context("a place");
        let (x, y, w, h) = (place("x")?, place("y")?, place("w")?, place("h")?);
        ensure!(x + w <= 24, "{title} is beyond the edge");
        for column in x..x + w {
            for line in y..y + h {
                let other = taken.insert((column, line), title);
                ensure!(other.is_none(), "{title} lies over {}", other.unwrap_or_default());
            }
        }
        let is_row = panel["type"] == "row";
        ensure!(is_row || !panel["description"].as_str().unwrap_or_default().is_empty(), "{title}");
    }
    Ok(())
}
