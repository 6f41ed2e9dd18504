use super::*;
use crate::plugin::{FailurePolicy, Limits};
use crate::scene::{Guest, Stage, open};
use crate::vm::StreamKind;
use std::time::{Duration, Instant};

fn config() -> PluginConfig {
    PluginConfig { name: "it".into(), ..PluginConfig::default() }
}

fn fault(guest: &Guest, config: &PluginConfig) -> String {
    Stage::new().start_with(guest, config).err().unwrap().0
}

#[test]
fn a_filter_starts_in_envoys_order() {
    let log = |letter: &str| {
        format!(
            r#"(i32.store8 (i32.const 0) (i32.const {}))
            (drop (call $log (i32.const 2) (i32.const 0) (i32.const 1)))"#,
            letter.as_bytes()[0]
        )
    };
    let guest = Guest::new()
        .on_and("_initialize", &[], &log("i"))
        .on_and("proxy_on_context_create", &[], &log("c"))
        .on_and("proxy_on_vm_start", &[], &format!("{} (i32.const 1)", log("v")))
        .on_and("proxy_on_configure", &[], &format!("{} (i32.const 1)", log("f")));
    let guest = guest.with(&format!(
        r#"(func (export "main") (param i32 i32) (result i32) {} (i32.const 0))"#,
        log("m")
    ));
    let stage = Stage::new();
    let _filter = stage.start(&guest).unwrap();
    assert_eq!(stage.world.said(), "i m c v f");
}

#[test]
fn a_command_may_end_itself_with_success() {
    let command = |code: u32| {
        let text = Guest::new().text().replacen(
            "(module",
            r#"(module (import "wasi_unstable" "proc_exit" (func $exit (param i32)))"#,
            1,
        );
        let start = format!(r#"(func (export "_start") (call $exit (i32.const {code}))))"#);
        text.trim_end().strip_suffix(')').unwrap().to_owned() + &start
    };
    let start = |text: String| {
        let module = crate::scene::engine().load(&wat::parse_str(text).unwrap()).unwrap();
        Stage::new().worker.start(&module, &config()).map(drop)
    };
    assert_eq!(start(command(0)), Ok(()));
    let StartError(line) = start(command(3)).unwrap_err();
    assert!(line.starts_with("filter \"it\": _start trapped: exited with code 3"), "{line}");
}

#[test]
fn a_trap_names_callback_reason_and_function() {
    let guest = Guest::new()
        .on_and("proxy_on_vm_start", &[], "(call $abort) (i32.const 1)")
        .with("(func $abort unreachable)");
    let line = "filter \"it\": proxy_on_vm_start trapped: wasm `unreachable` instruction executed \
                (in abort)";
    assert_eq!(fault(&guest, &config()), line);
}

#[test]
fn a_refusal_names_the_callback() {
    let guest = Guest::new().on_and("proxy_on_configure", &[], "(i32.const 0)");
    let line = "filter \"it\": proxy_on_configure refused its configuration";
    assert_eq!(fault(&guest, &config()), line);
    let guest = Guest::new().on_and("proxy_on_vm_start", &[], "(i32.const 0)");
    let line = "filter \"it\": proxy_on_vm_start refused its configuration";
    assert_eq!(fault(&guest, &config()), line);
}

#[test]
fn a_start_without_end_is_ended() {
    let guest = Guest::new().on_and("proxy_on_vm_start", &[], "(loop $l (br $l)) (i32.const 1)");
    let limits = Limits { start: Duration::from_millis(50), ..Limits::default() };
    let line = fault(&guest, &PluginConfig { limits, ..config() });
    let wanted = "filter \"it\": proxy_on_vm_start trapped: ran longer than it may (in function ";
    assert!(line.starts_with(wanted), "{line}");
}

#[test]
fn too_much_memory_names_what_and_how_much() {
    let limits = Limits { memory_bytes: 32 << 10, ..Limits::default() };
    let line = "filter \"it\": begins with 65536 bytes of memory; its limit is 32768";
    assert_eq!(fault(&Guest::new(), &PluginConfig { limits, ..config() }), line);

    let limits = Limits { memory_bytes: 128 << 10, ..Limits::default() };
    let grow = "(if (i32.lt_s (memory.grow (i32.const 2)) (i32.const 0)) (then unreachable)) \
                (i32.const 1)";
    let guest = Guest::new().on_and("proxy_on_configure", &[], grow);
    let line = fault(&guest, &PluginConfig { limits, ..config() });
    let wanted = "; before that it asked for 196608 bytes of memory; its limit is 131072";
    assert!(line.ends_with(wanted), "{line}");

    let limits = Limits { table_elements: 10, ..Limits::default() };
    let guest = Guest::new().with("(table (export \"t\") 11 funcref)");
    let line = "filter \"it\": begins with 11 elements of tables; its limit is 10";
    assert_eq!(fault(&guest, &PluginConfig { limits, ..config() }), line);
}

#[test]
fn before_it_runs_a_module_may_only_call_so_much() {
    let guest = Guest::new().on("_initialize", &[("proxy_get_log_level", &[0])]);
    let line = fault(&guest, &config());
    let wanted = "filter \"it\": _initialize trapped: restricted_callback: called \
                  proxy_get_log_level while it starts (in function ";
    assert!(line.starts_with(wanted), "{line}");
    let guest = Guest::new().on("_initialize", &[("random_get", &[0, 4])]);
    let stage = Stage::new();
    assert!(stage.start(&guest).is_ok());
    assert_eq!(stage.world.said(), "A");
}

#[test]
fn filters_with_the_same_key_share_a_machine() {
    let stage = Stage::new();
    let guest = Guest::new().on("proxy_on_configure", &[]);
    let first = stage.start(&guest).unwrap();
    // How long a start may take is each filter's own.
    let limits = Limits { start: Duration::from_secs(3), ..Limits::default() };
    let second = PluginConfig { name: "two".into(), limits, ..config() };
    let second = stage.start_with(&guest, &second);
    let second = second.unwrap();
    assert_eq!(stage.worker.machines(), (1, 0));
    let other = PluginConfig { vm_id: "other".into(), ..config() };
    let other = stage.start_with(&guest, &other).unwrap();
    assert_eq!(stage.worker.machines(), (2, 0));
    let (one, two) = (open(&first, StreamKind::Http), open(&second, StreamKind::Http));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.root, two.root, one.id, two.id), (1, 2, 3, 4));
    drop((first, second, other));
    assert_eq!(stage.worker.machines(), (1, 0), "streams keep theirs alive");
    one.vm.close(one.id);
    two.vm.close(two.id);
    assert_eq!(stage.worker.machines(), (0, 0));
}

