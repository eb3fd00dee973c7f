//! What a pump does when there is nothing to do: spin for a while, for ever, or not at all.

use cutwater_ring::{Clock, cores};

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
/// The same while the disk owes an answer. A durable write of a large batch takes a millisecond, and a virtual processor
/// that was halted meanwhile may need several to run again.
const SPIN_DISK_US: u64 = 2_000;
/// How long a pump that was preempted sleeps at once instead of spinning.
const PREEMPTED_US: u64 = 100_000;
/// Fruitless rounds between two looks at the clock.
const ROUNDS_PER_LOOK: u32 = 8;
/// Fruitless rounds between two offers of the core to others. Kernel workers that share it would otherwise wait a whole
/// time slice to finish a write.
const ROUNDS_PER_YIELD: u32 = 64;
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
    }

    /// Offers the core to the kernel's workers while the disk owes an answer.
    #[inline]
    pub(crate) fn share(&mut self, now_us: u64, disk_is_busy: bool) {
        if disk_is_busy && now_us.saturating_sub(self.yielded_us) >= DISK_YIELD_US {
            self.yielded_us = now_us;
            cores::yield_core();
        }
    }

    /// Until when to go on looking instead of sleeping, where there is nothing to do until `deadline_us`.
    pub(crate) fn spin_until_us(&mut self, now_us: u64, deadline_us: u64, disk_is_busy: bool) -> u64 {
        let spin_us = match self.policy {
            IdlePolicy::Park => return 0,
            IdlePolicy::Busy => return deadline_us,
            IdlePolicy::Adaptive if now_us < self.no_spin_before_us => return 0,
            IdlePolicy::Adaptive if disk_is_busy => SPIN_DISK_US,
            IdlePolicy::Adaptive => SPIN_US,
        };
        deadline_us.min(self.worked_us + spin_us)
    }

    /// Whether the pump may sleep at all.
    pub(crate) fn may_sleep(&self) -> bool {
        self.policy != IdlePolicy::Busy
    }

    /// A fruitless round of a spin; returns the time now and then, and offers the core to others more rarely.
    #[inline]
    pub(crate) fn round(&mut self) -> Option<u64> {
        core::hint::spin_loop();
        self.rounds = self.rounds.wrapping_add(1);
        if !self.rounds.is_multiple_of(ROUNDS_PER_LOOK) {
            return None;
        }
        let now_us = Clock.mono_us();
        if self.rounds.is_multiple_of(ROUNDS_PER_YIELD) {
            cores::yield_core();
            self.give_way(now_us);
        }
        Some(now_us)
    }

    /// Notes that a yield took long: somebody else needs the core.
    fn give_way(&mut self, before_us: u64) {
        if self.policy == IdlePolicy::Adaptive && Clock.mono_us().saturating_sub(before_us) > 2_000 {
            self.no_spin_before_us = before_us + PREEMPTED_US;
        }
    }

    /// A spin was in vain: now and then looks whether the scheduler took the core away meanwhile.
    pub(crate) fn gave_up(&mut self, now_us: u64) {
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
    fn an_adaptive_pump_spins_first_longer_for_the_disk_and_never_beyond_its_deadline() {
        let mut idle = Idle::new(IdlePolicy::Adaptive);
        idle.worked(1000);
        assert_eq!(idle.spin_until_us(1010, 5000, false), 1000 + SPIN_US);
        assert_eq!(idle.spin_until_us(1010, 5000, true), 1000 + SPIN_DISK_US);
        assert_eq!(idle.spin_until_us(1010, 1020, true), 1020);
    }

    #[test]
    fn a_pump_that_had_to_give_way_sleeps_at_once_for_a_while() {
        let mut idle = Idle::new(IdlePolicy::Adaptive);
        idle.worked(1000);
        idle.no_spin_before_us = 1000 + PREEMPTED_US;
        assert_eq!(idle.spin_until_us(1010, 5000, true), 0);
        idle.worked(2000 + PREEMPTED_US);
        assert!(idle.spin_until_us(2000 + PREEMPTED_US, u64::MAX, false) > 0);
    }

    #[test]
    fn park_never_spins_and_busy_never_sleeps() {
        let mut park = Idle::new(IdlePolicy::Park);
        park.worked(1000);
        assert_eq!(park.spin_until_us(1000, 1500, true), 0);
        let mut busy = Idle::new(IdlePolicy::Busy);
        assert_eq!(busy.spin_until_us(1000, 9000, false), 9000);
        assert!(!busy.may_sleep() && park.may_sleep());
    }
}
