//! Tidegate at work: real processes, real traffic, and an account of what became of it.
//!
//! Two Envoys run `envoy/envoy.yaml`, one host service counts what they share, one origin
//! answers. Whatever is printed was seen to happen, and is held against what the policy
//! says: if anything differs, this program fails.
//!
//! `--keep` leaves everything up until Ctrl-C, and says where.

mod account;
mod scene;

use harness::{Result, perform};
use scene::Scene;
use std::cell::Cell;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// `EX_USAGE` of sysexits.h.
const BAD_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keep = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--keep"] => true,
        _ => {
            eprintln!("usage: demo [--keep]");
            return BAD_USAGE.into();
        }
    };
    let (finished, stopped) = (Cell::new(false), Cell::new(false));
    let outcome = perform(async {
        tokio::select! {
            stop = told_to_stop() => { stopped.set(true); stop }
            end = show(keep, &finished) => end
        }
    });
    match outcome {
        // Whoever stops it half-way does not want to hear what it left unfinished.
        _ if stopped.get() && !finished.get() => INTERRUPTED.into(),
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

async fn show(keep: bool, finished: &Cell<bool>) -> Result<()> {
    let mut scene = Scene::set().await?;
    scene.play().await?;
    finished.set(true);
    if keep {
        scene.signpost();
        std::future::pending::<()>().await;
    }
    Ok(())
}

async fn told_to_stop() -> Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
