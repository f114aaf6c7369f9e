//! Memory that an exchange needs for its time, kept for each thread: what the last exchange of any
//! connection used is still in the cache, and connections that wait hold none.
//!
//! It is taken out for use, so that a switch in the middle leaves nothing borrowed: another task
//! then makes its own.

use std::cell::Cell;

use http::HeaderMap;

/// Larger ones are given back to the allocator.
const MOST_FIELDS: usize = 256;
const MOST_BYTES: usize = 64 * 1024;

thread_local! {
    static FIELDS: Cell<Option<HeaderMap>> = const { Cell::new(None) };
    static OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty map.
pub(crate) fn take_fields() -> HeaderMap {
    FIELDS.take().unwrap_or_default()
}

pub(crate) fn give_fields(mut map: HeaderMap) {
    if (1..=MOST_FIELDS).contains(&map.capacity()) {
        map.clear();
        FIELDS.set(Some(map));
    }
}

/// An empty buffer for what is sent.
pub(crate) fn take_out() -> Vec<u8> {
    OUT.take()
}

pub(crate) fn give_out(mut out: Vec<u8>) {
    if (1..=MOST_BYTES).contains(&out.capacity()) {
        out.clear();
        OUT.set(out);
    }
}
