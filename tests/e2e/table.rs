//! One table of cases, and every home that Tidegate has: core as it is, the filter in Envoy, the
//! filter in `tidegate proxy`, and the component there.
//!
//! What a case expects it expects of all of them: which requests are let through, and what the
//! client of the last one is told. Budgets refill so slowly that real time does not matter.

mod core;
mod rows;

use crate::policy_with;
use anyhow::{Context, ensure};
use harness::client::{Answer, get};
use harness::envoy::{Home, Policy, envoy};
use harness::origin::Origin;
use harness::revoker::Revoker;
use harness::{Result, parts, stage, wait};
use rows::{Asked, Behind, Row};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where a case is played.
const HOMES: [Home; 3] = [Home::Envoy, Home::Bundled, Home::Component];

/// What became of a request.
struct Seen {
    status: u16,
    fields: BTreeMap<String, String>,
}

impl Row {
    fn policy(&self) -> Value {
        match policy_with(self.limits.clone(), self.more.clone()) {
            Policy::Struct(policy) => policy,
            other => json!(format!("{other:?}")),
        }
    }

    /// What is behind a proxy, if anything; what is revoked there is known.
    async fn behind(&self) -> Result<Option<Revoker>> {
        let Behind::Host { revoked } = &self.behind else { return Ok(None) };
        let revoker = Revoker::alone().await?;
        for what in revoked {
            revoker.revoke(what).await?;
        }
        Ok(Some(revoker))
    }

    async fn play_in(&self, home: Home) -> Result<()> {
        let (origin, behind) = (Origin::start().await?, self.behind().await?);
        let mut plan = envoy(Policy::Struct(self.policy())).origin(origin.address()).within(home);
        if let Some(behind) = &behind {
            plan = plan.host(behind.host.address());
        }
        if self.policy()["headers"]["send"] == "always" {
            plan = plan.filter(parts::filter_standing()?);
        }
        let envoy = plan.start().await?;
        if self.more["revocation"].is_object() {
            let sure = "wasmcustom.wasm_filter.tidegate.revocation.workers_sure";
            wait::until("what is revoked to be known", async || {
                envoy.stat(sure).is_ok_and(|sure| sure > 0).then_some(())
            })
            .await?;
        }
        for asked in &self.asked {
            let mut seen = Vec::new();
            for _ in &asked.statuses {
                let call = asked
                    .headers
                    .iter()
                    .fold(get(asked.path), |call, (name, value)| call.header(name, value));
                seen.push(Seen::from(envoy.send(call).await?));
            }
            asked.judge(&seen)?;
        }
        Ok(())
    }

    async fn play_in_core(&self) -> Result<()> {
        let behind = self.behind().await?;
        let host = behind.as_ref().map(|behind| behind.host.address());
        let mut core = core::Core::start(&self.policy(), host)?;
        if self.more["revocation"].is_object() {
            core.learn().await?;
        }
        for asked in &self.asked {
            let mut seen = Vec::new();
            for _ in &asked.statuses {
                seen.push(core.ask(asked).await?);
            }
            asked.judge(&seen)?;
        }
        Ok(())
    }
}

impl Asked {
    fn judge(&self, seen: &[Seen]) -> Result<()> {
        let statuses: Vec<u16> = seen.iter().map(|seen| seen.status).collect();
        let what = format!("{} {:?}", self.path, self.headers);
        ensure!(statuses == self.statuses, "{what}: {statuses:?}, not {:?}", self.statuses);
        let last = seen.last().context("no request")?;
        for (name, wanted) in &self.fields {
            let found = last.fields.get(*name).map_or("", String::as_str);
            ensure!(found == *wanted, "{what}: {name}: {found:?}, not {wanted:?}");
        }
        Ok(())
    }
}

impl From<Answer> for Seen {
    fn from(answer: Answer) -> Self {
        let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap_or("").to_owned();
        let fields = answer.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        Self { status: answer.status.as_u16(), fields: fields.collect() }
    }
}

#[test]
fn every_home_decides_all_cases_alike() -> Result<()> {
    for row in rows::rows() {
        stage(async {
            row.play_in_core().await.with_context(|| format!("{}, in core", row.name))
        })?;
        for home in HOMES {
            let played = async { row.play_in(home).await };
            stage(async { played.await.with_context(|| format!("{}, in {home:?}", row.name)) })?;
        }
    }
    Ok(())
}

/// A policy that one home refuses all refuse, and for the same.
#[test]
fn every_home_refuses_a_bad_policy_for_the_same() -> Result<()> {
    for (limits, place) in [
        (json!([{ "name": "odd", "rate": "1 hour" }]), "limits[0].rate"),
        (json!([{ "name": "odd", "rate": "1/1h", "kye": [] }]), "limits[0].kye"),
        (json!([{ "rate": "1/1h" }]), "limits[0]"),
    ] {
        let policy = policy_with(limits, json!({}));
        let Policy::Struct(plain) = &policy else { unreachable!("policies here are structs") };
        let told = core::Core::start(plain, None).err().context("core takes it")?;
        ensure!(told.to_string().contains(place), "core says {told}");
        for home in HOMES {
            stage(async {
                let refused = match home {
                    Home::Envoy => envoy(policy.clone()).in_envoy().validate().err(),
                    _ => envoy(policy.clone()).within(home).start().await.err(),
                };
                let told = refused.with_context(|| format!("{home:?} takes {place}"))?;
                if told.is::<parts::Missing>() {
                    return Err(told);
                }
                ensure!(told.to_string().contains(place), "{home:?} says {told}");
                Ok(())
            })?;
        }
    }
    Ok(())
}
