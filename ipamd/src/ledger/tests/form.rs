//! The form of today's entries, written down.

use std::fmt::Write as _;

use expect_test::expect_file;
use pool::{
    Ask, Attached, Block, Call, CallId, EniRecord, EniState, Intent, Limits, NodeFacts, Prefix, PrefixState, Role,
};

use super::{
    schema::{BOOT, old},
    *,
};

fn prefix(first: u8) -> Prefix {
    Prefix::new(Ipv4Addr::new(10, 0, 2, first)).expect("aligned")
}

/// What schema 1 had, migrated, and what there is since.
fn examples() -> Vec<Entry> {
    let at = |seconds| BootTime(Duration::from_secs(seconds));
    let intent = |id, call| Entry::Intent(Intent { id: CallId(id), call, at: at(id), doubt: None });
    let mut entries = old().open(BOOT).0.load().expect("entries");
    entries.extend([
        Entry::Facts(NodeFacts {
            instance: "i-0a1".into(),
            primary: "eni-01".into(),
            address: [10, 0, 1, 10].into(),
            subnet: "subnet-0a1".into(),
            vpc: "vpc-0a1".into(),
            zone: "eu-central-1a".to_owned(),
            groups: vec!["sg-1".into()],
            limits: Some(Limits { enis: 12, addresses_per_eni: 15 }),
        }),
        Entry::Eni(EniRecord {
            id: "eni-13".into(),
            mac: pool::Mac([2, 0, 0, 0, 2, 1]),
            subnet: "subnet-0a1".into(),
            primary: [10, 0, 2, 1].into(),
            role: Role::Pods,
            created: true,
            tagged: true,
            excluded: true,
            groups: std::collections::BTreeSet::from(["sg-1".into()]),
            state: EniState::Ready,
            attachment: Some(Attached { id: "eni-attach-13".into(), device: pool::DeviceIndex(9), card: 0 }),
            slot: pool::Slot::new(9),
            since: at(1),
        }),
        Entry::Prefix("eni-13".into(), prefix(16), PrefixState::Usable { since: at(2) }),
        Entry::Prefix("eni-13".into(), prefix(32), PrefixState::Unverified { absent: Some(at(3)) }),
        Entry::Departed("eni-13".into(), Block::Prefix(prefix(48)), at(4)),
        Entry::Found(running("c99")),
        Entry::Missing(key("c98"), at(6)),
        Entry::Resting([10, 0, 2, 99].into(), at(5)),
        intent(
            101,
            Call::CreateEni {
                token: "t".into(),
                subnet: "subnet-0a1".into(),
                groups: Vec::new(),
                ask: Ask::Prefixes(1),
                description: String::new(),
                tags: [("a".to_owned(), "b".to_owned())].into(),
            },
        ),
        intent(102, Call::Assign { eni: "eni-13".into(), ask: Ask::Prefixes(2) }),
        intent(103, Call::Unassign { eni: "eni-13".into(), addresses: Vec::new(), prefixes: vec![prefix(64)] }),
        intent(105, Call::SetGroups { eni: "eni-13".into(), groups: vec!["sg-1".into()] }),
        intent(104, Call::Tag { eni: "eni-13".into(), tags: [("a".to_owned(), "b".to_owned())].into() }),
    ]);
    entries
}

/// What an example is one of. A kind that is added has no arm here: it needs an example, too.
fn kind(entry: &Entry) -> &'static str {
    match entry {
        Entry::Facts(_) => "facts",
        Entry::Eni(_) => "eni",
        Entry::Address(..) => "address",
        Entry::Prefix(..) => "prefix",
        Entry::Lease(_) => "lease",
        Entry::Tombstone(..) => "tombstone",
        Entry::Missing(..) => "missing",
        Entry::Departed(..) => "departed",
        Entry::Found(_) => "found",
        Entry::Resting(..) => "resting",
        Entry::Serial(_) => "serial",
        Entry::Intent(intent) => match intent.call {
            Call::CreateEni { .. } => "create",
            Call::Attach { .. } => "attach",
            Call::Protect { .. } => "protect",
            Call::SetGroups { .. } => "set groups",
            Call::Assign { .. } => "assign",
            Call::Unassign { .. } => "unassign",
            Call::Tag { .. } => "tag",
            Call::Detach { .. } => "detach",
            Call::Delete { .. } => "delete",
            Call::Describe { .. }
            | Call::Discover { .. }
            | Call::Subnets { .. }
            | Call::Leaked { .. }
            | Call::Instances { .. } => "a read, of which there are no intents",
        },
    }
}

/// When this fails, daemons of yesterday and today cannot read each other's ledgers. If yesterday's was ever released: keep the file as
/// it was, beside a store with the same content, as the fixture of its schema; count [`SCHEMA`] up and write the step in `migrate`.
/// Otherwise, `UPDATE_EXPECT=1` takes today's form over.
#[test]
fn entries_change_their_form_only_with_the_schema() {
    assert_eq!(SCHEMA, 2, "the name of the file below");
    let entries = examples();
    let kinds: std::collections::BTreeSet<_> = entries.iter().map(kind).collect();
    assert_eq!(kinds.len(), 20, "an example of every kind: {kinds:?}");
    let mut lines = String::new();
    for entry in &entries {
        let text = serde_json::to_string(entry).expect("JSON");
        assert_eq!(serde_json::from_str::<Entry>(&text).expect("an entry"), *entry, "it reads what it writes");
        writeln!(lines, "[{:?},{text}]", entry.key().to_string()).expect("written");
    }
    expect_file!["../fixtures/schema-2.jsonl"].assert_eq(&lines);
}
