//! What Tidegate promises, each promise kept in a real Envoy.
//!
//! One file per kind of promise. Edge cases of arithmetic are core's own tests; here it is
//! shown that what core decides is what clients get.

mod shipped;
