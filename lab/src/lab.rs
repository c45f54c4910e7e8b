//! A whole lab: EC2, metadata, the fabric and the nodes, brought up together and taken down together.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ipnet::Ipv4AddrRange;
use sim::{Attached, Fault, Request, Response};
use tokio::{runtime::Runtime, time::sleep};

use crate::{
    backend::Ground,
    client::{Answer, CallError, Client},
    ec2,
    fabric::{Checks, Eni, Fabric, Witness},
    imds, localstack,
    machine::{METADATA_ADDRESS, Machine},
    netns::Netns,
    node::Node,
    proxy::Proxy,
    settings::{LabSettings, NodeSettings, directory_of},
    trouble::Faults,
    truth::Truth,
    wait,
    world::World,
};

/// Where EC2 listens inside every node: the proxy, in front of the lab's EC2.
pub const EC2_ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4566);

const HTTP: u16 = 80;

/// How long a launched instance may take to have its primary ENI.
const LAUNCH: Duration = Duration::from_secs(10);

/// A running lab. Dropping it takes everything down.
#[derive(Debug)]
pub struct Lab {
    settings: LabSettings,
    ground: Ground,
    ec2: Arc<Proxy>,
    network: Arc<Network>,
    nodes: Vec<Node>,
    /// Serves EC2 and metadata, and keeps the fabric up with EC2. `None` once the lab is down.
    runtime: Option<Runtime>,
}

/// The fabric and who is plugged into it.
#[derive(Debug)]
struct Network {
    truth: Truth,
    fabric: Mutex<Fabric>,
    /// Instance id and namespace.
    machines: Mutex<Vec<(String, Netns)>>,
}

impl Lab {
    /// Clears what an earlier lab of this prefix left, then brings everything up. Nothing is left when it fails.
    pub fn start(settings: LabSettings) -> Result<Self> {
        settings.check()?;
        ensure!(rustix::process::geteuid().is_root(), "a lab makes network namespaces: it needs root");
        sweep(&settings.prefix)?;
        let prefix = settings.prefix.clone();
        let lab = Self::bring_up(settings);
        if lab.is_err()
            && let Err(error) = sweep(&prefix)
        {
            tracing::warn!(prefix, error = format!("{error:#}"), "a lab that did not start left something behind");
        }
        lab
    }

