//! What the daemon keeps is damaged, from another time, or has no room: no running pod's address is given away, no DEL is lost, and no
//! start ends there.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use lab::{
    Lab,
    cni::Reply,
    node::{Ipamd, Node},
    pods::{Pod, at_once},
    traffic::{Echo, Question, Transport},
    trouble::Service,
};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount},
    process::{Pid, Resource, Rlimit, prlimit},
};
use serde_json::{Value, json};

use crate::node::{self, books_agree, eventually, leases};

const SETTINGS: [(&str, &str); 2] = [("WARM_IP_TARGET", "4"), ("IP_COOLDOWN_PERIOD", "1")];
const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("entries");

fn start(lab: &Lab) -> Ipamd {
    lab.nodes()[0].start_ipamd(&SETTINGS).expect("a daemon")
}

fn add(node: &Node, names: impl IntoIterator<Item = String>) -> Vec<Pod> {
    let mut pods: Vec<_> = names.into_iter().map(|name| node.pod(&name).expect("a sandbox")).collect();
    for added in at_once(&mut pods, |pod| pod.add().map(|_| ())) {
        added.expect("an address");
    }
    pods
}

/// Every pod reaches the node, which sees the pod's own address.
#[track_caller]
fn talk(node: &Node, pods: &[Pod]) {
    let echo = Echo::start(node.host(), Transport::Tcp).expect("a server");
    for pod in pods {
        let host = pod.host().expect("it has an address");
        let answer = Question::new(&host, echo.at(), Transport::Tcp).ask();
        let answer = answer.unwrap_or_else(|error| panic!("{} has no network: {error:?}", pod.label()));
        assert_eq!(*answer.seen.source.ip(), host.address, "{}", pod.label());
    }
}

fn file(node: &Node) -> PathBuf {
    node.run_dir().join("ledger.redb")
}

/// What was set aside.
fn aside(node: &Node) -> Vec<String> {
    let names = fs::read_dir(node.run_dir()).expect("a directory").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut aside: Vec<_> = names.filter(|name| name.starts_with("ledger.redb.")).collect();
    aside.sort();
    aside
}

/// Changes a store that no daemon has open.
fn edit(file: &Path, change: impl FnOnce(&mut BTreeMap<String, Value>)) {
    let store = Database::open(file).expect("a store");
    let mut rows = BTreeMap::new();
    {
        let table = store.begin_read().expect("a read").open_table(TABLE).expect("the table");
        for row in table.iter().expect("rows") {
            let (key, value) = row.expect("a row");
            rows.insert(key.value().to_owned(), serde_json::from_slice(value.value()).expect("JSON"));
        }
    }
    change(&mut rows);
    let write = store.begin_write().expect("a transaction");
    {
        let mut table = write.open_table(TABLE).expect("the table");
        table.retain(|_, _| false).expect("empty");
        for (key, value) in &rows {
            table.insert(key.as_str(), value.to_string().as_bytes()).expect("a row");
        }
    }
    write.commit().expect("a commit");
}

/// What to do to the ledger, and the word in the name under which it is found afterwards.
type Damage = (&'static str, fn(&Path), Option<&'static str>);

const DAMAGES: [Damage; 10] = [
    ("gone", |file| fs::remove_file(file).expect("it was there"), None),
    ("emptied", |file| fs::write(file, "").expect("written"), None),
    ("cut", |file| cut(file, 3), Some("unreadable")),
    ("cut early", |file| cut(file, 100), Some("unreadable")),
    ("garbage", |file| fs::write(file, "x".repeat(100_000)).expect("written"), Some("unreadable")),
    ("a page of zeros everywhere", zeros, Some("unreadable")),
    ("a directory", a_directory, Some("unreadable")),
    (
        "an entry that is none",
        |file| edit(file, |rows| drop(rows.insert("serial".into(), json!({})))),
        Some("unreadable"),
    ),
    (
        "of another boot",
        |file| edit(file, |rows| rows.get_mut("!header").expect("it")["boot"] = json!("b")),
        Some("other-boot"),
    ),
    ("newer", newer, Some("other-schema")),
];

fn cut(file: &Path, part: u64) {
    let whole = fs::File::options().write(true).open(file).expect("the ledger");
    let length = whole.metadata().expect("its length").len();
    whole.set_len(length / part).expect("cut");
}

