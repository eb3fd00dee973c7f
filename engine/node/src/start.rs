//! The life of a node: probes, lock, metadata, recovery of all shards side by side, service, stop.

mod probe;

use core::time::Duration;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use cutwater_api::{NodeFacts, Session};
use cutwater_broker::{Config, StartError, StartReport};
use cutwater_metadata::{Controller, Identity, Image, OpenError};
use cutwater_model::storage::{Storage, StorageError};
use cutwater_model::{Incarnation, ShardId, Slab, limits};
use cutwater_ring::arena::ArenaError;
use cutwater_ring::socket::SocketError;
use cutwater_ring::{
    Arena, Clock, DataFolder, DiskStorage, Errno, FileClient, FileThread, Ring, RingConfig, RingError, cores,
    entropy, socket,
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::control::{self, ControlError, ControlParts, NodeState, NodeView, StopHandle};
use crate::disk::Disk;
use crate::meters::ShardMeters;
use crate::ports::{self, FromShard, ShardDoor, ShardPorts, ToShard};
use crate::pump::{IdlePolicy, Pump, PumpParts};

pub use probe::ProbeError;

/// How long a predecessor may take to let go of the folder, and of its sockets.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How long its writes may take to land (R1).
const SETTLE_WAIT: Duration = Duration::from_secs(60);
/// After so long a recovery says how far it is, and again each time as much has passed.
const PROGRESS: Duration = Duration::from_secs(2);
/// Connections that wait to be accepted.
const BACKLOG: u16 = 4096;

/// What a node is told.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The data folder.
    pub data: PathBuf,
    /// Where the native protocol is spoken; port 0 takes any.
    pub listen: SocketAddr,
    /// Where metrics and health are asked for; port 0 takes any.
    pub admin: SocketAddr,
    /// How many shards, from 1 to [`limits::SHARDS_MAX`].
    pub shards: u16,
    /// The cores the shards are put on, in order; a shard beyond them is put on none.
    pub cores: Vec<usize>,
    /// What pumps do when there is nothing to do.
    pub idle: IdlePolicy,
    /// The journal of each shard, bytes.
    pub journal_bytes: u64,
    /// The payload memory of all shards, bytes.
    pub memory_bytes: u64,
    /// How much of it the system is asked to back before it is needed, bytes; 0 for none.
    pub memory_ready_bytes: u64,
    /// Whether a journal with a hole in its middle is served all the same (R3).
    pub accepts_loss: bool,
}

impl NodeConfig {
    /// What one of its shards is told.
    fn broker(&self, shard: ShardId) -> Config {
        let config = Config::new(shard, self.shards, self.journal_bytes);
        Config { accepts_loss: self.accepts_loss, ..config }
    }
}

/// Where a node that serves is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The native protocol.
    pub native: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
}

