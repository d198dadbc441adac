//! Two controllers that label pods at once.
//!
//! **What is promised**: when a write of ours puts the leader label on a pod, no other existing pod
//! carries it, unless somebody else put it there after the view on which our plan was made. (Nothing
//! can prevent that one: the label of another pod is no precondition that the API server knows. The
//! next decision strips it.) And when nothing else happens any more, the leader's pod alone is
//! labelled, every candidate is stamped, and nobody writes.
//!
//! **Under which conditions**: row versions only rise; a view of the pods is one moment of the past,
//! as a watch delivers it, however old, and nothing newer is laid over it; a row is as old as it likes, but one that is asked for again
//! is read after the question; patches are lost, or arrive at any time later; pods come and go;
//! nobody edits the labels that `spec.selector` reads.

mod api;
mod controller;
mod step;
mod world;

use std::collections::HashSet;

use component_lease::routing::observed::OnDatabaseUnreachable;

use step::{Broken, Call, Sight, Step};
use world::World;

/// How likely each kind of step is in one run. Drawn anew for each: runs in which one thing hardly
/// ever happens, and another all the time, reach what an even mixture never does.
struct Odds {
    kinds: [u32; 12],
    /// Of each controller's watch: one that lags far behind.
    watch: [u32; 2],
}

impl Odds {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        // take, release, create, delete, foreign label, poll, status, decide, outage, send, lose, arrive
        let usual = [3, 1, 3, 1, 1, 12, 6, 12, 3, 24, 3, 8];
        let kinds = usual.map(|odds| odds * [0, 2, 4, 16][rng.usize(..4)]);
        let [.., poll, status, decide, outage, send, lose, arrive] = kinds;
        // Without these nothing moves.
        let [poll, decide, send] = [poll, decide, send].map(|odds| odds.max(12));
        let [take, release, create, delete, foreign, ..] = kinds;
        let kinds =
            [take.max(3), release, create, delete, foreign, poll, status, decide, outage, send, lose, arrive];
        Self { kinds, watch: [[0, 4, 24, 96][rng.usize(..4)], [4, 24, 96][rng.usize(..3)]] }
    }

    fn of(&self, step: Step) -> u32 {
        let [take, release, create, delete, foreign, poll, status, decide, outage, send, lose, arrive] =
            self.kinds;
        match step {
            Step::Take(_) => take,
            Step::Release | Step::Renew => release,
            Step::Create => create,
            Step::Delete(_) => delete,
            Step::ForeignLabel(_) => foreign,
            Step::Watch(c, _) => self.watch[c],
            Step::Poll(_) => poll,
            Step::ReadStatus(_) => status,
            Step::Decide(_, Sight::Held) => decide,
            Step::Decide(_, Sight::Expired) => 2,
            Step::Decide(_, Sight::Down | Sight::Never) => outage,
            Step::Confirm(_) | Step::WriteStatus(_) => 48,
            Step::Send(_, _, Call::Answered) => send,
            Step::Send(_, _, Call::Lost) | Step::Crash(_) => lose,
            Step::Arrive(_) => arrive,
        }
    }

    fn choose(&self, steps: &[Step], rng: &mut fastrand::Rng) -> Step {
        let total: u32 = steps.iter().map(|step| self.of(*step)).sum();
        let mut at = rng.u32(..total);
        for step in steps {
            if at < self.of(*step) {
                return *step;
            }
            at -= self.of(*step);
        }
        unreachable!("the odds add up")
    }
}

/// One seeded run of this many steps.
fn run(seed: u64, steps: usize, broken: Option<Broken>) -> Result<World, String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let odds = Odds::draw(&mut rng);
    let policy = if rng.bool() { OnDatabaseUnreachable::Keep } else { OnDatabaseUnreachable::Remove };
    let mut world = World::new(&["a", "b", "c"][..rng.usize(1..=3)], rng.bool(), policy, broken);
    let mut taken = Vec::new();
    for _ in 0..steps {
        let step = odds.choose(&world.possible(), &mut rng);
        taken.push(step);
        world.step(step).map_err(|why| format!("seed {seed}: {why}\n{taken:?}"))?;
    }
    Ok(world)
}

