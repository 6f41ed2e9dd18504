//! The plugins that a policy uses: what each is handed, what it gives, and what holds instead.

use crate::facts::WantId;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A plugin, as the policy speaks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// The name by which whoever runs it knows it.
    pub name: Box<str>,
    /// The raw facts that it is handed, in this order.
    pub wants: Vec<WantId>,
    /// What of its outputs the policy may use.
    pub outputs: Vec<Output>,
    /// The [`form`](crate::plugin::form) of its wants.
    pub form: u64,
}

/// An output of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: Box<str>,
    /// What holds where the plugin gives no answer; `None`: as if it had nothing to give.
    pub default: Option<Box<str>>,
    /// Whether a limit's cost is read from it: then it is a decimal number or nothing.
    pub is_cost: bool,
}
