//! Wrong variants of the scripts and of the engine around them.

use distributed_lock_testkit::walk::{Mutant, Wrong};

/// Of one server; each is one mistake.
pub(crate) static OF_ONE_SERVER: [Mutant; 17] = [
    // What was wrong once.
    Mutant::new("a late copy of the granted try passes the lock on").scripts(&[(
        "return not of or (of == token and word == 'granted')",
        "return false",
    )]),
    Mutant::new("a wait that is repeated takes a later position").scripts(&[(
        "redis.call('ZADD', queue, position, token)",
        "redis.call('ZADD', queue, tail(), token)",
    )]),
    // Holds.
    Mutant::new("a short release ignores the owner").scripts(&[(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end",
        "",
    )]),
    Mutant::new("release and withdrawal ignore the owner").scripts(&[(
        "if redis.call('GET', mutex) ~= owner then return false end",
        "",
    )]),
    Mutant::new("a writer beside readers").scripts(&[(
        "if is_marker(held) then return mode == 's' end",
        "if is_marker(held) then return true end",
    )]),
    Mutant::new("a permit too many").scripts(&[(
        "'(' .. int(now), '+inf') < max",
        "'(' .. int(now), '+inf') <= max",
    )]),
    Mutant::new("the first reader to go takes the marker with it").scripts(&[(
        "if redis.call('EXISTS', holders, waiters) == 0 then",
        "if redis.call('EXISTS', waiters) == 0 then",
    )]),
    Mutant::new("a lease counts from its reply").engine(Wrong::LeaseFromReply),
    // Waiting.
    Mutant::new("the last waiter is served first").scripts(&[(
        "local id = redis.call('ZRANGE', queue, 0, 0)[1]",
        "local id = redis.call('ZRANGE', queue, -1, -1)[1]",
    )]),
    Mutant::new("a reader does not wait behind a writer that waits").scripts(&[(
        "not waits and not others_wait and is_free",
        "not waits and is_free",
    )]),
    Mutant::new("ticks are not looked at").scripts(&[("now - tick > 3 * period", "false")]),
    Mutant::new("nobody asks whether a waiter listens").scripts(&[(
        "if not listening.err and listening[2] == 0 then return nil end",
        "",
    )]),
    // What is left.
    Mutant::new("an attempt that is given up is not withdrawn").engine(Wrong::NeverWithdraws),
    Mutant::new("a withdrawal leaves no tombstone").scripts(&[(
        "if ARGV[3] ~= '0' then leave_tombstone(ARGV[3]) end",
        "",
    )]),
    Mutant::new("tombstones are not looked at").scripts(&[(
        "return till ~= nil and till ~= false and tonumber(till) > now",
        "return false",
    )]),
    Mutant::new("an expiry is forgotten").scripts(&[(
        "redis.call('ZADD', holders, string.format('%.0f', ends), owner)\nredis.call('PEXPIRE', holders, lease)",
        "redis.call('ZADD', holders, string.format('%.0f', ends), owner)",
    )]),
    // Tokens.
    Mutant::new("the counter of tokens is the server's clock").scripts(&[(
        "record(math.max(tonumber(last) + 1, micros))",
        "record(micros)",
    )]),
];

/// Of several servers. What a round leaves behind has directed tests (row 49), and so have tokens: a walk
/// seldom closes two links with the same round on them, or lets two owners draw at one moment.
pub(crate) static OF_A_MAJORITY: [Mutant; 3] = [
    Mutant::new("a second vote beside the first")
        .scripts(&[("if free and not (mode == 's' and writer_waits()) then", "if true then")]),
    Mutant::new("a vote for a writer beside readers").scripts(&[(
        "if is_marker(held) then return mode == 's' end",
        "if is_marker(held) then return true end",
    )]),
    Mutant::new("a vote is taken from any owner")
        .scripts(&[("if redis.call('GET', mutex) ~= owner then return false end", "")]),
];
