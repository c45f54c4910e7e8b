//! Replies that do not come, at every call site and every page of those that have pages: the effect is there, the error says that
//! nobody knows, nothing is sent twice, and the same adapter goes on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cloud::{Error, Kind};
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, LocalSet},
};

use crate::{
    lab::{Logged, order},
    scene::{Effect, Scene, adapter},
    support::sites::{Errand, Site},
};

const AT_ONCE: usize = 5;
const LONG: Duration = Duration::from_secs(20);
/// Longer than any page takes here, and no longer than worth waiting for.
const SHORT: Duration = Duration::from_millis(1500);

/// Each site, and of those with pages the first and the second page.
fn rows() -> Vec<(Site, usize)> {
    let pages = |site: &Site| if site.has_pages() { vec![0, 1] } else { vec![0] };
    Site::ALL.iter().flat_map(|site| pages(site).into_iter().map(|page| (*site, page))).collect()
}

/// One call that was disturbed.
struct Disturbed {
    scene: Scene,
    errand: Errand,
    effect: Effect,
    error: Error,
    took: Duration,
    log: Vec<Logged>,
    site: Site,
    page: usize,
}

/// Disturbs one call at every site and page, each in a region of its own.
async fn everywhere(call_timeout: Duration, trouble: Value) -> Vec<Disturbed> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let here = LocalSet::new();
    let mut running = JoinSet::new();
    for (site, page) in rows() {
        let (turns, trouble) = (Arc::clone(&turns), trouble.clone());
        let one = async move {
            let _turn = turns.acquire_owned().await.expect("the semaphore is never closed");
            disturbed(site, page, call_timeout, trouble).await
        };
        running.spawn_local_on(one, &here);
    }
    here.run_until(running.join_all()).await
}

async fn disturbed(site: Site, page: usize, call_timeout: Duration, mut trouble: Value) -> Disturbed {
    let scene = Scene::new().await;
    let (errand, effect) = scene.set(site).await.unwrap_or_else(|why| panic!("{site:?}: {}", why.0));
    assert_eq!(Site::of(&errand), site);
    // A first connection would be part of the time.
    let ec2 = adapter(&scene.lab, call_timeout).await;
    let _limits = ec2.instance_limits("m5.large").await;
    scene.lab.calm().await;
    trouble["action"] = json!(errand.action().name());
    trouble["skip"] = json!(page);
    scene.lab.fault(&trouble).await;
    let begun = Instant::now();
    let outcome = errand.clone().run(&ec2).await;
    let took = begun.elapsed();
    let Err(error) = outcome else { panic!("{site:?}, page {page}: {outcome:?}") };
    let log = scene.lab.log().await;
    Disturbed { scene, errand, effect, error, took, log, site, page }
}

impl Disturbed {
    /// Whatever it was: uncertain, as many requests as pages, the last with this outcome, and the effect there once.
    async fn is_uncertain_and_done_once(&self, code: &str, outcome: &str) {
        let Self { site, page, error, .. } = self;
        let of = format!("{site:?}, page {page}: {error}");
        assert_eq!(
            (error.action, error.kind, error.code.as_str()),
            (self.errand.action(), Kind::Uncertain, code),
            "{of}"
        );
        let actions: Vec<_> = self.log.iter().map(|line| line.action.as_str()).collect();
        assert_eq!(actions, vec![self.errand.action().name(); page + 1], "{of}");
        assert_eq!(self.log.last().map(|line| line.outcome.as_str()), Some(outcome), "{of}");
        let shows = self.scene.shows(&self.effect).await.unwrap_or_else(|why| panic!("{of}: {}", why.0));
        assert!(shows, "{of}: {:?} is not there", self.effect);
    }

    /// What changes nothing, or nothing a second time, is asked again and answered.
    async fn goes_on(&self) {
        let again = match self.effect {
            Effect::Nothing
            | Effect::Created { .. }
            | Effect::Protected { .. }
            | Effect::Grouped { .. }
            | Effect::Tagged { .. } => self.errand.clone(),
            _ => Errand::Limits("m5.large"),
        };
        let ec2 = adapter(&self.scene.lab, LONG).await;
        let outcome = again.run(&ec2).await;
        assert!(outcome.is_ok(), "{:?}: {outcome:?}", self.site);
        let shows = self.scene.shows(&self.effect).await.unwrap_or_else(|why| panic!("{:?}: {}", self.site, why.0));
        assert!(shows, "{:?}: {:?} is there more than once", self.site, self.effect);
    }
}

#[tokio::test]
async fn a_reply_lost_after_the_effect_is_uncertain_at_every_call_site_and_nothing_is_sent_twice() {
    for one in everywhere(LONG, order("", "lose", "after", 0)).await {
        one.is_uncertain_and_done_once("", "lost").await;
        assert!(one.error.message.contains(&one.scene.lab.endpoint), "{}", one.error);
        one.goes_on().await;
    }
}

#[tokio::test]
async fn a_reply_that_hangs_after_the_effect_ends_with_the_time_of_the_call_at_every_call_site() {
    for one in everywhere(SHORT, order("", "hang", "after", 0)).await {
        one.is_uncertain_and_done_once("", "lost").await;
        let in_time = (SHORT..SHORT + Duration::from_secs(1)).contains(&one.took);
        assert!(in_time, "{:?}, page {}: {:?}, not {SHORT:?}", one.site, one.page, one.took);
        one.goes_on().await;
    }
}

#[tokio::test]
async fn an_internal_error_after_the_effect_is_uncertain_at_every_call_site_and_nothing_is_sent_twice() {
    let mut trouble = order("", "refuse", "after", 0);
    (trouble["code"], trouble["status"]) = (json!("InternalError"), json!(500));
    for one in everywhere(LONG, trouble).await {
        one.is_uncertain_and_done_once("InternalError", "InternalError").await;
        assert_eq!(one.error.message, "An internal error has occurred");
        one.goes_on().await;
    }
}
