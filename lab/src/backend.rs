//! The EC2 behind a lab: which one it is, how it begins, and the VPC that the lab makes in it by EC2's own calls.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

use crate::{
    client::Client,
    ec2,
    lab::{ended, tokio_listener, wait_on},
    localstack::{LocalStack, Python},
    settings::LabSettings,
    truth::{Mirror, Truth},
    world::World,
};

/// Which EC2 a lab has.
#[derive(Debug, Clone, Default)]
pub enum Backend {
    /// `sim`'s model, in the lab's own process.
    #[default]
    Embedded,
    /// A LocalStack of the lab's own, which comes and goes with it.
    LocalStack(Python),
    /// A LocalStack that others use too: the lab has a VPC in it.
    Running(Arc<LocalStack>),
}

/// A VPC with a subnet, in some EC2.
#[derive(Debug)]
pub(crate) struct Ground {
    origin: Origin,
    /// Calls it directly.
    pub(crate) client: Arc<Client>,
    pub(crate) truth: Truth,
    pub(crate) subnet: String,
}

/// What serves EC2's API.
#[derive(Debug)]
enum Origin {
    Own(Arc<World>, SocketAddr),
    LocalStack(Arc<LocalStack>),
}

impl Ground {
    /// Starts EC2, if it has to be, and makes the VPC. All of it ends with this value and the runtime.
    pub(crate) fn prepare(settings: &LabSettings, runtime: &Runtime) -> Result<Self> {
        let origin = match &settings.backend {
            Backend::Embedded => Origin::own(settings, runtime)?,
            Backend::LocalStack(python) => {
                Origin::LocalStack(Arc::new(LocalStack::start(python, &settings.prefix, &settings.world.ec2)?))
            }
            Backend::Running(localstack) => Origin::LocalStack(Arc::clone(localstack)),
        };
        let address = origin.address();
        let region = &settings.world.ec2.region;
        let client = Arc::new(Client::new(address, region));
        let (caller, vpc, subnet, zone) = (Arc::clone(&client), settings.vpc, settings.subnet, format!("{region}a"));
        let (vpc, subnet) = wait_on(runtime, async move {
            let vpc = caller.create_vpc(vpc).await.context("creating the VPC")?;
            let subnet = caller.create_subnet(&vpc, subnet, &zone).await.context("creating the subnet")?;
            anyhow::Ok((vpc, subnet))
        })?;
        let truth = match &origin {
            Origin::Own(world, _) => Truth::Embedded(Arc::clone(world)),
            Origin::LocalStack(localstack) => {
                let mirror = Mirror::new(localstack.admin(), vpc, region.clone(), settings.world.ec2.times);
                runtime.spawn(Arc::clone(&mirror).follow());
                Truth::LocalStack(mirror)
            }
        };
        Ok(Self { origin, client, truth, subnet })
    }

    /// Where EC2 listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.origin.address()
    }
}

impl Origin {
    fn own(settings: &LabSettings, runtime: &Runtime) -> Result<Self> {
        // The world's clock is the runtime's.
        let entered = runtime.enter();
        let world = World::new(settings.world.clone());
        drop(entered);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening on loopback")?;
        let address = listener.local_addr()?;
        let serve = ec2::serve(tokio_listener(runtime, listener)?, Arc::clone(&world));
        runtime.spawn(ended("EC2", serve));
        Ok(Self::Own(world, address))
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Own(_, address) => *address,
            Self::LocalStack(localstack) => localstack.ec2(),
        }
    }
}
