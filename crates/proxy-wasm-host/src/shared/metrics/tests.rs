use super::*;
use std::thread;

#[test]
fn numbers_carry_their_kind_and_start_anew_in_each_machine() {
    let metrics = Metrics::new();
    for _ in 0..2 {
        let mut ids = Ids::default();
        let mut define = |kind, name| ids.define(&metrics, kind, name);
        assert_eq!(define(COUNTER, "a"), Ok(4));
        assert_eq!(define(GAUGE, "a"), Ok(5));
        assert_eq!(define(HISTOGRAM, "a"), Ok(6));
        assert_eq!(define(COUNTER, "b"), Ok(8));
        assert_eq!(define(COUNTER, "a"), Ok(12));
        assert_eq!(define(3, "a"), Err(Status::BadArgument));
    }
}

#[test]
fn a_name_is_one_metric_for_all() {
    let metrics = Metrics::new();
    let (mut one, mut other) = (Ids::default(), Ids::default());
    let (first, again) = (one.define(&metrics, 0, "n"), one.define(&metrics, 0, "n"));
    other.define(&metrics, 0, "x").unwrap();
    let theirs = other.define(&metrics, 0, "n").unwrap();
    one.increment(first.unwrap(), 1).unwrap();
    one.increment(again.unwrap(), 2).unwrap();
    other.increment(theirs, 3).unwrap();
    assert_eq!(one.get(4), Ok(6));
    assert_eq!(metrics.value("n"), Some(6));
    assert_eq!(metrics.value("x"), Some(0));
    assert_eq!(metrics.value("y"), None);
}

#[test]
fn a_counter_only_goes_up() {
    let (metrics, mut ids) = (Metrics::new(), Ids::default());
    let id = ids.define(&metrics, COUNTER, "n").unwrap();
    for by in [0, -1, i64::MIN] {
        assert_eq!(ids.increment(id, by), Err(Status::BadArgument));
    }
    ids.increment(id, 2).unwrap();
    ids.record(id, 3).unwrap();
    assert_eq!(ids.get(id), Ok(5));
}

#[test]
fn a_gauge_is_set_and_goes_both_ways() {
    let (metrics, mut ids) = (Metrics::new(), Ids::default());
    let id = ids.define(&metrics, GAUGE, "n").unwrap();
    ids.record(id, 10).unwrap();
    ids.increment(id, 5).unwrap();
    ids.increment(id, -20).unwrap();
    ids.increment(id, 0).unwrap();
    assert_eq!(metrics.value("n"), Some(-5));
    assert_eq!(ids.get(id), Ok(-5_i64 as u64));
    ids.increment(id, i64::MIN).unwrap();
}

#[test]
fn a_histogram_takes_values_and_tells_none() {
    let (metrics, mut ids) = (Metrics::new(), Ids::default());
    let id = ids.define(&metrics, HISTOGRAM, "n").unwrap();
    assert_eq!(ids.record(id, 1), Ok(()));
    assert_eq!(ids.increment(id, 1), Err(Status::BadArgument));
    assert_eq!(ids.get(id), Err(Status::BadArgument));
    assert_eq!(metrics.value("n"), None);
}

#[test]
fn a_number_not_given_out_is_not_found() {
    let ids = Ids::default();
    for id in [0, 1, 4, 5, u32::MAX - 2] {
        assert_eq!(ids.increment(id, 1), Err(Status::NotFound));
        assert_eq!(ids.get(id), Err(Status::NotFound));
    }
    for id in [0, 1, 2, 3, 6, 7, u32::MAX] {
        assert_eq!(ids.record(id, 1), Err(Status::NotFound));
    }
    // Of these kinds nothing can be asked at all, known or not.
    for id in [2, 3, 6, 7] {
        assert_eq!(ids.increment(id, 1), Err(Status::BadArgument));
        assert_eq!(ids.get(id), Err(Status::BadArgument));
    }
}

