//! The control thread: owns the metadata, answers the shards' questions, shows metrics, and sees the node to its end.
//!
//! A change is durable first, then every shard acts by it, and only then is its asker answered; so whoever was told
//! that a topic exists finds it on every shard.

mod admin;
mod metrics_text;
mod view;

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::Arc;

use cutwater_api::{Response, Ticket};
use cutwater_broker::ControlCommand;
use cutwater_metadata::{Command, Controller, Outcome};
use cutwater_model::{ErrorKind, ProducerEpoch, ShardId, TopicId};
use cutwater_ring::{DiskStorage, entropy};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::ports::{FromShard, ShardDoor, ToShard};

pub use view::{NodeState, NodeView};

/// What the control thread is made of.
pub struct ControlParts<S> {
    /// The metadata.
    pub controller: Controller,
    /// The disk it lies on.
    pub storage: DiskStorage,
    /// The ways into the shards, by number.
    pub doors: Vec<ShardDoor<S>>,
    /// What the shards say.
    pub asked: UnboundedReceiver<FromShard>,
    /// What anybody may see of the node.
    pub view: Arc<NodeView>,
    /// Where metrics and health are asked for; already listening.
    pub admin: TcpListener,
    /// A way to have the node stop, besides the signals.
    pub stop: StopHandle,
}

/// Why the control thread could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The runtime or the signals could not be set up.
    #[error("the control thread can't be set up: {0}")]
    Setup(#[from] std::io::Error),
    /// A pump ended that was not asked to.
    #[error("shard {} failed: {reason}", shard.0)]
    Shard {
        /// Which.
        shard: ShardId,
        /// Why.
        reason: String,
    },
}

/// Asks a node to stop.
#[derive(Clone, Debug, Default)]
pub struct StopHandle(Arc<tokio::sync::Notify>);

impl StopHandle {
    /// The node stops as if it had got SIGTERM.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// An answer that waits until every shard acts by an image.
struct Waiting {
    version: u64,
    shard: ShardId,
    ticket: Ticket,
    response: Response,
}

struct Control<S> {
    controller: Controller,
    storage: DiskStorage,
    doors: Vec<ShardDoor<S>>,
    view: Arc<NodeView>,
    /// The version each shard acts by.
    applied: Vec<u64>,
    waiting: VecDeque<Waiting>,
    ended: Vec<bool>,
    failure: Option<ControlError>,
}

/// Runs until every shard has ended.
///
/// # Errors
/// [`ControlError`]: the node did not end as it should.
pub fn run<S: Send + 'static>(parts: ControlParts<S>) -> Result<(), ControlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let version = parts.controller.image().version();
    let shards = parts.doors.len();
    let control = Control {
        controller: parts.controller,
        storage: parts.storage,
        doors: parts.doors,
        view: parts.view,
        applied: vec![version; shards],
        waiting: VecDeque::new(),
        ended: vec![false; shards],
        failure: None,
    };
    runtime.block_on(control.serve(parts.asked, parts.admin, parts.stop))
}