#[test]
fn a_filter_that_does_not_start_harms_nobody_in_its_machine() {
    let stage = Stage::new();
    // Traps if its configuration has any bytes.
    let guest = Guest::new().on_and(
        "proxy_on_configure",
        &[],
        "(if (local.get 1) (then unreachable)) (i32.const 1)",
    );
    let good = stage.start(&guest).unwrap();
    let bad = PluginConfig { configuration: b"bad".to_vec(), ..config() };
    assert!(stage.start_with(&guest, &bad).is_err());
    assert_eq!(stage.worker.machines(), (1, 0));
    assert!(open(&good, StreamKind::Http).is_ok());
}

#[test]
fn a_filter_ends_with_its_last_handle_and_stream() {
    let stage = Stage::new();
    let guest = Guest::new()
        .on("proxy_on_done", &[("proxy_get_log_level", &[0])])
        .on("proxy_on_delete", &[("proxy_get_log_level", &[0x7fff_0000])]);
    let filter = stage.start(&guest).unwrap();
    let stream = open(&filter, StreamKind::Http).unwrap();
    drop(filter.clone());
    drop(filter);
    assert_eq!(stage.world.said(), "");
    stream.vm.close(stream.id);
    assert_eq!(stage.world.said(), "A G A G", "the stream's done and delete, then the root's");
    assert_eq!(stage.worker.machines(), (0, 0));
}

#[test]
fn a_filter_that_is_not_done_yet_stays_until_it_says_so() {
    let stage = Stage::new();
    let guest = Guest::new()
        .on(
            "proxy_on_configure",
            &[("proxy_set_tick_period_milliseconds", &[10]), ("proxy_done", &[])],
        )
        .on_and("proxy_on_done", &[], "(i32.const 0)")
        .on("proxy_on_tick", &[("proxy_done", &[]), ("proxy_done", &[])])
        .on("proxy_on_delete", &[("proxy_get_log_level", &[0])]);
    let filter = stage.start(&guest).unwrap();
    assert_eq!(stage.world.said(), "A B", "nobody asked it to be done");
    drop(filter);
    assert_eq!(stage.worker.machines(), (1, 0));
    stage.world.pass_ms(10);
    stage.worker.run_due();
    assert_eq!(stage.world.said(), "A B A", "done, not done twice, deleted");
    assert_eq!(stage.worker.machines(), (0, 0));
    assert_eq!(stage.worker.due_ns(), None);
}

