//! Nothing: the examples are what counts.
