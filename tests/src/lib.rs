//! The benchmark, and the floor that it measures Berth against. The checks themselves are in `tests/`.

#[cfg(feature = "bench")]
pub mod bench;
pub mod floor;
