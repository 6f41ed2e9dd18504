//! The log of revocations on a real Redis: what is appended is read by all, at once and in one
//! order, and whatever a server forgets is noticed by whoever knew of it.

mod logging;
mod rights;
mod server;

use logging::{LOG, all_after, append, news, once_read, record, records};
use rustix::process::Signal;
use server::{Server, until, wait};
use std::time::{Duration, Instant};
use tidegate_core::revoke::record::RECORD_BYTES;
use tidegate_core::revoke::{Position, Record};
use tidegate_redis::log::{Appended, ENTRY_RECORDS_MAX, Known, News, Read, Replicas, Writer};
use tidegate_redis::{Error, Refusal, Settings, Store};

/// Of no log.
const NONE: Position = Position { log: 0, number: 0, chain: 0 };

const PATIENCE: Duration = Duration::from_secs(1);

/// What a waiting reader may be told late, on a machine that is busy with other tests.
const AT_ONCE: Duration = Duration::from_millis(50);

#[tokio::test]
async fn what_is_appended_is_read_by_all_in_one_order() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let (mut one, mut other) = (store.log().writer(), store.log().writer());
    let first = append(&mut one, Known::Nothing, &records(3)).await;
    assert_eq!(first, Position::start(first.log).then(&bytes(&records(3))));
    // Both go by the same position; the second comes after the first all the same.
    let second = append(&mut one, Known::Position(first), &[record(10)]).await;
    let third = append(&mut other, Known::Position(first), &[record(11), record(12)]).await;
    assert_eq!(second, first.then(&bytes(&[record(10)])));
    assert_eq!(third, second.then(&bytes(&[record(11), record(12)])));
    let mut reader = store.log().reader();
    let (entries, end) = all_after(&mut reader, NONE).await;
    let read: Vec<_> = entries.iter().map(|entry| (entry.position, &entry.records[..])).collect();
    let all = [records(3), vec![record(10)], vec![record(11), record(12)]];
    assert_eq!(read, [(first, &all[0][..]), (second, &all[1]), (third, &all[2])]);
    assert_eq!((end, all_after(&mut reader, second).await.0.len()), (third, 1));
    assert_eq!(reader.at(2).await.unwrap(), Some(second));
    assert_eq!(reader.first().await.unwrap(), Some(first));
    assert_eq!(reader.last().await.unwrap(), Some(third));
    assert_eq!(reader.at(4).await.unwrap(), None);
}

#[tokio::test]
async fn a_waiting_reader_is_told_at_once_and_holds_up_no_ask() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let mut writer = store.log().writer();
    let mut at = append(&mut writer, Known::Nothing, &records(1)).await;
    let mut lags = Vec::new();
    for number in 1..100 {
        let mut reader = store.log().reader();
        let (_, end) = all_after(&mut reader, at).await;
        let reading = tokio::spawn(async move {
            // Whoever waits looks again four times a second, and may find nothing yet.
            loop {
                let News { entries, .. } = news(&mut reader, end, PATIENCE).await;
                if !entries.is_empty() {
                    return (entries, Instant::now());
                }
            }
        });
        until(|| server.info("blocked_clients") == "1").await;
        let asked = Instant::now();
        at = append(&mut writer, Known::Position(at), &[record(number)]).await;
        let (entries, told) = reading.await.unwrap();
        assert_eq!(entries[0].position, at);
        lags.push(told.duration_since(asked));
    }
    lags.sort();
    println!("told after {:?} in the middle, {:?} at most", lags[50], lags[98]);
    assert!(lags[50] < AT_ONCE, "{lags:?}");
}

