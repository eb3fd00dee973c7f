//! What must hold of files that are asked for one after the other.

use alloc::vec::Vec;

use cutwater_model::storage::StorageErrorKind;

use crate::Effect;
use crate::test_rig::{Rig, partition};

#[test]
fn no_file_is_asked_for_in_a_folder_that_is_still_being_made() {
    let mut rig = Rig::new();
    let first = rig.create_topic(1, 1);
    rig.settle(|effect| !matches!(effect, Effect::Create { written: false, .. }));
    let spare = rig.held.pop().unwrap();
    // The disk is full: the partition is to be looked at again, half a second later.
    rig.refuse(&spare, StorageErrorKind::Full);
    rig.settle(|_| true);
    rig.delete_topic(first);
    rig.settle(|_| true);
    // The next partition gets its slot, and a folder that takes longer than that.
    let second = rig.create_topic(2, 1);
    let is_folder = |effect: &Effect| matches!(effect, Effect::CreateDir { .. });
    rig.settle(|effect| !is_folder(effect));
    rig.now_us += 600_000;
    let asked = rig.produce(partition(second, 0), 1);
    rig.settle(|effect| !is_folder(effect));
    assert_eq!(rig.acks.get(&asked), None, "it waits for its folder");

    let folder = rig.held.pop().unwrap();
    assert!(is_folder(&folder), "{folder:?}");
    rig.carry_out(folder);
    rig.settle(|_| true);
    assert_eq!(rig.acks[&asked].error, None);
}

#[test]
fn a_segment_that_can_not_be_opened_fences_its_partition_and_says_so() {
    let mut rig = Rig::new();
    let topic = rig.create_topic(1, 1);
    rig.settle(|_| true);
    // A small batch, which is in the journal, and a large one, which waits for the segment.
    let small = rig.produce(partition(topic, 0), 1);
    let large = rig.produce(partition(topic, 0), 200);
    rig.settle(|effect| !matches!(effect, Effect::Rename { .. }));
    let rename = rig.held.pop().unwrap();
    assert_eq!(rig.acks.keys().copied().collect::<Vec<_>>(), [small]);
    rig.refuse(&rename, StorageErrorKind::Device);
    let fences = |effect: &Effect| matches!(effect, Effect::Fence(why) if why.contains("takes no appends"));
    assert!(rig.effects.list.iter().any(fences), "{:?}", rig.effects.list);
    rig.settle(|_| true);
    assert!(rig.acks[&large].error.is_some(), "nothing waits for it for ever");
}