fn zeros(file: &Path) {
    let whole = fs::File::options().write(true).open(file).expect("the ledger");
    let length = whole.metadata().expect("its length").len();
    for page in (1..length / 4096).step_by(2) {
        whole.write_all_at(&[0; 4096], page * 4096).expect("written");
    }
}

fn a_directory(file: &Path) {
    fs::remove_file(file).expect("it was there");
    fs::create_dir(file).expect("a directory");
}

fn newer(file: &Path) {
    edit(file, |rows| {
        let header = rows.get_mut("!header").expect("a header");
        header["schema"] = json!(header["schema"].as_u64().expect("a number") + 1);
        rows.insert("gizmo/1".to_owned(), json!({ "Gizmo": { "id": 1 } }));
    });
}

/// What every start after a damage must lead to: the pods that run are as they were, others get other addresses, DELs work.
#[track_caller]
fn nobody_noticed(lab: &Lab, pods: &mut Vec<Pod>, round: usize) {
    let node = &lab.nodes()[0];
    eventually("every running pod has its lease", node, || (leases(node).len() == pods.len()).then_some(()));
    talk(node, pods);
    let more = add(node, (0..3).map(|n| format!("r{round}n{n}")));
    pods.extend(more);
    books_agree(lab, node, pods);
    talk(node, pods);
    for mut pod in pods.drain(..3) {
        pod.del().expect("a DEL of a pod from before");
    }
    books_agree(lab, node, pods);
}

#[test]
fn whatever_became_of_the_ledger_no_running_pods_address_is_given_away() {
    let lab = node::lab("damage", &["m5.xlarge"]);
    let node = &lab.nodes()[0];
    let mut daemon = start(&lab);
    let mut pods = add(node, (0..9).map(|n| format!("p{n}")));
    for (round, (what, damage, word)) in DAMAGES.into_iter().enumerate() {
        daemon.kill().expect("killed");
        damage(&file(node));
        let before = aside(node);
        let said = node.log().len();
        daemon = start(&lab);
        nobody_noticed(&lab, &mut pods, round);
        let new: Vec<_> = aside(node).into_iter().filter(|name| !before.contains(name)).collect();
        assert!(new.iter().all(|name| word.is_some_and(|word| name.contains(word))), "{what}: {new:?}");
        assert_eq!(new.len(), usize::from(word.is_some()), "{what}: {new:?}");
        assert!(aside(node).len() <= 4, "three files, and the directory that was somebody's: {:?}", aside(node));
        let log = node.log().split_off(said);
        assert_eq!(log.contains("set the ledger aside and began a new one"), word.is_some(), "{what}:\n{log}");
        assert!(!log.contains("panicked"), "{what}:\n{log}");
    }
    assert!(node.log().contains("and this daemon knows"), "the schemas are named");
}

#[test]
fn a_ledger_of_an_older_schema_is_taken_over_with_its_leases_and_cooling_times() {
    let lab = node::lab("older", &["m5.large"]);
    let node = &lab.nodes()[0];
    let settings = [("WARM_IP_TARGET", "2"), ("IP_COOLDOWN_PERIOD", "600")];
    let daemon = node.start_ipamd(&settings).expect("a daemon");
    let mut pods = add(node, (0..4).map(|n| format!("p{n}")));
    pods.pop().expect("four").del().expect("one address cools");
    let kept = |node: &Node| {
        let mut leases = node::ask(node, "leases");
        let list = leases.as_array_mut().expect("a list").iter_mut().filter_map(Value::as_object_mut);
        list.for_each(|lease| drop(lease.remove("age_ms")));
        (leases, cooling(node))
    };
    let before = kept(node);
    assert_eq!(before.1.len(), 1, "{before:?}");
    daemon.stop().expect("stopped");
    edit(&file(node), |rows| {
        rows.get_mut("!header").expect("a header")["schema"] = json!(1);
        let facts = rows.get_mut("facts").and_then(|facts| facts["Facts"].as_object_mut()).expect("facts");
        assert!(facts.remove("vpc").is_some() && facts.remove("zone").is_some(), "{facts:?}");
    });
    let _daemon = node.start_ipamd(&settings).expect("a daemon");
    assert!(node.log().contains("migrated the ledger"), "{}", node.log_tail(20));
    assert_eq!(kept(node), before, "generations, uids and all");
    pods.extend(add(node, (0..3).map(|n| format!("n{n}"))));
    books_agree(&lab, node, &pods);
    assert_eq!(aside(node), [""; 0]);
}

