//! Several instances of the limiter in one process, as a server with threads would have them: what they
//! share holds them together, and `set-instances` says how many they are.

use anyhow::Context;
use harness::host::Host;
use harness::workshop::{Workshop, output};
use harness::{Result, parts, ports, stage};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;

const INSTANCES: usize = 8;

/// To each instance, in turn.
const REQUESTS: usize = 200;

/// How many requests were let through, and how often instances looked at what they share, having been
/// told that they are so many.
fn run(limit: &Value, service: SocketAddr, told: usize) -> Result<(usize, u64)> {
    let workshop = Workshop::open()?;
    let policy = workshop.example("instances.json");
    let text = json!({
        "tidegate": 1, "domain": format!("shop-{told}"), "limits": [limit],
        "host": { "cluster": "tidegate", "deadline": "4s" },
    });
    fs::write(&policy, text.to_string())?;
    let mut command = workshop.command("python-instances", r#"python3 "$0" "$@""#)?;
    command.arg(parts::root().join("tests/foreign/instances.py"));
    command.arg(parts::component()?).arg(policy).arg(service.to_string());
    command.args([INSTANCES, told, REQUESTS].map(|number| number.to_string()));
    let said: Value = serde_json::from_str(&output(&mut command)?)?;
    let number = |name: &str| said[name].as_u64().with_context(|| format!("{name} in {said}"));
    Ok((number("admitted")?.try_into()?, number("looked")?))
}

#[test]
fn a_local_limit_holds_over_all_instances() -> Result<()> {
    stage(async {
        let limit = json!({ "name": "all", "key": { "const": "all" }, "rate": "100/1h" });
        assert_eq!(run(&limit, ports::REFUSED, INSTANCES)?.0, 100);
        Ok(())
    })
}

/// The more instances there are, the less of what is leased each takes aside, and the more often it
/// comes for more.
#[test]
fn instances_are_told_how_many_they_are() -> Result<()> {
    stage(async {
        let host = Host::on_memory().await?;
        let limit = json!({
            "name": "all", "key": { "const": "all" }, "rate": "100000/1h", "scope": "global",
        });
        let (admitted, of_one) = run(&limit, host.address(), 1)?;
        assert_eq!(admitted, INSTANCES * REQUESTS);
        let (admitted, of_all) = run(&limit, host.address(), INSTANCES)?;
        assert_eq!(admitted, INSTANCES * REQUESTS);
        assert!(
            of_all > 2 * of_one,
            "{of_all} looks, and {of_one} of those that think they are alone"
        );
        Ok(())
    })
}
