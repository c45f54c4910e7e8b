//! A lab as a whole, without Berth: what comes up, what EC2 makes appear in a node, and that nothing is left.

use std::{path::Path, process::Command, time::Duration};

use lab::{Lab, LabSettings, claims, netns::Netns, traffic::Transport, trouble::Latency, wait};
use sim::{Request, Response, Times, requests::Wanted};

const PATIENCE: Duration = Duration::from_secs(10);

fn settings(test: &str) -> LabSettings {
    let mut settings = LabSettings::with_prefix(format!("berth-{test}-{}", std::process::id()));
    settings.trouble.latency = Latency::default();
    settings.world.ec2.times = Times::INSTANT;
    settings
}

fn links(netns: &Netns) -> String {
    let output = netns.output(Command::new("ip").args(["-br", "link"])).expect("ip runs");
    String::from_utf8(output.stdout).expect("ip prints text")
}

#[test]
fn nodes_reach_each_other_and_the_internet_and_nothing_is_left() {
    let settings = settings("whole");
    let (prefix, directory) = (settings.prefix.clone(), settings.directory());
    let lab = Lab::start(settings).expect("a lab starts");
    let (a, b) = (lab.node("a").expect("a node").host(), lab.node("b").expect("a node").host());
    let witness = lab.witness();
    claims::across(&witness, a, b, Transport::Udp).into_result().expect("node to node");
    claims::node_by_eni(&witness, a, a.address, Transport::Tcp).into_result().expect("node to on-premises");
    assert!(directory.is_dir());
    lab.stop().expect("a lab stops");
    assert_eq!(Netns::with_prefix(&prefix), []);
    assert!(!directory.exists());
}

#[test]
fn an_attached_eni_is_a_link_with_its_mac_after_the_device_delay_and_gone_after_the_detach() {
    let mut settings = settings("eni");
    settings.world.ec2.times.device = Duration::from_millis(300);
    let lab = Lab::start(settings).expect("a lab starts");
    let node = lab.node("a").expect("a node");
    let subnet = lab.world().attached(node.instance())[0].subnet.clone();
    let made = lab.world().make(Request::CreateNetworkInterface(sim::requests::CreateNetworkInterface {
        eni: sim::requests::NewEni { subnet, ..Default::default() },
        ..Default::default()
    }));
    let Ok(Response::CreateNetworkInterface { eni, .. }) = made else { panic!("{made:?}") };
    let attach = Request::AttachNetworkInterface {
        eni: eni.id.clone(),
        instance: node.instance().to_owned(),
        device_index: 1,
        card: 0,
    };
    let begun = std::time::Instant::now();
    let Ok(Response::AttachNetworkInterface { attachment, .. }) = lab.world().make(attach) else {
        panic!("not attached")
    };
    let mac = eni.mac.to_string();
    let appeared = wait::until(PATIENCE, || links(node.netns()).contains(&mac).then(|| begun.elapsed()));
    let appeared = appeared.unwrap_or_else(|| panic!("no link with {mac} in:\n{}", links(node.netns())));
    assert!(appeared >= Duration::from_millis(300), "after {appeared:?}");
    assert!(
        links(node.netns()).lines().any(|line| line.starts_with("eth1") && line.contains("DOWN")),
        "{}",
        links(node.netns())
    );

    let assign =
        Request::AssignPrivateIpAddresses { eni: eni.id.clone(), wanted: Wanted::Count(2), allow_reassignment: false };
    lab.world().make(assign).expect("addresses can be assigned");
    let held = lab.world().attached(node.instance())[1].addresses.clone();
    assert_eq!(held.len(), 3);
    for address in held {
        assert_eq!(lab.witness().holder(address).expect("the fabric knows the address").eni.id, eni.id);
    }

    let wanted = Wanted::ThesePrefixes(vec!["10.0.0.224/28".parse().expect("a prefix")]);
    let assign = Request::AssignPrivateIpAddresses { eni: eni.id.clone(), wanted, allow_reassignment: false };
    lab.world().make(assign).expect("a prefix can be assigned");
    for address in [[10, 0, 0, 224], [10, 0, 0, 231], [10, 0, 0, 239]] {
        let witness = lab.witness();
        let holder = witness.holder(address.into()).expect("the fabric knows every address of the prefix");
        assert_eq!(holder.eni.id, eni.id);
    }

    lab.world().make(Request::DetachNetworkInterface { attachment, force: false }).expect("an ENI can be detached");
    let gone = wait::until(PATIENCE, || (!links(node.netns()).contains(&mac)).then_some(()));
    assert!(gone.is_some(), "still there:\n{}", links(node.netns()));
}

#[test]
fn ec2_and_metadata_answer_inside_every_node() {
    let lab = Lab::start(settings("services")).expect("a lab starts");
    for node in lab.nodes() {
        let curl = |args: &str| {
            let output =
                node.run(Command::new("curl").args(["-sS", "-m", "5"]).args(args.split(' '))).expect("curl runs");
            assert!(output.status.success(), "curl {args}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("curl prints text")
        };
        let token = curl("-X PUT -H X-aws-ec2-metadata-token-ttl-seconds:60 http://169.254.169.254/latest/api/token");
        let id =
            curl(&format!("-H X-aws-ec2-metadata-token:{token} http://169.254.169.254/latest/meta-data/instance-id"));
        assert_eq!(id, node.instance());
        let enis = curl("http://127.0.0.1:4566/ -d Action=DescribeNetworkInterfaces -d Version=2016-11-15");
        assert!(enis.contains(&node.host().address.to_string()), "{enis}");
    }
}

#[test]
fn a_start_clears_what_a_crash_left() {
    let settings = settings("crash");
    let leftover = Netns::create(format!("{}-a", settings.prefix)).expect("a namespace");
    let mut process =
        leftover.enter(|| Command::new("sleep").arg("1000").spawn()).expect("entered").expect("sleep starts");
    std::fs::create_dir_all(settings.directory().join("a")).expect("a folder");
    let stale = settings.directory().join("a/ipamd.sock");
    std::fs::write(&stale, "").expect("a file");
    let lab = Lab::start(settings).expect("a lab starts over a crashed one");
    assert!(!Path::new(&stale).exists());
    let ended = wait::until(PATIENCE, || process.try_wait().expect("the process can be waited for"));
    assert!(ended.is_some(), "the process is still running");
    drop(lab);
}
