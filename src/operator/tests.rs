use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::SystemClock;
use crate::election::{Expected, HolderId, Request, Take, TermKey, Verb};
use crate::membership::{Instance, Whereabouts};
use crate::store::{LeaseStore, MemoryStore, Said};

fn c() -> ComponentName {
    ComponentName::new("ns/c").unwrap()
}

fn wish(verb: Verb) -> Wish {
    Wish {
        id: "r1".to_owned(),
        verb,
        to: None,
        expect_holder: None,
        expect_version: None,
        away: None,
        replace: None,
        said: Said::new("ada", "maintenance").unwrap(),
    }
}

fn to(verb: Verb, target: &str) -> Wish {
    Wish { to: Some(target.to_owned()), ..wish(verb) }
}

/// A store in which participants give signs of life.
struct World {
    store: MemoryStore,
    version: i64,
}

impl World {
    async fn new(alive: &[&str]) -> Self {
        let world = Self { store: MemoryStore::new(Arc::new(SystemClock)), version: 0 };
        for holder in alive {
            world.beat(holder, true).await;
        }
        world
    }

    async fn beat(&self, holder: &str, healthy: bool) {
        let says = Instance {
            component: c(),
            holder: HolderId::new(holder).unwrap(),
            lasts: 60,
            whereabouts: Whereabouts { pod: Some(format!("pod-of-{holder}")), ..Whereabouts::default() },
            program_version: None,
            mode: None,
            promise: None,
            priority: None,
            healthy,
            leads: None,
        };
        self.store.beat(&says, None).await.unwrap();
    }

    async fn led_by(mut self, holder: &str) -> Self {
        self.take(holder).await;
        self
    }

    async fn take(&mut self, holder: &str) {
        let looked = self.store.look(&c()).await.unwrap();
        self.version += 1;
        let term = self.term(holder);
        let take =
            Take { term, ttl: 30, expected: Expected::of(looked.row.as_ref()), life_id: looked.life.id() };
        assert_eq!(self.store.take(&take).await.unwrap(), store::Outcome::Applied);
    }

    fn term(&self, holder: &str) -> TermKey {
        TermKey { component: c(), holder: HolderId::new(holder).unwrap(), version: self.version }
    }

    async fn plan(&self, wish: &Wish) -> Result<Plan, Refusal> {
        let snapshot = look(&self.store, &c()).await.unwrap();
        plan(&Situation::of(&snapshot, &c()), wish)
    }

    async fn refusal(&self, wish: &Wish) -> &'static str {
        self.plan(wish).await.unwrap_err().reason()
    }

    async fn ask(&self, wish: &Wish) -> Result<Plan, NotAsked> {
        let plan = self.plan(wish).await?;
        post(&self.store, &c(), wish, &plan).await.map(|()| plan)
    }

    async fn progress(&self, request: &Request, from: &str) -> Progress {
        let snapshot = look(&self.store, &c()).await.unwrap();
        progress(&Situation::of(&snapshot, &c()), request, from)
    }
}

#[tokio::test]
async fn a_switchover_names_the_term_that_it_saw_and_says_what_would_happen() {
    let world = World::new(&["a", "b"]).await.led_by("a").await;
    let plan = world.plan(&to(Verb::Switchover, "b")).await.unwrap();
    assert_eq!((plan.request.version, plan.leader.as_str(), plan.already), (1, "a", false));
    assert_eq!(plan.request.target.as_ref().map(HolderId::as_str), Some("b"));
    assert_eq!(plan.within, Duration::from_secs(30 + 10) + LEARN);
    assert_eq!(plan.steps.len(), 2, "{:?}", plan.steps);
    assert!(
        plan.steps[0].starts_with("a (version 1)") && plan.steps[1].contains("for 10 s"),
        "{:?}",
        plan.steps
    );
}

