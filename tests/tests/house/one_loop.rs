//! What is simulated is what runs: the daemon and the simulation play the same loop over the same pool.
//!
//! Owns the proof by manifests and sources. That the loop does right is the simulation's to show.

use crate::{
    none,
    workspace::{self, Member, Source},
};

/// Who plays the loop, and in which files.
const PLAYERS: [(&str, &str); 2] = [("ipamd", "ipamd/src/"), ("sim", "sim/src/run/")];
/// How it is started, and how it is run.
const LOOP: [&str; 2] = ["node::start(", ".run()"];
/// What only the loop does: whoever else did it would have a loop of his own.
const OF_THE_LOOP: [&str; 2] = ["Effect::", "State::restore("];

fn players(members: &[Member], files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (player, place) in PLAYERS {
        let member = members.iter().find(|member| member.name == player);
        for needed in ["node", "pool"] {
            let names = |need: &workspace::Need| need.name == needed && need.ours && !need.dev;
            if !member.is_some_and(|member| member.needs.iter().any(names)) {
                complaints.push(format!("{player} does not name {needed}"));
            }
        }
        let own: Vec<&Source> = files.iter().filter(|file| file.path.starts_with(place)).collect();
        for word in LOOP {
            if !own.iter().any(|file| file.text.contains(word)) {
                complaints.push(format!("{player} nowhere says {word}"));
            }
        }
        for file in own.into_iter().filter(|file| !file.path.contains("/tests")) {
            let program = file.text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in OF_THE_LOOP.iter().filter(|word| program.contains(**word)) {
                complaints.push(format!("{} says {word}, as only the loop does", file.path));
            }
        }
    }
    complaints
}

#[test]
fn the_simulation_plays_the_loop_that_ipamd_runs() {
    none(&players(&workspace::members(), &workspace::rust()));
}

#[test]
fn a_loop_of_its_own_is_seen() {
    let mut files: Vec<Source> =
        PLAYERS.iter().map(|(_, place)| Source { path: format!("{place}run.rs"), text: LOOP.join("") }).collect();
    none(&players(&workspace::members(), &files));
    files[1].text = "match effect { Effect::Call(..) => {} }".to_owned();
    let complaints = players(&workspace::members(), &files);
    crate::exactly(&complaints, &["sim nowhere says node::start(", "sim nowhere says .run()", "run.rs says Effect::"]);
}
