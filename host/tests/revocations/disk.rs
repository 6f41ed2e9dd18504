//! Disks that have no room left: nothing is acknowledged that is not kept, what was is there, and
//! as soon as there is room all goes on.

use crate::common::{Caller, Host, await_some};
use crate::host::{api_caller, before_secs, id, revoke, revoke_request, serve};
use crate::made_up::token;
use crate::opened::{open, settings};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::revocations::{Durability, Fault, NotAccepted, Revocations};
use tidegate_core::revoke::EVER;

/// Where what runs beside a test of the same name finds its folder.
const FOLDER: &str = "TIDEGATE_TEST_FOLDER";

/// Runs the test of this name, which is ignored otherwise, as a process of its own that is begun
/// by this script; the process's arguments are the script's.
fn beside(script: &str, test: &str, folder: &Path) {
    let run = Command::new("unshare")
        .args(["-Urm", "bash", "-ec", script, "bash"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    let said = [run.stdout, run.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(run.status.success(), "{}", said.join("\n"));
    assert!(said[0].contains("1 passed"), "{}", said.join("\n"));
}

fn folder() -> PathBuf {
    std::env::var_os(FOLDER).expect("it is run beside another").into()
}

#[test]
fn a_full_disk_is_told_of_and_recovered_from() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=48m tmpfs \"$TIDEGATE_TEST_FOLDER\"; \"$@\"";
    beside(script, "disk::on_a_disk_of_48_mb", folder.path());
}

#[tokio::test]
#[ignore = "run beside a_full_disk_is_told_of_and_recovered_from"]
async fn on_a_disk_of_48_mb() {
    let folder = folder();
    let (host, api) = serve(&folder.join("ledger"), "");
    let (mut caller, mut proxy) = (api_caller(api).await, host.http2().await);
    revoke(&mut caller, "before").await;

    let ballast = folder.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 65_536]).is_ok() {}
    let (head, body) = caller.send(revoke_request("never")).await;
    let said = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(head.status(), 507, "{said}");
    assert!(said.contains("no room on the disk"), "{said}");
    let ids = [id("before"), id("never")];
    assert_eq!(before_secs(&mut proxy, &ids).await, [EVER, 0], "what is kept can be read");
    assert_eq!(host.metric("tidegate_revocation_ledger_up").await, 0.0);
    assert_eq!(host.metric("tidegate_revocation_accepts_total{outcome=\"full\"}").await, 1.0);

    std::fs::remove_file(&ballast).unwrap();
    drop(file);
    recovers(&host, &mut caller).await;
    drop(host);
    let (host, _) = serve(&folder.join("ledger"), "");
    let ids = [id("before"), id("never"), id("after")];
    assert_eq!(before_secs(&mut host.http2().await, &ids).await, [EVER, 0, EVER]);
}

async fn recovers(host: &Host, caller: &mut Caller) {
    revoke(caller, "after").await;
    assert_eq!(host.metric("tidegate_revocation_ledger_up").await, 1.0);
    host.logs().line_with(&["ERROR", "no room on the disk"]);
}

/// The system itself refuses to let files grow: in the middle of a write, where no look at what is
/// free would have helped.
#[test]
fn a_write_that_fails_midway_is_as_if_it_had_never_been() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ; ulimit -f 3000; \"$@\"";
    beside(script, "disk::with_files_of_3_mb", folder.path());
    // Without the bound.
    let host = open(folder.path());
    let kept = host.stats().records[0];
    assert!(kept > 1_000, "{kept}");
    for number in 0..kept {
        assert_eq!(host.get(token(number).id), Ok(Some(token(number))), "{number}");
    }
}

#[tokio::test]
#[ignore = "run beside a_write_that_fails_midway_is_as_if_it_had_never_been"]
async fn with_files_of_3_mb() {
    let host = Revocations::open(&settings(&folder(), false)).unwrap();
    let mut kept = 0;
    let failed = loop {
        let some: Vec<_> = (kept..kept + 500).map(token).collect();
        match host.accept(some, Durability::Shared).await {
            Ok(_) => kept += 500,
            Err(failed) => break failed,
        }
        assert!(kept < 1_000_000, "no bound was met");
    };
    assert_eq!(failed, NotAccepted::Fault(Fault::Full));
    let readable =
        await_some("what is kept to be readable again", || host.get(token(0).id).ok().flatten());
    assert_eq!(readable.await, token(0));
    assert_eq!(host.stats().records[0], kept, "nothing of what failed");
    for number in 0..kept {
        assert_eq!(host.get(token(number).id), Ok(Some(token(number))), "{number}");
    }
    assert_eq!(host.get(token(kept).id), Ok(None));
}
