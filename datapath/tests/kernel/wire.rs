//! The socket itself: batches, refusals, dumps.

use std::net::Ipv4Addr;

use datapath::desired::{Route, Target};
use datapath::netns::{Netns, NetnsError};
use datapath::wire::request::{Change, LinkSetting};
use datapath::wire::{Batch, Errno, Socket, WireError};

use crate::topology::{Place, host};

fn unreachable(number: u16) -> Route {
    let [high, low] = number.to_be_bytes();
    Route {
        table: 7000,
        destination: host(Ipv4Addr::new(10, 1, high, low)),
        target: Target::Unreachable,
        source: None,
        metric: 4096,
    }
}

#[test]
fn a_batch_of_thousands_is_carried_out_whole_and_again() {
    let mut place = Place::new();
    let routes: Vec<_> = (0..3000).map(unreachable).collect();
    for _ in 0..2 {
        place.change(routes.iter().map(Change::add_route));
        assert_eq!(place.socket.own_routes().expect("listed").len(), routes.len());
    }
    // The second time each is refused, and each refusal is tolerated.
    for _ in 0..2 {
        place.change(routes.iter().map(Change::delete_route));
        assert_eq!(place.socket.own_routes().expect("listed").len(), 0);
    }
}

#[test]
fn a_refusal_names_its_request_and_its_errno_and_the_rest_is_carried_out() {
    let mut place = Place::new();
    let error = place
        .socket
        .send(Batch::from_iter([
            Change::add_route(&unreachable(1)),
            Change::set_link(4711, [LinkSetting::Up]),
            Change::add_route(&unreachable(2)),
        ]))
        .expect_err("there is no such link");
    assert_eq!(error.errno(), Some(Errno::NODEV));
    assert!(error.to_string().starts_with("setting link 4711: up"), "{error}");
    assert_eq!(place.socket.own_routes().expect("listed"), [unreachable(1), unreachable(2)]);
}

#[test]
fn a_socket_stays_in_the_namespace_where_it_was_opened() {
    let place = Place::new();
    let mut inside = Socket::open_in(&place.netns).expect("opened");
    let mut outside = Socket::open().expect("opened");
    inside.send(Batch::from_iter([Change::add_route(&unreachable(9))])).expect("added");
    assert_eq!(inside.own_routes().expect("listed"), [unreachable(9)]);
    assert!(!outside.own_routes().expect("listed").contains(&unreachable(9)));
}

#[test]
fn what_is_no_network_namespace_is_told_apart_from_what_is_not_there() {
    assert!(matches!(Netns::open("/nowhere/at/all"), Err(NetnsError::Open { .. })));
    for path in ["/proc/self/ns/uts", "/proc/self/status"] {
        let netns = Netns::open(path).expect("it opens");
        let error = Socket::open_in(&netns).expect_err("it is something else");
        assert!(matches!(error, WireError::Netns(NetnsError::NotANetns(_))), "{path}: {error:?}");
    }
}
