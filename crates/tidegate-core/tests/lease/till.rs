//! What workers do with what they share.

use crate::made_up::{LIMIT, NOW, bucket, terms};
use std::collections::HashMap;
use tidegate_core::gate::Ground;
use tidegate_core::key::Key;
use tidegate_core::lease::{
    Away, Budget, Due, HolderId, Place, Queue, Sent, Served, Shelf, Store, Take, Till, WANTS_MAX,
};
use tidegate_core::table::{Conflict, SET_BYTES, Slots};
use tidegate_core::time::{Instant, Span};

struct Memory {
    now: Instant,
    sets: HashMap<u32, (u32, [u8; SET_BYTES])>,
    is_broken: bool,
}

impl Slots for Memory {
    fn load(&mut self, set: u32, into: &mut [u8; SET_BYTES]) -> u32 {
        let (version, bytes) = self.sets.get(&set).unwrap_or(&(0, [0; SET_BYTES]));
        *into = *bytes;
        *version
    }

    fn store(&mut self, set: u32, bytes: &[u8; SET_BYTES], version: u32) -> Result<(), Conflict> {
        if self.is_broken {
            return Err(Conflict);
        }
        self.sets.insert(set, (version + 1, *bytes));
        Ok(())
    }
}

impl Ground for Memory {
    fn now(&mut self) -> Instant {
        self.now
    }
}

/// A process of two workers, and the store.
struct Fleet {
    memory: Memory,
    tills: [Till; 2],
    store: Store,
}

impl Fleet {
    fn new(keys_max: u32) -> Self {
        let shelf = Shelf::new(0, keys_max);
        let till = |worker| Till::new(HolderId::new(1, worker), 2, shelf);
        Self {
            memory: Memory { now: NOW, sets: HashMap::new(), is_broken: false },
            tills: [till(0), till(1)],
            store: Store::new(4_096),
        }
    }

    fn take(&mut self, worker: usize, budget: &Budget, cost: u32) -> Take {
        self.tills[worker].take(&mut self.memory, budget, cost).0
    }

    fn asks(&mut self, worker: usize, queues: &[Queue]) -> (tidegate_core::lease::Ask, Sent) {
        self.tills[worker].ask(&mut self.memory, queues).unwrap()
    }

    /// Asks, and has the answer; returns the units for those who wait.
    fn ask(&mut self, worker: usize, queues: &[Queue]) -> u32 {
        let (ask, sent) = self.asks(worker, queues);
        let place = Place { now: self.memory.now, stamp: 1, began: None };
        let reply = self.store.answer(&place, &ask).unwrap();
        let mut served = 0;
        self.tills[worker].on_reply(&mut self.memory, sent, &reply, |_, it| {
            served += it.unwrap().units;
        });
        served
    }

    fn passes(&mut self, ms: u64) {
        self.memory.now = self.memory.now.after(Span::from_millis(ms));
    }
}

fn budget(number: u16) -> Budget {
    let mut bytes = [0; 16];
    for place in [0, 4, 8] {
        bytes[place..place + 2].copy_from_slice(&number.to_le_bytes());
    }
    Budget { key: Key(bytes), limit: LIMIT, terms: terms(bucket(100, 100)) }
}

fn queue(budget: Budget, waiting: u32, at_once: bool) -> Queue {
    Queue { budget, waiting, least: waiting.min(1), at_once }
}

#[test]
fn what_one_worker_was_granted_another_spends() {
    let mut fleet = Fleet::new(64);
    let budget = budget(1);
    assert_eq!(fleet.take(0, &budget, 1), Take::Asks);
    assert_eq!(fleet.ask(0, &[queue(budget, 10, false)]), 0, "leased, not for those who wait");
    for _ in 0..10 {
        assert_eq!(fleet.take(1, &budget, 1), Take::Admitted);
    }
    assert_eq!(fleet.take(1, &budget, 1), Take::Asks);
}

#[test]
fn a_worker_waits_for_its_own_ask_only() {
    let mut fleet = Fleet::new(64);
    let budget = budget(1);
    assert_eq!(fleet.take(0, &budget, 1), Take::Asks);
    let (_, sent) = fleet.asks(0, &[queue(budget, 1, true)]);
    assert_eq!(fleet.take(0, &budget, 1), Take::Waits);
    assert_eq!(fleet.take(1, &budget, 1), Take::Asks, "it would not hear of the reply");
    fleet.tills[0].on_lost(&mut fleet.memory, sent);
    assert_eq!(fleet.take(0, &budget, 1), Take::Asks);
}

#[test]
fn a_budget_whose_store_is_away_is_as_if_its_ask_were_lost() {
    let mut fleet = Fleet::new(64);
    let budgets = [budget(1), budget(2)];
    for budget in &budgets {
        assert_eq!(fleet.take(0, budget, 1), Take::Asks);
        assert!(fleet.tills[0].owe(&mut fleet.memory, budget, 7));
    }
    let queues = budgets.map(|budget| queue(budget, 1, true));
    let (ask, sent) = fleet.asks(0, &queues);
    let place = Place { now: fleet.memory.now, stamp: 1, began: None };
    let mut reply = fleet.store.answer(&place, &ask).unwrap();
    let away = Away(Span::from_secs(3));
    reply.grants[1] = Err(away);
    let mut said = Vec::new();
    let serve = |of: &Budget, it: Result<Served, Away>| said.push((of.key, it));
    assert!(fleet.tills[0].on_reply(&mut fleet.memory, sent, &reply, serve));
    assert_eq!(said, [(budgets[0].key, Ok(Served { units: 1 })), (budgets[1].key, Err(away))]);
    assert_eq!(fleet.take(0, &budgets[1], 1), Take::Asks, "nothing is waited for any more");
    let (ask, _) = fleet.asks(0, &queues);
    assert_eq!(ask.wants.iter().map(|want| want.owed).collect::<Vec<_>>(), [0, 7]);
}