#[test]
fn a_tick_is_armed_again_when_it_returned() {
    let stage = Stage::new();
    let guest = Guest::new()
        .on("proxy_on_configure", &[("proxy_set_tick_period_milliseconds", &[10])])
        .on("proxy_on_tick", &[("proxy_get_log_level", &[0])]);
    let _filter = stage.start(&guest).unwrap();
    stage.world.said();
    assert_eq!(stage.worker.due_ns(), Some(10_000_000));
    stage.worker.run_due();
    assert_eq!(stage.world.said(), "", "not due yet");
    stage.world.pass_ms(35);
    stage.worker.run_due();
    assert_eq!(stage.world.said(), "A", "once, however late");
    assert_eq!(stage.worker.due_ns(), Some(45_000_000));
}

#[test]
fn a_period_of_zero_ends_the_ticks() {
    let stage = Stage::new();
    let guest = Guest::new()
        .on("proxy_on_configure", &[("proxy_set_tick_period_milliseconds", &[10])])
        .on("proxy_on_tick", &[("proxy_set_tick_period_milliseconds", &[0])]);
    let _filter = stage.start(&guest).unwrap();
    stage.world.pass_ms(10);
    stage.worker.run_due();
    assert_eq!(stage.worker.due_ns(), None);
}

#[test]
fn a_queue_tells_its_last_listener_on_whatever_thread() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let process = Process::new();
    let listener = Stage::of(&process);
    let guest =
        Guest::new().on("proxy_on_configure", &[("proxy_register_shared_queue", &[64, 5, 0])]).on(
            "proxy_on_queue_ready",
            &[
                ("proxy_dequeue_shared_queue", &[1, 16, 20]),
                ("proxy_dequeue_shared_queue", &[1, 16, 20]),
            ],
        );
    let woken = Arc::new(AtomicUsize::new(0));
    let counted = woken.clone();
    let wake = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let world = listener.world.clone();
    let worker = Worker::new(&process, world, wake);
    let _filter = worker.start(&guest.load().unwrap(), &config()).unwrap();
    assert_eq!(listener.world.said(), "A");

    std::thread::scope(|threads| {
        threads.spawn(|| {
            let sender = Stage::of(&process);
            let calls: &[(&str, &[i64])] = &[
                ("proxy_resolve_shared_queue", &[0, 0, 64, 5, 0]),
                ("proxy_resolve_shared_queue", &[0, 0, 69, 5, 0]),
                ("proxy_enqueue_shared_queue", &[1, 64, 5]),
                ("proxy_enqueue_shared_queue", &[9, 64, 5]),
            ];
            let _filter = sender.start(&Guest::new().on("proxy_on_configure", calls)).unwrap();
            assert_eq!(sender.world.said(), "A B A B");
        });
    });
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    assert_eq!(worker.due_ns(), Some(0));
    worker.run_due();
    assert_eq!(listener.world.said(), "A H", "one is there, the next is not");
    assert_eq!(worker.due_ns(), None);
}

/// A filter that traps at its first request header.
fn trapping() -> Guest {
    Guest::new().on_and("proxy_on_request_headers", &[], "unreachable")
}

fn fails(filter: &Filter) {
    let stream = open(filter, StreamKind::Http).unwrap();
    assert!(stream.vm.on_request_headers(stream.id, true).is_err());
}

#[test]
fn a_failed_filter_refuses_or_is_left_out() {
    let stage = Stage::new();
    let closed = stage.start(&trapping()).unwrap();
    fails(&closed);
    assert!(matches!(closed.entrance(), Entrance::Refuse));
    assert_eq!(stage.worker.machines(), (0, 0));
    let config = PluginConfig { failure: FailurePolicy::Open, ..config() };
    let open = stage.start_with(&trapping(), &config).unwrap();
    fails(&open);
    assert!(matches!(open.entrance(), Entrance::Bypass));
}