#[test]
fn there_are_only_so_many_metrics_and_names_are_only_so_long() {
    let (metrics, mut ids) = (Metrics::new(), Ids::default());
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    assert_eq!(ids.define(&metrics, COUNTER, &long), Err(Status::InternalFailure));
    for number in 0..METRICS_MAX {
        Ids::default().define(&metrics, COUNTER, &number.to_string()).unwrap();
    }
    assert_eq!(ids.define(&metrics, GAUGE, "more"), Err(Status::InternalFailure));
    assert_eq!(metrics.value("more"), None);
    assert_eq!(ids.define(&metrics, COUNTER, "7"), Ok(4));
}

#[test]
fn who_defines_without_end_gets_the_first_number_again() {
    let (metrics, mut ids) = (Metrics::new(), Ids::default());
    ids.define(&metrics, COUNTER, "a").unwrap();
    for _ in 1..IDS_MAX {
        ids.define(&metrics, COUNTER, "b").unwrap();
    }
    assert_eq!(ids.define(&metrics, COUNTER, "b"), Ok(8));
    assert_eq!(ids.define(&metrics, COUNTER, "c"), Err(Status::InternalFailure));
}

#[test]
fn threads_lose_no_count() {
    const THREADS: u64 = 4;
    const TURNS: u64 = 10_000;
    let metrics = Metrics::new();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut ids = Ids::default();
                let [counter, gauge, histogram] = [COUNTER, GAUGE, HISTOGRAM]
                    .map(|kind| ids.define(&metrics, kind, "n").unwrap());
                for turn in 0..TURNS {
                    ids.increment(counter, 1).unwrap();
                    ids.increment(gauge, if turn % 2 == 0 { 3 } else { -2 }).unwrap();
                    ids.record(histogram, 2).unwrap();
                }
            });
        }
    });
    let mut text = String::new();
    metrics.write("", &mut text);
    let value = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    };
    assert_eq!(value("n"), THREADS * TURNS);
    assert_eq!(value("n_"), THREADS * TURNS / 2);
    assert_eq!(value("n___count"), THREADS * TURNS);
    assert_eq!(value("n___sum"), 2 * THREADS * TURNS);
}

#[test]
fn metrics_are_told_as_prometheus_reads_them() {
    let (metrics, mut ids) = (Metrics::new(), Ids::default());
    let mut define = |kind, name| ids.define(&metrics, kind, name).unwrap();
    let (dots, lines) = (define(COUNTER, "a.b"), define(COUNTER, "a_b"));
    let (gauge, histogram) = (define(GAUGE, "größe"), define(HISTOGRAM, "took"));
    ids.increment(dots, 1).unwrap();
    ids.increment(lines, 2).unwrap();
    ids.increment(gauge, -3).unwrap();
    for value in [0, 1, 2, 5_000_000] {
        ids.record(histogram, value).unwrap();
    }
    let mut text = String::new();
    metrics.write("wasm.", &mut text);
    let (head, tail) = text.split_once("wasm_took_bucket{le=\"10\"} 3\n").unwrap();
    assert_eq!(
        head,
        "# TYPE wasm_a_b counter\nwasm_a_b 1\n\
         # TYPE wasm_a_b_ counter\nwasm_a_b_ 2\n\
         # TYPE wasm_gr__e gauge\nwasm_gr__e -3\n\
         # TYPE wasm_took histogram\n\
         wasm_took_bucket{le=\"1\"} 2\nwasm_took_bucket{le=\"5\"} 3\n"
    );
    assert!(tail.ends_with(
        "wasm_took_bucket{le=\"3600000\"} 3\nwasm_took_bucket{le=\"+Inf\"} 4\n\
         wasm_took_sum 5000003\nwasm_took_count 4\n"
    ));
}

#[test]
fn a_name_does_not_start_with_a_digit() {
    let (metrics, mut ids) = (Metrics::new(), Ids::default());
    ids.define(&metrics, COUNTER, "4xx").unwrap();
    let mut text = String::new();
    metrics.write("", &mut text);
    assert_eq!(text, "# TYPE _4xx counter\n_4xx 0\n");
}
