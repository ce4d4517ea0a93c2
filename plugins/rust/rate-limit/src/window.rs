//! Counting requests in windows of time, in data that all workers of a host share.
//!
//! The law: no request is counted twice or forgotten, whoever counts at the same time: a count is only written over the count
//! that was read. What is kept is bounded: a key has a place among SLOTS, and one that is no longer counted gives it up.

use proxy_wasm::hostcalls::{get_shared_data, set_shared_data};
use proxy_wasm::types::Status;

const SLOTS: u64 = 65_536;
/// So many places are tried for a key before it shares the count of another one.
const PLACES: u64 = 4;
/// Of two workers that write at once one succeeds, so this is enough for as many workers.
const TRIES: usize = 64;
/// No count has this number: a write with it succeeds only where nothing is.
const IF_ABSENT: u32 = u32::MAX;

pub struct Verdict {
    pub remaining: u32,
    pub allowed: bool,
}

struct Count {
    key: u64,
    window: u64,
    used: u32,
}

impl Count {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk()?;
        let (window, used) = rest.split_first_chunk()?;
        Some(Self {
            key: u64::from_le_bytes(*key),
            window: u64::from_le_bytes(*window),
            used: u32::from_le_bytes(used.try_into().ok()?),
        })
    }

    fn encode(&self) -> Vec<u8> {
        [&self.key.to_le_bytes()[..], &self.window.to_le_bytes(), &self.used.to_le_bytes()].concat()
    }
}

/// Counts one request of `key` in the window of this number. None: others were faster, each time.
pub fn count(scope: &str, key: u64, window: u64, limit: u32) -> Option<Verdict> {
    for _ in 0..TRIES {
        let (place, held, cas) = find(scope, key, window);
        let used = held.map_or(0, |count| count.used);
        if used >= limit {
            return Some(Verdict { remaining: 0, allowed: false });
        }
        let count = Count { key, window, used: used + 1 };
        match set_shared_data(&place, Some(&count.encode()), Some(cas)) {
            Ok(()) => return Some(Verdict { remaining: limit - count.used, allowed: true }),
            Err(Status::CasMismatch) => (),
            Err(_) => return None,
        }
    }
    None
}

/// The key's place with its count in this window; else one that is free; else that of another key.
fn find(scope: &str, key: u64, window: u64) -> (String, Option<Count>, u32) {
    let mut free = None;
    let mut taken = None;
    for step in 0..PLACES {
        let place = format!("{scope}/{}", (key + step) % SLOTS);
        let (bytes, cas) = get_shared_data(&place).unwrap_or_default();
        let cas = cas.unwrap_or(IF_ABSENT);
        match bytes.as_deref().and_then(Count::decode).filter(|count| count.window == window) {
            Some(count) if count.key == key => return (place, Some(count), cas),
            Some(count) => taken = Some((place, Some(count), cas)),
            None => free = free.or(Some((place, None, cas))),
        }
    }
    free.or(taken).expect("PLACES is not 0")
}
