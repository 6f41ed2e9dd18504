//! What several hosts make of what each is asked, by way of a server that counts as
//! `census.lua` does.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use tidegate_core::ask::LimitTag;

const LIMIT: LimitTag = LimitTag(7);
const STEP: Duration = Duration::from_millis(100);

/// In small: `census.lua`.
struct Server {
    born: Instant,
    hosts: HashMap<u64, (Instant, f64)>,
    sums: HashMap<Counted, (f64, Instant)>,
}

struct Host {
    id: u64,
    shares: Shares,
    next: Instant,
}

struct Proxy {
    name: [u8; 1],
    /// Units of the limit in each step.
    cost: u32,
    /// Whom it asks, one after the other.
    hosts: Vec<usize>,
    share: u32,
}

struct World {
    now: Instant,
    server: Server,
    is_away: bool,
    hosts: Vec<Host>,
    proxies: Vec<Proxy>,
    steps: usize,
}

fn faded(units: f64, since: Duration) -> f64 {
    units * (-since.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2()
}

impl Server {
    fn new(now: Instant) -> Self {
        Self { born: now, hosts: HashMap::new(), sums: HashMap::new() }
    }

    fn take(&mut self, host: u64, proxies: f64, records: &[Record], now: Instant) -> Fleet {
        self.hosts.retain(|_, (seen, _)| now.duration_since(*seen) < FORGOTTEN_AFTER);
        let since = self.hosts.insert(host, (now, proxies)).map(|(at, _)| now.duration_since(at));
        let units = records.iter().map(|record| {
            let (sum, at) = self.sums.get(&record.of).copied().unwrap_or((0.0, now));
            let told = since.map_or(0.0, |since| faded(record.told, since));
            let units = record.units + (faded(sum, now.duration_since(at)) - told).max(0.0);
            self.sums.insert(record.of, (units, now));
            units
        });
        Fleet {
            units: units.collect(),
            age: now.duration_since(self.born),
            hosts: u32::try_from(self.hosts.len()).unwrap(),
            proxies: self.hosts.values().map(|(_, proxies)| proxies).sum(),
        }
    }
}

impl World {
    /// Hosts that take their censuses at these times, in ms of [`EVERY_MIN`], and proxies by
    /// cost and whom they ask.
    fn new(phases: &[u64], proxies: &[(u32, Vec<usize>)]) -> Self {
        let now = Instant::now();
        let hosts = (0..).zip(phases).map(|(id, phase)| {
            let next = now + Duration::from_millis(*phase);
            Host { id, shares: Shares::new(), next }
        });
        let proxies = (0..).zip(proxies).map(|(name, (cost, hosts))| Proxy {
            name: [name],
            cost: *cost,
            hosts: hosts.clone(),
            share: 0,
        });
        let (hosts, proxies) = (hosts.collect(), proxies.collect());
        Self { now, server: Server::new(now), is_away: false, hosts, proxies, steps: 0 }
    }

    fn step(&mut self) {
        let now = self.now;
        for host in self.hosts.iter_mut().filter(|host| host.next <= now) {
            if !self.is_away {
                let (proxies, records) = host.shares.tell(now);
                let fleet = self.server.take(host.id, proxies, &records, now);
                host.shares.hear(&records, &fleet, Duration::MAX, now);
            }
            host.next += host.shares.census_every();
        }
        for proxy in &mut self.proxies {
            let host = &mut self.hosts[proxy.hosts[self.steps % proxy.hosts.len()]];
            proxy.share = host.shares.record(LIMIT, &proxy.name, proxy.cost, now);
        }
        self.steps += 1;
        self.now += STEP;
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.step();
        }
    }

    fn shares(&self) -> Vec<u32> {
        self.proxies.iter().map(|proxy| proxy.share).collect()
    }

    fn sum(&self) -> u32 {
        self.shares().iter().sum()
    }
}

#[test]
fn proxies_with_a_host_each_share_by_demand() {
    let mut world = World::new(&[0, 900], &[(30, vec![0]), (10, vec![1])]);
    world.run(60);
    let [a, b] = world.shares()[..] else { unreachable!() };
    assert!((640_000..=730_000).contains(&a), "three quarters of 85 %, half of 10 %: {a}");
    assert!((225_000..=290_000).contains(&b), "a quarter of 85 %, half of 10 %: {b}");
}

#[test]
fn a_proxy_that_asks_several_hosts_has_the_share_of_all_its_demand() {
    let mut world = World::new(&[0, 900, 1_300], &[(10, vec![0, 1, 2]), (10, vec![2])]);
    world.run(60);
    for share in world.shares() {
        assert!((430_000..=510_000).contains(&share), "{share}");
    }
}