/// The bound on what a script can hold up others is the caller's; the whole must be quick.
#[tokio::test]
async fn a_million_records_are_put_back_within_seconds() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let mut writer = store.log().writer();
    let records = records(1 << 20);
    let start = Instant::now();
    let mut known = Known::Nothing;
    for part in records.chunks(4 * ENTRY_RECORDS_MAX) {
        known = Known::Position(append(&mut writer, known, part).await);
    }
    let (put, start) = (start.elapsed(), Instant::now());
    let (entries, _) = all_after(&mut store.log().reader(), NONE).await;
    let read: Vec<Record> = entries.into_iter().flat_map(|entry| entry.records).collect();
    println!("{} records: put back in {put:?}, read in {:?}", read.len(), start.elapsed());
    assert!(read == records);
    assert!(put < Duration::from_secs(10), "{put:?}");
}

#[tokio::test]
async fn a_log_that_is_gone_is_noticed_by_all_and_begun_anew_by_one() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let known = append(&mut writer, Known::Nothing, &records(3)).await;
    let waiting = {
        let mut reader = store.log().reader();
        tokio::spawn(async move {
            let start = Instant::now();
            while reader.read(known, PATIENCE).await.unwrap() != Read::Lost {}
            start.elapsed()
        })
    };
    until(|| server.info("blocked_clients") == "1").await;
    server.command(&["FLUSHALL"]);
    let noticed = waiting.await.unwrap();
    assert!(noticed < PATIENCE, "noticed only after {noticed:?}");
    assert_eq!(reader.read(known, PATIENCE).await.unwrap(), Read::Lost);
    let entries: &[&[Record]] = &[&[record(9)]];
    let lost = writer.append(Known::Position(known), entries, None).await.unwrap();
    assert_eq!((lost, server.command(&["EXISTS", LOG])), (Appended::Lost, ":0".to_owned()));

    // Who finds that somebody has begun one already must read it first.
    let anew = append(&mut writer, Known::Nothing, &[record(9)]).await;
    assert_ne!(anew.log, known.log);
    let late = store.log().writer().append(Known::Nothing, entries, None).await.unwrap();
    let old = writer.append(Known::Position(known), entries, None).await.unwrap();
    assert_eq!((late, old), (Appended::Lost, Appended::Lost));
    assert_eq!(reader.read(known, PATIENCE).await.unwrap(), Read::Lost);
    assert_eq!(all_after(&mut reader, NONE).await.1, anew);
}

#[tokio::test]
async fn another_past_is_told_from_ones_own() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let first = append(&mut writer, Known::Nothing, &[record(1)]).await;
    let second = append(&mut writer, Known::Position(first), &[record(2)]).await;
    for wrong in [
        Position { chain: second.chain ^ 1, ..second },
        Position { log: second.log ^ 1, ..second },
        second.then(b"what a fail-over lost"),
    ] {
        let entries: &[&[Record]] = &[&[record(3)]];
        let appended = writer.append(Known::Position(wrong), entries, None).await.unwrap();
        assert_eq!(appended, Appended::Lost, "{wrong:?}");
        assert_eq!(reader.read(wrong, PATIENCE).await.unwrap(), Read::Lost, "{wrong:?}");
    }
    assert_eq!(reader.last().await.unwrap(), Some(second), "nothing was written");
}

#[tokio::test]
async fn a_log_with_a_gap_is_replaced_by_whoever_saw_it() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let first = append(&mut writer, Known::Nothing, &[record(1)]).await;
    let second = append(&mut writer, Known::Position(first), &[record(2)]).await;
    let third = append(&mut writer, Known::Position(second), &[record(3)]).await;
    assert_eq!(server.command(&["XDEL", LOG, &format!("2-{}", first.log)]), ":1");
    assert_eq!(reader.read(first, PATIENCE).await.unwrap(), Read::Damaged(first));
    let before = news(&mut reader, NONE, PATIENCE).await;
    assert_eq!((before.entries.len(), before.complete_at), (1, None), "what is whole is read");
    assert_eq!(server.command(&["XDEL", LOG, &format!("3-{}", first.log)]), ":1");
    let entries: &[&[Record]] = &[&[record(4)]];
    let appended = writer.append(Known::Position(first), entries, None).await.unwrap();
    assert_eq!(appended, Appended::Damaged);
    assert_eq!(reader.read(third, PATIENCE).await.unwrap(), Read::Lost);

    let anew = append(&mut writer, Known::Damaged(first.log), &[record(4)]).await;
    assert_eq!(reader.last().await.unwrap(), Some(anew));
    let twice = writer.append(Known::Damaged(first.log), entries, None).await.unwrap();
    assert_eq!(twice, Appended::Lost, "the new one is not damaged");
    // All deleted, one by one: as if there were none.
    assert_eq!(server.command(&["XDEL", LOG, &format!("1-{}", anew.log)]), ":1");
    append(&mut writer, Known::Nothing, &[record(5)]).await;
}

