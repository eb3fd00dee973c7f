//! Blocks of bytes, shared between images until one of them writes.

use std::sync::{Arc, LazyLock};

use cutwater_model::limits::BLOCK_BYTES;

/// The largest unit that a device writes whole (RELIABILITY: 512 B, whatever it reports).
pub const SECTOR_BYTES: usize = 512;
/// Sectors of one block.
pub(super) const SECTORS: usize = BLOCK_BYTES / SECTOR_BYTES;

/// The bytes of one block.
pub(super) type Page = [u8; BLOCK_BYTES];
/// A block that several files and images may hold.
pub(super) type PageRef = Arc<Page>;

static ZEROS: LazyLock<PageRef> = LazyLock::new(|| Arc::new([0; BLOCK_BYTES]));

/// The block of zeros.
pub(super) fn zeros() -> PageRef {
    Arc::clone(&ZEROS)
}

/// A block of these bytes, followed by zeros.
pub(super) fn page_of(bytes: &[u8]) -> PageRef {
    let mut page = [0; BLOCK_BYTES];
    page[..bytes.len()].copy_from_slice(bytes);
    if page == [0; BLOCK_BYTES] { zeros() } else { Arc::new(page) }
}

/// `under` with some sectors of `over`, as a mask with a bit per sector says.
pub(super) fn mixed(under: Option<&PageRef>, over: &PageRef, mask: u8) -> PageRef {
    let mut page = under.map_or([0; BLOCK_BYTES], |under| **under);
    for sector in 0..SECTORS {
        if mask >> sector & 1 == 1 {
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            page[range.clone()].copy_from_slice(&over[range]);
        }
    }
    Arc::new(page)
}
