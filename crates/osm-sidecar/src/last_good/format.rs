//! The file's bytes: a header with format, length and checksum, then a protobuf message. Pure.
//!
//! The checksum tells a torn or damaged file from a whole one. It is no protection against who may write the file: that
//! is the directory's mode.

mod message;

use prost::Message;
use xxhash_rust::xxh3::xxh3_128;
use zeroize::{Zeroize, Zeroizing};

use super::LastGoodState;
use message::Saved;

/// A larger state is not kept: it lies in memory, which the sidecar's limit counts. A mesh of 5,000 services takes about
/// 6 MiB.
pub const SIZE_LIMIT_BYTES: usize = 32 << 20;

const MAGIC: &[u8; 14] = b"OSM-LAST-GOOD\n";

/// Goes up when an older program would misread the message.
const FORMAT: u16 = 1;

/// Magic, format, length of the message, its checksum; numbers in network order.
const HEADER_BYTES: usize = MAGIC.len() + 2 + 8 + 16;

/// Why bytes are no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Somebody else's file.
    #[error("it is not a last good state")]
    Foreign,
    /// Another release's file.
    #[error("it has format {0}, and this release reads format {FORMAT}")]
    Format(u16),
    /// Torn.
    #[error("it should have {expected} bytes and has {found}")]
    Length {
        /// How many there should be.
        expected: u64,
        /// How many there are.
        found: u64,
    },
    /// Damaged.
    #[error("its checksum is wrong")]
    Checksum,
    /// Whole, and still not what we write.
    #[error("{0}")]
    Message(String),
}

/// The state is too large to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it would take {0} bytes, and the limit is {SIZE_LIMIT_BYTES}")]
pub struct TooLarge(pub usize);

/// The file's bytes. They hold the key.
///
/// # Errors
/// When there would be more than [`SIZE_LIMIT_BYTES`].
pub fn encode(state: &LastGoodState) -> Result<Zeroizing<Vec<u8>>, TooLarge> {
    let mut message = Saved::from(state);
    let total = HEADER_BYTES + message.encoded_len();
    if total > SIZE_LIMIT_BYTES {
        return Err(TooLarge(total));
    }
    // As large as needed from the start: growing would leave copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(total));
    bytes.resize(HEADER_BYTES, 0);
    message.encode(&mut *bytes).expect("a vector takes all bytes");
    message.key_pem.zeroize();
    let body = &bytes[HEADER_BYTES..];
    let (length, checksum) = (body.len() as u64, xxh3_128(body));
    let header = [MAGIC.as_slice(), &FORMAT.to_be_bytes(), &length.to_be_bytes(), &checksum.to_be_bytes()].concat();
    bytes[..HEADER_BYTES].copy_from_slice(&header);
    Ok(bytes)
}

/// The state in the file's bytes.
///
/// # Errors
/// When they are anything but what [`encode`] made.
pub fn decode(bytes: &[u8]) -> Result<LastGoodState, Unreadable> {
    let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or(Unreadable::Foreign)?;
    let torn = || Unreadable::Length { expected: HEADER_BYTES as u64, found: bytes.len() as u64 };
    let (format, rest) = rest.split_first_chunk().ok_or_else(torn)?;
    match u16::from_be_bytes(*format) {
        FORMAT => {}
        other => return Err(Unreadable::Format(other)),
    }
    let (length, rest) = rest.split_first_chunk().ok_or_else(torn)?;
    let (checksum, body) = rest.split_first_chunk().ok_or_else(torn)?;
    let (expected, found) = (u64::from_be_bytes(*length), body.len() as u64);
    if expected != found {
        return Err(Unreadable::Length { expected, found });
    }
    if u128::from_be_bytes(*checksum) != xxh3_128(body) {
        return Err(Unreadable::Checksum);
    }
    let saved = Saved::decode(body).map_err(|error| Unreadable::Message(error.to_string()))?;
    LastGoodState::try_from(saved)
}