#[tokio::test]
async fn a_log_that_was_cut_is_read_from_its_head() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let mut all = vec![append(&mut writer, Known::Nothing, &[record(1)]).await];
    for number in 2..=10 {
        all.push(
            append(&mut writer, Known::Position(*all.last().unwrap()), &[record(number)]).await,
        );
    }
    let head = writer.head(2).await.unwrap();
    assert_eq!(head.iter().map(|entry| entry.position).collect::<Vec<_>>(), all[..2]);
    assert_eq!(writer.cut(head[0].position.log ^ 1, 4).await.unwrap(), None, "another log");
    assert_eq!(writer.cut(head[0].position.log, 4).await.unwrap(), Some(3));
    assert_eq!(writer.entry(3).await.unwrap(), None);
    assert_eq!(writer.entry(4).await.unwrap().unwrap().records, [record(4)]);
    assert_eq!(reader.read(all[2], PATIENCE).await.unwrap(), Read::Lost);
    let (entries, end) = all_after(&mut reader, NONE).await;
    assert_eq!((entries[0].position, end), (all[3], all[9]));
    assert_eq!(all_after(&mut reader, all[3]).await.0.len(), 6);
    assert_eq!(writer.cut(end.log, 1_000).await.unwrap(), Some(6), "the last one stays");
    assert_eq!(reader.last().await.unwrap(), Some(end));
    let ours = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(writer.now_secs().await.unwrap().abs_diff(ours.as_secs()) < 60);
}

#[tokio::test]
async fn a_reader_knows_when_it_knew_everything() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let mut reader = store.log().reader();
    let empty = news(&mut reader, NONE, Duration::ZERO).await;
    assert!(empty.entries.is_empty() && empty.complete_at.is_some());
    let mut writer = store.log().writer();
    let many: Vec<_> = records(200 * 100);
    let mut known = Known::Nothing;
    for part in many.chunks(100) {
        known = Known::Position(append(&mut writer, known, part).await);
    }
    let some = news(&mut reader, NONE, Duration::ZERO).await;
    assert!(some.entries.len() < 200 && some.complete_at.is_none(), "there is more");
    let (_, end) = all_after(&mut reader, NONE).await;
    let asked = tokio::time::Instant::now();
    let none = news(&mut reader, end, Duration::from_millis(1)).await;
    assert!(none.entries.is_empty() && none.complete_at >= Some(asked));
}