#[test]
fn where_there_is_little_one_worker_asks_for_all() {
    let mut fleet = Fleet::new(64);
    let budget = budget(1);
    // All is taken, by this process.
    let owed = fleet.tills[0].owe(&mut fleet.memory, &budget, 100);
    assert!(owed);
    assert_eq!(fleet.ask(0, &[queue(budget, 1, true)]), 0);
    assert!(matches!(fleet.take(1, &budget, 1), Take::Denied { .. }));
    fleet.passes(200);
    assert_eq!(fleet.take(0, &budget, 1), Take::Asks);
    fleet.asks(0, &[queue(budget, 1, true)]);
    assert!(matches!(fleet.take(1, &budget, 1), Take::Denied { .. }));
}

#[test]
fn without_shared_memory_nothing_is_held_and_those_who_wait_are_served() {
    let mut fleet = Fleet::new(64);
    let budget = budget(1);
    fleet.memory.is_broken = true;
    assert_eq!(fleet.take(0, &budget, 1), Take::Asks);
    assert_eq!(fleet.ask(0, &[queue(budget, 3, true)]), 3);
    assert_eq!(fleet.ask(0, &[queue(budget, 3, false)]), 0);
    assert_eq!(fleet.take(0, &budget, 1), Take::Asks);
    fleet.memory.is_broken = false;
    assert_eq!(fleet.take(0, &budget, 1), Take::Asks);
}

#[test]
fn the_longest_unused_holder_makes_room_unless_it_owes() {
    let mut fleet = Fleet::new(1); // one set of four
    for number in 1..=4 {
        fleet.ask(0, &[queue(budget(number), 4, false)]);
        fleet.passes(1);
    }
    assert!(fleet.tills[0].owe(&mut fleet.memory, &budget(1), 1));
    fleet.ask(0, &[queue(budget(5), 4, false)]);
    let of = |fleet: &mut Fleet, number| fleet.take(1, &budget(number), 1);
    assert_eq!(of(&mut fleet, 1), Take::Admitted);
    assert_eq!(of(&mut fleet, 3), Take::Admitted);
    assert_eq!(of(&mut fleet, 2), Take::Asks, "dropped");
}

#[test]
fn a_key_without_a_place_for_a_purse_does_without() {
    let mut fleet = Fleet::new(4_096);
    // Their purses would be in one set of four.
    let budgets = [1, 2, 3, 4, 5].map(|number| {
        let mut budget = budget(number);
        budget.key.0[4] = 0;
        budget
    });
    for budget in &budgets {
        assert_eq!(fleet.take(0, budget, 1), Take::Asks);
        fleet.ask(0, &[queue(*budget, 9, false)]);
        for _ in 0..9 {
            assert_eq!(fleet.take(0, budget, 1), Take::Admitted);
        }
        assert_eq!(fleet.take(0, budget, 1), Take::Asks);
    }
}

#[test]
fn a_tick_says_what_is_due_and_lets_go_of_what_is_idle() {
    let mut fleet = Fleet::new(4_096);
    for number in 0..3_000 {
        fleet.take(0, &budget(number), 1);
    }
    assert_eq!(fleet.tills[0].on_tick(&mut fleet.memory), []);
    fleet.ask(0, &[queue(budget(7), 40, false)]);
    fleet.take(0, &budget(7), 1);
    fleet.passes(25);
    let due = fleet.tills[0].on_tick(&mut fleet.memory);
    assert_eq!(due.iter().map(|it| it.budget.key).collect::<Vec<_>>(), [budget(7).key]);
    fleet.ask(0, &due);
    assert!(fleet.tills[0].on_tick(&mut fleet.memory).is_empty(), "nobody wants it any more");
    // The others were let go of in the meantime; whoever comes again has a place.
    for number in 0..3_000 {
        let (take, due) = fleet.tills[0].take(&mut fleet.memory, &budget(number), 1);
        assert!(matches!(take, Take::Asks | Take::Admitted) && due == Due::Nothing, "{number}");
    }
}

#[test]
fn at_the_end_everything_goes_back() {
    let mut fleet = Fleet::new(4_096);
    for number in 0..200 {
        assert_eq!(fleet.take(0, &budget(number), 1), Take::Asks);
        fleet.ask(0, &[queue(budget(number), 9, false)]);
        assert_eq!(fleet.take(0, &budget(number), 1), Take::Admitted);
    }
    let asks = fleet.tills[0].drain(&mut fleet.memory);
    assert_eq!(asks.len(), 200_usize.div_ceil(WANTS_MAX));
    for ask in &asks {
        let place = Place { now: fleet.memory.now, stamp: 1, began: None };
        let reply = fleet.store.answer(&place, ask).unwrap();
        assert!(reply.grants.iter().flatten().all(|grant| grant.remaining == 99), "{reply:?}");
    }
}
