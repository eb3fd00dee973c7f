//! What anybody may see of a running node, without asking a shard.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use crate::meters::ShardMeters;

/// How often the shards' turn counters are looked at.
const WATCH: Duration = Duration::from_millis(500);
/// A pump turns at least ten times a second; one that does not for so long is stuck.
const STUCK: Duration = Duration::from_secs(5);

/// How far a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NodeState {
    /// It recovers.
    Starting = 0,
    /// It serves.
    Serving = 1,
    /// It drains.
    Stopping = 2,
}

/// A node as its metrics and health show it.
#[derive(Debug)]
pub struct NodeView {
    state: AtomicU8,
    /// A bit for each shard that is stuck.
    stuck: AtomicU64,
    begun: Instant,
    shards: Vec<Arc<ShardMeters>>,
}

impl NodeView {
    /// A node that starts, with the meters of its shards by number.
    #[must_use]
    pub fn new(shards: Vec<Arc<ShardMeters>>) -> Self {
        Self {
            state: AtomicU8::new(NodeState::Starting as u8),
            stuck: AtomicU64::new(0),
            begun: Instant::now(),
            shards,
        }
    }

    /// The shards' meters, by number.
    #[must_use]
    pub fn shards(&self) -> &[Arc<ShardMeters>] {
        &self.shards
    }

    /// How long the node has run.
    pub(super) fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Says how far the node is.
    pub fn set_state(&self, state: NodeState) {
        self.state.store(state as u8, Relaxed);
    }

    /// Why the node is not healthy, a line for each reason; empty if it is.
    pub(super) fn ills(&self) -> Vec<String> {
        let stuck = self.stuck.load(Relaxed);
        let mut ills = Vec::new();
        for (number, meters) in self.shards.iter().enumerate() {
            if stuck & (1 << number) != 0 {
                ills.push(format!("shard {number} has not turned for {} s", STUCK.as_secs()));
            }
            if meters.is_fenced() {
                ills.push(format!("shard {number} takes no appends: see the node's log"));
            }
        }
        ills
    }

    /// Whether requests are taken.
    pub(super) fn is_serving(&self) -> bool {
        self.state.load(Relaxed) == NodeState::Serving as u8
    }
}

/// Marks shards whose turn counter stands still.
pub(super) async fn watch(view: Arc<NodeView>) {
    let mut seen: Vec<(u64, Instant)> = view.shards.iter().map(|_| (0, Instant::now())).collect();
    loop {
        tokio::time::sleep(WATCH).await;
        let mut stuck = 0;
        for (number, (meters, seen)) in view.shards.iter().zip(&mut seen).enumerate() {
            let turns = meters.turns();
            if turns != seen.0 {
                *seen = (turns, Instant::now());
            } else if seen.1.elapsed() > STUCK {
                stuck |= 1 << number;
            }
        }
        let before = view.stuck.swap(stuck, Relaxed);
        if stuck & !before != 0 {
            tracing::error!(shards = stuck, "pumps are stuck (a bit for each shard)");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fenced_shard_and_a_stuck_one_are_ills() {
        let view = NodeView::new(vec![Arc::new(ShardMeters::default()), Arc::new(ShardMeters::default())]);
        assert!(view.ills().is_empty());
        view.shards[1].set_fenced();
        view.stuck.store(1, Relaxed);
        let ills = view.ills();
        assert!(ills[0].contains("shard 0 has not turned"), "{ills:?}");
        assert!(ills[1].contains("shard 1 takes no appends"), "{ills:?}");
    }
}
