//! Older ledgers are migrated, newer ones set aside; the form of today's entries is written down.

use std::fs;

use pool::{Ask, Call, CallId, Intent, Policy, State};
use serde_json::{Value, json};

use super::{torn::Recording, *};

/// A store of this schema as its daemon wrote it, and its text.
const STORE: &[u8] = include_bytes!("../fixtures/schema-1.redb");
const TEXT: &str = include_str!("../fixtures/schema-1.jsonl");
pub(super) const BOOT: &str = "0d6a3f5e-6a1b-4a5c-9f0e-2f6f3c1d7b11";

fn text() -> Vec<(String, Value)> {
    TEXT.lines().map(|line| serde_json::from_str(line).expect("a key and an entry")).collect()
}

fn parsed(rows: &Rows) -> Vec<(String, Value)> {
    let parse = |(key, value): (&String, &Vec<u8>)| (key.clone(), serde_json::from_slice(value).expect("JSON"));
    rows.iter().map(parse).collect()
}

pub(super) fn old() -> Place {
    let place = Place::new();
    fs::write(place.file(), STORE).expect("the fixture");
    place
}

#[test]
fn the_fixture_of_schema_1_says_in_words_what_it_holds() {
    let place = old();
    assert_eq!(parsed(&Store::open(&place.file()).expect("a store").rows().expect("rows")), text());
}

#[test]
fn a_ledger_of_schema_1_is_migrated_entry_by_entry() {
    let place = old();
    let (mut ledger, opened) = place.open(BOOT);
    assert_eq!(opened, Opened::Kept);
    let migrated = ledger.load().expect("entries");

    let intent = |id| {
        migrated.iter().find_map(|entry| match entry {
            Entry::Intent(intent) if intent.id == CallId(id) => Some(intent.clone()),
            _ => None,
        })
    };
    let Some(Intent { call: Call::CreateEni { token, ask, tags, .. }, doubt: Some(doubt), .. }) = intent(90) else {
        panic!("{:?}", intent(90));
    };
    assert_eq!((token.as_str(), ask, doubt.reads), ("00112233445566778899aabbccddeeff-90", Ask::Addresses(14), 2));
    assert_eq!(tags.len(), 2);
    assert_eq!(
        intent(93).map(|intent| intent.call),
        Some(Call::Assign { eni: "eni-02".into(), ask: Ask::Addresses(5) })
    );
    let unassign =
        Call::Unassign { eni: "eni-01".into(), addresses: vec![[10, 0, 1, 16].into()], prefixes: Vec::new() };
    assert_eq!(intent(94).map(|intent| intent.call), Some(unassign));
    // Which ENI an address had left was not written down: it may have been any.
    let departed: Vec<_> = parsed(&ledger.rows).into_iter().filter(|(key, _)| key.starts_with("departed/")).collect();
    assert_eq!(departed.len(), 12, "one for each ENI");
    let block = json!({ "Departed": ["eni-01", { "Address": "10.0.1.99" }, { "secs": 64, "nanos": 0 }] });
    assert_eq!(departed[0], ("departed/eni-01/10.0.1.99".to_owned(), block));

    // ENIs have the tag if they were created by us.
    let mut count = 0;
    for (key, mut new) in parsed(&ledger.rows).into_iter().filter(|(key, _)| key.starts_with("eni/")) {
        let mut old = text().into_iter().find(|(other, _)| *other == key).expect("it was there").1;
        assert_eq!(new["Eni"]["tagged"], old["Eni"]["created"], "{key}");
        for entry in [&mut new, &mut old] {
            entry["Eni"]["tagged"] = json!(null);
            entry["Eni"]["excluded"] = json!(false);
        }
        assert_eq!(new, old);
        count += 1;
    }
    assert_eq!(count, 12);

    // Leases, addresses with their cooling times, tombstones, the other intents: not a letter is different.
    let changed = ["!header", "facts", "intent/90", "intent/93", "intent/94"];
    let touched = |key: &str| changed.contains(&key) || key.starts_with("eni/") || key.starts_with("departed/");
    let as_they_were = |rows: Vec<(String, Value)>| -> Vec<(String, Value)> {
        rows.into_iter().filter(|(key, _)| !touched(key)).collect()
    };
    assert_eq!(as_they_were(parsed(&ledger.rows)), as_they_were(text()));
    let keys = |rows: Vec<(String, Value)>| rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let mut expected = keys(text());
    expected.retain(|key| key != "facts" && !key.starts_with("departed/"));
    let mut there = keys(parsed(&ledger.rows));
    there.retain(|key| !key.starts_with("departed/"));
    assert_eq!(there, expected, "nothing is missing, nothing is new");
    drop(ledger);

    let state = State::restore(Policy::default(), BootTime(Duration::from_secs(72)), migrated.clone());
    assert_eq!(state.check(), [""; 0], "the pool can work with it");
    let (mut again, opened) = place.open(BOOT);
    assert_eq!((opened, again.load().expect("entries")), (Opened::Kept, migrated));
    assert_eq!(again.header.schema, SCHEMA);
    assert_eq!(place.names(), ["ledger.redb"]);
}