#[test]
fn no_write_of_ours_makes_a_second_labelled_pod_and_all_ends_well() {
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_500);
    for seed in 0..seeds {
        if let Err(why) = run(seed, 60, None).and_then(World::settle) {
            panic!("seed {seed}: {why}");
        }
    }
}

/// A small world in which everything that can happen is tried, in every order.
struct Small {
    pods: &'static [&'static str],
    /// What somebody else does, in this order, at any moment.
    deeds: &'static [Step],
    sights: &'static [Sight],
}

/// Two leaders, one after the other; the database fails either controller at any moment.
const CHANGE: Small =
    Small { pods: &["a", "b"], deeds: &[Step::Take(0), Step::Take(1)], sights: &[Sight::Held, Sight::Down] };

/// A pod is born, leads and is followed by the older one.
const BIRTH: Small =
    Small { pods: &["a"], deeds: &[Step::Create, Step::Take(1), Step::Take(0)], sights: &[Sight::Held] };

/// How many different worlds were reached, or how the rule was broken.
fn exhaust(small: &Small, broken: Option<Broken>) -> Result<usize, String> {
    let mut seen = HashSet::new();
    let mut world = World::new(small.pods, false, OnDatabaseUnreachable::Keep, broken);
    world.statuses_written = false;
    let mut open = vec![(world, 0)];
    while let Some((world, deeds)) = open.pop() {
        let scripted = small.deeds.get(deeds).copied();
        let ours = world.possible().into_iter().filter(|step| match step {
            Step::Decide(_, sight) => small.sights.contains(sight),
            Step::Watch(_, entries) => *entries == 1,
            Step::Poll(_) | Step::Confirm(_) | Step::Send(_, _, Call::Answered) | Step::Arrive(_) => true,
            _ => false,
        });
        for step in scripted.into_iter().chain(ours) {
            let mut next = world.clone();
            next.step(step).map_err(|why| format!("{why}, after {} worlds", seen.len()))?;
            let deeds = deeds + usize::from(Some(step) == scripted);
            if seen.insert((next.fingerprint(), deeds)) {
                open.push((next, deeds));
            }
        }
    }
    Ok(seen.len())
}

fn found(how: Result<usize, String>, broken: Broken) {
    let why = how.expect_err(&format!("{broken:?} makes no difference"));
    assert!(why.contains("carried the label"), "{why}");
}

#[test]
fn in_no_order_of_two_changes_of_the_leader_are_two_pods_labelled() {
    let worlds = exhaust(&CHANGE, None).unwrap();
    assert!(worlds > 10_000, "only {worlds} worlds: the search is too small to prove anything");
}

#[test]
fn in_no_order_of_a_birth_and_two_changes_are_two_pods_labelled() {
    let worlds = exhaust(&BIRTH, None).unwrap();
    assert!(worlds > 10_000, "only {worlds} worlds: the search is too small to prove anything");
}

#[test]
fn each_broken_rule_is_found_by_trying_every_order() {
    for broken in [
        Broken::NoGuard,
        Broken::LabelFirst,
        Broken::NoStamps,
        Broken::NoLookAgain,
        Broken::ConfirmedForLater,
        Broken::BehindWhileDown,
    ] {
        found(exhaust(&CHANGE, Some(broken)), broken);
    }
    for broken in [Broken::CacheOutOfOrder, Broken::OwnAnswersOverlaid] {
        found(exhaust(&BIRTH, Some(broken)), broken);
    }
}

/// What needs lost calls, a status or a long story.
#[test]
fn each_broken_rule_is_found_by_seeds() {
    let rules =
        [Broken::StripUnconfirmed, Broken::StampUnconfirmed, Broken::StatusAsRow, Broken::RereadOnePod];
    for broken in rules {
        let broke = (0..20_000).find_map(|seed| run(seed, 60, Some(broken)).err());
        found(broke.map_or(Ok(0), Err), broken);
    }
}
