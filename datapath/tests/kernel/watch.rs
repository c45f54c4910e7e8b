//! Link events.

use std::time::Duration;

use datapath::link::{Link, Mac};
use datapath::watch::{LinkEvent, LinkWatch};
use datapath::wire::request::{Change, VethPair};

use crate::topology::Place;

#[test]
fn a_device_is_announced_when_it_appears_and_when_it_goes() {
    let (mut node, fabric) = (Place::new(), Place::new());
    let mac = Mac([2, 0, 0, 0, 0, 0x55]);
    let Place { netns, socket } = &mut node;
    netns
        .run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut watch = LinkWatch::open().expect("subscribed");
                let attach = Change::create_veth(&VethPair {
                    host: Link { name: "eth7".to_owned(), index: 70 },
                    host_mac: mac,
                    group: 0,
                    pod: Link { name: "port".to_owned(), index: 70 },
                    pod_mac: Mac([2, 0, 0, 0, 0, 0x56]),
                    netns: &fabric.netns,
                    mtu: None,
                });
                socket.send([attach].into_iter().collect()).expect("attached");
                until(
                    &mut watch,
                    |event| matches!(event, LinkEvent::Present(link) if link.mac == Some(mac) && link.name == "eth7"),
                )
                .await;
                socket.send([Change::delete_link(70)].into_iter().collect()).expect("detached");
                until(&mut watch, |event| matches!(event, LinkEvent::Gone(link) if link.index == 70)).await;
            });
        })
        .expect("entered");
}

async fn until(watch: &mut LinkWatch, wanted: impl Fn(&LinkEvent) -> bool) {
    let mut seen = Vec::new();
    let search = async {
        loop {
            let event = watch.next().await.expect("an event");
            if wanted(&event) {
                return;
            }
            seen.push(event);
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(5), search).await;
    assert!(found.is_ok(), "not among {seen:?}");
}