/// Why a node did not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The machine lacks something.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The data folder can't be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The metadata can't be used.
    #[error(transparent)]
    Metadata(#[from] OpenError),
    /// An address can't be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The ring can't be set up, or failed.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// There is no memory.
    #[error(transparent)]
    Memory(#[from] ArenaError),
    /// A shard could not recover.
    #[error(transparent)]
    Shard(#[from] StartError),
    /// The control thread or a shard failed while the node ran.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The system lacks threads, descriptors or random bits.
    #[error("{action} failed: {errno}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        errno: Errno,
    },
}

/// What a shard's thread says when it is ready to serve.
type Ready = Result<(ShardId, StartReport), NodeError>;

/// Listens. The kernel takes a killed predecessor's rings apart after its process is gone, and they hold its sockets:
/// an address that is in use may be free in a moment.
fn listen(address: SocketAddr, backlog: u16) -> Result<OwnedFd, SocketError> {
    let begun = Instant::now();
    loop {
        match socket::listen(address, backlog) {
            Err(error) if error.errno == Errno::ADDRESS_IN_USE && begun.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

/// Runs a node until it is asked to stop, by a signal or by `stop`. `serving` is called once it serves.
///
/// # Errors
/// [`NodeError`], with what to do about it.
pub fn run<S: Session + Send + 'static>(
    config: &NodeConfig,
    stop: StopHandle,
    serving: impl FnOnce(Addresses),
) -> Result<(), NodeError> {
    let begun = Instant::now();
    probe::machine()?;
    probe::place(&config.data)?;
    let folder = DataFolder::open(&config.data, LOCK_WAIT)?;
    probe::folder(folder.path())?;
    let listener = listen(config.listen, BACKLOG)?;
    let admin = listen(config.admin, 128)?;
    let addresses = Addresses {
        native: socket::local_address(&listener).unwrap_or(config.listen),
        admin: socket::local_address(&admin).unwrap_or(config.admin),
    };

    // R1: what a predecessor wrote is made durable before it is believed.
    DiskStorage::new(folder.clone())?.flush_all()?;
    let mut storage = DiskStorage::recovering(folder.clone(), SETTLE_WAIT)?;
    let (controller, shards_before) = open_metadata(&mut storage, config.shards)?;
    tracing::debug!(took_ms = begun.elapsed().as_millis() as u64, "the metadata is open");
    let on_disk = cutwater_broker::shards_on_disk(&mut storage)?;
    let must_redistribute = shards_before.is_some() || on_disk.iter().any(|shard| shard.0 >= config.shards);
    drop(storage);

    let incarnation = Incarnation(entropy().map_err(system("drawing random bits"))?);
    let mut moved = None;
    if must_redistribute {
        moved = Some(redistribute(config, &folder, controller.image(), incarnation)?);
    }
    let plan = Plan { config, folder: &folder, image: controller.image(), incarnation, listener: &listener };
    let raised = match raise::<S>(&plan, moved.take(), begun) {
        // A crash between the change of the metadata and the end of the move: it is done again.
        Err(NodeError::Shard(StartError::Misplaced { .. })) if !must_redistribute => {
            let slab = redistribute(config, &folder, controller.image(), incarnation)?;
            raise::<S>(&plan, Some(slab), begun)
        }
        raised => raised,
    };
    let Raised { threads, doors, asked, view, files } = raised?;
    for (thread, door) in threads.iter().zip(&doors) {
        // Partitions that were never written to are in no checkpoint and no journal: the image alone knows of them. It is
        // taken before anything that a peer says.
        door.send(ToShard::Metadata(controller.image().clone()));
        // A thread that is gone has said why.
        let _ = thread.go.send(());
    }
    view.set_state(NodeState::Serving);
    tracing::info!(
        native = %addresses.native, admin = %addresses.admin, shards = config.shards,
        took_ms = begun.elapsed().as_millis() as u64, "serving"
    );
    serving(addresses);
    let storage = DiskStorage::new(folder)?;
    let admin = TcpListener::from(admin);
    let ended = control::run(ControlParts { controller, storage, doors, asked, view, admin, stop });
    for thread in threads {
        // How it ended was told to the control thread.
        let _ = thread.handle.join();
    }
    drop(files);
    tracing::info!("stopped");
    Ok(ended?)
}

/// What all shards begin with.
struct Plan<'a> {
    config: &'a NodeConfig,
    folder: &'a DataFolder,
    image: &'a Arc<Image>,
    incarnation: Incarnation,
    listener: &'a OwnedFd,
}

/// Shards that are ready and wait for the word.
struct Raised<S> {
    threads: Vec<ShardThread>,
    doors: Vec<ShardDoor<S>>,
    asked: UnboundedReceiver<FromShard>,
    view: Arc<NodeView>,
    files: FileThread,
}

/// Recovers all shards side by side, each on its own thread. `slab` is memory that is there already, for the first.
fn raise<S: Session + Send + 'static>(
    plan: &Plan<'_>,
    mut slab: Option<Slab>,
    begun: Instant,
) -> Result<Raised<S>, NodeError> {
    let shards = plan.config.shards;
    let (ports, doors, asked) = ports::connect::<S>(shards).map_err(system("connecting the shards"))?;
    let files = FileThread::start(plan.folder.clone())?;
    let meters: Vec<_> = (0..shards).map(|_| Arc::new(ShardMeters::default())).collect();
    let view = Arc::new(NodeView::new(meters.clone()));
    let (ready, all_ready) = channel();
    let mut threads = Vec::new();
    for ((ports, meters), door) in ports.into_iter().zip(meters).zip(&doors) {
        let shard = ShardId(threads.len() as u16);
        let seed = Seed {
            facts: NodeFacts { shard, shards },
            config: plan.config.clone(),
            folder: plan.folder.clone(),
            image: plan.image.clone(),
            incarnation: plan.incarnation,
            slab: slab.take(),
            listener: plan.listener.try_clone().map_err(io("duplicating the listener"))?,
            files: files.client(door.bell()),
            ports,
            meters,
        };
        threads.push(spawn(seed, ready.clone())?);
    }
    drop(ready);
    if let Err(error) = wait_until_ready(&threads, &all_ready, begun) {
        for ShardThread { handle, go } in threads {
            drop(go);
            // Why it ended is known already.
            let _ = handle.join();
        }
        return Err(error);
    }
    Ok(Raised { threads, doors, asked, view, files })
}

/// Moves partitions to the shards that own them now; returns the memory it used.
fn redistribute(
    config: &NodeConfig,
    folder: &DataFolder,
    image: &Image,
    incarnation: Incarnation,
) -> Result<Slab, NodeError> {
    tracing::info!(shards = config.shards, "moving partitions to the shards that own them now");
    let mut storage = DiskStorage::recovering(folder.clone(), SETTLE_WAIT)?;
    let broker = config.broker(ShardId(0));
    let slab = slab_of(config)?;
    let (slab, notes) = cutwater_broker::redistribute(&mut storage, &broker, slab, image, incarnation)?;
    for note in notes {
        tracing::info!("{note}");
    }
    Ok(slab)
}

/// The payload memory of one shard.
fn slab_of(config: &NodeConfig) -> Result<Slab, NodeError> {
    let bytes = (config.memory_bytes / u64::from(config.shards)).min(SLAB_BYTES_MAX);
    Ok(Arena::leak(usize::try_from(bytes).unwrap_or(usize::MAX), true)?)
}

/// Opens or makes the metadata; also tells how many shards there were, if that has changed.
fn open_metadata(storage: &mut DiskStorage, shards: u16) -> Result<(Controller, Option<u16>), NodeError> {
    let fresh = Identity { cluster: entropy().map_err(system("drawing random bits"))?, node: 0 };
    let (controller, report) = Controller::open(storage, None, fresh, shards)?;
    if report.is_new {
        tracing::info!(identity = %controller.identity(), "a new data folder");
    }
    if let Some((file, fault)) = report.repaired {
        tracing::warn!(%file, ?fault, "a copy of the metadata was damaged and is whole again");
    }
    if let Some(before) = report.shards_before {
        tracing::info!(before, now = shards, "the number of shards changed; partitions are placed anew");
    }
    Ok((controller, report.shards_before))
}

/// What a shard's thread begins with.
struct Seed<S> {
    facts: NodeFacts,
    config: NodeConfig,
    folder: DataFolder,
    image: Arc<Image>,
    incarnation: Incarnation,
    slab: Option<Slab>,
    listener: OwnedFd,
    files: FileClient,
    ports: ShardPorts<S>,
    meters: Arc<ShardMeters>,
}

/// A shard's thread.
struct ShardThread {
    handle: JoinHandle<()>,
    /// Sent when all shards are ready; dropped when the start fails.
    go: SyncSender<()>,
}

fn spawn<S: Session + Send + 'static>(seed: Seed<S>, ready: Sender<Ready>) -> Result<ShardThread, NodeError> {
    let (go, gone) = sync_channel(1);
    let shard = seed.facts.shard;
    let control = seed.ports.control.clone();
    let handle = std::thread::Builder::new()
        .name(format!("shard-{}", shard.0))
        .spawn(move || {
            let mut end = EndOfThread { shard, control, error: Some("it panicked".to_owned()) };
            end.error = match run_shard(seed, &ready, &gone) {
                Ok(()) => None,
                Err(error) => Some(error.to_string()),
            };
        })
        .map_err(io("starting a thread"))?;
    Ok(ShardThread { handle, go })
}