/// The cooling addresses.
fn cooling(node: &Node) -> Vec<Value> {
    let pool = node::ask(node, "pool");
    let enis = pool["enis"].as_array().expect("ENIs").iter();
    let addresses = enis.flat_map(|eni| eni["addresses"].as_array().expect("addresses"));
    let cooling = addresses.filter(|address| address["state"].as_str().is_some_and(|state| state.contains("ooling")));
    cooling.map(|address| address["address"].clone()).collect()
}

#[test]
fn a_start_that_ended_before_ec2_answered_makes_no_running_pods_address_free() {
    let lab = node::lab("early", &["m5.large"]);
    let node = &lab.nodes()[0];
    let daemon = start(&lab);
    let mut pods = add(node, (0..5).map(|n| format!("p{n}")));
    daemon.kill().expect("killed");
    fs::remove_file(file(node)).expect("there was a ledger");
    lab.faults().set_reachable(Service::Ec2, false);
    for start in 1..=2 {
        let daemon = node.spawn_ipamd(&SETTINGS).expect("spawned");
        eventually("it has looked at the kernel", node, || {
            (node.log().matches("found leases in the kernel").count() == start).then_some(())
        });
        daemon.kill().expect("killed");
    }
    lab.faults().set_reachable(Service::Ec2, true);
    let daemon = start(&lab);
    nobody_noticed(&lab, &mut pods, 0);
    daemon.kill().expect("killed");
    let _daemon = start(&lab);
    nobody_noticed(&lab, &mut pods, 1);
}

/// A run directory on a disk of its own of four megabytes. The log stays outside.
struct SmallDisk {
    at: PathBuf,
    _log: tempfile::TempDir,
}

impl SmallDisk {
    fn under(node: &Node) -> Self {
        let (at, log) = (node.run_dir(), tempfile::tempdir().expect("a directory"));
        mount("tmpfs", &at, "tmpfs", MountFlags::empty(), c"size=4m").expect("root may mount");
        std::os::unix::fs::symlink(log.path().join("log"), at.join("ipamd.log")).expect("a link");
        Self { at, _log: log }
    }

    fn fill(&self) {
        let full = fs::write(self.at.join("filler"), vec![1; 5 << 20]).expect_err("it is small");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        fs::remove_file(self.at.join("filler")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.at, UnmountFlags::DETACH).expect("it is mounted");
    }
}

/// From now on the daemon can write to no file, as on a full disk, whatever room there is in those it has.
fn takes_nothing(daemon: &Ipamd, nothing: bool) {
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw).expect("a process has an id");
    let limit = Rlimit { current: nothing.then_some(0), maximum: None };
    prlimit(Some(pid), Resource::Fsize, limit).expect("root may limit others");
}

#[test]
fn a_disk_that_takes_nothing_makes_adds_fail_with_the_reason_until_it_does() {
    let lab = node::lab("nospace", &["m5.large"]);
    let node = &lab.nodes()[0];
    let disk = SmallDisk::under(node);
    let mut daemon = start(&lab);
    let mut pods = add(node, (0..3).map(|n| format!("p{n}")));
    takes_nothing(&daemon, true);
    disk.fill();

    let mut late = node.pod("late").expect("a sandbox");
    let told = format!("{}", node::refusal(late.call("ADD", None).expect("the plugin runs")));
    assert!(told.contains("LedgerUnavailable") && told.contains("File too large"), "{told}");
    // Neither the daemon nor the spool can keep a DEL: the runtime is told to repeat it.
    let previous = pods[0].added().expect("added").result.clone();
    let told = format!("{}", node::refusal(pods[0].call("DEL", Some(&previous)).expect("the plugin runs")));
    assert!(told.contains("LedgerUnavailable") && told.contains("No space left on device"), "{told}");
    assert_eq!(leases(node).len(), 3, "what is not written down did not happen");
    talk(node, &pods[1..]);

    takes_nothing(&daemon, false);
    disk.make_room();
    pods.remove(0).del().expect("repeated");
    late.add().expect("an address");
    pods.push(late);
    books_agree(&lab, node, &pods);
    assert_eq!(daemon.ended(), None, "the same daemon");
    assert!(node.log().contains("wrote the ledger again"), "{}", node.log_tail(10));
    daemon.kill().expect("killed");
    let _daemon = start(&lab);
    books_agree(&lab, node, &pods);
}

