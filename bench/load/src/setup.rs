//! Before a run: topics are made, partitions and their offsets learnt. After it: offsets compared, topics removed.

use anyhow::{Result, bail};
use cutwater_api::{OffsetSpec, TopicView};
use cutwater_client::{Client, ClientError};
use cutwater_model::limits::FETCH_PARTITIONS_MAX;
use cutwater_model::topic::TopicConfig;
use cutwater_model::{ErrorKind, Offset, PartitionId, ShardId, TopicId};

use crate::arguments::{BenchArguments, Load};

/// One partition of the run. Its number is its place in the list of all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) id: PartitionId,
    pub(crate) shard: ShardId,
    /// The end of the partition before the run.
    pub(crate) start: Offset,
}

/// What the run writes to.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) topics: Vec<TopicId>,
    /// The partitions of the first topic, then of the second, and so on.
    pub(crate) partitions: Vec<Target>,
    pub(crate) partitions_per_topic: u32,
    pub(crate) shards: u16,
}

/// Makes the topics that are missing and finds out where their partitions end.
pub(crate) fn prepare(client: &mut Client, arguments: &BenchArguments, load: &Load) -> Result<Targets> {
    if load.partitions == 0 || arguments.topics == 0 || load.connections == 0 || load.in_flight == 0 {
        bail!("--partitions, --topics, --connections and --in-flight must be at least 1");
    }
    let mut targets =
        Targets { topics: Vec::new(), partitions: Vec::new(), partitions_per_topic: 0, shards: 1 };
    for number in 0..arguments.topics {
        let name = match arguments.topics {
            1 => arguments.topic.clone(),
            _ => format!("{}-{number}", arguments.topic),
        };
        let topic = open(client, &name, arguments, load)?;
        targets.topics.push(topic.id);
        targets.partitions_per_topic = topic.partitions.len() as u32;
        targets.partitions.extend(topic.partitions.iter().map(|partition| Target {
            id: PartitionId { topic: topic.id, index: partition.index },
            shard: partition.shard,
            start: Offset(0),
        }));
    }
    targets.shards = client.describe(&[&arguments.topic])?.shards.shards.max(1);
    let ends = ends(client, &targets.partitions)?;
    for (target, end) in targets.partitions.iter_mut().zip(ends) {
        target.start = end;
    }
    Ok(targets)
}

fn open(client: &mut Client, name: &str, arguments: &BenchArguments, load: &Load) -> Result<TopicView> {
    match client.topic(name) {
        Ok(topic) => {
            let count = topic.partitions.len();
            let is_wanted = arguments.partitions.is_some() || arguments.shape.is_some();
            if is_wanted && count != load.partitions as usize {
                bail!(
                    "topic `{name}` exists with {count} partitions, not {}: choose another --topic, or delete it",
                    load.partitions
                );
            }
            Ok(topic)
        }
        Err(ClientError::UnknownTopic { .. }) => {
            // The largest batch any topic may take, so that every shape fits.
            let batch_bytes_max = cutwater_model::limits::BATCH_BYTES_MAX;
            let config = TopicConfig { batch_bytes_max, ..TopicConfig::default() };
            match client.create_topic(name, load.partitions, config) {
                Ok(_) => {}
                Err(ClientError::Refused { failure, .. })
                    if failure.kind() == Some(ErrorKind::TopicAlreadyExists) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(client.topic(name)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Where the partitions end now.
pub(crate) fn ends(client: &mut Client, targets: &[Target]) -> Result<Vec<Offset>> {
    let ids: Vec<PartitionId> = targets.iter().map(|target| target.id).collect();
    let mut ends = Vec::with_capacity(ids.len());
    for ids in ids.chunks(FETCH_PARTITIONS_MAX as usize) {
        for found in client.list_offsets(ids, OffsetSpec::Latest)? {
            match found.offset {
                Ok(offset) => ends.push(offset),
                Err(failure) => bail!("the end of {} is not told: code {}", found.partition, failure.code),
            }
        }
    }
    Ok(ends)
}

/// Removes the topics of the run.
pub(crate) fn remove(client: &mut Client, targets: &Targets) -> Result<()> {
    for &topic in &targets.topics {
        client.delete_topic(topic)?;
    }
    Ok(())
}
