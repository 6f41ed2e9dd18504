//! What is given back, as the script does it: as if it had never been taken, and never more.
//!
//! Two keys live the same random life, but one of them is charged once more on the way, and
//! that is given back a little later. From then on it may never have more room than the other,
//! and nearly always has as much.

mod server;

use server::Server;
use tidegate_core::limit::{Algorithm, Quota, Tick};
use tidegate_core::time::Span;

const SCRIPT: &str = include_str!("../scripts/take.lua");

const SEEDS: u64 = 600;

#[test]
fn what_is_given_back_is_as_if_it_had_never_been_taken() {
    let Some(server) = Server::start() else { return };
    let client = redis::Client::open(("127.0.0.1", server.port)).unwrap();
    let mut connection = client.get_connection().unwrap();
    let (mut compared, mut equal) = (0, 0);
    for seed in 0..SEEDS {
        let mut life = Life::new(seed);
        let Some((with, without)) = life.live(&mut connection) else { continue };
        compared += with.len();
        for (with, without) in with.iter().zip(&without) {
            assert!(with <= without, "seed {seed}: {with} left, {without} without the charge");
            equal += usize::from(with == without);
        }
    }
    println!("{equal} of {compared} were equal");
    assert!(compared > 1_000 && equal * 100 >= compared * 95, "{equal} of {compared}");
}

#[test]
fn what_the_state_knows_nothing_of_gives_nothing() {
    let Some(server) = Server::start() else { return };
    let client = redis::Client::open(("127.0.0.1", server.port)).unwrap();
    let mut connection = client.get_connection().unwrap();
    for seed in 0..60 {
        let mut life = Life::new(seed);
        let charged = life.ask(&mut connection, "with", 1, Some(Receipt::Wanted));
        // Lost, and charged by others since, in a later window of time.
        redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
        life.now_us += life.quota.period().micros() * 3;
        let before = life.ask(&mut connection, "with", 1, None)[1];
        let receipt = Receipt::Is(charged[4], charged[5]);
        let after = life.ask(&mut connection, "with", 1, Some(receipt))[1];
        assert_eq!(after, before, "seed {seed}: {}", life.quota);
    }
}

/// A key's quota and clock, and the chance by which it lives.
struct Life {
    dice: fastrand::Rng,
    quota: Quota,
    now_us: u64,
    names: [String; 2],
}

#[derive(Clone, Copy)]
enum Receipt {
    Wanted,
    Is(i64, i64),
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let algorithm =
            [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::SlidingCounter]
                [dice.usize(..3)];
        let (count, period) = (dice.u32(5..50), Span::from_millis(dice.u64(20..2_000)));
        let burst = dice.u32(5..50);
        let quota = Quota::new(algorithm, count, period, burst).unwrap();
        let names = ["with", "without"].map(|name| format!("{{{seed}}}{name}"));
        Self { dice, quota, now_us: 1_763_000_000_000_000, names }
    }

    /// What is left of both at several times afterwards; `None` if the charge did not fit, or
    /// if somebody was refused only because of it.
    fn live(&mut self, connection: &mut redis::Connection) -> Option<(Vec<i64>, Vec<i64>)> {
        let names = self.names.clone();
        self.others(connection, 6)?;
        let cost = self.dice.u32(1..4);
        let charged = self.ask(connection, &names[0], cost, Some(Receipt::Wanted));
        if charged[0] != 0 {
            return None;
        }
        self.others(connection, 3)?;
        let receipt = Receipt::Is(charged[4], charged[5]);
        self.ask(connection, &names[0], cost, Some(receipt));
        let mut left = (Vec::new(), Vec::new());
        for _ in 0..6 {
            left.0.push(self.ask(connection, &names[0], 0, None)[1]);
            left.1.push(self.ask(connection, &names[1], 0, None)[1]);
            self.pass();
        }
        Some(left)
    }

    /// Others come, to both alike.
    fn others(&mut self, connection: &mut redis::Connection, most: usize) -> Option<()> {
        let names = self.names.clone();
        for _ in 0..self.dice.usize(..=most) {
            self.pass();
            let cost = self.dice.u32(0..4);
            let both = names.each_ref().map(|name| self.ask(connection, name, cost, None)[0]);
            if both[0] != both[1] {
                return None;
            }
        }
        Some(())
    }

    fn pass(&mut self) {
        let period = self.quota.period().micros();
        self.now_us += self.dice.u64(0..period / 8);
    }

    fn ask(
        &self,
        connection: &mut redis::Connection,
        name: &str,
        cost: u32,
        receipt: Option<Receipt>,
    ) -> Vec<i64> {
        let mut call = redis::cmd("EVAL");
        call.arg(SCRIPT).arg(1).arg(name).arg(self.now_us).arg(self.item(cost));
        match receipt {
            None => {}
            Some(Receipt::Wanted) => {
                call.arg("");
            }
            Some(Receipt::Is(mark, before)) => {
                let packed = [mark, before].map(|number| (number as f64).to_le_bytes());
                call.arg(packed.concat());
            }
        }
        call.query(connection).unwrap()
    }

    /// As the head of the script says.
    fn item(&self, cost: u32) -> Vec<u8> {
        let quota = &self.quota;
        let algorithm = match quota.algorithm() {
            Algorithm::TokenBucket => 1,
            Algorithm::SlidingWindow => 2,
            Algorithm::SlidingCounter => 3,
        };
        assert_eq!(quota.tick(), Tick::Micro);
        let mut item = vec![algorithm];
        for count in [1, cost, quota.count(), quota.burst(), 0] {
            item.extend(count.to_le_bytes());
        }
        for quantity in [quota.period_ticks(), quota.cell(), quota.drain()] {
            item.extend((quantity as f64).to_le_bytes());
        }
        item
    }
}
