//! Every bound of the engine, in one place, with assertions on how they relate.

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

/// The unit of everything written by O_DIRECT, in bytes.
pub const BLOCK_BYTES: usize = 4096;

// The journal (STORAGE.md section 1).
/// One journal file.
pub const JOURNAL_FILE_BYTES: u64 = 64 * MIB as u64;
/// A shard's whole journal unless configured.
pub const JOURNAL_BYTES_DEFAULT: u64 = 2048 * MIB as u64;
/// The smallest journal that can be configured for a real node: three files.
pub const JOURNAL_FILES_LEAST: u32 = 3;
/// The largest group, header and padding included.
pub const GROUP_BYTES_MAX: u32 = 512 * KIB;
/// Groups of one shard that may be in flight at once.
pub const GROUPS_IN_FLIGHT_MAX: usize = 4;
/// A batch or a pending run from this size on is written straight to its segment.
pub const BULK_BYTES_LEAST: u32 = 64 * KIB;
/// Payload memory that a shard uses before it gives written pages up: what consumers close behind read from memory.
pub const MEMORY_WARM_BYTES: u64 = 192 * MIB as u64;
/// Payload memory that a node has the system back before anybody needs it unless configured, for all its shards together.
/// An idle node has to stay below 96 MiB.
pub const MEMORY_READY_BYTES: u64 = 64 * MIB as u64;
/// How fast the warm memory may grow while it is used up. Memory that was never touched costs as much as writing it
/// twice, more in a virtual machine, so pages used before are used again first.
pub const MEMORY_GROWTH_BYTES_PER_S: u64 = 32 * MIB as u64;
/// A checkpoint is due after so many bytes of journal, or an eighth of a smaller one: half of the memory that is kept
/// warm, because small partitions give up nothing before a checkpoint has flushed them.
pub const CHECKPOINT_BYTES_MAX: u64 = MEMORY_WARM_BYTES / 2;
/// A checkpoint is due after so many bytes of large batches. The last ones of each partition are read by the start after a
/// crash, so this is the most that it reads besides the journal.
pub const CHECKPOINT_BULK_BYTES_MAX: u64 = JOURNAL_BYTES_DEFAULT;
/// Batches of one partition that may be on their way straight to its segment.
pub const BULKS_IN_FLIGHT_MAX: usize = 16;
/// Pages that batches which have begun to come may hold before they are whole.
pub const LANDING_BYTES_MAX: u64 = 64 * MIB as u64;
/// The same, as a part of the payload memory: one in so many.
pub const LANDING_MEMORY_PARTS: u64 = 8;

// Batches and records.
/// The header of a RecordBatch v2.
pub const BATCH_HEADER_BYTES: usize = 61;
/// The largest batch any topic may be set to take.
pub const BATCH_BYTES_MAX: u32 = 8 * MIB;
/// The smallest bound a topic may set on its batches.
pub const BATCH_BYTES_MAX_LEAST: u32 = KIB;
/// The largest batch of a topic unless set: a value of 1 MiB with room for key, headers and more records.
pub const BATCH_BYTES_DEFAULT: u32 = 2 * MIB;
/// How far a record's timestamp may lie ahead of the node's clock.
pub const TIMESTAMP_AHEAD_MS_MAX: i64 = 3_600_000;
/// How far a partition of durability `memory` may run ahead of its durable end, in records. After a crash it goes on so
/// many offsets later, so that none that was shown is used again.
pub const MEMORY_AHEAD_RECORDS_MAX: i64 = 1 << 20;
/// After a loss that an operator accepted a partition that may have lost its end goes on so many offsets later: more than
/// any journal holds records.
pub const LOSS_SKIPS_RECORDS: i64 = 1 << 40;
/// Batches a producer's window remembers, as Kafka's.
pub const PRODUCER_WINDOW_BATCHES: usize = 5;
/// Producers that one partition remembers; the one idle longest is forgotten first.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 10_000;

// Segments.
/// The smallest segment a topic may be set to.
pub const SEGMENT_BYTES_LEAST: u32 = 64 * KIB;
/// The largest segment a topic may be set to.
pub const SEGMENT_BYTES_MAX: u32 = 1024 * MIB;
/// The segment of a topic unless set.
pub const SEGMENT_BYTES_DEFAULT: u32 = 256 * MIB;
/// One index entry per so many stored bytes.
pub const INDEX_INTERVAL_BYTES: u32 = 64 * KIB;
/// The first step by which a segment's space grows, and the last after doubling.
pub const SEGMENT_GROWTH_BYTES_LEAST: u32 = 64 * KIB;
/// See [`SEGMENT_GROWTH_BYTES_LEAST`].
pub const SEGMENT_GROWTH_BYTES_MAX: u32 = 32 * MIB;
/// By so much at most a file shrinks in one step on its way out.
pub const SHRINK_STEP_BYTES: u64 = 4 * MIB as u64;

