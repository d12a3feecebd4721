//! The end of an episode: everything heals, and nothing may be left.

use std::time::Duration;

use distributed_lock_core::Mode;
use distributed_lock_core::driver::Driver;

use super::Subject;
use super::contender::Stage;
use super::engine::OPERATION_TIMEOUT;
use super::world::{Verdict, World};

/// How long a waiter that was passed a lock may leave it.
const PROVISIONAL: Duration = Duration::from_secs(3);

impl<S: Subject> World<'_, S> {
    /// Heals the network and the servers, ends every hold, and sees that nothing is left.
    pub(super) async fn quiet(&mut self) -> Verdict {
        self.step += 1;
        self.say(|_| "quiet".into());
        self.network.servers.iter_mut().for_each(|server| server.set_memory_full(false));
        self.foreign_release();
        self.everything_arrives()?;
        self.network.notice_all();
        self.settle().await?;
        if !self.scene.served_at_end {
            for index in self.at(Stage::Acquiring) {
                self.cancel(index);
            }
        }
        let bound = self.bound();
        let mut waited = Duration::ZERO;
        loop {
            self.everything_arrives()?;
            self.serve_all().await?;
            let held = self.at(Stage::Held);
            for index in &held {
                self.release(*index);
            }
            self.settle().await?;
            self.serve_all().await?;
            if self.all_is_over() {
                break;
            }
            if !held.is_empty() {
                waited = Duration::ZERO;
            }
            if waited > bound {
                let open = self.contenders.iter().enumerate();
                let open: Vec<_> = open
                    .filter(|(_, c)| !is_over(c.stage))
                    .map(|(index, c)| format!("{index} ({:?} for {:?})", c.stage, c.mode))
                    .collect();
                return Err(format!("{open:?} wait, and nobody has held for {bound:?}"));
            }
            self.advance(Duration::from_millis(50)).await?;
            waited += Duration::from_millis(50);
        }
        self.everything_can_be_acquired(bound).await
    }

    /// Within this time something must happen while nobody holds.
    fn bound(&self) -> Duration {
        let left_behind = |stage| matches!(stage, Stage::Dead | Stage::Abandoned);
        let dead =
            self.contenders.iter().any(|c| left_behind(c.stage) || c.doubtful) || self.scene.clocks;
        let period = self.clients[0].driver.fallback_period();
        let live = 3 * period + PROVISIONAL + 2 * OPERATION_TIMEOUT + period;
        if dead { live + 2 * self.lease() + Duration::from_secs(15) } else { live }
    }

    fn everything_arrives(&mut self) -> Verdict {
        loop {
            let late = self.network.links_where(|link| !link.is_open() && link.has_request());
            let Some(link) = late.first() else { return Ok(()) };
            self.execute(*link)?;
        }
    }

    fn all_is_over(&self) -> bool {
        self.contenders.iter().all(|contender| is_over(contender.stage))
    }

    async fn everything_can_be_acquired(&mut self, bound: Duration) -> Verdict {
        let modes = match self.scene.permits {
            0 => vec![Mode::Exclusive, Mode::Shared],
            max => vec![Mode::Permit { max }; max as usize],
        };
        // Of those that left nothing behind the lock is free at once.
        let clean = self.contenders.iter().all(|c| c.stage == Stage::Done && !c.doubtful);
        // Of several servers some may still be away, or have votes that are taken back later.
        let clean = clean && S::SERVERS == 1;
        let bound = if clean && !self.scene.clocks { Duration::ZERO } else { bound };
        let mut waited = Duration::ZERO;
        for mode in modes {
            loop {
                self.contenders.iter_mut().for_each(|c| c.was_blocked = true);
                self.ask(0, mode, None);
                let asked = self.contenders.len() - 1;
                // What was left behind by others is their reason.
                self.contenders[asked].was_blocked |= !bound.is_zero();
                self.settle().await?;
                self.serve_all().await?;
                if self.contenders[asked].stage == Stage::Held {
                    // Permits are held beside each other, the modes of a lock one after the other.
                    if self.scene.permits == 0 {
                        self.release(asked);
                        self.serve_all_settled().await?;
                    }
                    break;
                }
                if waited >= bound {
                    return Err(format!("{mode:?} cannot be acquired after all is over"));
                }
                self.advance(Duration::from_millis(500)).await?;
                waited += Duration::from_millis(500);
            }
        }
        for index in self.at(Stage::Held) {
            self.release(index);
        }
        self.serve_all_settled().await?;
        // A minority's vote keeps no other out: one that a release has left is taken back later, on a
        // thread whose time is real, and one of the dead runs out.
        if S::SERVERS > 1 {
            self.advance(bound + self.lease() + Duration::from_secs(1)).await?;
        }
        for server in self.network.servers.iter_mut() {
            let state = server.look();
            if !state.is_empty(state.now) {
                return Err(format!("left at the end: {state:?}"));
            }
        }
        Ok(())
    }

    async fn serve_all_settled(&mut self) -> Verdict {
        self.settle().await?;
        self.serve_all().await
    }
}

fn is_over(stage: Stage) -> bool {
    matches!(stage, Stage::Done | Stage::Dead | Stage::Abandoned)
}
