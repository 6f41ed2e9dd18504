//! The same filters in a real Envoy and in our own host, with the same results.
//!
//! A file `cases/NAME.play` says what a filter shall do and what a client sends; a file
//! `cases/NAME.envoy` beside it is the transcript of what then happens in Envoy 1.40: each
//! host call's status and value, each callback in order, the request as the origin saw it,
//! the answer as the client got it. Envoy's transcript must be that very file, and so must
//! our own host's, but for the differences that `cases/NAME.kept` lists with their reasons.
//!
//! `TIDEGATE_BLESS=1` writes the `.envoy` files anew.

mod client;
mod home;
mod network;
mod origin;
mod record;
mod script;
mod starts;
mod transcript;

use anyhow::{Context, bail};
use harness::{Result, parts};
use home::{Home, Kind};
use origin::Origin;
use script::Script;
use std::path::PathBuf;

/// Two tests for each file of cases.
macro_rules! conform {
    ($($name:ident),+ $(,)?) => {
        mod envoy {$(
            #[test]
            fn $name() -> harness::Result<()> {
                harness::stage(crate::envoy_does_what_is_recorded(stringify!($name)))
            }
        )+}
        mod bundled {$(
            #[test]
            fn $name() -> harness::Result<()> {
                harness::stage(crate::our_host_does_as_envoy(stringify!($name)))
            }
        )+}
    };
}

conform!(
    abi_0_1_0,
    abi_0_2_0,
    assemblyscript,
    bodies,
    callouts,
    chain,
    configured,
    edges,
    flow,
    foreign,
    grpc,
    headers,
    lifecycle,
    network,
    one_machine,
    others,
    properties,
    quirks,
    replies,
    root_calls,
    roots,
    sdk,
    sdk_network,
    shared,
    stop,
    trailers,
    traps,
    traps_closed,
    traps_open
);

/// Plays one file of cases in Envoy.
async fn envoy_does_what_is_recorded(name: &str) -> Result<()> {
    let found = play_all(Kind::Envoy, name).await?;
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        return Ok(std::fs::write(path(name, "envoy"), found)?);
    }
    let recorded = std::fs::read_to_string(path(name, "envoy"))?;
    match record::difference(&recorded, &found) {
        Some(difference) => bail!("{name}: Envoy does not do what is recorded:\n{difference}"),
        None => Ok(()),
    }
}

/// Plays one file of cases in our own host.
async fn our_host_does_as_envoy(name: &str) -> Result<()> {
    let found = play_all(Kind::Bundled, name).await?;
    let recorded = std::fs::read_to_string(path(name, "envoy"))?;
    let kept = std::fs::read_to_string(path(name, "kept")).unwrap_or_default();
    match record::difference(&record::with_kept(&recorded, &kept)?, &found) {
        Some(difference) => bail!("{name}: our host does not do as Envoy:\n{difference}"),
        None => Ok(()),
    }
}

async fn play_all(kind: Kind, name: &str) -> Result<String> {
    let scripts = Script::read(&std::fs::read_to_string(path(name, "play"))?)?;
    let mut played = Vec::new();
    for script in &scripts {
        played.push(play(kind, script).await?);
    }
    Ok(played.join("\n"))
}

fn path(name: &str, kind: &str) -> PathBuf {
    parts::root().join("tests/conformance/cases").join(format!("{name}.{kind}"))
}

/// The transcripts of all cases in one home.
async fn play(kind: Kind, script: &Script) -> Result<String> {
    let origin = Origin::start(script.setup.is_network).await?;
    let modules =
        || script.setup.filters.iter().map(|it| &*it.module).collect::<Vec<_>>().join(", ");
    let home = Home::start(kind, &script.setup, origin.address()).await;
    let home = home.with_context(|| format!("{kind:?} does not start with {}", modules()))?;
    let mut transcripts = Vec::new();
    for case in &script.cases {
        origin.take();
        if kind == Kind::Envoy && case.client.iter().any(|line| line == "envoy dies") {
            transcripts.push(format!("case {}\n  Envoy dies\n", case.name));
            continue;
        }
        home.begin();
        let got = if script.setup.is_network {
            network::play(&home, case).await
        } else {
            client::play(&home, &case.name, &case.client).await
        };
        let got = got.with_context(|| {
            format!("case {} in {kind:?}; its log:\n{}", case.name, home.log(&case.name).join("\n"))
        })?;
        origin.settle().await?;
        let mut log = home.log(&case.name);
        let says = |line: &str| case.client.iter().any(|it| it == line);
        if says("with roots") {
            log.extend(home.root_log().into_iter().map(|line| format!("root: {line}")));
        }
        if says("sizes vary") {
            log = transcript::without_sizes(log);
        }
        let mut seen = origin.take();
        if says("origin varies") {
            seen.clear();
        }
        transcripts.push(transcript::write(&case.name, &log, &seen, &got));
    }
    Ok(transcripts.join("\n"))
}
