//! A cluster of three masters with a replica each.