    fn bring_up(settings: LabSettings) -> Result<Self> {
        fs::create_dir_all(settings.directory())
            .with_context(|| format!("making {}", settings.directory().display()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let ground = Ground::prepare(&settings, &runtime)?;
        let network = Arc::new(Network {
            truth: ground.truth.clone(),
            fabric: Mutex::new(Fabric::build(&settings.prefix, &[settings.vpc])?),
            machines: Mutex::default(),
        });
        let entered = runtime.enter();
        let ec2 = Proxy::new(ground.address(), Arc::new(Faults::new(settings.trouble.clone())));
        drop(entered);
        let wanted = settings.nodes.clone();
        let mut lab = Self { settings, ground, ec2, network, nodes: Vec::new(), runtime: Some(runtime) };
        for node in &wanted {
            lab.launch(node).with_context(|| format!("launching the node {}", node.name))?;
        }
        let network = Arc::clone(&lab.network);
        lab.runtime().spawn(network.follow_forever());
        Ok(lab)
    }

    fn launch(&mut self, settings: &NodeSettings) -> Result<()> {
        let (client, subnet) = (Arc::clone(&self.ground.client), self.ground.subnet.clone());
        let instance_type = settings.instance_type.clone();
        let launched = self.block_on(async move { client.launch(&instance_type, &subnet).await });
        let instance = launched.context("launching an instance")?;
        let machine = Machine::boot(format!("{}-{}", self.settings.prefix, settings.name))?;
        self.network.machines().push((instance.clone(), machine.netns().clone()));
        let primary = wait::until(LAUNCH, || {
            self.network.follow().ok()?;
            self.network.fabric().plugged().find(|plugged| plugged.node == *machine.netns()).cloned()
        });
        let primary = primary.context("the primary ENI did not appear")?;
        let host = machine.dhcp(&settings.name, &primary.link, &primary.eni)?;
        let ec2 = self.listen(machine.netns(), EC2_ADDRESS)?;
        let proxy = Arc::clone(&self.ec2).serve_beside(ec2, ec2::admin::state_of(self.truth().clone()));
        self.runtime().spawn(ended("the proxy", proxy));
        let metadata = self.listen(machine.netns(), SocketAddrV4::new(METADATA_ADDRESS, HTTP))?;
        let (truth, faults) = (self.truth().clone(), Arc::clone(self.faults()));
        self.runtime().spawn(ended("metadata", imds::serve(metadata, truth, faults, instance.clone())));
        let region = self.settings.world.ec2.region.clone();
        self.nodes.push(Node::new(
            &self.settings.prefix,
            settings,
            host,
            instance,
            region,
            self.settings.programs.clone(),
        )?);
        Ok(())
    }

    /// A listener inside a namespace, served by the lab's runtime outside.
    fn listen(&self, netns: &Netns, at: SocketAddrV4) -> Result<tokio::net::TcpListener> {
        let listener =
            netns.enter(|| TcpListener::bind(at))?.with_context(|| format!("listening at {at} in {}", netns.name()))?;
        tokio_listener(self.runtime(), listener)
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name() == name).with_context(|| format!("there is no node {name}"))
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What EC2 really has, whichever it is.
    pub fn truth(&self) -> &Truth {
        &self.ground.truth
    }

    /// The lab's own EC2, for what only a model can do. Panics in a lab with another one: whoever starts it knows.
    pub fn world(&self) -> &Arc<World> {
        match self.truth() {
            Truth::Embedded(world) => world,
            Truth::LocalStack(_) => panic!("this lab's EC2 is LocalStack: it has no world"),
        }
    }

    /// The subnet that the nodes are in.
    pub fn subnet(&self) -> &str {
        &self.ground.subnet
    }

    /// A call of EC2 by somebody who is no node: neither disturbed nor counted nor delayed.
    pub fn ask(&self, action: &str, parameters: &[(&str, &str)]) -> Result<Answer, CallError> {
        let client: Arc<Client> = Arc::clone(&self.ground.client);
        let own = |text: &str| text.to_owned();
        let action = own(action);
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| (own(name), own(value))).collect();
        let truth = self.truth().clone();
        self.block_on(async move {
            let parameters: Vec<_> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let answer = client.call(&action, &parameters).await;
            if let Err(error) = truth.catch_up().await {
                tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "the truth may be behind");
            }
            answer
        })
    }

    /// EC2's API as the nodes find it: who called what.
    pub fn ec2(&self) -> &Arc<Proxy> {
        &self.ec2
    }

    /// What goes wrong with EC2's API and with metadata.
    pub fn faults(&self) -> &Arc<Faults> {
        self.ec2.faults()
    }

    /// A call of the lab's own EC2 that takes as long as a node's would, but is neither disturbed nor counted. Panics as
    /// [`Lab::world`] does.
    pub fn call(&self, request: Request) -> Result<Response, Fault> {
        let (world, latency) = (Arc::clone(self.world()), self.faults().latency(request.action()));
        self.block_on(async move {
            sleep(latency / 2).await;
            let response = world.make(request);
            sleep(latency / 2).await;
            response
        })
    }

    /// What the lab was started with.
    pub fn settings(&self) -> &LabSettings {
        &self.settings
    }

    /// Where every address is at this moment, for checking claims. The fabric has caught up with EC2.
    pub fn witness(&self) -> Witness {
        let truth = self.truth().clone();
        if let Err(error) = self.block_on(async move { truth.catch_up().await }) {
            tracing::error!(error = format!("{:#}", anyhow::Error::from(error)), "the truth could not be learnt");
        }
        if let Err(error) = self.network.follow() {
            tracing::error!(error = format!("{error:#}"), "the fabric could not follow EC2");
        }
        self.network.fabric().witness()
    }

    /// Switches the fabric's checks off or on again.
    pub fn check(&self, checks: Checks) -> Result<()> {
        self.network.fabric().check(checks)
    }