#[test]
fn a_migration_killed_at_any_write_left_the_old_ledger_or_the_new_one() {
    let place = old();
    let whole = old().open(BOOT).0.rows;
    let (store, recording) = Recording::of(&place.file());
    adopt(&store, BOOT).unwrap_or_else(|_| panic!("it migrates"));
    drop(store);
    let after = Place::new();
    let (mut olds, mut news) = (0, 0);
    for (writes, file) in recording.kills() {
        fs::write(after.file(), file).expect("the file");
        let found = Store::open(&after.file()).expect("a store").rows().expect("rows");
        if found == whole {
            news += 1;
        } else {
            assert_eq!(parsed(&found), text(), "after {writes} writes");
            olds += 1;
        }
        let (ledger, opened) = after.open(BOOT);
        assert_eq!(opened, Opened::Kept, "after {writes} writes");
        assert_eq!(ledger.rows, whole, "after {writes} writes");
    }
    assert!(olds > 1 && news > 1, "{olds} old, {news} new");
}

#[test]
fn a_newer_ledger_is_set_aside_by_name_and_rebuilt() {
    let place = Place::new();
    filled(&place);
    let newer = SCHEMA + 1;
    let header = format!(r#"{{"schema":{newer},"boot":"boot-1","colour":"green"}}"#);
    place.write(&[(HEADER, &header), ("gizmo/1", r#"{"Gizmo":{"id":1}}"#)]);
    let whole = Store::open(&place.file()).expect("a store").rows().expect("rows");
    let (why, at) = place.set_aside("boot-1");
    assert_eq!(why.to_string(), format!("it has schema {newer} and this daemon knows {SCHEMA}"));
    assert!(at.to_string_lossy().contains("ledger.redb.other-schema-"), "{}", at.display());
    assert_eq!(Store::open(&at).expect("a store").rows().expect("rows"), whole, "nothing was written to it");
}

#[test]
fn a_schema_that_never_was_is_set_aside() {
    let place = Place::new();
    filled(&place);
    place.write(&[(HEADER, r#"{"schema":0,"boot":"boot-1"}"#)]);
    assert_eq!(place.set_aside("boot-1").0, Unusable::OtherSchema(0));
}

#[test]
fn an_older_ledger_of_an_earlier_boot_is_not_migrated() {
    let place = old();
    assert_eq!(place.set_aside("boot-2").0, Unusable::OtherBoot);
}

#[test]
fn an_older_ledger_that_is_not_as_its_schema_has_it_is_set_aside_and_the_entry_named() {
    for (key, value) in [
        ("intent/93", r#"{"Intent":{"id":93,"call":{"Assign":{"eni":"eni-02"}}}}"#),
        ("intent/93", r#"{"Intent":[]}"#),
        ("intent/93", "[]"),
        ("departed/10.0.1.99", r#"{"Departed":{}}"#),
        ("lease/c11/eth0", "7"),
        ("serial", "x"),
    ] {
        let place = old();
        place.write(&[(key, value)]);
        let (why, _) = place.set_aside(BOOT);
        assert!(matches!(&why, Unusable::Unreadable(said) if said.contains(key)), "{key}: {why}");
    }
}
