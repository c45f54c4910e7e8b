//! The thread's loop: orders, link events, and trying again.
//!
//! Owns when a pass is made. Never says what a pass does.

use std::time::Duration;

use datapath::{
    node,
    watch::{LinkEvent, LinkWatch},
};
use tokio::{sync::mpsc, time::Instant};
use tracing::{debug, error, info, warn};

use super::{Order, Told, carry::Carry, chain, doomed::Doomed, lookout::Lookout};

/// How long to wait after a pass that failed, growing from the one to the other.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(10);

/// Runs on a thread of its own, in whose network namespace everything happens. Ends early, which ends the daemon, without nft.
pub(super) fn run(
    carry: Carry,
    lookout: Lookout,
    doomed: Doomed,
    orders: mpsc::UnboundedReceiver<Order>,
    tell: mpsc::UnboundedSender<Told>,
) {
    match node::check_nft() {
        Ok(nft) => debug!(nft, "checked nft"),
        Err(error) => {
            error!(error = %chain(&error), "could not use nft, which this daemon needs");
            return;
        }
    }
    match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime.block_on(work(carry, lookout, doomed, orders, tell)),
        Err(error) => error!(%error, "could not start the kernel's thread"),
    }
}

/// `None` when there are no link events: then every pass is followed by another one a second later.
fn watch() -> Option<LinkWatch> {
    match LinkWatch::open() {
        Ok(watch) => Some(watch),
        Err(error) => {
            error!(error = %chain(&error), "could not watch links; looking every second instead");
            None
        }
    }
}

async fn next(watch: &mut Option<LinkWatch>) -> LinkEvent {
    let Some(open) = watch else {
        tokio::time::sleep(Duration::from_secs(1)).await;
        return LinkEvent::Missed;
    };
    match open.next().await {
        Ok(event) => event,
        Err(error) => {
            warn!(error = %chain(&error), "lost the watch on links");
            tokio::time::sleep(Duration::from_secs(1)).await;
            *watch = self::watch();
            LinkEvent::Missed
        }
    }
}

async fn work(
    mut carry: Carry,
    mut lookout: Lookout,
    doomed: Doomed,
    mut orders: mpsc::UnboundedReceiver<Order>,
    tell: mpsc::UnboundedSender<Told>,
) {
    let mut watch = watch();
    // What an earlier daemon was handed and did not get to.
    doomed.bury();
    let mut wait = RETRY_FIRST;
    let mut retry: Option<Instant> = None;
    loop {
        let again = retry.unwrap_or_else(|| Instant::now() + Duration::from_hours(24));
        let mut due = false;
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                None | Some(Order::Stop) => return,
                Some(order) => {
                    due |= take(&mut carry, order);
                    while let Ok(order) = orders.try_recv() {
                        if matches!(order, Order::Stop) {
                            return;
                        }
                        due |= take(&mut carry, order);
                    }
                }
            },
            event = next(&mut watch) => {
                if !matches!(event, LinkEvent::Present(_)) {
                    lookout.hurry();
                }
                if doomed.concerns(&event) {
                    doomed.bury();
                }
                due |= match &event {
                    LinkEvent::Present(link) => carry.concerns(link),
                    LinkEvent::Gone(link) => carry.carried(link),
                    LinkEvent::Missed => true,
                };
            }
            () = tokio::time::sleep_until(again) => due = true,
            () = tokio::time::sleep_until(lookout.due()) => match lookout.look(|address| carry.is_of_an_eni(address)) {
                Ok(seen) => {
                    // The kernel tells nobody of a change to a link that is down.
                    doomed.bury();
                    due |= carry.set_foreign(seen.foreign());
                    drop(tell.send(Told::Seen(seen)));
                }
                Err(error) => warn!(error = %chain(&error), "could not look who lives on the node"),
            },
        }
        if !due {
            continue;
        }
        retry = None;
        let pass = carry.pass();
        if let Some(links) = pass.links {
            drop(tell.send(Told::Links(links)));
        }
        for event in pass.events {
            drop(tell.send(Told::Event(event)));
        }
        match pass.failed {
            None => {
                if wait > RETRY_FIRST {
                    info!("the kernel is as it should be again");
                }
                wait = RETRY_FIRST;
            }
            Some(error) => {
                warn!(error = %chain(&error), again_in = ?wait, "could not bring the kernel to what it should be");
                retry = Some(Instant::now() + wait);
                wait = (wait * 2).min(RETRY_MOST);
            }
        }
    }
}

fn take(carry: &mut Carry, order: Order) -> bool {
    match order {
        Order::Reconcile => {
            carry.announce();
            true
        }
        Order::Network(network) => carry.set_network(network),
        Order::Stop => false,
    }
}
