//! Files that are not, or not any more, what the daemon wrote: set aside or whole, and never a panic.

use std::{fs, os::unix::fs::symlink};

use super::*;

/// The same numbers at each run.
fn scattered(below: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("below a usize")
    })
}

/// Opens what the file holds now: set aside, or nothing is missing and nothing else is there.
#[track_caller]
fn whole_or_aside(place: &Place, entries: &[Entry], what: &str) -> bool {
    let length = fs::metadata(place.file()).map(|file| file.len()).ok();
    let (mut ledger, opened) = place.open("boot-1");
    match opened {
        Opened::Kept => {
            assert_eq!(ledger.load().expect("entries"), entries, "{what}");
            false
        }
        Opened::SetAside { at, why } => {
            assert!(matches!(why, Unusable::Unreadable(_)), "{what}: {why}");
            assert_eq!(ledger.load().expect("a new ledger"), [], "{what}");
            assert!(fs::metadata(&at).is_ok_and(|file| Some(file.len()) >= length), "{what}: it is all there still");
            fs::remove_file(at).expect("room for the next");
            true
        }
        Opened::Missing | Opened::Unfinished => panic!("{what}: {opened:?}"),
    }
}

#[test]
fn a_ledger_cut_anywhere_is_set_aside_or_complete() {
    let place = Place::new();
    let entries = filled(&place);
    let whole = fs::read(place.file()).expect("the file");
    let lengths = (512..whole.len()).step_by(512).chain(scattered(whole.len()).filter(|cut| *cut > 0).take(100));
    let mut aside = 0;
    for length in lengths {
        fs::write(place.file(), &whole[..length]).expect("a shorter file");
        aside += u32::from(whole_or_aside(&place, &entries, &format!("cut at {length}")));
    }
    assert!(aside > 100, "only {aside} cuts were noticed");
}

#[test]
fn an_empty_file_is_as_good_as_none() {
    let place = Place::new();
    filled(&place);
    fs::write(place.file(), "").expect("an empty file");
    let (mut ledger, opened) = place.open("boot-1");
    assert_eq!((opened, ledger.load().expect("a new ledger")), (Opened::Missing, Vec::new()));
}

#[test]
fn garbage_is_set_aside() {
    let place = Place::new();
    let noise: Vec<u8> = scattered(256).map(|byte| u8::try_from(byte).expect("a byte")).take(50_000).collect();
    for garbage in [vec![b'x'], vec![0; 4096], vec![b'x'; 100_000], b"redb\x1a\x0a\xa9\x0d\x0a".repeat(1000), noise] {
        fs::write(place.file(), &garbage).expect("garbage");
        let (why, at) = place.set_aside("boot-1");
        assert!(matches!(why, Unusable::Unreadable(_)), "{why}");
        assert!(at.to_string_lossy().contains("ledger.redb.unreadable-"), "{}", at.display());
    }
}

#[test]
fn a_changed_byte_never_gives_other_entries() {
    let place = Place::new();
    let entries = filled(&place);
    let whole = fs::read(place.file()).expect("the file");
    // Everywhere, and above all inside values, where another digit is as good JSON as the one before.
    let inside = whole.windows(7).enumerate().filter(|(_, bytes)| bytes == b"\"nanos\"").map(|(at, _)| at + 8);
    let everywhere = (0..whole.len()).step_by(4093).chain(0..400).chain(scattered(whole.len()).take(200));
    let mut aside = 0;
    for at in everywhere.chain(inside) {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(place.file(), &changed).expect("a changed file");
        aside += u32::from(whole_or_aside(&place, &entries, &format!("changed at {at}")));
    }
    assert!(aside >= 100, "only {aside} changes were noticed");
}

#[test]
fn a_page_of_another_time_never_gives_other_entries() {
    let place = Place::new();
    let entries = filled(&place);
    let whole = fs::read(place.file()).expect("the file");
    for page in 0..whole.len() / 4096 {
        for with in [vec![0; 4096], whole[..4096].to_vec(), whole[whole.len() - 4096..].to_vec()] {
            let mut changed = whole.clone();
            changed[page * 4096..][..4096].copy_from_slice(&with);
            fs::write(place.file(), &changed).expect("a changed file");
            whole_or_aside(&place, &entries, &format!("page {page}"));
        }
    }
}

