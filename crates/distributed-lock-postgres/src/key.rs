//! What a lock name is called by the server: an advisory lock key, compatible with the .NET library
//! *DistributedLock*.
//!
//! PostgreSQL has two spaces of advisory lock keys that do not meet: one signed 64-bit integer, and a
//! pair of signed 32-bit integers. A name becomes, by the first rule that fits:
//!
//! 1. **A pair that holds the name itself**, if it is at most nine characters of ASCII. Seven bits for
//!    each character, then a zero bit, then seven one bits for each character short of nine; the
//!    higher 32 bits are the first integer.
//! 2. **The key that it spells out**: 16 hexadecimal digits are one 64-bit key, `8 digits,8 digits` a
//!    pair. Nothing else does, neither a sign nor a space; the case of the digits does not matter.
//! 3. **A hash**: the first eight bytes of the SHA-1 of the name in UTF-8, little-endian, as one
//!    64-bit key.
//!
//! The mutex and the write lock of a name are the exclusive lock of its key, a read lock is the shared
//! one. Slot `i` of its semaphore is the 64-bit key made by rule 3 from `distributed-lock/sem`, NUL,
//! the name, NUL and `i` in decimal; waiters for its permits queue at the one with `q` for `i`.
//!
//! Names that differ are different keys, but for a name that spells out another's key, and for the
//! hash: among a million names that are hashed, two share a key with odds of one in 37 million.

use std::fmt;

use distributed_lock_core::LockName;
use distributed_lock_core::error::{LockError, LockResult};
use sha1::{Digest, Sha1};

/// The longest name that a pair can hold, in characters.
const MOST_CHARACTERS: usize = 9;
/// A character of ASCII.
const BITS: usize = 7;
const ONES: u64 = (1 << BITS) - 1;
const HEX_DIGITS_OF_64_BITS: usize = 16;
const HEX_DIGITS_OF_32_BITS: usize = 8;
const SEMAPHORE: &str = "distributed-lock/sem";

/// The key of an advisory lock.
///
/// A program that takes the same key by itself, by `pg_advisory_lock(bigint)` for
/// [`Single`](Self::Single) or `pg_advisory_lock(int, int)` for [`Pair`](Self::Pair), excludes and is
/// excluded. In `pg_locks`, where `locktype` is `advisory`, a single key has its higher half in
/// `classid`, its lower half in `objid`, and 1 in `objsubid`; a pair has its first integer in
/// `classid`, its second in `objid`, and 2 in `objsubid`. The halves appear as unsigned integers.
///
/// `Display` writes the key so that [`from_name`](Self::from_name) reads it: `0000000000000001`,
/// `00000003,ffffffff`.
///
/// ```
/// use distributed_lock_postgres::key::PostgresAdvisoryLockKey as Key;
///
/// assert_eq!(Key::from_name("lock", false)?, Key::Pair(-641786185, -1));
/// assert_eq!(Key::from_name("0000000000000001", false)?, Key::Single(1));
/// assert_eq!(Key::from_name("a name of some length", true)?, Key::Single(7002258623679545155));
/// # Ok::<(), distributed_lock_core::error::LockError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PostgresAdvisoryLockKey {
    /// One 64-bit integer.
    Single(i64),
    /// Two 32-bit integers.
    Pair(i32, i32),
}

impl PostgresAdvisoryLockKey {
    /// The key of a name. Providers always allow hashing.
    ///
    /// # Errors
    /// [`LockError::InvalidName`] for a name of more than 1 KiB, and for one that only a hash could
    /// make a key of, unless `allow_hashing`.
    pub fn from_name(name: &str, allow_hashing: bool) -> LockResult<Self> {
        let name = LockName::parse(name)?.as_str();
        match held_by_a_pair(name).or_else(|| spelled_out(name)) {
            Some(key) => Ok(key),
            None if allow_hashing => Ok(Self::Single(hash(&[name]))),
            None => Err(LockError::InvalidName(format!(
                "neither at most {MOST_CHARACTERS} characters of ASCII, nor \
                 {HEX_DIGITS_OF_64_BITS} hexadecimal digits, nor twice {HEX_DIGITS_OF_32_BITS} \
                 with a comma between; anything else needs hashing"
            ))),
        }
    }

    /// `classid`, `objid` and `objsubid` of its rows in `pg_locks`.
    pub(crate) fn in_pg_locks(&self) -> (i64, i64, i16) {
        let ([high, low], form) = match *self {
            Self::Single(key) => (split(key.cast_unsigned()), 1),
            Self::Pair(first, second) => ([first, second].map(i32::cast_unsigned), 2),
        };
        (i64::from(high), i64::from(low), form)
    }
}

