//! What a shard promises, one file per feature. Each test fails where its promise is broken.

mod bulk;
mod bulk_failures;
mod checkpoint;
mod commit;
mod deferred;
mod deletion;
mod fetch;
mod forwarding;
mod landing;
mod losses;
mod memory;
mod moves;
mod polling;
mod producers;
mod space;
mod stop;
mod strangers;