#[test]
fn a_del_that_the_ledger_cannot_take_waits_in_the_spool() {
    let lab = node::lab("spoolroom", &["m5.large"]);
    let node = &lab.nodes()[0];
    let mut daemon = start(&lab);
    let mut pods = add(node, (0..3).map(|n| format!("p{n}")));
    takes_nothing(&daemon, true);
    pods.remove(0).del().expect("left in the spool");
    assert_eq!(leases(node).len(), 3, "not written down yet");
    takes_nothing(&daemon, false);
    eventually("the spool is read", node, || (leases(node).len() == 2).then_some(()));
    books_agree(&lab, node, &pods);
    assert_eq!(daemon.ended(), None, "the same daemon");
}

#[test]
fn a_first_start_on_a_full_disk_waits_and_says_what_for() {
    let lab = node::lab("noroom", &["m5.large"]);
    let node = &lab.nodes()[0];
    let disk = SmallDisk::under(node);
    disk.fill();
    let mut daemon = node.spawn_ipamd(&SETTINGS).expect("spawned");
    eventually("it says why", node, || node.log().contains("could not open the ledger").then_some(()));
    assert!(node.log().contains("No space left on device"), "{}", node.log());
    let pod = node.pod("p").expect("a sandbox");
    assert!(matches!(pod.call("ADD", None).expect("the plugin runs"), Reply::Refused(_)));
    assert_eq!(daemon.ended(), None, "it waits");
    disk.make_room();
    daemon.wait_ready(node::PATIENCE).expect("by itself");
    add(node, ["q".to_owned()]);
}

#[test]
fn a_log_on_a_full_disk_ends_no_daemon() {
    let lab = node::lab("nolog", &["m5.large"]);
    let node = &lab.nodes()[0];
    let disk = SmallDisk::under(node);
    fs::remove_file(disk.at.join("ipamd.log")).expect("the link");
    let daemon = start(&lab);
    assert_eq!(daemon.stop().expect("it ends").code(), Some(0));
    disk.fill();
    let mut daemon = node.start_ipamd(&[]).expect("a daemon that nobody hears");
    let pod = node.pod("p").expect("a sandbox");
    assert!(matches!(pod.call("ADD", None).expect("the plugin runs"), Reply::Refused(_)));
    assert_eq!(daemon.ended(), None, "{}", node.log());
    disk.make_room();
    add(node, ["q".to_owned()]);
}

#[test]
fn a_run_directory_that_cannot_be_written_is_named() {
    let lab = node::lab("readonly", &["m5.large"]);
    let node = &lab.nodes()[0];
    let disk = SmallDisk::under(node);
    fs::write(disk.at.join("ipamd.log"), "").expect("a log");
    mount_remount(&disk.at, MountFlags::RDONLY, c"").expect("read-only");
    let mut daemon = node.spawn_ipamd(&SETTINGS).expect("spawned");
    let ended = eventually("it ends", node, || daemon.ended());
    assert_eq!(ended.code(), Some(1));
    let said = node.log();
    assert!(said.contains("ipamd.lock") && said.contains("Read-only file system"), "{said}");
}

#[test]
fn a_second_daemon_ends_and_says_who_runs() {
    let lab = node::lab("rival", &["m5.large"]);
    let node = &lab.nodes()[0];
    let mut first = start(&lab);
    let pods = add(node, (0..2).map(|n| format!("p{n}")));
    let mut second = node.spawn_ipamd(&SETTINGS).expect("spawned");
    let ended = eventually("it ends", node, || second.ended());
    assert_eq!(ended.code(), Some(1));
    let named = format!("another ipamd runs on this node: process {}", first.pid());
    assert!(node.log().contains(&named), "{}", node.log_tail(10));
    assert_eq!(first.ended(), None);
    books_agree(&lab, node, &pods);
}
