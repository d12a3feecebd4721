//! Taking a free mutex without a script, which costs the server a third of the time.
//!
//! Three commands in one write: `SET NX` of the mutex key; `SET NX` of how long its lease is; and a look
//! whether anybody waits or was withdrawn. Between the first and the last others may get in. That is
//! seen: unless all three say that the caller was alone, the acquire script decides, and who has
//! set the mutex key gives it back there to those who wait.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU8, Ordering};

use redis::{Cmd, Pipeline, Value};

use crate::key::RedisKey;

/// The commands that take it, over the mutex key, those who wait, and how long the owner's lease is. An
/// owner begins with its token.
pub(crate) fn commands(keys: &[String; 3], owner: &str, lease_ms: &str) -> Pipeline {
    let [mutex, waiters, written] = keys;
    let token = owner.split(' ').next().unwrap_or_default();
    let set = |key: &str, value: &str| {
        let mut set = Cmd::with_capacity(6, 32 + key.len() + value.len());
        set.arg("SET").arg(key).arg(value).arg("NX").arg("PX").arg(lease_ms);
        set
    };
    let mut commands = Pipeline::with_capacity(3);
    commands.add_command(set(mutex, owner));
    commands.add_command(set(written, &format!("{lease_ms} {token}")));
    commands.cmd("EXISTS").arg(waiters);
    commands
}

/// What their replies say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The caller has it, as if by the script.
    Taken,
    /// The mutex key is the caller's, but somebody else comes first, or nobody can say.
    InDoubt,
    Held,
}

impl Outcome {
    pub(crate) fn of(replies: &Value) -> Self {
        match replies {
            Value::Array(replies) => match replies.as_slice() {
                [Value::Nil, ..] => Self::Held,
                [Value::Okay, Value::Okay, Value::Int(0)] => Self::Taken,
                _ => Self::InDoubt,
            },
            _ => Self::InDoubt,
        }
    }
}

/// Which names others held or waited for when they were last asked for or given back. There, what works
/// only where nobody else is would most likely be one request more.
///
/// A guess, like a processor's of its branches: names share an entry by their hash, and one time without
/// others, as when the last of many gives it back, does not change it.
#[derive(Debug)]
pub(crate) struct Contended([AtomicU8; 256]);

/// How many times without others change the guess.
const TIMES: u8 = 2;

impl Default for Contended {
    fn default() -> Self {
        Self([const { AtomicU8::new(0) }; 256])
    }
}

impl Contended {
    /// Whether others will be there.
    pub(crate) fn is(&self, key: &RedisKey) -> bool {
        self.entry(key).load(Ordering::Relaxed) > 0
    }

    /// Others were there.
    pub(crate) fn saw_others(&self, key: &RedisKey) {
        Self::set(self.entry(key), TIMES);
    }

    /// Nobody else was.
    pub(crate) fn saw_nobody(&self, key: &RedisKey) {
        let entry = self.entry(key);
        Self::set(entry, entry.load(Ordering::Relaxed).saturating_sub(1));
    }

    fn set(entry: &AtomicU8, times: u8) {
        if entry.load(Ordering::Relaxed) != times {
            entry.store(times, Ordering::Relaxed);
        }
    }

    fn entry(&self, key: &RedisKey) -> &AtomicU8 {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        &self.0[usize::from(hash.to_le_bytes()[0])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_was_alone_has_taken_it() {
        let of = |replies: [Value; 3]| Outcome::of(&Value::Array(replies.into()));
        assert_eq!(of([Value::Okay, Value::Okay, Value::Int(0)]), Outcome::Taken);
        for rest in [[Value::Okay, Value::Int(1)], [Value::Nil, Value::Int(0)]] {
            let [written, waiters] = rest;
            assert_eq!(of([Value::Okay, written, waiters]), Outcome::InDoubt);
        }
        assert_eq!(of([Value::Nil, Value::Okay, Value::Int(0)]), Outcome::Held);
        assert_eq!(Outcome::of(&Value::Array(vec![])), Outcome::InDoubt);
    }

    #[test]
    fn one_time_without_others_does_not_change_the_guess() {
        let name = distributed_lock_core::LockName::parse("name").unwrap();
        let key = RedisKey::new("", name, distributed_lock_core::Mode::Exclusive).unwrap();
        let contended = Contended::default();
        contended.saw_nobody(&key);
        assert!(!contended.is(&key));
        contended.saw_others(&key);
        contended.saw_nobody(&key);
        assert!(contended.is(&key));
        contended.saw_others(&key);
        contended.saw_nobody(&key);
        contended.saw_nobody(&key);
        assert!(!contended.is(&key));
    }
}