#[tokio::test]
async fn a_replica_is_not_taken_for_fresh() {
    let Some(master) = Server::start() else { return };
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let known = append(&mut writer, Known::Nothing, &records(3)).await;
    let reading = tokio::spawn(async move {
        loop {
            if let Err(error) = reader.read(known, PATIENCE).await {
                return (reader, error);
            }
        }
    });
    until(|| server.info("blocked_clients") == "1").await;
    server.command(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
    let (mut reader, _) = reading.await.unwrap();
    for _ in 0..20 {
        // While it reads its master's data, it says that instead. Whom it has woken it leaves.
        let is_other = |error: Error| match error {
            Error::Refused(Refusal::ReadOnly | Refusal::Loading, _) | Error::Unknown(_) => true,
            error => panic!("{error:?}"),
        };
        assert!(reader.read(known, PATIENCE).await.is_err_and(is_other));
        assert!(reader.last().await.is_err_and(is_other));
    }
    // A replica that lacks what is known may say so: whoever hears it asks a reader.
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(once_read(&mut reader, known).await, Read::Lost);
}

#[tokio::test]
async fn a_server_that_is_full_refuses_and_has_nothing_new() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let known = append(&mut writer, Known::Nothing, &records(3)).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let entries: &[&[Record]] = &[&[record(9)]];
    let refused = writer.append(Known::Position(known), entries, None).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::OutOfMemory, _)), "{refused:?}");
    assert!(!refused.may_have_run());
    assert!(news(&mut reader, known, Duration::ZERO).await.complete_at.is_some());
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let refused = writer.append(Known::Position(known), entries, None).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::NoWrites, _)), "{refused:?}");
    assert!(news(&mut reader, known, Duration::ZERO).await.complete_at.is_some());
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    append(&mut writer, Known::Position(known), &[record(9)]).await;
}

/// PING would be answered all that time.
#[tokio::test]
async fn a_server_that_holds_back_writes_is_not_taken_for_fresh() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let known = append(&mut writer, Known::Nothing, &records(3)).await;
    server.command(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let silent = reader.read(known, PATIENCE).await.unwrap_err();
    assert!(matches!(silent, Error::Unknown(_)), "{silent:?}");
    server.command(&["CLIENT", "UNPAUSE"]);
    assert!(matches!(once_read(&mut reader, known).await, Read::News(_)));
}

#[tokio::test]
async fn scripts_that_were_flushed_and_servers_that_come_back_are_no_hindrance() {
    let Some(mut server) = Server::start() else { return };
    let store = connected(&server).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let known = append(&mut writer, Known::Nothing, &records(3)).await;
    server.command(&["SCRIPT", "FLUSH"]);
    let known = append(&mut writer, Known::Position(known), &records(3)).await;
    server.kill();
    let entries: &[&[Record]] = &[&[record(9)]];
    assert!(reader.read(known, PATIENCE).await.is_err());
    assert!(reader.read(known, PATIENCE).await.is_err());
    assert!(writer.append(Known::Position(known), entries, None).await.is_err());
    assert!(reader.trouble().unwrap().contains("connect: "), "{:?}", reader.trouble());
    server.restart();
    assert_eq!(once_read(&mut reader, known).await, Read::Lost);
    assert_eq!(reader.trouble(), None);
    let appended = logging::once_appended(&mut writer, Known::Nothing, &[record(9)]).await;
    assert!(matches!(appended, Appended::Done { .. }), "{appended:?}");
}

#[tokio::test]
async fn replicas_are_waited_for_as_long_as_was_said() {
    let now = ["--repl-diskless-sync-delay", "0"];
    let Some(server) = Server::start_with(&now, None) else { return };
    let port = server.port.to_string();
    let Some(replica) = Server::start_with(&["--replicaof", "127.0.0.1", &port], None) else {
        return;
    };
    wait("a replica", || server.command(&["INFO", "replication"]).contains("state=online"));
    let store = connected(&server).await;
    let mut writer = store.log().writer();
    let known = append(&mut writer, Known::Nothing, &records(1)).await;
    let patient = Replicas { count: 1, within: Duration::from_secs(10) };
    let (known, replicas) = replicated(&mut writer, known, patient).await;
    assert_eq!(replicas, Some(1));
    assert_eq!(replica.command(&["XLEN", LOG]), ":2", "it has what it acknowledged");
    replica.signal(Signal::STOP);
    let start = Instant::now();
    let hasty = Replicas { count: 1, within: Duration::from_millis(50) };
    let (_, replicas) = replicated(&mut writer, known, hasty).await;
    let took = start.elapsed();
    assert_eq!(replicas, Some(0), "it is in the log, and nowhere else");
    assert!(took >= hasty.within && took < Duration::from_secs(1), "{took:?}");
    replica.signal(Signal::CONT);
}