#[test]
fn a_failed_filter_starts_anew_after_pauses_that_double() {
    let stage = Stage::new();
    let failure = FailurePolicy::Reload { pause: Duration::from_millis(100) };
    let filter = stage.start_with(&trapping(), &PluginConfig { failure, ..config() }).unwrap();
    for pause_ms in [100, 200, 400] {
        fails(&filter);
        stage.world.pass_ms(pause_ms - 1);
        assert!(matches!(filter.entrance(), Entrance::Refuse), "{pause_ms} are not over");
        stage.world.pass_ms(1);
        assert!(matches!(filter.entrance(), Entrance::Machine(..)), "{pause_ms} are over");
    }
    assert_eq!(stage.worker.machines(), (1, 3));
    // One that ran for a while has proved itself.
    stage.world.pass_ms(60_000);
    fails(&filter);
    assert!(matches!(filter.entrance(), Entrance::Machine(..)), "its pause was long over");
    fails(&filter);
    stage.world.pass_ms(200);
    assert!(matches!(filter.entrance(), Entrance::Machine(..)), "200 again, not 1600");
}

#[test]
fn filters_of_one_machine_come_back_into_one() {
    let stage = Stage::new();
    let failure = FailurePolicy::Reload { pause: Duration::from_millis(1) };
    let config = PluginConfig { failure, ..config() };
    let one = stage.start_with(&trapping(), &config).unwrap();
    let two = stage.start_with(&trapping(), &config).unwrap();
    fails(&one);
    stage.world.pass_ms(1);
    assert!(open(&one, StreamKind::Http).is_ok() && open(&two, StreamKind::Http).is_ok());
    assert_eq!(stage.worker.machines().0, 1);
}

#[test]
fn a_loop_is_stopped_and_stalls_nobody_else() {
    let limits = Limits { callback: Duration::from_millis(200), ..Limits::default() };
    let looping =
        Guest::new().on_and("proxy_on_request_headers", &[], "(loop $l (br $l)) (i32.const 0)");
    let (started, starts) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        let stage = Stage::new();
        let filter = stage.start_with(&looping, &PluginConfig { limits, ..config() }).unwrap();
        let stream = open(&filter, StreamKind::Http).unwrap();
        let began = Instant::now();
        started.send(()).unwrap();
        assert!(stream.vm.on_request_headers(stream.id, true).is_err());
        assert!(stage.world.said().contains("proxy_on_request_headers trapped: ran longer"));
        began.elapsed()
    });
    let stage = Stage::new();
    let filter = stage.start(&Guest::new().on("proxy_on_request_headers", &[])).unwrap();
    starts.recv().unwrap();
    let mut passed = 0;
    while !other.is_finished() {
        let stream = open(&filter, StreamKind::Http).unwrap();
        assert_eq!(stream.vm.on_request_headers(stream.id, true), Ok(0));
        stream.vm.close(stream.id);
        passed += 1;
    }
    let took = other.join().unwrap();
    assert!(took >= Duration::from_millis(200), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(passed > 100, "only {passed} streams passed meanwhile");
}

#[test]
fn what_the_garbage_collector_keeps_is_memory_too() {
    let keep = r#"(loop $again
        (global.set $all (struct.new $link (global.get $all)
          (array.new_default $bytes (i32.const 100000))))
        (br $again))
        (i32.const 1)"#;
    let guest = Guest::new().on_and("proxy_on_configure", &[], keep).with(
        r#"(type $bytes (array i8))
        (type $link (struct (field (ref null $link)) (field (ref $bytes))))
        (global $all (mut (ref null $link)) (ref.null $link))"#,
    );
    let limits = Limits { memory_bytes: 8 << 20, ..Limits::default() };
    let line = fault(&guest, &PluginConfig { limits, ..config() });
    assert!(line.contains("bytes of memory; its limit is 8388608"), "{line}");
}

#[test]
fn a_functions_name_stays_within_its_line() {
    let name = format!("a\\n{}", "b".repeat(300));
    let guest = Guest::new()
        .on_and("proxy_on_configure", &[], "(call $trap) (i32.const 1)")
        .with(&format!(r#"(func $trap (@name "{name}") (unreachable))"#));
    let line = fault(&guest, &config());
    assert!(line.contains(r"(in a\nbbb"), "{line}");
    assert!(line.len() < 300 && !line.contains('\n'), "{line}");
}