/// Tells the control thread that a shard's thread has ended, however it did.
struct EndOfThread {
    shard: ShardId,
    control: UnboundedSender<FromShard>,
    error: Option<String>,
}

impl Drop for EndOfThread {
    fn drop(&mut self) {
        // Without a control thread the node is gone already.
        let _ = self.control.send(FromShard::Ended { shard: self.shard, error: self.error.take() });
    }
}

/// Recovers one shard, waits for the others, and runs its pump to the end.
fn run_shard<S: Session>(seed: Seed<S>, ready: &Sender<Ready>, go: &Receiver<()>) -> Result<(), RingError> {
    let shard = seed.facts.shard;
    let pump = match recover(seed) {
        Ok((pump, report)) => {
            // A start that was given up meanwhile closes the way to go as well.
            let _ = ready.send(Ok((shard, report)));
            pump
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            return Ok(());
        }
    };
    if go.recv().is_err() {
        return Ok(());
    }
    pump.run()
}

type ShardPump<S> = Pump<cutwater_broker::Shard, S>;

fn recover<S: Session>(seed: Seed<S>) -> Result<(ShardPump<S>, StartReport), NodeError> {
    let Seed { facts, config, folder, image, incarnation, slab, listener, files, ports, meters } = seed;
    if let Some(&core) = config.cores.get(usize::from(facts.shard.0))
        && !cores::pin(core)
    {
        tracing::warn!(shard = facts.shard.0, core, "the thread could not be put on its core");
    }
    let slab = match slab {
        Some(slab) => slab,
        None => slab_of(&config)?,
    };
    let ring = Ring::new(&RingConfig::default())?;
    let mut storage = DiskStorage::recovering(folder, SETTLE_WAIT)?;
    let broker = config.broker(facts.shard);
    let (mut core, report) =
        cutwater_broker::start(&mut storage, broker, slab, image, incarnation, Clock.now())?;
    drop(storage);
    let ready_bytes = config.memory_ready_bytes / u64::from(facts.shards.max(1));
    Arena::touch_in_background(core.slab(), usize::try_from(ready_bytes).unwrap_or(usize::MAX));
    let descriptors_max = probe::descriptors_per_shard(facts.shards);
    let pump = Pump::new(PumpParts {
        core,
        ring,
        facts,
        listener,
        disk: Disk::new(files, descriptors_max),
        ports,
        meters,
        idle: config.idle,
        assembly_bytes_max: limits::ASSEMBLY_BYTES_MAX,
    });
    Ok((pump, report))
}