#[tokio::test]
async fn it_is_one_hosts_turn_until_it_ends() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let (mut one, mut other) = (store.log().writer(), store.log().writer());
    let long = Duration::from_secs(60);
    assert!(one.take_turn(1, long).await.unwrap());
    assert!(!other.take_turn(2, long).await.unwrap());
    assert!(one.take_turn(1, long * 2).await.unwrap(), "it may be lengthened");
    let left = server.command(&["PTTL", "tidegate:{revocations}:turn"]);
    assert!(left[1..].parse::<u64>().unwrap() > 60_000, "{left}");
    one.end_turn().await.unwrap();
    assert!(other.take_turn(2, Duration::from_millis(1)).await.unwrap());
    let until = Instant::now() + long;
    while !one.take_turn(1, long).await.unwrap() {
        assert!(Instant::now() < until, "a turn ends by itself");
    }
}

#[tokio::test]
async fn what_others_put_in_its_place_is_no_log() {
    let Some(server) = Server::start() else { return };
    let store = connected(&server).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    server.command(&["SET", LOG, "a string"]);
    let entries: &[&[Record]] = &[&[record(9)]];
    assert!(reader.read(NONE, PATIENCE).await.is_err());
    assert!(writer.append(Known::Nothing, entries, None).await.is_err());
    server.command(&["DEL", LOG]);
    server.command(&["XADD", LOG, "5-7", "field", "value"]);
    assert_eq!(reader.read(NONE, PATIENCE).await.unwrap(), Read::Damaged(NONE));
    let anew = append(&mut writer, Known::Damaged(7), &[record(9)]).await;
    assert_eq!(all_after(&mut reader, NONE).await.1, anew);
}

/// The least rights that the host is given are all that it needs.
#[tokio::test]
async fn least_rights_are_enough() {
    let Some(server) = Server::start() else { return };
    let settings = Settings::standalone("127.0.0.1".to_owned(), server.port);
    let store = Store::start(rights::least(&server, settings));
    until(|| store.trouble().is_none()).await;
    let (mut writer, mut reader) = (store.log().writer(), store.log().reader());
    let first = append(&mut writer, Known::Nothing, &[record(1)]).await;
    let wait = Replicas { count: 0, within: Duration::from_millis(1) };
    let (second, replicas) = replicated(&mut writer, first, wait).await;
    assert_eq!(replicas, Some(0));
    assert_eq!(all_after(&mut reader, NONE).await.1, second);
    assert!(news(&mut reader, second, Duration::from_millis(1)).await.entries.is_empty());
    assert_eq!(reader.last().await.unwrap(), Some(second));
    assert_eq!(writer.cut(second.log, 2).await.unwrap(), Some(1));
    assert!(writer.now_secs().await.unwrap() > 0);
    assert!(writer.take_turn(1, PATIENCE).await.unwrap());
    assert!(!writer.take_turn(2, PATIENCE).await.unwrap());
    writer.end_turn().await.unwrap();
    append(&mut writer, Known::Damaged(second.log), &[record(1)]).await;
    assert_eq!(server.command(&["ACL", "LOG"]), "", "nothing was tried that it may not");
}

async fn replicated(
    writer: &mut Writer,
    known: Position,
    wanted: Replicas,
) -> (Position, Option<u32>) {
    let entries: &[&[Record]] = &[&[record(9)]];
    match writer.append(Known::Position(known), entries, Some(wanted)).await.unwrap() {
        Appended::Done { positions, replicas } => (positions[0], replicas),
        other => panic!("{other:?}"),
    }
}

fn bytes(records: &[Record]) -> Vec<u8> {
    let bytes: Vec<u8> = records.iter().flat_map(Record::to_bytes).collect();
    assert_eq!(bytes.len(), records.len() * RECORD_BYTES);
    bytes
}

async fn connected(server: &Server) -> Store {
    let store = Store::start(Settings::standalone("127.0.0.1".to_owned(), server.port));
    until(|| store.trouble().is_none()).await;
    store
}