impl<S: Send + 'static> Control<S> {
    async fn serve(
        mut self,
        mut asked: UnboundedReceiver<FromShard>,
        admin: TcpListener,
        stop: StopHandle,
    ) -> Result<(), ControlError> {
        admin.set_nonblocking(true)?;
        tokio::spawn(admin::serve(tokio::net::TcpListener::from_std(admin)?, self.view.clone()));
        tokio::spawn(view::watch(self.view.clone()));
        tokio::spawn(stop_on_signal(self.doors.clone(), self.view.clone(), stop)?);
        while self.ended.contains(&false) {
            // The shards hold the other end as long as they live.
            let Some(message) = asked.recv().await else { break };
            self.take(message);
        }
        self.failure.map_or(Ok(()), Err)
    }

    fn take(&mut self, message: FromShard) {
        match message {
            FromShard::Ask { shard, ticket, command } => self.answer(shard, ticket, &command),
            FromShard::Applied { shard, version } => {
                self.applied[usize::from(shard.0)] = version;
                self.release();
            }
            FromShard::Ended { shard, error } => self.shard_ended(shard, error),
        }
    }

    fn answer(&mut self, shard: ShardId, ticket: Ticket, command: &ControlCommand) {
        let before = self.controller.image().version();
        let result = entropy().map(TopicId).map_err(|_| ErrorKind::NotReady).and_then(|fresh| {
            let applied = self.controller.apply(&mut self.storage, &command_of(command), fresh);
            applied.map_err(|error| {
                tracing::warn!(%error, ?command, "a change of the metadata was refused");
                error.kind()
            })
        });
        let image = self.controller.image().clone();
        if image.version() != before {
            for door in &self.doors {
                door.send(ToShard::Metadata(image.clone()));
            }
        }
        if let Some(response) = response_to(result) {
            self.waiting.push_back(Waiting { version: image.version(), shard, ticket, response });
            self.release();
        }
    }

    /// Answers whoever waits for nothing more.
    fn release(&mut self) {
        let lives = self.applied.iter().zip(&self.ended).filter(|(_, ended)| !**ended);
        let slowest = lives.map(|(version, _)| *version).min().unwrap_or(u64::MAX);
        while let Some(first) = self.waiting.front() {
            if first.version > slowest {
                return;
            }
            let Some(Waiting { shard, ticket, response, .. }) = self.waiting.pop_front() else { return };
            self.doors[usize::from(shard.0)].send(ToShard::ControlDone { ticket, response });
        }
    }

    fn shard_ended(&mut self, shard: ShardId, error: Option<String>) {
        self.ended[usize::from(shard.0)] = true;
        if let Some(reason) = error {
            tracing::error!(shard = shard.0, %reason, "a shard failed; the node stops");
            self.failure.get_or_insert(ControlError::Shard { shard, reason });
            stop_all(&self.doors, &self.view);
        }
        self.release();
    }
}

/// Stops the node at the first signal, and ends the process at the second: the journal bears that.
fn stop_on_signal<S: Send + 'static>(
    doors: Vec<ShardDoor<S>>,
    view: Arc<NodeView>,
    stop: StopHandle,
) -> Result<impl Future<Output = ()> + Send, std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let mut is_first = true;
        loop {
            let name = first_of(&mut terminate, &mut interrupt, &stop).await;
            if !is_first && name != "request" {
                tracing::warn!(signal = name, "stopping at once; the next start replays the journal");
                std::process::exit(130);
            }
            is_first = false;
            tracing::info!(signal = name, "stopping: answering what is under way, then a checkpoint");
            stop_all(&doors, &view);
        }
    })
}

/// Waits for the first of the three.
async fn first_of(
    terminate: &mut tokio::signal::unix::Signal,
    interrupt: &mut tokio::signal::unix::Signal,
    stop: &StopHandle,
) -> &'static str {
    let notified = stop.0.notified();
    let mut notified = core::pin::pin!(notified);
    core::future::poll_fn(|context| {
        if terminate.poll_recv(context).is_ready() {
            return core::task::Poll::Ready("SIGTERM");
        }
        if interrupt.poll_recv(context).is_ready() {
            return core::task::Poll::Ready("SIGINT");
        }
        notified.as_mut().poll(context).map(|()| "request")
    })
    .await
}

fn stop_all<S>(doors: &[ShardDoor<S>], view: &NodeView) {
    view.set_state(NodeState::Stopping);
    for door in doors {
        door.send(ToShard::Stop);
    }
}

fn command_of(command: &ControlCommand) -> Command<'_> {
    match *command {
        ControlCommand::CreateTopic { ref name, partitions, config } => {
            Command::CreateTopic { name, partitions, config }
        }
        ControlCommand::DeleteTopic { topic } => Command::DeleteTopic { topic },
        ControlCommand::AddPartitions { topic, partitions } => Command::AddPartitions { topic, partitions },
        ControlCommand::AllocateProducerId => Command::AllocateProducerId,
        ControlCommand::TopicGone { topic, shard } => Command::TopicGone { topic, shard },
    }
}

/// The answer to a command; a shard's word that a topic is gone has none.
fn response_to(result: Result<Outcome, ErrorKind>) -> Option<Response> {
    Some(match result {
        Ok(Outcome::TopicCreated(topic)) => Response::TopicCreated(topic),
        Ok(Outcome::TopicDeleted(topic)) => Response::TopicDeleted(topic),
        Ok(Outcome::PartitionsAdded(topic)) => Response::PartitionsAdded(topic),
        Ok(Outcome::ProducerIdAllocated(id)) => Response::ProducerIdAllocated(id, ProducerEpoch(0)),
        Ok(Outcome::TopicGone) => return None,
        Err(kind) => Response::Refused(kind),
    })
}
