//! Payload memory, used again: a slab is borrowed for ever, so what thousands of lives get goes round.

use std::cell::RefCell;

use cutwater_model::Slab;
use cutwater_model::limits::BLOCK_BYTES;

std::thread_local! {
    static FREE: RefCell<Vec<&'static mut [u8]>> = const { RefCell::new(Vec::new()) };
}

/// Memory of that length, zeroed and aligned. It comes back when it is dropped, by a start that fails too.
pub(super) fn take(bytes: usize) -> Slab {
    let used = FREE.with_borrow_mut(|free| {
        let index = free.iter().position(|slab| slab.len() == bytes)?;
        Some(free.swap_remove(index))
    });
    let slab = match used {
        Some(slab) => {
            slab.fill(0);
            slab
        }
        None => {
            let whole: &'static mut [u8] = vec![0; bytes + BLOCK_BYTES].leak();
            let begins = (whole.as_ptr() as usize).next_multiple_of(BLOCK_BYTES) - whole.as_ptr() as usize;
            whole[begins..].split_at_mut(bytes).0
        }
    };
    Slab::new(slab).with_home(|slab| FREE.with_borrow_mut(|free| free.push(slab)))
}