// Topics.
/// The longest topic name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 20_000;
/// Partitions of one node.
pub const PARTITIONS_PER_NODE_MAX: u32 = 100_000;
/// Topics of one node.
pub const TOPICS_PER_NODE_MAX: u32 = 20_000;

// The node's metadata (STORAGE.md section 5).
/// The smallest file of the node's own log; it grows by powers of two.
pub const METADATA_BYTES_LEAST: u64 = MIB as u64;
/// Producer ids that are set aside at once, so that most of them cost no write.
pub const PRODUCER_IDS_PER_BLOCK: i64 = 1_000;

// Connections and frames.
/// The longest frame a native peer may send: the largest batch and its request header.
pub const FRAME_BYTES_MAX: u32 = BATCH_BYTES_MAX + 64 * KIB;
/// Connections of one shard.
pub const CONNECTIONS_PER_SHARD_MAX: usize = 10_000;
/// Requests of one connection that wait for their answer.
pub const REQUESTS_IN_FLIGHT_MAX: u32 = 8_192;
/// Request bytes of one connection that wait for their answer; over it the ring stops receiving from it.
pub const REQUEST_BYTES_IN_FLIGHT_MAX: u32 = 16 * MIB;
/// Bytes of batches that one shard keeps until their partitions have room, whatever connections and shards they come from.
/// A connection is paused by its first one; what comes beyond this, from very many connections, is to be sent again.
pub const DEFERRED_BYTES_MAX: u64 = 128 * MIB as u64;
/// Bytes of one connection pinned by sends, or on their way to be: what its fetches and subscriptions are collecting
/// counts from the moment it is asked for. Above half of it nothing more is collected for the connection.
pub const SEND_BYTES_PINNED_MAX: u32 = 256 * KIB;
/// What collecting one answer is taken to cost until its bytes are known: its first batch may be larger than was asked.
pub const COLLECT_BYTES_LEAST: u32 = 64 * KIB;
/// A peer that is over its send budget and makes no progress is closed after this time.
pub const SEND_STALL_US_MAX: u64 = 10_000_000;
/// A frame that has begun must be whole after this time.
pub const FRAME_READ_US_MAX: u64 = 30_000_000;
/// A peer that sends no more is closed when all it asked for is answered, and after this time in any case.
pub const FINISH_US_MAX: u64 = 10_000_000;
/// The longest frame a native peer is sent: the largest fetch answer, or all topics described.
pub const ANSWER_BYTES_MAX: u32 = 32 * MIB;
/// The longest text that explains a refusal.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 512;
/// Partitions that one fetch or subscription may name.
pub const FETCH_PARTITIONS_MAX: u32 = 10_000;
/// Bytes that one fetch answer carries at most, but for one batch that is larger.
pub const FETCH_BYTES_MAX: u32 = 16 * MIB;
/// The longest a fetch may wait.
pub const FETCH_WAIT_MS_MAX: u32 = 60_000;
/// What one partition of a waiting fetch, subscription or search is taken to cost, here and on the shard that owns it.
pub const REQUEST_PART_BYTES: u32 = 256;
/// Partitions that all subscriptions of one connection may name together.
pub const SUBSCRIBED_PARTITIONS_PER_CONNECTION_MAX: usize = 65_536;
/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 64;

// The client.
/// What the records of one batch may inflate to in a consumer.
pub const INFLATED_BYTES_MAX: usize = 64 * MIB as usize;
/// What a producer holds at most, sent and unsent, unless configured.
pub const PRODUCER_BUFFER_BYTES_DEFAULT: usize = 32 * MIB as usize;
/// The largest batch a producer builds unless configured.
pub const PRODUCER_BATCH_BYTES_DEFAULT: u32 = 256 * KIB;
/// Delivery reports that may wait to be read before a producer takes no more records.
pub const PRODUCER_REPORTS_MAX: usize = 1 << 20;
/// What a subscription may push before it is given more credit, unless configured.
pub const CONSUMER_CREDIT_BYTES_DEFAULT: u32 = 8 * MIB;
/// What one push or fetch carries of one partition unless configured.
pub const CONSUMER_PARTITION_BYTES_DEFAULT: u32 = MIB;

