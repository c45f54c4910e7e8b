//! Things by id, as they are and as they lately were: what stale reads are answered from. It keeps no more of the past than it
//! is told to, and knows nothing of what the things are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Index,
    time::Duration,
};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Kept<T> {
    now: BTreeMap<String, T>,
    /// What a thing was until when, the oldest first; `None` where it was not there.
    past: BTreeMap<String, VecDeque<(Duration, Option<T>)>>,
    /// All of `past` in the order of time.
    ends: VecDeque<(Duration, String)>,
    clock: Duration,
    keep: Duration,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            now: BTreeMap::new(),
            past: BTreeMap::new(),
            ends: VecDeque::new(),
            clock: Duration::ZERO,
            keep: Duration::ZERO,
        }
    }
}

impl<T: Clone> Kept<T> {
    /// Changes happen at `clock` from now on; what ended `keep` ago or earlier is forgotten.
    pub(crate) fn tick(&mut self, clock: Duration, keep: Duration) {
        (self.clock, self.keep) = (clock, keep);
        while let Some((_, id)) = self.ends.pop_front_if(|(until, _)| *until + keep <= clock) {
            if let Some(versions) = self.past.get_mut(&id) {
                versions.pop_front();
                if versions.is_empty() {
                    self.past.remove(&id);
                }
            }
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&T> {
        self.now.get(id)
    }

    /// For changing it, now.
    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        if self.now.contains_key(id) {
            self.remember(id);
        }
        self.now.get_mut(id)
    }

    pub(crate) fn insert(&mut self, id: String, thing: T) {
        self.remember(&id);
        self.now.insert(id, thing);
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<T> {
        if self.now.contains_key(id) {
            self.remember(id);
        }
        self.now.remove(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &T)> {
        self.now.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.now.len()
    }

    /// The thing as it was at `then`.
    pub(crate) fn was(&self, id: &str, then: Duration) -> Option<&T> {
        let versions = self.past.get(id);
        let past = versions.and_then(|all| all.get(all.partition_point(|(until, _)| *until <= then)));
        past.map_or_else(|| self.now.get(id), |(_, thing)| thing.as_ref())
    }

    /// Everything that was there at `then`.
    pub(crate) fn ids(&self, then: Duration) -> BTreeSet<&String> {
        let mut ids: BTreeSet<&String> = self.now.keys().collect();
        if then < self.clock {
            ids.extend(self.past.keys());
            ids.retain(|id| self.was(id, then).is_some());
        }
        ids
    }

    /// What ends now. Of several changes at one moment, what was before the first.
    fn remember(&mut self, id: &str) {
        if self.keep.is_zero() {
            return;
        }
        let versions = self.past.entry(id.to_owned()).or_default();
        if versions.back().is_none_or(|(until, _)| *until < self.clock) {
            versions.push_back((self.clock, self.now.get(id).cloned()));
            self.ends.push_back((self.clock, id.to_owned()));
        }
    }
}

impl<T> Index<&str> for Kept<T> {
    type Output = T;

    fn index(&self, id: &str) -> &T {
        &self.now[id]
    }
}