#[test]
fn entries_that_are_not_entries_are_named() {
    for (key, value) in [
        ("serial", "{}"),
        ("serial", r#"{"Serial":-1}"#),
        ("serial", "\u{1}"),
        ("gizmo", r#"{"Gizmo":[1,2]}"#),
        ("eni/eni-9", r#"{"Serial":7}"#),
        ("address/eni-1/10.0.0.1", r#"{"Address":["eni-1","10.0.0.2",{"Free":{"since":{"secs":0,"nanos":1}}}]}"#),
    ] {
        let place = Place::new();
        filled(&place);
        place.write(&[(key, value)]);
        let (why, _) = place.set_aside("boot-1");
        assert!(matches!(&why, Unusable::Unreadable(said) if said.contains(key)), "{key}: {why}");
    }
}

#[test]
fn a_header_that_is_none_makes_a_ledger_unreadable() {
    for header in ["", "{}", r#"{"schema":"2","boot":"boot-1"}"#, r#"{"schema":-1,"boot":"boot-1"}"#, "[]"] {
        let place = Place::new();
        filled(&place);
        place.write(&[(HEADER, header)]);
        let (why, _) = place.set_aside("boot-1");
        assert!(why.to_string().contains("header"), "{header}: {why}");
    }
}

#[test]
fn another_programs_store_is_set_aside_as_it_is() {
    use redb::{Database, TableDefinition};
    for name in ["entries", "theirs"] {
        let place = Place::new();
        {
            let theirs = Database::create(place.file()).expect("a store");
            let write = theirs.begin_write().expect("a transaction");
            let table: TableDefinition<'_, u64, u64> = TableDefinition::new(name);
            write.open_table(table).expect("a table").insert(1, 2).expect("a row");
            write.commit().expect("a commit");
        }
        let (why, at) = place.set_aside("boot-1");
        assert!(matches!(why, Unusable::Unreadable(_)), "{name}: {why}");
        assert!(Database::open(at).is_ok(), "{name}: it can still be used");
    }
}

#[test]
fn what_is_no_file_is_set_aside() {
    let place = Place::new();
    fs::create_dir(place.file()).expect("a directory");
    fs::write(place.file().join("somebodys"), "").expect("a file");
    let (why, at) = place.set_aside("boot-1");
    assert_eq!(why.to_string(), "it cannot be read: it is not a file");
    assert!(at.join("somebodys").exists());

    fs::remove_file(place.file()).expect("there is one now");
    rustix::fs::mknodat(rustix::fs::CWD, place.file(), rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    let (why, _) = place.set_aside("boot-1");
    assert_eq!(why.to_string(), "it cannot be read: it is not a file");
}

#[test]
fn a_link_to_nowhere_is_as_good_as_none() {
    let place = Place::new();
    symlink(place.dir.path().join("elsewhere"), place.file()).expect("a link");
    let (mut ledger, opened) = place.open("boot-1");
    assert_eq!(opened, Opened::Missing);
    ledger.commit(&[put(1)]).expect("a commit");
}

#[test]
fn a_few_ledgers_are_kept_aside_and_the_oldest_go_first() {
    let place = Place::new();
    let somebodys = place.dir.path().join("ledger.redb.backup");
    fs::write(&somebodys, "").expect("a file");
    let older = ["unreadable-999", "other-boot-1000", "other-schema-1000-1", "unreadable-1001"];
    for name in older {
        fs::write(place.dir.path().join(format!("ledger.redb.{name}")), "").expect("a file");
    }
    let mut aside = Vec::new();
    for _ in 0..5 {
        fs::write(place.file(), "garbage").expect("garbage");
        aside.push(place.set_aside("boot-1").1);
        let kept = place.names().iter().filter(|name| name.starts_with("ledger.redb.")).count();
        assert_eq!(kept, 1 + 3, "somebody's and three: {:?}", place.names());
    }
    assert!(somebodys.exists(), "what the daemon did not name is not its own");
    assert!(older.iter().all(|name| !place.names().contains(&format!("ledger.redb.{name}"))), "{:?}", place.names());
    let there: Vec<_> = aside.iter().map(|at| at.exists()).collect();
    assert_eq!(there, [false, false, true, true, true]);
}

#[test]
fn a_ledger_damaged_under_a_running_daemon_is_written_anew() {
    let place = Place::new();
    let entries = filled(&place);
    let (mut ledger, _) = place.open("boot-1");
    fs::write(place.file(), vec![b'x'; 10_000]).expect("garbage");
    // As after a write that failed.
    ledger.store = None;
    assert_eq!(ledger.load().expect("what it had"), entries);
    ledger.commit(&[put(61)]).expect("a commit");
    drop(ledger);
    let (mut ledger, opened) = place.open("boot-1");
    assert_eq!(opened, Opened::Kept);
    assert_eq!(ledger.load().expect("entries").len(), entries.len() + 1);
}