// A turn of the pump (DESIGN.md section 3).
/// Input bytes of one turn.
pub const TURN_BYTES_MAX: u32 = 256 * KIB;
/// Inputs of one turn.
pub const TURN_INPUTS_MAX: u32 = 128;
/// Inputs of one connection before others have their turn.
pub const VISIT_INPUTS_MAX: u32 = 32;
/// Batches of one receive that are looked at together before the first of them is taken.
pub const AHEAD_BATCHES_MAX: usize = 32;
/// Receive buffers that one connection may hold filled; then the ring stops receiving from it.
pub const RECEIVED_BUFFERS_MAX: usize = 4;
/// Bytes that frames of one shard which are not whole yet may take together.
pub const ASSEMBLY_BYTES_MAX: usize = 256 * MIB as usize;
/// Descriptors of files that one shard keeps open.
pub const DESCRIPTORS_PER_SHARD_MAX: usize = 16_384;

// Between cores.
/// The ring of bytes from one shard to another.
pub const SHARD_RING_BYTES: u32 = 4 * MIB;
/// Bytes that may wait for room in it before connections whose requests need that shard wait too.
pub const SHARD_BACKLOG_BYTES_MAX: u32 = 16 * MIB;
/// Bytes that may wait for room in it before the sender takes no more input from anybody.
pub const SHARD_BACKLOG_BYTES_FULL: u32 = 3 * SHARD_BACKLOG_BYTES_MAX;
/// What connections on their way to one shard may take together: the bytes they carry, and [`HAND_OVER_BYTES`] each.
/// Those that come too many are closed.
pub const HANDED_OVER_BYTES_MAX: usize = 64 * MIB as usize;
/// What a connection on its way to another shard is taken to cost besides what it carries.
pub const HAND_OVER_BYTES: usize = 4 * KIB as usize;
/// Bytes that one shard may have asked another for and not been answered.
pub const COLLECT_BYTES_IN_FLIGHT_MAX: u32 = 9 * MIB;
/// Bytes of other shards that one shard holds for its connections: asked for, or not sent yet.
pub const COLLECTED_BYTES_MAX: u32 = 64 * MIB;
/// What an answer between shards says about each partition besides its batches, at most.
pub const COLLECTED_PART_BYTES: u32 = 64;
/// Shards of one node.
pub const SHARDS_MAX: u16 = 64;

const _: () = assert!(GROUP_BYTES_MAX as u64 <= JOURNAL_FILE_BYTES, "a group fits a journal file");
const _: () = assert!((GROUP_BYTES_MAX as usize).is_multiple_of(BLOCK_BYTES), "a group is whole blocks");
const _: () = assert!(BULK_BYTES_LEAST < GROUP_BYTES_MAX / 2, "what is not bulk fits a group with others");
const _: () = assert!(BATCH_BYTES_DEFAULT <= BATCH_BYTES_MAX && BATCH_BYTES_MAX_LEAST <= BATCH_BYTES_DEFAULT);
const _: () = assert!(BATCH_BYTES_DEFAULT > MIB, "a value of 1 MiB fits a batch");
const _: () =
    assert!(SEGMENT_BYTES_LEAST <= SEGMENT_BYTES_DEFAULT && SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < FRAME_BYTES_MAX, "the largest batch fits a frame");
const _: () = assert!(SEGMENT_GROWTH_BYTES_LEAST <= SEGMENT_GROWTH_BYTES_MAX);
const _: () = assert!(FETCH_BYTES_MAX >= BATCH_BYTES_MAX, "a fetch can return any batch");
const _: () =
    assert!(COLLECT_BYTES_LEAST <= SEND_BYTES_PINNED_MAX / 4, "two answers may be collected at once");
const _: () = assert!(
    BATCH_BYTES_MAX + FETCH_PARTITIONS_MAX * COLLECTED_PART_BYTES <= COLLECT_BYTES_IN_FLIGHT_MAX,
    "any answer of another shard can be asked for"
);
const _: () =
    assert!(COLLECT_BYTES_IN_FLIGHT_MAX < SHARD_BACKLOG_BYTES_MAX, "what was asked for stops no input");
const _: () =
    assert!(COLLECT_BYTES_IN_FLIGHT_MAX < COLLECTED_BYTES_MAX / 4, "one shard does not take all room");
const _: () = assert!(
    FETCH_PARTITIONS_MAX * REQUEST_PART_BYTES < REQUEST_BYTES_IN_FLIGHT_MAX,
    "the largest fetch is less than a connection may have in flight"
);
const _: () =
    assert!(FETCH_BYTES_MAX + FETCH_PARTITIONS_MAX * 64 < ANSWER_BYTES_MAX, "a fetch's answer fits");
const _: () = assert!(
    TOPICS_PER_NODE_MAX * (64 + TOPIC_NAME_BYTES_MAX as u32) + PARTITIONS_PER_NODE_MAX * 2 < ANSWER_BYTES_MAX,
    "all topics described fit one answer"
);