#[tokio::test]
async fn a_target_is_found_by_its_id_its_pod_or_the_name_in_its_id() {
    let world = World::new(&["a", "web-1_8b7e12c0_1f0c9a3d", "b"]).await.led_by("a").await;
    for name in ["web-1_8b7e12c0_1f0c9a3d", "pod-of-web-1_8b7e12c0_1f0c9a3d", "web-1"] {
        let plan = world.plan(&to(Verb::Switchover, name)).await.unwrap();
        assert_eq!(plan.request.target.unwrap().as_str(), "web-1_8b7e12c0_1f0c9a3d", "{name}");
    }
    world.beat("web-1_99999999_00000000", true).await;
    let ambiguous = world.plan(&to(Verb::Switchover, "web-1")).await.unwrap_err();
    assert_eq!(ambiguous.reason(), "AmbiguousTarget");
    assert!(ambiguous.to_string().contains("web-1_99999999_00000000"), "{ambiguous}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_reason() {
    let world = World::new(&["a", "b"]).await;
    assert_eq!(world.refusal(&wish(Verb::StepDown)).await, "NeverLed");
    let world = world.led_by("a").await;
    world.beat("ill", false).await;
    assert_eq!(world.refusal(&wish(Verb::Promote)).await, "TargetRequired");
    assert_eq!(world.refusal(&wish(Verb::PromoteNow)).await, "TargetRequired");
    assert_eq!(world.refusal(&to(Verb::StepDown, "b")).await, "TargetNotAllowed");
    assert_eq!(world.refusal(&to(Verb::Switchover, "nobody")).await, "UnknownTarget");
    assert_eq!(world.refusal(&to(Verb::Switchover, "a")).await, "TargetLeads");
    assert_eq!(world.refusal(&to(Verb::Promote, "ill")).await, "TargetUnhealthy");
    let silent = Wish { said: Said::new("ada", " ").unwrap(), ..to(Verb::PromoteNow, "b") };
    assert_eq!(world.refusal(&silent).await, "ReasonRequired");
    let stale = Wish { expect_version: Some(7), ..wish(Verb::StepDown) };
    assert_eq!(world.refusal(&stale).await, "VersionIsAnother");
    let stale = Wish { expect_holder: Some("b".to_owned()), ..wish(Verb::StepDown) };
    assert_eq!(world.refusal(&stale).await, "HolderIsAnother");
    let nothing = Wish { replace: Some("r0".to_owned()), ..wish(Verb::StepDown) };
    assert_eq!(world.refusal(&nothing).await, "NothingToReplace");
    let right =
        Wish { expect_version: Some(1), expect_holder: Some("pod-of-a".to_owned()), ..wish(Verb::StepDown) };
    world.plan(&right).await.unwrap();
    world.store.pause(&c(), &Said::new("bo", "backup").unwrap(), None).await.unwrap();
    for wish in
        [wish(Verb::StepDown), wish(Verb::Switchover), to(Verb::Promote, "b"), to(Verb::PromoteNow, "b")]
    {
        let refusal = world.plan(&wish).await.unwrap_err();
        assert_eq!(refusal.reason(), "Paused");
        assert!(refusal.to_string().contains("by bo (backup)"), "{refusal}");
    }
}

#[tokio::test]
async fn a_leader_without_signs_of_life_is_not_asked_but_a_target_can_be_promoted() {
    let world = World::new(&["b"]).await.led_by("somebodys-own-sql").await;
    assert_eq!(world.refusal(&wish(Verb::StepDown)).await, "HolderCannotHear");
    assert_eq!(world.refusal(&to(Verb::Switchover, "b")).await, "HolderCannotHear");
    let plan = world.plan(&to(Verb::Promote, "b")).await.unwrap();
    assert!(plan.steps[0].contains("does not hear"), "{:?}", plan.steps);
    let plan = world.plan(&to(Verb::PromoteNow, "b")).await.unwrap();
    assert!(plan.steps[0].contains("For up to 30 s somebodys-own-sql may still believe"), "{:?}", plan.steps);
}

#[tokio::test]
async fn a_free_lease_has_nobody_to_make_way_and_can_be_given_to_a_target() {
    let world = World::new(&["a", "b"]).await.led_by("a").await;
    world.store.release(&world.term("a")).await.unwrap();
    assert_eq!(world.refusal(&wish(Verb::StepDown)).await, "NobodyLeads");
    assert_eq!(world.refusal(&wish(Verb::Switchover)).await, "NobodyLeads");
    assert_eq!(world.plan(&to(Verb::Promote, "a")).await.unwrap().leader, "");
}

#[tokio::test]
async fn a_leader_stays_away_only_if_somebody_else_could_lead() {
    let world = World::new(&["a"]).await.led_by("a").await;
    assert_eq!(world.refusal(&wish(Verb::Switchover)).await, "NoCandidate");
    assert_eq!(world.plan(&wish(Verb::StepDown)).await.unwrap().request.away, Duration::ZERO);
    world.beat("b", true).await;
    assert_eq!(world.plan(&wish(Verb::StepDown)).await.unwrap().request.away, Duration::from_secs(60));
    let longer = Wish { away: Some(Duration::from_secs(300)), ..wish(Verb::StepDown) };
    assert_eq!(world.plan(&longer).await.unwrap().request.away, Duration::from_secs(300));
    let anybody = world.plan(&wish(Verb::Switchover)).await.unwrap();
    assert_eq!(
        anybody.request.away,
        Duration::from_secs(10),
        "else it would take the lease again, as the first to know"
    );
    assert_eq!(world.plan(&to(Verb::Switchover, "b")).await.unwrap().request.away, Duration::ZERO);
}

#[tokio::test]
async fn of_two_operators_the_second_is_told_of_the_first_and_may_replace_its_request_by_its_id() {
    let world = World::new(&["a", "b"]).await.led_by("a").await;
    let first = world.ask(&to(Verb::Switchover, "b")).await.unwrap();
    let second = Wish { id: "r2".to_owned(), ..wish(Verb::StepDown) };
    let refusal = world.plan(&second).await.unwrap_err();
    assert_eq!(refusal.reason(), "AnotherRequestPending");
    assert!(refusal.to_string().contains("r1 (switchover, by ada"), "{refusal}");
    let wrong = Wish { replace: Some("r0".to_owned()), ..second.clone() };
    assert_eq!(world.refusal(&wrong).await, "NothingToReplace");
    world.ask(&Wish { replace: Some("r1".to_owned()), ..second }).await.unwrap();
    let replaced = Progress::Ended(Outcome::Replaced { by: "r2".to_owned() });
    assert_eq!(world.progress(&first.request, "a").await, replaced);
}

#[tokio::test]
async fn a_plan_that_was_overtaken_is_not_asked() {
    let mut world = World::new(&["a", "b"]).await.led_by("a").await;
    let wanted = to(Verb::Switchover, "b");
    let late = world.plan(&wanted).await.unwrap();
    let other = Wish { id: "r2".to_owned(), ..wish(Verb::StepDown) };
    world.ask(&other).await.unwrap();
    let refused = post(&world.store, &c(), &wanted, &late).await.unwrap_err();
    assert!(matches!(&refused, NotAsked::Refused(Refusal::Pending { id, .. }) if id == "r2"), "{refused}");
    world.store.release(&world.term("a")).await.unwrap();
    world.take("b").await;
    let refused = post(&world.store, &c(), &wanted, &late).await.unwrap_err();
    assert!(matches!(&refused, NotAsked::Refused(Refusal::Changed { version: 1, leader }) if leader == "b"));
    // A request that is void keeps nobody from asking.
    world.ask(&Wish { id: "r3".to_owned(), ..to(Verb::Switchover, "a") }).await.unwrap();
}

#[tokio::test]
async fn asking_again_under_the_same_id_asks_nothing_more_even_when_all_is_over() {
    let mut world = World::new(&["a", "b"]).await.led_by("a").await;
    let wanted = to(Verb::Switchover, "b");
    let first = world.ask(&wanted).await.unwrap();
    let again = world.ask(&wanted).await.unwrap();
    assert!(!first.already && again.already);
    assert_eq!((&again.request, again.leader.as_str()), (&first.request, "a"));
    assert_eq!(world.refusal(&wish(Verb::StepDown)).await, "IdUsed");
    assert_eq!(world.refusal(&to(Verb::Switchover, "c")).await, "IdUsed", "for another target");
    assert!(world.plan(&to(Verb::Switchover, "pod-of-b")).await.unwrap().already, "the same by another name");
    world.store.release(&world.term("a")).await.unwrap();
    world.take("b").await;
    let replayed = world.ask(&wanted).await.unwrap();
    assert!(replayed.already);
    let over = Progress::Ended(Outcome::CarriedOut { leader: "b".to_owned(), version: 2 });
    assert_eq!(world.progress(&replayed.request, &replayed.leader).await, over);
    let looked = world.store.look(&c()).await.unwrap();
    assert_eq!(looked.request.map(|request| request.version), Some(1), "it is void, and stays so");
}

#[tokio::test]
async fn a_request_is_followed_to_its_end() {
    let mut world = World::new(&["a", "b"]).await.led_by("a").await;
    let asked = world.ask(&to(Verb::Switchover, "b")).await.unwrap();
    assert_eq!(world.progress(&asked.request, "a").await, Progress::Waiting);
    world.store.release(&world.term("a")).await.unwrap();
    assert_eq!(world.progress(&asked.request, "a").await, Progress::Free);
    let free = world.store.copy();
    for (taker, expected) in [("b", "CarriedOut"), ("x", "AnotherLeads"), ("a", "SameLeads")] {
        world.store.reload(free.clone());
        world.version = 1;
        world.take(taker).await;
        let Progress::Ended(outcome) = world.progress(&asked.request, "a").await else { panic!("{taker}") };
        assert_eq!(outcome.reason(), expected, "{taker}");
    }
    let nobody_named = Request { target: None, ..asked.request.clone() };
    world.store.reload(free.clone());
    world.version = 1;
    world.take("b").await;
    let Progress::Ended(other) = world.progress(&nobody_named, "a").await else { panic!() };
    assert_eq!(other, Outcome::CarriedOut { leader: "b".to_owned(), version: 2 });
    world.store.release(&world.term("b")).await.unwrap();
    let Progress::Ended(given_back) = world.progress(&nobody_named, "a").await else { panic!() };
    assert_eq!(given_back, Outcome::AnotherLeads { leader: String::new(), version: 2 }, "nobody leads now");
    world.store.reload(free.clone());
    world.version = 1;
    world.take("a").await;
    let Progress::Ended(same) = world.progress(&nobody_named, "a").await else { panic!() };
    assert_eq!(same.reason(), "SameLeads");
    world.store.reload(free);
    world.store.withdraw(&c(), "r1").await.unwrap();
    assert_eq!(world.progress(&asked.request, "a").await, Progress::Ended(Outcome::Withdrawn));
    world.store.delete_row(&c());
    assert_eq!(world.progress(&asked.request, "a").await, Progress::Ended(Outcome::Lost));
}

#[tokio::test]
async fn with_more_participants_than_a_look_shows_a_whole_id_is_believed() {
    let world = World::new(&["a"]).await.led_by("a").await;
    for n in 0..300 {
        world.beat(&format!("p{n}"), true).await;
    }
    let plan = world.plan(&to(Verb::Switchover, "p3")).await.unwrap();
    assert_eq!(plan.request.target.unwrap().as_str(), "p3", "older than those that are shown");
    let few = World::new(&["a", "b"]).await.led_by("a").await;
    let refusal = few.plan(&to(Verb::Switchover, "p3")).await.unwrap_err();
    assert!(refusal.to_string().contains("alive: a, b"), "{refusal}");
}