    /// Runs something on the lab's own runtime, from any thread, and waits for it.
    pub fn block_on<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        wait_on(self.runtime(), work)
    }

    /// Takes everything down; going on after failures, and telling of them.
    pub fn stop(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        let Some(runtime) = self.runtime.take() else { return Ok(()) };
        // In the background: a lab may be dropped inside somebody else's runtime, where waiting is not allowed.
        runtime.shutdown_background();
        sweep(&self.settings.prefix)
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("a lab that is up has its runtime")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                eprintln!("--- the end of ipamd's log on {}:\n{}", node.name(), node.log_tail(60));
            }
        }
        if let Err(error) = self.take_down() {
            tracing::error!(
                prefix = self.settings.prefix,
                error = format!("{error:#}"),
                "the lab left something behind"
            );
        }
    }
}

impl Network {
    async fn follow_forever(self: Arc<Self>) {
        let mut changes = self.truth.changes();
        loop {
            let network = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || network.follow()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(error = format!("{error:#}"), "the fabric could not follow EC2"),
                Err(stopped) => {
                    tracing::debug!(%stopped, "stopped following EC2");
                    return;
                }
            }
            changes.next().await;
        }
    }

    /// Makes the fabric what EC2 says now.
    fn follow(&self) -> Result<()> {
        let mut fabric = self.fabric();
        let machines = self.machines().clone();
        let wanted: Vec<(Netns, Vec<Eni>)> = machines
            .into_iter()
            .map(|(instance, netns)| {
                let visible = self.truth.attached(&instance).into_iter().filter(|attached| attached.device_visible);
                (netns, visible.map(eni).collect())
            })
            .collect();
        fabric.follow(&wanted).map(|_| ())
    }

    fn fabric(&self) -> MutexGuard<'_, Fabric> {
        // The fabric changes what it believes only after the kernel agreed.
        self.fabric.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn machines(&self) -> MutexGuard<'_, Vec<(String, Netns)>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn eni(attached: Attached) -> Eni {
    let of_prefixes =
        attached.prefixes.iter().flat_map(|prefix| Ipv4AddrRange::new(prefix.network(), prefix.broadcast()));
    Eni {
        addresses: attached.addresses.into_iter().chain(of_prefixes).collect(),
        id: attached.eni,
        mac: attached.mac.to_string(),
        device_index: attached.device_index,
        subnet: attached.subnet_cidr,
        gateway: attached.gateway,
    }
}

/// Runs something on a runtime, from any thread, and waits for it. The runtime must outlive the wait.
pub(crate) fn wait_on<T: Send + 'static>(runtime: &Runtime, work: impl Future<Output = T> + Send + 'static) -> T {
    let (done, result) = std::sync::mpsc::sync_channel(1);
    runtime.spawn(async move {
        let _ = done.send(work.await);
    });
    result.recv().expect("the runtime runs as long as it is borrowed")
}

pub(crate) fn tokio_listener(runtime: &Runtime, listener: TcpListener) -> Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    let _entered = runtime.enter();
    Ok(tokio::net::TcpListener::from_std(listener)?)
}

pub(crate) async fn ended(service: &'static str, serve: impl Future<Output = io::Result<()>>) {
    if let Err(error) = serve.await {
        tracing::error!(service, %error, "a service of the lab ended");
    }
}

/// Removes everything that a lab of this prefix made, whoever started it: processes in its namespaces, the namespaces and
/// with them every link, the files.
pub fn sweep(prefix: &str) -> Result<()> {
    let begin = format!("{prefix}-");
    let mut problems = Vec::new();
    for netns in Netns::with_prefix(&begin) {
        netns.kill_processes();
        if let Err(error) = netns.remove() {
            problems.push(format!("{error:#}"));
        }
    }
    problems.extend(localstack::clean(prefix).err().map(|error| format!("{error:#}")));
    let directory = directory_of(prefix);
    match fs::remove_dir_all(&directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => problems.push(format!("removing {}: {error}", directory.display())),
    }
    ensure!(problems.is_empty(), "taking down {prefix}: {}", problems.join("; "));
    Ok(())
}
