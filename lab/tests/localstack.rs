//! LocalStack as a lab's EC2: the fabric and metadata follow it, and it is gone afterwards, whatever happened to the lab.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use lab::{
    Backend, EC2_ADDRESS, Lab, LabSettings,
    localstack::{PYTHON, Python},
    netns::Netns,
    node::Node,
    proxy::Outcome,
    trouble::{Disturbance, Injection, When},
    wait,
};
use sim::{Action, Fault, Times};

const PATIENCE: Duration = Duration::from_secs(20);

fn python() -> Python {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localstack/venv.sh");
    let known =
        if std::env::var_os(PYTHON).is_some() { Python::of_the_environment() } else { Python::made_by(&script) };
    known.expect("a python with LocalStack")
}

fn lab(prefix: &str, times: Times) -> Lab {
    let mut settings = LabSettings::with_prefix(prefix).with_nodes(&["m5.large"]);
    settings.backend = Backend::LocalStack(python());
    settings.world.ec2.times = times;
    Lab::start(settings).expect("a lab")
}

fn links(node: &Node) -> Vec<String> {
    let shown = node.netns().output(Command::new("ip").args(["-br", "link"])).expect("ip runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    shown.lines().filter(|line| line.contains("02:")).map(str::to_lowercase).collect()
}

/// Processes whose working directory is below the lab's.
fn running(prefix: &str) -> Vec<PathBuf> {
    let home = format!("/run/{prefix}-localstack");
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    let here = processes.filter(|process| {
        fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.to_string_lossy().starts_with(&home))
    });
    here.map(|process| process.path()).collect()
}

#[test]
fn an_attached_eni_is_a_link_after_the_device_delay_and_gone_after_the_detach() {
    let device = Duration::from_millis(400);
    let lab = lab("berth-lsfabric", Times { device, ..Times::INSTANT });
    let node = &lab.nodes()[0];
    assert_eq!(links(node).len(), 1);
    let wanted = [("SubnetId", lab.subnet()), ("SecondaryPrivateIpAddressCount", "2")];
    let made = lab.ask("CreateNetworkInterface", &wanted).expect("an ENI");
    let (eni, mac) =
        (made.element("networkInterfaceId").expect("its id"), made.element("macAddress").expect("its MAC"));
    let attach = [("NetworkInterfaceId", &*eni), ("InstanceId", node.instance()), ("DeviceIndex", "1")];
    let attached = lab.ask("AttachNetworkInterface", &attach).expect("attached");
    let attachment = attached.element("attachmentId").expect("its id");
    assert_eq!(lab.truth().attached(node.instance()).len(), 2, "EC2 has it at once");
    assert_eq!(links(node).len(), 1, "and the instance does not");
    let link = |links: &[String]| links.iter().any(|line| line.contains(&mac.to_lowercase()));
    wait::until(PATIENCE, || link(&links(node)).then_some(())).unwrap_or_else(|| panic!("{mac}: {:?}", links(node)));
    let addresses = made.elements("privateIpAddress");
    let address = addresses.last().expect("it has some").parse().expect("an address");
    assert_eq!(lab.witness().holder(address).expect("the fabric knows it").eni.id, eni);
    lab.ask("DetachNetworkInterface", &[("AttachmentId", &attachment)]).expect("detached");
    wait::until(PATIENCE, || (links(node).len() == 1).then_some(())).unwrap_or_else(|| panic!("{:?}", links(node)));
    lab.stop().expect("nothing is left");
    assert_eq!(running("berth-lsfabric"), [""; 0].map(PathBuf::from));
    assert!(!Path::new("/run/berth-lsfabric-localstack").exists());
}

#[test]
fn metadata_tells_what_localstack_has_and_what_it_had_a_lag_ago() {
    let lab = lab("berth-lsmeta", Times::INSTANT);
    let node = &lab.nodes()[0];
    let macs = || curl(node, "network/interfaces/macs/").lines().count();
    assert_eq!(curl(node, "instance-id"), node.instance());
    assert_eq!(curl(node, "placement/availability-zone"), "us-west-2a");
    assert_eq!(macs(), 1);
    let made = lab.ask("CreateNetworkInterface", &[("SubnetId", lab.subnet())]).expect("an ENI");
    let eni = made.element("networkInterfaceId").expect("its id");
    let attach = [("NetworkInterfaceId", &*eni), ("InstanceId", node.instance()), ("DeviceIndex", "1")];
    lab.ask("AttachNetworkInterface", &attach).expect("attached");
    assert_eq!(macs(), 2);
    lab.faults().set_metadata_lag(Duration::from_secs(50));
    let assign = [("NetworkInterfaceId", &*eni), ("SecondaryPrivateIpAddressCount", "2")];
    lab.ask("AssignPrivateIpAddresses", &assign).expect("assigned");
    let mac = lab.truth().attached(node.instance())[1].mac;
    let listed = || curl(node, &format!("network/interfaces/macs/{mac}/local-ipv4s")).lines().count();
    assert_eq!(listed(), 1, "what it knew when the lag began it goes on knowing");
    lab.faults().set_metadata_lag(Duration::ZERO);
    assert_eq!(listed(), 3);
}