impl From<i64> for PostgresAdvisoryLockKey {
    fn from(key: i64) -> Self {
        Self::Single(key)
    }
}

impl From<(i32, i32)> for PostgresAdvisoryLockKey {
    fn from((first, second): (i32, i32)) -> Self {
        Self::Pair(first, second)
    }
}

impl fmt::Display for PostgresAdvisoryLockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(key) => write!(f, "{key:016x}"),
            Self::Pair(first, second) => write!(f, "{first:08x},{second:08x}"),
        }
    }
}

/// The key of a permit of a semaphore; permits are numbered from 0.
pub(crate) fn slot(name: &str, i: u32) -> i64 {
    hash(&[SEMAPHORE, "\0", name, "\0", &i.to_string()])
}

/// The key at which those wait who found every permit taken.
pub(crate) fn queue(name: &str) -> i64 {
    hash(&[SEMAPHORE, "\0", name, "\0q"])
}

fn held_by_a_pair(name: &str) -> Option<PostgresAdvisoryLockKey> {
    if !name.is_ascii() || name.len() > MOST_CHARACTERS {
        return None;
    }
    let text = name.bytes().fold(0, |bits: u64, byte| bits << BITS | u64::from(byte)) << 1;
    // The zero bit ends the name, so that no name is the beginning of another.
    let bits = (name.len()..MOST_CHARACTERS).fold(text, |bits, _| bits << BITS | ONES);
    Some(pair(split(bits)))
}

fn spelled_out(name: &str) -> Option<PostgresAdvisoryLockKey> {
    if let Some((first, second)) = name.split_once(',') {
        let halves = [
            hexadecimal(first, HEX_DIGITS_OF_32_BITS)?,
            hexadecimal(second, HEX_DIGITS_OF_32_BITS)?,
        ];
        let [first, second] = halves.map(|half| u32::try_from(half).ok());
        return Some(pair([first?, second?]));
    }
    let key = hexadecimal(name, HEX_DIGITS_OF_64_BITS)?;
    Some(PostgresAdvisoryLockKey::Single(key.cast_signed()))
}

