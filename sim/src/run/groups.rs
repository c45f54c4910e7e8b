//! Somebody gives a node's primary ENI another security group.
//!
//! Owns the change, and that the daemon hears of it within half a minute, as `ipamd` reads metadata. Never looks at what the pool makes of
//! it: the closing does.

use std::{ops::Range, sync::Arc, time::Duration};

use pool::Event;

use super::{daemon, scenario::Luck, world::Sim};
use crate::{
    Request, Response,
    requests::{EniAttribute, Tags},
};

/// Of 1,000 scenarios: groups change in it.
const SCENARIOS: u32 = 300;
/// Of 1,000 happenings there: one is this.
const HAPPENINGS: u32 = 15;
/// How long metadata has shown it when the daemon reads it.
const READ: Range<Duration> = Duration::ZERO..Duration::from_secs(30);

/// When groups change. Its luck is its own: it takes nothing from the rest of the schedule.
pub(crate) struct Regrouping {
    luck: Luck,
    happens: bool,
}

impl Regrouping {
    /// As the seed has it.
    pub(crate) fn drawn(seed: u64) -> Self {
        let mut luck = Luck::new(seed, "groups");
        let happens = luck.chance(SCENARIOS);
        Self { luck, happens }
    }

    /// Perhaps now.
    pub(crate) fn perhaps(&mut self, sim: &Arc<Sim>, node: usize) {
        if !self.happens || !self.luck.chance(HAPPENINGS) {
            return;
        }
        let at = sim.elapsed();
        let daemon = {
            let mut guard = sim.lock();
            let world = &mut *guard;
            let facts = &mut world.machines[node].facts;
            let (name, vpc, eni) = (format!("group at {at:?}"), facts.vpc.to_string(), facts.primary.to_string());
            let wanted = Request::CreateSecurityGroup { description: name.clone(), name, vpc, tags: Tags::new() };
            let Ok(Response::CreateSecurityGroup(group)) = world.vpc.ec2(at, &mut self.luck.0, wanted) else { return };
            let attribute = EniAttribute::Groups(vec![group.clone()]);
            let change = Request::ModifyNetworkInterfaceAttribute { eni, attribute };
            if world.vpc.ec2(at, &mut self.luck.0, change).is_err() {
                return;
            }
            facts.groups = vec![group.as_str().into()];
            world.say(at, format_args!("   somebody gives n{node}'s primary ENI the group {group}"));
            world.machines[node].daemon
        };
        let (own, read) = (Arc::clone(sim), self.luck.between(READ));
        sim.spawn(async move {
            tokio::time::sleep(read).await;
            let facts = {
                let world = own.lock();
                let machine = &world.machines[node];
                // One that has not read anything yet reads this, too.
                machine.network.then(|| machine.facts.clone())
            };
            if let Some(facts) = facts {
                daemon::tell(&own, node, daemon, Event::Facts(facts));
            }
        });
    }
}
