//! The generator of damaged states: every key of one resource, and each part of each value in it.

use distributed_lock_core::Mode;

/// A command over the keys of one name; `{kind}` stands for one of them.
pub(super) type Deed = Vec<String>;

/// A state: what was done to which keys.
pub(super) struct State {
    pub(super) kind: &'static str,
    pub(super) deeds: Vec<Deed>,
}

pub(super) fn deed(words: &[&str]) -> Deed {
    words.iter().map(|word| (*word).to_owned()).collect()
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const FAR: &str = "9999999999999";

/// Values of other types, in the place of each key.
fn other_types(kinds: &[&'static str]) -> Vec<State> {
    let make = |kind: &'static str| {
        let key = format!("{{{kind}}}");
        let types = [
            deed(&["RPUSH", &key, "x"]),
            deed(&["SET", &key, "x"]),
            deed(&["HSET", &key, "x", "y"]),
            deed(&["ZADD", &key, "1", "x"]),
            deed(&["SADD", &key, "x"]),
            deed(&["XADD", &key, "*", "x", "y"]),
        ];
        // A plain string in the mutex key is another program's lock.
        let is_a_lock = move |deed: &Deed| matches!(kind, "mutex" | "permit-0") && deed[0] == "SET";
        let types = types.into_iter().filter(move |deed| !is_a_lock(deed));
        types.map(move |deed| State { kind, deeds: vec![deed] })
    };
    kinds.iter().flat_map(|kind| make(kind)).collect()
}

/// Members of `readers` or `permits` that are none, or last too long. Readers have a mutex key beside them.
fn members(kind: &'static str, mutex: Option<&str>) -> Vec<State> {
    let key = format!("{{{kind}}}");
    let members = [
        "",
        "x",
        TOKEN,
        "0123 x",
        &format!("{TOKEN} 0"),
        &format!("{TOKEN} -5"),
        &format!("{TOKEN} 1000"),
        &format!("{TOKEN} {FAR}{FAR}"),
        &format!("{TOKEN} inf"),
    ]
    .map(str::to_owned);
    let mut states = Vec::new();
    for member in &members {
        for score in ["inf", FAR, "1e300", "-inf", "0"] {
            let mut deeds = vec![deed(&["ZADD", &key, score, member])];
            if let Some(mutex) = mutex {
                // As if readers held, without end.
                deeds.push(deed(&["SET", &format!("{{{mutex}}}"), &format!("r:{TOKEN}")]));
            }
            states.push(State { kind, deeds });
        }
    }
    states
}

/// Entries of waiters: each part of each value.
fn entries(queue: &'static str, waiters: &'static str, mode: &str) -> Vec<State> {
    let (queue_key, key) = (format!("{{{queue}}}"), format!("{{{waiters}}}"));
    let owner = if mode == "x" { TOKEN.to_owned() } else { format!("{TOKEN} 1000") };
    let sound = ["{now}", "1000", "1000", mode, "1", "{channel}", &owner].map(str::to_owned);
    let mut values =
        vec!["".into(), "x".into(), "{now} x".into(), FAR.into(), "-1".into(), "1e400".into()];
    for part in 0..sound.len() {
        for wrong in ["", "x", "0", "-1", "inf", "nan", "1e300", FAR, "99999999999999999999999999"]
        {
            let mut value = sound.clone();
            value[part] = wrong.to_owned();
            values.push(value.join(" "));
        }
        values.push(sound[..part].join(" "));
    }
    let mut states = Vec::new();
    for value in values {
        for position in ["1", "inf", "-inf", "1e300"] {
            states.push(State {
                kind: waiters,
                deeds: vec![
                    deed(&["ZADD", &queue_key, position, TOKEN]),
                    deed(&["HSET", &key, TOKEN, &value]),
                ],
            });
        }
    }
    states.push(State { kind: queue, deeds: vec![deed(&["ZADD", &queue_key, "inf", "x"])] });
    states
}

fn strings(kind: &'static str, values: &[&str]) -> Vec<State> {
    let key = format!("{{{kind}}}");
    let set = |value: &&str| State { kind, deeds: vec![deed(&["SET", &key, value])] };
    values.iter().map(set).collect()
}

const COUNTERS: [&str; 12] = [
    "",
    "x",
    "-5",
    "inf",
    "nan",
    "1e300",
    "9007199254740991 x",
    "9007199254740992 0a",
    "9007199254740993",
    "18446744073709551613 0a",
    "18446744073709551615",
    "99999999999999999999999999",
];

const RECORDS: [&str; 7] = [
    "",
    "x",
    "-1 0a",
    "inf 0a",
    "99999999999999999999999999 0a",
    "1000",
    "0 0123456789abcdef0123456789abcdef",
];

/// A mode in a name, which must have no brace: else its other keys have another hash tag.
pub(super) fn label(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "mutex",
        Mode::Shared => "readers",
        Mode::Permit { .. } => "permit",
    }
}