/// Exactly so many digits. The parser alone would take a sign, too.
fn hexadecimal(text: &str, digits: usize) -> Option<u64> {
    let is_hexadecimal = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hexadecimal.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

fn hash(parts: &[&str]) -> i64 {
    let digest = parts.iter().fold(Sha1::new(), |sha, part| sha.chain_update(part)).finalize();
    let mut first = [0; size_of::<i64>()];
    first.copy_from_slice(&digest[..size_of::<i64>()]);
    i64::from_le_bytes(first)
}

/// The higher and the lower half.
fn split(bits: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = bits.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

fn pair([first, second]: [u32; 2]) -> PostgresAdvisoryLockKey {
    PostgresAdvisoryLockKey::Pair(first.cast_signed(), second.cast_signed())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::PostgresAdvisoryLockKey::{self as Key, Pair, Single};
    use super::*;

    fn key(name: &str) -> Key {
        Key::from_name(name, true).unwrap()
    }

    /// Reproduced independently, and the same in the .NET library.
    #[test]
    fn the_vectors_hold() {
        let vectors = [
            ("", Pair(2_147_483_647, -1)),
            ("a", Pair(-1_023_410_177, -1)),
            ("abc", Pair(-1_014_293_505, -1)),
            ("lock", Pair(-641_786_185, -1)),
            ("parallel1", Pair(-511_207_907, -1_691_161_502)),
            ("\0\0\0\0\0\0\0\0\0", Pair(0, 0)),
            ("0000000000000001", Single(1)),
            ("00000003,ffffffff", Pair(3, -1)),
        ];
        for (name, expected) in vectors {
            assert_eq!(Key::from_name(name, false).unwrap(), expected, "{name:?}");
            assert_eq!(key(name), expected, "{name:?}");
        }
        assert_eq!(key("MyLockName"), Single(4_062_898_426_641_073_528));
        assert_eq!(key(&"漢".repeat(18)), Single(-5_707_277_204_051_710_361));
    }

    /// Reproduced by Python's `hashlib`.
    #[test]
    fn the_vectors_of_semaphores_hold() {
        assert_eq!(slot("", 0), 9_100_823_893_137_159_186);
        assert_eq!(slot("report", 0), -721_873_454_901_074_540);
        assert_eq!(slot("report", 10), 82_650_655_470_633_732);
        assert_eq!(slot("report", 65_535), 4_486_362_261_343_709_184);
        assert_eq!(slot("naïve", 7), -1_655_481_909_011_762_948);
        assert_eq!(queue(""), 8_130_626_357_345_154_802);
        assert_eq!(queue("report"), -94_983_248_007_272_186);
        assert_eq!(queue("naïve"), 2_237_155_539_924_346_335);
    }

    #[test]
    fn what_needs_hashing_is_refused_without() {
        let long = "x".repeat(1025);
        for name in ["AAAAAAAAAA", "漢字", &"漢".repeat(18), &long] {
            let refused = Key::from_name(name, false);
            assert!(matches!(refused, Err(LockError::InvalidName(_))), "{name:?}: {refused:?}");
        }
        assert!(matches!(Key::from_name(&long, true), Err(LockError::InvalidName(_))));
    }

    #[test]
    fn only_digits_spell_out_a_key() {
        let names = [
            "+000000000000001",
            "-000000000000001",
            " 000000000000001",
            "0x00000000000001",
            "000000000000001g",
            "00000000000000001",
            "+0000003,ffffffff",
            "00000003,-fffffff",
            "00000003, fffffff",
            "00000003;ffffffff",
            "0000003,0ffffffff",
            "００００００００,ffffffff",
        ];
        for name in names {
            assert!(
                matches!(Key::from_name(name, false), Err(LockError::InvalidName(_))),
                "{name}"
            );
            assert_eq!(key(name), Single(hash(&[name])), "{name}");
        }
        assert_eq!(key("FFFFFFFFFFFFFFFE"), Single(-2));
        assert_eq!(key("fffffffffffffffe"), Single(-2));
        assert_eq!(key("80000000,7FFFFFFF"), Pair(i32::MIN, i32::MAX));
    }

    #[test]
    fn the_server_shows_halves_without_sign() {
        assert_eq!(Single(1).in_pg_locks(), (0, 1, 1));
        assert_eq!(Single(-1).in_pg_locks(), (0xffff_ffff, 0xffff_ffff, 1));
        assert_eq!(Single(0x0123_4567_89ab_cdef).in_pg_locks(), (0x0123_4567, 0x89ab_cdef, 1));
        assert_eq!(Pair(3, -1).in_pg_locks(), (3, 0xffff_ffff, 2));
    }

    fn keys() -> impl Strategy<Value = Key> {
        prop_oneof![any::<i64>().prop_map(Single), any::<(i32, i32)>().prop_map(Key::from)]
    }

    /// Text around the borders between the rules.
    fn names() -> impl Strategy<Value = String> {
        prop_oneof![".{0,300}", "[\0-\x7f]{0,10}", "[0-9a-fA-F,+ ]{15,18}"]
    }

    proptest! {
        #[test]
        fn every_name_has_a_key(name in names()) {
            prop_assert_eq!(Key::from_name(&name, true).is_ok(), name.len() <= LockName::MAX_BYTES);
        }

        #[test]
        fn hashing_is_the_last_resort(name in names()) {
            if let Ok(without) = Key::from_name(&name, false) {
                prop_assert_eq!(key(&name), without);
            }
        }

        #[test]
        fn short_names_can_be_read_back(name in "[\0-\x7f]{0,9}") {
            let Pair(first, second) = key(&name) else { panic!("not a pair") };
            let bits = u64::from(first.cast_unsigned()) << 32 | u64::from(second.cast_unsigned());
            let missing = bits.trailing_ones() as usize / BITS;
            let text = bits >> (missing * BITS) >> 1;
            let characters = (0..MOST_CHARACTERS - missing).rev();
            let read: Vec<_> = characters.map(|at| (text >> (at * BITS) & ONES) as u8).collect();
            prop_assert_eq!(read, name.as_bytes());
        }

        #[test]
        fn different_names_are_different_keys(names in prop::collection::hash_set("\\PC{0,40}", 2..20)) {
            let keys: HashSet<_> = names.iter().map(|name| key(name)).collect();
            prop_assert_eq!(keys.len(), names.len());
        }

        #[test]
        fn what_is_displayed_is_read_back(expected in keys()) {
            prop_assert_eq!(Key::from_name(&expected.to_string(), false).unwrap(), expected);
            prop_assert_eq!(key(&expected.to_string().to_uppercase()), expected);
        }
    }
}
