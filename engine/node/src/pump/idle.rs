//! What a pump does when there is nothing to do: spin for a while, for ever, or not at all.

use core::time::Duration;

use cutwater_ring::{Clock, Wait, cores};

/// What to do when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Look again for some tens of microseconds, then sleep; sleep at once while others want the core.
    #[default]
    Adaptive,
    /// Never sleep. For a core that nobody else uses.
    Busy,
    /// Sleep at once.
    Park,
}

/// How long after the last work an adaptive pump goes on looking.
const SPIN_US: u64 = 50;
/// The same while the disk owes an answer: a durable write takes about so long, and waking costs as much again.
const SPIN_DISK_US: u64 = 250;
/// How long a pump that was preempted sleeps at once instead of spinning.
const PREEMPTED_US: u64 = 100_000;
/// Fruitless rounds between two offers of the core to others.
const ROUNDS_PER_YIELD: u32 = 32;
/// While the disk owes an answer the core is offered at least so often, work or not. The kernel finishes a durable write
/// on a worker of the core that began it, which would otherwise wait for a whole time slice of the pump: 4 ms.
const DISK_YIELD_US: u64 = 30;
/// Spins between two looks at whether the thread was preempted.
const SPINS_PER_LOOK: u32 = 64;
/// How often counts are copied to where the control thread reads them.
const PUBLISH_US: u64 = 1_000;

#[derive(Debug)]
pub(crate) struct Idle {
    policy: IdlePolicy,
    worked_us: u64,
    rounds: u32,
    spins: u32,
    preemptions: u64,
    no_spin_before_us: u64,
    yielded_us: u64,
    publish_us: u64,
}

impl Idle {
    pub(crate) fn new(policy: IdlePolicy) -> Self {
        Self {
            policy,
            worked_us: 0,
            rounds: 0,
            spins: 0,
            preemptions: cores::preemptions(),
            no_spin_before_us: 0,
            yielded_us: 0,
            publish_us: 0,
        }
    }

    /// There was something to do.
    #[inline]
    pub(crate) fn worked(&mut self, now_us: u64) {
        self.worked_us = now_us;
        self.rounds = 0;
    }

    /// Offers the core to the kernel's workers while the disk owes an answer.
    #[inline]
    pub(crate) fn share(&mut self, now_us: u64, disk_is_busy: bool) {
        if disk_is_busy && now_us.saturating_sub(self.yielded_us) >= DISK_YIELD_US {
            self.yielded_us = now_us;
            cores::yield_core();
        }
    }

    /// How to enter the ring when there is nothing to do until `deadline_us`.
    pub(crate) fn wait(&mut self, now_us: u64, deadline_us: u64, disk_is_busy: bool) -> Wait {
        let sleep = Wait::AtMost(Duration::from_micros(deadline_us.saturating_sub(now_us)));
        let spin_us = match self.policy {
            IdlePolicy::Park => return sleep,
            IdlePolicy::Busy => u64::MAX,
            IdlePolicy::Adaptive if now_us < self.no_spin_before_us => 0,
            IdlePolicy::Adaptive if disk_is_busy => SPIN_DISK_US,
            IdlePolicy::Adaptive => SPIN_US,
        };
        if now_us.saturating_sub(self.worked_us) >= spin_us {
            self.look_at_preemptions(now_us);
            return sleep;
        }
        self.rounds += 1;
        if self.rounds.is_multiple_of(ROUNDS_PER_YIELD) {
            cores::yield_core();
            self.give_way(now_us);
        }
        core::hint::spin_loop();
        Wait::Never
    }

    /// Notes that a yield took long: somebody else needs the core.
    fn give_way(&mut self, before_us: u64) {
        if self.policy == IdlePolicy::Adaptive && Clock.mono_us().saturating_sub(before_us) > 2_000 {
            self.no_spin_before_us = before_us + PREEMPTED_US;
        }
    }

    /// Now and then, when a spin was in vain, looks whether the scheduler took the core away meanwhile.
    fn look_at_preemptions(&mut self, now_us: u64) {
        self.spins += 1;
        if !self.spins.is_multiple_of(SPINS_PER_LOOK) {
            return;
        }
        let preemptions = cores::preemptions();
        if preemptions - self.preemptions > u64::from(SPINS_PER_LOOK) / 8 {
            self.no_spin_before_us = now_us + PREEMPTED_US;
        }
        self.preemptions = preemptions;
    }

    /// The ring was left after a sleep: what woke it may be followed by more at once.
    pub(crate) fn woke(&mut self, now_us: u64) {
        self.worked_us = self.worked_us.max(now_us.saturating_sub(1));
    }

    /// Whether it is time to copy the counts.
    #[inline]
    pub(crate) fn should_publish(&mut self, now_us: u64) -> bool {
        let due = now_us >= self.publish_us;
        if due {
            self.publish_us = now_us + PUBLISH_US;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adaptive_pump_spins_first_and_then_sleeps_until_its_deadline() {
        let mut idle = Idle::new(IdlePolicy::Adaptive);
        idle.worked(1000);
        assert_eq!(idle.wait(1010, 5000, false), Wait::Never);
        assert_eq!(idle.wait(1100, 5000, false), Wait::AtMost(Duration::from_micros(3900)));
        assert_eq!(idle.wait(1100, 5000, true), Wait::Never);
        assert_eq!(idle.wait(1300, 5000, true), Wait::AtMost(Duration::from_micros(3700)));
    }

    #[test]
    fn park_never_spins_and_busy_never_sleeps() {
        let mut park = Idle::new(IdlePolicy::Park);
        park.worked(1000);
        assert_eq!(park.wait(1000, 1500, true), Wait::AtMost(Duration::from_micros(500)));
        let mut busy = Idle::new(IdlePolicy::Busy);
        assert_eq!(busy.wait(u64::MAX / 2, u64::MAX, false), Wait::Never);
    }
}