#[test]
fn the_proxy_makes_its_trouble_in_front_of_localstack_too() {
    let lab = lab("berth-lsproxy", Times::INSTANT);
    let node = &lab.nodes()[0];
    let primary = lab.truth().attached(node.instance()).remove(0);
    let describe = format!("Action=DescribeNetworkInterfaces&NetworkInterfaceId.1={}", primary.eni);
    let addresses = || call(node, &describe).0.matches("<primary>").count();
    let first = addresses();
    let one_more =
        format!("Action=AssignPrivateIpAddresses&NetworkInterfaceId={}&SecondaryPrivateIpAddressCount=1", primary.eni);
    let faults = lab.faults();
    faults.inject(Injection::once(Action::AssignPrivateIpAddresses, Disturbance::Lose(When::AfterEffect)));
    let (answer, well) = call(node, &one_more);
    assert!(!well && answer.is_empty(), "the answer is lost: {answer}");
    let stale = Disturbance::Stale(Duration::from_secs(30));
    faults.inject(Injection::once(Action::DescribeNetworkInterfaces, stale));
    assert_eq!(addresses(), first, "an earlier answer to the same question");
    assert_eq!(addresses(), first + 1, "and then what the lost call did, once");
    let throttled = Disturbance::Refuse(When::BeforeEffect, Fault::throttled());
    faults.inject(Injection::once(Action::AssignPrivateIpAddresses, throttled));
    let (answer, _) = call(node, &one_more);
    assert!(answer.contains("<Code>RequestLimitExceeded</Code>"), "{answer}");
    assert_eq!(addresses(), first + 1);
    let outcomes: Vec<_> = lab.ec2().log().into_iter().map(|call| call.outcome).collect();
    let refused = Outcome::Refused("RequestLimitExceeded".to_owned());
    let (yes, lost) = (Outcome::Accepted, Outcome::Lost);
    assert_eq!(outcomes, [yes.clone(), lost, yes.clone(), yes.clone(), refused, yes]);
}

/// A call of EC2, made inside the node: what it answers, and whether it does.
fn call(node: &Node, form: &str) -> (String, bool) {
    let mut curl = Command::new("curl");
    // LocalStack learns the region from where a signature would be.
    let scope = "Authorization: AWS4-HMAC-SHA256 Credential=lab/20260101/us-west-2/ec2/aws4_request, \
                 SignedHeaders=host, Signature=00";
    curl.args(["-s", "-H", scope, "-d", &format!("Version=2016-11-15&{form}"), &format!("http://{EC2_ADDRESS}/")]);
    let answer = node.netns().output(&mut curl).expect("curl runs");
    (String::from_utf8_lossy(&answer.stdout).into_owned(), answer.status.success())
}

/// What metadata says, asked inside the node.
fn curl(node: &Node, path: &str) -> String {
    let script = format!(
        "token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token) && \
         curl -sf -H \"X-aws-ec2-metadata-token: $token\" http://169.254.169.254/latest/meta-data/{path}"
    );
    let told = node.netns().output(Command::new("sh").args(["-c", &script])).expect("curl runs");
    assert!(told.status.success(), "{path}: {told:?}");
    String::from_utf8(told.stdout).expect("text")
}

fn run(prefix: &str, words: &[&str], python: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(words).args(["--prefix", prefix]).env(PYTHON, python).output().expect("lab runs")
}

#[test]
fn the_localstack_of_a_killed_lab_ends_when_the_lab_is_taken_down_or_started_anew() {
    let (prefix, python) = ("berth-lskill", python());
    let lab = |words: &[&str]| {
        let output = run(prefix, words, python.path());
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let up = ["up", "--backend=localstack", "--nodes=1", "--bare"];
    lab(&up);
    let first = running(prefix);
    assert_eq!(first.len(), 1, "{first:?}");
    let killed = || {
        let written = fs::read_to_string(format!("/run/{prefix}/hold.pid")).expect("it says who holds it");
        let pid = written.split(' ').next().expect("a pid");
        assert!(Command::new("kill").args(["-KILL", pid]).status().expect("kill runs").success());
        let gone = || (!Path::new("/proc").join(pid).join("exe").exists()).then_some(());
        wait::until(PATIENCE, gone).expect("it ends");
    };
    killed();
    assert_eq!(running(prefix), first, "nobody has ended it yet");
    lab(&up);
    let second = running(prefix);
    assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
    killed();
    lab(&["down"]);
    assert_eq!(running(prefix).len(), 0);
    assert!(Netns::with_prefix(prefix).is_empty() && !Path::new("/run").join(format!("{prefix}-localstack")).exists());
}

#[test]
fn a_python_without_localstack_is_named_and_so_is_what_to_do() {
    let prefix = "berth-lswrong";
    let says = |python: &str| {
        let output = run(prefix, &["demo", "--backend=localstack"], Path::new(python));
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = says("/nowhere/python");
    assert!(said.contains("/nowhere/python") && said.contains("localstack/venv.sh"), "{said}");
    let bare = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("a python");
    let said = says(String::from_utf8_lossy(&bare.stdout).trim());
    assert!(said.contains("LocalStack did not come up") && said.contains("No module named"), "{said}");
    assert!(Netns::with_prefix(prefix).is_empty() && !Path::new("/run").join(format!("{prefix}-localstack")).exists());
}
