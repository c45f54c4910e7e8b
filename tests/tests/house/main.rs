//! The house's own rules, checked: which way dependencies point, how sources look, that every promise has a test.
//!
//! Each rule is a function from facts to complaints, so that it is itself tested with facts that break it.

mod coverage;
mod graph;
mod iam;
mod one_loop;
mod sources;
mod workspace;

/// Fails with every complaint at once.
#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaint(s):\n  {}", complaints.len(), complaints.join("\n  "));
}

/// Fails unless exactly these complaints were made, in any order. Each is given by a part of it.
#[track_caller]
fn exactly(complaints: &[String], parts: &[&str]) {
    assert_eq!(complaints.len(), parts.len(), "{complaints:#?}");
    for part in parts {
        assert!(complaints.iter().any(|complaint| complaint.contains(part)), "nothing says {part:?}: {complaints:#?}");
    }
}
