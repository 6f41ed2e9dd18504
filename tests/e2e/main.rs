//! What Tidegate promises, each promise kept in a real Envoy.
//!
//! One file per kind of promise. Edge cases of arithmetic are core's own tests; here it is
//! shown that what core decides is what clients get, whatever they and the network do.

mod claims;
mod faults;
mod fleet;
mod guards;
mod hostile;
mod identity;
mod leases;
mod local;
mod observed;
mod oracle;
mod panics;
mod plugin_bounds;
mod plugin_tools;
mod plugins;
mod refusals;
mod revocation;
mod rules;
mod shipped;
mod streams;
mod table;
mod updates;

use harness::client::Answer;
use harness::envoy::{Envoy, Policy};
use harness::{Result, wait};
use serde_json::{Value, json};

/// A policy of these limits, with the host service where `envoy.yaml` has it.
///
/// Its deadline is far above what an ask takes, so that a busy machine is not taken for a
/// host that is away; tests about the deadline set their own.
fn policy(limits: Value) -> Policy {
    policy_with(limits, json!({}))
}

/// As [`policy`], with these fields of the policy too.
fn policy_with(limits: Value, more: Value) -> Policy {
    let mut policy = json!({
        "tidegate": 1,
        "domain": "shop",
        "host": { "cluster": "tidegate_host", "deadline": "4s" },
        "limits": limits,
    });
    if let (Some(policy), Value::Object(more)) = (policy.as_object_mut(), more) {
        policy.extend(more);
    }
    Policy::Struct(policy)
}

/// How many were let through.
fn admitted(answers: &[Answer]) -> usize {
    count(answers, 200)
}

/// How many have this status.
fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// Waits until a proxy has told of so many requests that a limit had these outcomes; none of them
/// was decided without the store. Counters are told at ticks: before, this too would be zero.
async fn assert_never_alone(
    envoy: &Envoy,
    limit: &str,
    outcomes: &[&str],
    requests: usize,
) -> Result<()> {
    wait::until("what became of all requests to be told", async || {
        let told = outcomes.iter().map(|outcome| envoy.outcomes(limit, outcome));
        (told.sum::<Result<u64>>().ok()? >= requests as u64).then_some(())
    })
    .await?;
    assert_eq!(envoy.outcomes(limit, "degraded")?, 0, "{limit} was decided alone");
    Ok(())
}

/// Their statuses in order: what a promise about a few requests reads best as.
fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status.as_u16()).collect()
}