/// The largest slab that ranges of 32 bits can name.
const SLAB_BYTES_MAX: u64 = u32::MAX as u64 + 1 - limits::BLOCK_BYTES as u64;

fn wait_until_ready(
    threads: &[ShardThread],
    ready: &Receiver<Ready>,
    begun: Instant,
) -> Result<(), NodeError> {
    let mut count = 0;
    while count < threads.len() {
        match ready.recv_timeout(PROGRESS) {
            Ok(Ok((shard, report))) => {
                count += 1;
                let took_ms = begun.elapsed().as_millis() as u64;
                tracing::debug!(shard = shard.0, took_ms, "the shard is ready");
                tell(shard, &report);
            }
            Ok(Err(error)) => return Err(error),
            Err(RecvTimeoutError::Timeout) => tracing::info!(
                ready = count,
                of = threads.len(),
                seconds = begun.elapsed().as_secs(),
                "recovering"
            ),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(NodeError::System { action: "a shard's start", errno: Errno(libc::ECHILD) });
            }
        }
    }
    Ok(())
}

fn tell(shard: ShardId, report: &StartReport) {
    for note in &report.notes {
        tracing::warn!(shard = shard.0, "{note}");
    }
    if report.groups > 0 {
        tracing::info!(
            shard = shard.0,
            partitions = report.partitions,
            groups = report.groups,
            journal_bytes = report.journal_bytes,
            "recovered"
        );
    }
}

fn system(action: &'static str) -> impl FnOnce(Errno) -> NodeError {
    move |errno| NodeError::System { action, errno }
}

fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> NodeError {
    move |error| NodeError::System { action, errno: Errno(error.raw_os_error().unwrap_or(libc::EIO)) }
}

/// The cores this process may use, by number.
#[must_use]
pub fn cores() -> Vec<usize> {
    cores::cores()
}
