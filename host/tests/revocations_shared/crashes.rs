//! A host dies at any moment, without a word: nothing that it acknowledged is lost.
//!
//! The host that dies is this very program, started again with a test's name and an order.

use crate::hosts::{Host, are_shared, open, redis, tokens, until};
use crate::server::Server;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tidegate::revocations::Durability;

/// Where the one who is to die has its ledger, its Redis, and with which number it begins.
const ORDER: &str = "TIDEGATE_TEST_REVOKES";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_killed_loses_nothing_that_it_acknowledged() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let survivor = Host::new(&redis(&server));
    survivor.until_following().await;
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        acknowledged.extend(revoke_and_die(&folder, server.port, round * 100_000, 50 + round * 37));
        if round % 2 == 1 {
            // What the dead host knew, and nobody else does, is in its file alone.
            server.command(&["FLUSHALL"]);
        }
    }
    println!("{} acknowledged by a host that was killed five times", acknowledged.len());
    let records: Vec<_> =
        acknowledged.iter().map(|number| tokens(*number..number + 1)[0]).collect();
    let ledger = open(folder.path(), true);
    for (number, record) in acknowledged.iter().zip(&records) {
        assert_eq!(ledger.get(record.id).unwrap(), Some(*record), "{number}");
    }
    drop(ledger);
    let back = Host::on(folder, &redis(&server));
    until("nothing is owed", || back.shared.trouble().is_none() && !back.ledger.owes()).await;
    until("the survivor knows", || survivor.knows_all(&records)).await;
    are_shared(&redis(&server), &records).await;
}

/// Not a test by itself: the host that dies. It revokes one after the other, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_who_dies() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let mut words = order.split(' ');
    let mut word = || words.next().unwrap();
    let (folder, port, first) = (word(), word().parse().unwrap(), word().parse().unwrap());
    let ledger = open(folder.as_ref(), true);
    let settings = tidegate_redis::Settings::standalone("127.0.0.1".to_owned(), port);
    let store = tidegate_redis::Store::start(settings);
    let shared = tidegate::revocations::SharedLog::start(&ledger, &store.log());
    until("it follows", || shared.trouble().is_none()).await;
    let mut out = std::io::stdout();
    for number in first.. {
        let records = tokens(number..number + 1);
        ledger.accept(records, Durability::Shared).await.unwrap();
        writeln!(out, "acknowledged {number}").unwrap();
        out.flush().unwrap();
    }
}

/// The numbers that it acknowledged before it was killed, after so many.
fn revoke_and_die(folder: &TempDir, port: u16, first: u64, count: u64) -> Vec<u64> {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crashes::the_one_who_dies", "--nocapture"])
        .env(ORDER, format!("{} {port} {first}", folder.path().display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut number = || loop {
        let line = lines.next()?.unwrap();
        let said = line.split_once("acknowledged ").map(|(_, number)| number.parse().unwrap());
        if said.is_some() {
            return said;
        }
    };
    let mut numbers: Vec<u64> = (0..count).map(|_| number().expect("it goes on")).collect();
    drop(child);
    // What it said before it was dead was said.
    numbers.extend(std::iter::from_fn(number));
    numbers
}

/// It is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
