//! What a shell tells us about one request, and how we say which parts we need.
//!
//! Reading a fact costs a shell real time (a header about 0.8 µs in Envoy, a
//! property about 1 µs), so a policy lists the facts that it can ever need, once,
//! as [`Want`]s, and the plan then asks for one only when a rule comes to it.

use crate::policy::ClaimId;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The place of a [`Want`] in its policy's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WantId(pub u16);

/// One raw fact that a policy needs.
///
/// Cookies, query parameters and prefixes of addresses are derived here in core;
/// a shell reads only these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// A request header by its lower-case name; `:path`, `:method` and
    /// `:authority` are headers too. Where a header is repeated: its first value.
    Header(Box<str>),
    /// A request header that may be there once: its value, or [`REPEATED`] if it is there more
    /// often, for then nobody knows which of them others will believe.
    SoleHeader(Box<str>),
    /// The client's address as the proxy trusts it, `ip` or `ip:port`
    /// (`[v6]:port`). Never a header that a client may write.
    ClientAddress,
    /// The name of the route that the proxy chose.
    Route,
    /// A property by its path, such as `["metadata", "filter_metadata", …]`;
    /// JWT claims are read from there once they have been verified.
    Property(Vec<Box<str>>),
    /// A claim of the request's token. No shell is asked for it: it is read out of the facts that
    /// the policy's [`TokenFrom`](crate::policy::TokenFrom) names.
    Claim {
        /// Which.
        claim: ClaimId,
        /// Whether it is believed although nobody has verified the token.
        unverified: bool,
    },
    /// An output of a plugin. No shell is asked for it: whoever runs the plugin is.
    Output {
        /// The plugin's place in the policy's list.
        plugin: u8,
        /// The output's place in the plugin's.
        output: u8,
    },
}

/// What a shell gives for a [`Want::SoleHeader`] that is repeated: no token and no cookie.
pub const REPEATED: &[u8] = b",";

/// A request, as a shell can read it.
///
/// `read` may be called more than once for a fact; a shell remembers what it read.
/// An absent fact is `None`; an empty one is `Some(&[])`.
pub trait Facts {
    /// Reads one fact of this request.
    fn read(&mut self, id: WantId, want: &Want) -> Option<&[u8]>;
}