/// The kinds of keys that one resource has, as they are named at the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    mode: Mode,
    members: Option<&'static str>,
    queue: &'static str,
    waiters: &'static str,
    mutex: Option<(&'static str, &'static str)>,
    counter: &'static str,
}

impl Keys {
    /// On one server.
    pub(super) fn on_one(mode: Mode) -> Self {
        match mode {
            Mode::Permit { .. } => Self {
                mode,
                members: Some("permits"),
                queue: "permit-queue",
                waiters: "permit-waiters",
                mutex: None,
                counter: "permit-counter",
            },
            _ => Self {
                mode,
                members: Some("readers"),
                queue: "queue",
                waiters: "waiters",
                mutex: Some(("mutex", "written")),
                counter: "counter",
            },
        }
    }

    /// On each of several servers, where a permit is a mutex.
    pub(super) fn on_each(mode: Mode) -> Self {
        match mode {
            Mode::Permit { .. } => Self {
                mode,
                members: None,
                queue: "quorum-permit-queue",
                waiters: "quorum-permit-waiters",
                mutex: Some(("permit-0", "permit-0-written")),
                counter: "permit-counter",
            },
            _ => Self { queue: "quorum-queue", waiters: "quorum-waiters", ..Self::on_one(mode) },
        }
    }

    /// The key that is there while the lock is held.
    pub(super) fn mutex(&self) -> &'static str {
        self.mutex.map_or("permits", |(mutex, _)| mutex)
    }

    /// Whether a hold is in this key: replacing it ends the hold.
    pub(super) fn is_hold(&self, kind: &str) -> bool {
        self.members == Some(kind) || self.mutex.is_some_and(|(mutex, _)| mutex == kind)
    }

    /// Every state.
    pub(super) fn states(&self) -> Vec<State> {
        let Self { mode, members, queue, waiters, mutex, counter } = *self;
        let mut kinds = vec![queue, waiters, counter];
        kinds.extend(members);
        let mut states = strings(counter, &COUNTERS);
        if let Some(kind) = members {
            states.extend(self::members(kind, mutex.map(|(mutex, _)| mutex)));
        }
        if let Some((mutex, written)) = mutex {
            kinds.extend([mutex, written]);
            states.extend(strings(written, &RECORDS));
            states.extend(strings(mutex, &[&format!("r:{TOKEN}")]));
            states.push(without_expiry(mutex, written));
        }
        let code = match mode {
            Mode::Exclusive => "x",
            Mode::Shared => "s",
            Mode::Permit { .. } => "p",
        };
        states.extend(entries(queue, waiters, code));
        states.extend(other_types(&kinds));
        states
    }
}

/// The mutex key of a holder that is gone, after another program has removed its expiry.
fn without_expiry(mutex: &'static str, written: &str) -> State {
    let record = deed(&["SET", &format!("{{{written}}}"), &format!("1000 {TOKEN} granted")]);
    let deeds = vec![deed(&["SET", &format!("{{{mutex}}}"), TOKEN]), record];
    State { kind: mutex, deeds }
}

impl State {
    /// It leaves no more than a few fencing tokens.
    pub(super) fn is_near_the_last_token(&self) -> bool {
        let digits = |word: &String| {
            word.split(' ').next().is_some_and(|word| word.starts_with("1844674407370955161"))
        };
        self.deeds.iter().flatten().any(digits)
    }
}
