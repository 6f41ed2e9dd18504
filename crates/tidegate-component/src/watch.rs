//! One policy on watch: its gate, and what goes with it.

use crate::bindings::exports::tidegate::edge::guard::{Setup, Ticket};
use crate::bindings::tidegate::edge::types::Want;
use crate::facts::{self, Places};
use crate::ground::SharedGround;
use tidegate_core::gate::{self, Gate};
use tidegate_core::lease::HolderId;
use tidegate_core::policy::Policy;
use tidegate_core::table::Table;

/// A policy in force, or one that was replaced and whose last requests still wait.
pub(crate) struct Watch {
    pub(crate) serial: Serial,
    pub(crate) gate: Gate,
    pub(crate) ground: SharedGround,
    pub(crate) places: Places,
}

/// Tells one configuration of this instance from the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Serial(pub(crate) u32);

impl Watch {
    /// And what it wants to know of requests.
    pub(crate) fn new(policy: Policy, setup: &Setup, serial: Serial) -> (Self, Vec<Want>) {
        let (wants, places) = facts::wanted(&policy.wants);
        let ground = SharedGround { table: Table::new(policy.table_keys_max) };
        let mut gate = Gate::new(policy, &seed(setup), holder(setup));
        gate.set_workers(setup.instances);
        (Self { serial, gate, ground, places }, wants)
    }

    /// A ticket of its gate as the host knows it: no other configuration has one like it.
    pub(crate) fn ticket(&self, ticket: gate::Ticket) -> Ticket {
        u64::from(self.serial.0) << 32 | u64::from(ticket.0)
    }
}

/// Whose ticket it is, and what its gate calls it.
pub(crate) const fn of_ticket(ticket: Ticket) -> (Serial, gate::Ticket) {
    (Serial((ticket >> 32) as u32), gate::Ticket(ticket as u32))
}

fn seed(setup: &Setup) -> [u8; 16] {
    let (high, low) = setup.seed;
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

/// A byte of the number tells configurations apart; more of them are of further processes.
fn holder(setup: &Setup) -> HolderId {
    let [last, ..] = setup.number.to_le_bytes();
    HolderId::new(setup.process.wrapping_add(u64::from(setup.number >> 8)), last)
}
