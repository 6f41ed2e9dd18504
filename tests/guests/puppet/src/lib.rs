//! A filter that does what it is told: its configuration says, for each callback of each
//! case, which host calls to make, and it logs each with its result.
//!
//! A request plays the case that its field `x-case` names; a connection the one that has its
//! client's IP address behind the name; roots play the case `root`. Every callback of a stream is logged, told to do something or
//! not, so the log also shows which came and in which order.
//!
//! ```text
//! case replacing
//! on request_headers
//!   replace_header 0 x-colour blue
//!   get_header 0 x-colour
//!   return 1
//! on http_call_response 2
//!   get_status
//! ```
//!
//! `on CALLBACK N` is about its N-th call only. [`script`] reads the text, [`verbs`] has a
//! file for each family of host calls, [`abi`] the ABI itself.
//!
//! Built three times, once for each version of the ABI.

mod abi;
mod actor;
mod callbacks;
mod memory;
mod script;
mod show;
mod verbs;
mod words;
