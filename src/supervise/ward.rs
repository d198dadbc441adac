//! A program below guardians that need not lead to run: how long it may run is said from time to time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::warn;

use super::children::{Children, Ended};
use super::guardians::{Guardians, Happening, Program};
use super::tree::{self, ROUND, Tree};
use crate::clock::{Clock, SystemClock};
use crate::election::Moment;

/// The abort moment of a program that may run on.
pub(crate) const NEVER: Moment = Duration::from_millis(u64::MAX / 4);

/// How long the guardians may take to start the program.
const BIRTH: Duration = Duration::from_secs(10);
/// How often guardians that somebody stopped get SIGCONT.
const WAKE: Duration = Duration::from_secs(1);
/// How long killed processes may take to end before they are complained of, and how often that is repeated.
const OVERDUE: Duration = Duration::from_secs(1);
const REPEAT: Duration = Duration::from_secs(60);

/// How far a program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Runs,
    /// Its first process has ended; what it has started is being ended.
    Ended,
    /// Nothing is left of it.
    Gone(Ended),
}

#[derive(Debug)]
enum Order {
    Abort(Moment),
    KillAt(Moment),
}

/// The handle of a running program. When it is dropped, the guardians end everything by force.
#[derive(Debug)]
pub(crate) struct Ward {
    pid: Pid,
    tree: Arc<Tree>,
    orders: mpsc::UnboundedSender<Order>,
    life: watch::Receiver<Life>,
}

impl Ward {
    /// Starts it. It may run for ever, unless [`Ward::abort_at`] says otherwise.
    pub(crate) async fn start(children: &Children, program: Program) -> io::Result<Self> {
        let tree = Arc::new(Tree::default());
        let by = SystemClock.boot() + BIRTH;
        let mut guardians = Guardians::start(children, &tree, program, (by, NEVER)).await?;
        guardians.expect_others();
        let started = guardians.started(by).await;
        let (orders, inbox) = mpsc::unbounded_channel();
        let (tell, mut life) = watch::channel(Life::Runs);
        if started.is_err() {
            guardians.dismiss();
        }
        tokio::spawn(tend(guardians, Arc::clone(&tree), inbox, tell));
        match started {
            Ok(pid) => Ok(Self { pid, tree, orders, life }),
            Err(error) => {
                drop(orders);
                let _ = life.wait_for(|life| matches!(life, Life::Gone(_))).await;
                Err(error)
            }
        }
    }

    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn life(&self) -> Life {
        *self.life.borrow()
    }

    pub(crate) fn runs(&self) -> bool {
        self.life() == Life::Runs
    }

    /// By when everything must have ended: the guardians see to it, should this process hang or end.
    pub(crate) fn abort_at(&self, moment: Moment) {
        let _ = self.orders.send(Order::Abort(moment));
    }

    /// For a thread of last resort: ends by force what it sees, for as long as `limit`.
    pub(crate) fn kill(&self, limit: Duration) -> bool {
        self.tree.kill(limit)
    }

    /// To the program's process group.
    pub(crate) fn signal(&self, signal: Signal) {
        self.tree.signal(signal);
        self.tree.signal(Signal::CONT);
    }

    /// From then on everything is killed.
    pub(crate) fn kill_at(&self, moment: Moment) {
        let _ = self.orders.send(Order::KillAt(moment));
    }

    /// Waits until nothing is left. Nothing is lost when this is dropped.
    pub(crate) async fn gone(&self) -> Ended {
        let mut life = self.life.clone();
        match life.wait_for(|life| matches!(life, Life::Gone(_))).await.map(|life| *life) {
            Ok(Life::Gone(ended)) => ended,
            // The task goes on until then; only a runtime that ends takes it along.
            _ => std::future::pending().await,
        }
    }
}

async fn tend(
    mut guardians: Guardians,
    tree: Arc<Tree>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    tell: watch::Sender<Life>,
) {
    let mut wake = interval(WAKE);
    wake.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kill_at = NEVER;
    let (mut abandoned, mut complain_at, mut both_lost) = (false, None, false);
    guardians.watch(NEVER);
    while !guardians.nothing_is_left() {
        let now = SystemClock.boot();
        if now >= kill_at {
            let complain = *complain_at.get_or_insert(now + OVERDUE);
            press(&guardians, &tree, now >= complain);
            if now >= complain {
                complain_at = Some(now + REPEAT);
            }
        }
        let next = if now >= kill_at { ROUND } else { kill_at.saturating_sub(now).min(WAKE) };
        tokio::select! {
            happening = guardians.next() => match happening {
                // What is left of a server without its first process serves nobody, and may still write.
                Happening::ProgramEnded(_) => {
                    kill_at = SystemClock.boot();
                    tell.send_replace(Life::Ended);
                }
                Happening::BothLost if !both_lost => {
                    both_lost = true;
                    warn!("both guardian processes were killed, so nothing would end the program if this process died: ending it");
                    kill_at = SystemClock.boot();
                }
                _ => {}
            },
            order = orders.recv(), if !abandoned => match order {
                Some(Order::Abort(moment)) => guardians.watch(moment),
                Some(Order::KillAt(moment)) => kill_at = kill_at.min(moment),
                None => {
                    abandoned = true;
                    guardians.dismiss();
                    kill_at = SystemClock.boot();
                }
            },
            () = sleep(next) => {}
            _ = wake.tick() => guardians.wake(),
        }
    }
    let ended = guardians.last_word().await;
    tree.set(None);
    tell.send_replace(Life::Gone(ended));
}

/// One round of killing everything.
fn press(guardians: &Guardians, tree: &Tree, complain: bool) {
    let Some(round) = tree.scope().map(|scope| scope.kill()) else { return };
    if !complain {
        return;
    }
    if round.as_ref().is_ok_and(|round| round.living.is_empty()) {
        // What has ended is not fetched by a guardian that hangs.
        guardians.kill();
        return;
    }
    let names = tree::name(&round.map(|round| round.living));
    warn!(%names, "a process that the server started cannot be ended: nothing is released while it runs; end it by hand");
}