#[test]
fn a_host_that_is_alone_shares_out_all() {
    let mut world = World::new(&[0], &[(10, vec![0])]);
    world.run(10);
    assert_eq!(world.shares(), [SHARE_WHOLE_PPM]);
}

#[test]
fn what_was_last_known_goes_on_counting() {
    let mut world = World::new(&[0, 900], &[(10, vec![0]), (10, vec![1])]);
    world.run(60);
    world.is_away = true;
    world.run(600);
    let age = world.hosts[0].shares.news(world.now).unwrap().age;
    assert!(age >= Duration::from_secs(600), "{age:?}");
    // One is asked ten times as much meanwhile: its part was settled before.
    world.proxies[0].cost = 100;
    world.run(60);
    assert!(world.shares().iter().all(|share| (430_000..=520_000).contains(share)));
    assert!(world.sum() <= SHARE_WHOLE_PPM);
}

#[test]
fn a_server_that_has_lost_all_is_believed_once_all_have_told_it() {
    let mut world = World::new(&[0, 900], &[(10, vec![0]), (10, vec![1])]);
    world.run(60);
    world.server = Server::new(world.now);
    for _ in 0..100 {
        world.step();
        assert!(world.sum() <= SHARE_WHOLE_PPM, "{:?}", world.shares());
    }
    assert!(world.sum() >= 850_000);
}

#[test]
fn after_a_silence_the_first_to_tell_is_not_believed_alone() {
    let mut world = World::new(&[0, 900], &[(10, vec![0]), (10, vec![1])]);
    world.run(60);
    let before = world.sum();
    // Nobody has told for half a minute: what the other one did has faded.
    world.now += Duration::from_secs(30);
    let host = &mut world.hosts[0];
    let (proxies, records) = host.shares.tell(world.now);
    let fleet = world.server.take(host.id, proxies, &records, world.now);
    host.shares.hear(&records, &fleet, Duration::ZERO, world.now);
    assert_eq!(fleet.hosts, 2);
    let share = host.shares.record(LIMIT, &[0], 10, world.now);
    assert!(share <= before / 2 + 20_000, "{share}");
}

#[test]
fn a_dead_host_is_forgotten_and_its_part_is_the_others() {
    let mut world = World::new(&[0, 900], &[(10, vec![0]), (10, vec![1])]);
    world.run(60);
    world.hosts.pop();
    world.proxies.pop();
    world.run(30);
    assert!(world.shares()[0] > 750_000, "{:?}", world.shares());
    world.run(40);
    assert_eq!(world.shares(), [SHARE_WHOLE_PPM]);
}

#[test]
fn newcomers_have_a_share_at_once_and_not_twice() {
    let mut world = World::new(&[0, 900], &[(10, vec![0]), (10, vec![1])]);
    world.run(60);
    for name in 100..200 {
        world.hosts[0].shares.record(LIMIT, &[name], 0, world.now);
    }
    let share = world.hosts[0].shares.record(LIMIT, &[250], 0, world.now);
    assert_eq!(share, 100_000 / 103);
    let other = world.hosts[0].shares.record(LimitTag(8), &[0], 10, world.now);
    assert_eq!(other, 850_000 / 2 + 100_000 / 103, "a limit that no census has: hosts alike");
}

#[test]
fn a_large_fleet_tells_less_often() {
    let mut shares = Shares::new();
    let mut every = |hosts| {
        let fleet = Fleet { age: Duration::MAX, hosts, proxies: 1.0, units: Vec::new() };
        shares.hear(&[], &fleet, Duration::MAX, Instant::now());
        shares.census_every()
    };
    assert_eq!([1, 200, 1_000].map(&mut every), [2, 2, 10].map(Duration::from_secs));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Sidecars, proxies that ask all hosts, and some of each, under steady demand.
    #[test]
    fn shares_of_all_hosts_together_are_never_more_than_the_whole(
        phases in prop::collection::vec(0..2_000_u64, 2..6),
        proxies in prop::collection::vec((1..1_000_u32, 1..6_usize, 0..6_usize), 1..9),
    ) {
        let hosts = phases.len();
        let proxies: Vec<_> = proxies
            .into_iter()
            .map(|(cost, many, from)| (cost, (0..many.min(hosts)).map(|n| (from + n) % hosts).collect()))
            .collect();
        let mut world = World::new(&phases, &proxies);
        world.run(60);
        for _ in 0..50 {
            world.step();
            let sum = world.sum();
            prop_assert!((900_000..=SHARE_WHOLE_PPM).contains(&sum), "{sum}: {:?}", world.shares());
        }
    }
}
