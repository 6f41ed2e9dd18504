use super::*;
use std::thread;

const A: Listener = Listener { worker: 1, vm: 10, root: 1 };
const B: Listener = Listener { worker: 2, vm: 20, root: 3 };

#[test]
fn a_name_has_one_token_in_each_vm_id() {
    let queues = Queues::new();
    assert_eq!(queues.resolve("vm", "a"), None);
    assert_eq!(queues.register("vm", "a", A), Ok(1));
    assert_eq!(queues.register("other", "a", A), Ok(2));
    assert_eq!(queues.register("vm", "a", B), Ok(1));
    assert_eq!(queues.resolve("vm", "a"), Some(1));
    assert_eq!(queues.resolve("other", "a"), Some(2));
    assert_eq!(queues.resolve("other", "b"), None);
}

#[test]
fn what_went_in_first_comes_out_first() {
    let queues = Queues::new();
    let token = queues.register("", "q", A).unwrap();
    for text in ["1", "", "3"] {
        queues.enqueue(token, Bytes::from(text)).unwrap();
    }
    // A later registration keeps what waits.
    queues.register("", "q", B).unwrap();
    for text in ["1", "", "3"] {
        assert_eq!(queues.dequeue(token).unwrap(), text);
    }
    assert_eq!(queues.dequeue(token), Err(Status::Empty));
}

#[test]
fn a_token_of_no_queue_is_not_found() {
    let queues = Queues::new();
    queues.register("", "q", A).unwrap();
    for token in [0, 2, u32::MAX] {
        assert_eq!(queues.enqueue(token, Bytes::new()), Err(Status::NotFound));
        assert_eq!(queues.dequeue(token), Err(Status::NotFound));
    }
}

#[test]
fn the_last_to_register_is_told_until_its_machine_ends() {
    let queues = Queues::new();
    let token = queues.register("", "q", A).unwrap();
    assert_eq!(queues.enqueue(token, Bytes::new()), Ok(Some(A)));
    queues.register("", "q", B).unwrap();
    assert_eq!(queues.enqueue(token, Bytes::new()), Ok(Some(B)));
    queues.forget(A.vm);
    assert_eq!(queues.enqueue(token, Bytes::new()), Ok(Some(B)));
    queues.forget(B.vm);
    assert_eq!(queues.enqueue(token, Bytes::new()), Ok(None));
    // What waits is there for whoever comes next.
    queues.register("", "q", A).unwrap();
    assert_eq!(queues.dequeue(token), Ok(Bytes::new()));
    assert_eq!(queues.enqueue(token, Bytes::new()), Ok(Some(A)));
}

#[test]
fn at_the_bound_nothing_goes_in() {
    let queues = Queues::with_bounds(Bounds { things: 2, bytes: 4 });
    let first = queues.register("vm", "1", A).unwrap();
    let second = queues.register("vm", "2", A).unwrap();
    let other = queues.register("other", "1", A).unwrap();
    queues.enqueue(first, Bytes::from("abc")).unwrap();
    assert_eq!(queues.enqueue(second, Bytes::from("de")), Err(Status::InternalFailure));
    queues.enqueue(second, Bytes::from("d")).unwrap();
    assert_eq!(queues.enqueue(first, Bytes::new()), Err(Status::InternalFailure));
    queues.enqueue(other, Bytes::from("1234")).unwrap();
    assert_eq!(queues.dequeue(first).unwrap(), "abc");
    assert_eq!(queues.dequeue(first), Err(Status::Empty));
    queues.enqueue(first, Bytes::from("abc")).unwrap();
}

#[test]
fn there_are_only_so_many_queues() {
    let queues = Queues::new();
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    assert_eq!(queues.register("", &long, A), Err(Status::InternalFailure));
    for number in 0..QUEUES_MAX {
        queues.register("", &number.to_string(), A).unwrap();
    }
    assert_eq!(queues.register("", "more", A), Err(Status::InternalFailure));
    assert_eq!(queues.resolve("", "more"), None);
    assert_eq!(queues.register("", "0", A), Ok(1));
}

#[test]
fn threads_lose_nothing_and_get_nothing_twice() {
    const PRODUCERS: u32 = 3;
    const THINGS: u32 = 2000;
    let queues = Queues::new();
    let token = queues.register("", "q", A).unwrap();
    let mut taken = thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let queues = &queues;
            scope.spawn(move || {
                for thing in 0..THINGS {
                    let value = (producer * THINGS + thing).to_le_bytes();
                    queues.enqueue(token, Bytes::copy_from_slice(&value)).unwrap();
                }
            });
        }
        let consumers = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut taken = Vec::new();
                while taken.len() < (PRODUCERS * THINGS / 2) as usize {
                    match queues.dequeue(token) {
                        Ok(value) => taken.push(u32::from_le_bytes(*value.first_chunk().unwrap())),
                        Err(_) => thread::yield_now(),
                    }
                }
                taken
            })
        });
        consumers.map(|consumer| consumer.join().unwrap()).concat()
    });
    taken.sort_unstable();
    assert_eq!(taken, (0..PRODUCERS * THINGS).collect::<Vec<_>>());
}
