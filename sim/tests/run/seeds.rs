//! Seeds that failed once, each named for what it was. What a seed draws changes with what there is to draw: the names say what was
//! found, and the tests of `pool` hold it.

use sim::run::Scenario;

use crate::play;

#[track_caller]
fn holds(seed: u64) {
    let trace = play(&Scenario::drawn(seed));
    assert!(trace.violation.is_none(), "{trace}");
}

#[test]
fn seed_010_a_fragmented_subnet_made_a_node_at_rest_give_back_and_ask_again() {
    holds(10);
}

#[test]
fn seed_032_a_lost_assign_of_addresses_that_had_departed_led_past_the_limit() {
    holds(32);
}

#[test]
fn seed_061_a_full_disk_made_the_loop_spin() {
    holds(61);
}

#[test]
fn seed_123_an_old_del_freed_the_lease_of_a_container_that_came_back() {
    holds(123);
}

#[test]
fn seed_181_two_stale_reads_made_an_eni_with_cooling_addresses_forgotten() {
    holds(181);
}

#[test]
fn seed_253_a_lost_unassign_was_taken_for_undone_by_stale_reads() {
    holds(253);
}

#[test]
fn seed_256_an_address_in_foreign_use_was_leased_when_its_lease_ended() {
    holds(256);
}

#[test]
fn seed_574_an_unassign_was_repeated_while_the_kernel_still_had_the_route() {
    holds(574);
}
