//! What scripts depend on of `flock(1)`, tried with both programs: the table of `docs/flock.md`.
#![cfg(target_os = "linux")]

#[cfg(test)]
mod support;

use std::process::Command;

use support::{Place, output, program};

/// A behaviour: a script, and what each program makes of it.
struct Row {
    what: &'static str,
    script: &'static str,
    flock: &'static str,
    dlock: &'static str,
}

const fn same(what: &'static str, script: &'static str, both: &'static str) -> Row {
    Row { what, script, flock: both, dlock: both }
}

const fn differs(
    what: &'static str,
    script: &'static str,
    flock: &'static str,
    dlock: &'static str,
) -> Row {
    Row { what, script, flock, dlock }
}

/// `$LOCK COMMAND` runs under the lock, `lock 'OPTIONS' COMMAND` with options, `$HOLDS & pid=$!` holds it,
/// and `is_free` says whether it is. After a kill, the kernel may end the command before it has closed all
/// files of the program: `becomes_free`.
const PRELUDE: &str = r#"
    HOLDS="$LOCK sh -c 'echo>held;exec sleep 1000'"
    hold() { rm -f held; $LOCK sh -c 'echo > held; exec sleep 1000' & pid=$!; await held; }
    await() { until [ -e "$1" ]; do sleep 0.02; done; }
    is_free() { if lock -n true; then echo free; else echo held; fi; }
    becomes_free() { if lock '-w 5' true; then echo free; else echo held; fi; }
    sleeping() { if pgrep -f "^sleep 1000.$TAG" >/dev/null; then echo runs; else echo gone; fi; }
    ended() { until [ "$(sleeping)" = gone ]; do sleep 0.02; done; echo gone; }
    cleanup() { pkill -f "^sleep 1000.$TAG"; }
"#;

const ROWS: &[Row] = &[
    // Exit statuses.
    same("exit status 0", "lock '' true; echo $?", "0"),
    same("exit status of the command", "lock '' sh -c 'exit 7'; echo $?", "7"),
    same("exit status 255", "lock '' sh -c 'exit 255'; echo $?", "255"),
    same("command killed by a signal of its own", "lock '' sh -c 'kill -9 $$'; echo $?", "137"),
    differs("command not found", "lock '' no-such-program 2>&-; echo $?", "69", "127"),
    differs("command not executable", "echo > f1; lock '' ./f1 2>&-; echo $?", "69", "126"),
    same("no arguments", "$PROGRAM >/dev/null 2>&1; echo $?", "64"),
    differs("unknown option", "lock --no-such-option true 2>&-; echo $?", "1", "64"),
    differs("held, -n", "hold; lock -n true; echo $?; kill -9 $pid; CLEAN", "1", "75"),
    differs("held, -w", "hold; lock '-w 0.1' true; echo $?; CLEAN", "1", "75"),
    same("held, -n -E 3", "hold; lock '-n -E 3' true; echo $?; CLEAN", "3"),
    same("held, -w 0.1 -E 0", "hold; lock '-w 0.1 -E 0' true; echo $?; CLEAN", "0"),
    same(
        "--timeout, --conflict-exit-code, --nonblock",
        "hold; lock '--timeout 0.1 --conflict-exit-code 4' true; echo $?; lock '--nonblock -E 5' true; echo $?; CLEAN",
        "4 5",
    ),
    // Modes.
    same("exclusive by default", "lock '' sh -c \"$TRY -n -E 3 $NAME $DD true; echo \\$?\"", "3"),
    same("-s beside -s", "lock -s sh -c \"$TRY -n -s -E 3 $NAME $DD true; echo \\$?\"", "0"),
    same("-x beside -s", "lock -s sh -c \"$TRY -n -x -E 3 $NAME $DD true; echo \\$?\"", "3"),
    same("-e is -x", "lock -e sh -c \"$TRY -n -s -E 3 $NAME $DD true; echo \\$?\"", "3"),
    same("free when the command has ended", "lock '' true; is_free", "free"),
    same(
        "a waiter runs when the holder ends",
        "rm -f go; $LOCK sh -c 'echo > held; until [ -e go ]; do sleep 0.02; done; echo first' & await held; $LOCK echo second & echo > go; wait; rm held",
        "first second",
    ),
    // The command.
    same("-c runs a line of shell", "$TRY $NAME -c 'echo a | cat; exit 6'; echo $?", "a 6"),
    same(
        "words are passed as they are",
        "lock '' printf '%s|' 'a b' '' '*' '$x' -n --",
        r"a b\|\|*\|$x\|-n\|--\|",
    ),
    same("a script without #!", "echo 'echo ran $1' > s; chmod +x s; lock '' ./s it", "ran it"),
    same("an empty file", ": > e; chmod +x e; lock '' ./e; echo $?", "0"),
    same("working directory", "[ \"$(lock '' pwd)\" = \"$(pwd)\" ] && echo same", "same"),
    same("umask", "umask 027; lock '' sh -c umask", "0027"),
    same("environment", "A=b lock '' sh -c 'echo $A'", "b"),
    same("nice value", "nice -n 3 $LOCK nice", "3"),
    same(
        "process group of the caller",
        "[ $(lock '' ps -o pgid= -p $$) = $(lock '' sh -c 'ps -o pgid= -p $$') ] && echo same",
        "same",
    ),
    same(
        "session of the caller",
        "[ $(ps -o sid= -p $$) = $(lock '' sh -c 'ps -o sid= -p $$') ] && echo same",
        "same",
    ),
    same(
        "the command's parent (files)",
        "$LOCK sh -c 'ps -o pid= -p $PPID > parent; echo > held; exec sleep 1000' & await held; [ $(cat parent) = $! ] && echo the program itself; CLEAN",
        "the program itself",
    ),
    // Streams and descriptors.
    same("standard input", "echo in | lock '' cat", "in"),
    same("standard output and error", "lock '' sh -c 'echo o; echo e >&2' 2>err; cat err", "o e"),
    same(
        "input that the command does not read",
        "printf '1\\n2\\n' | { lock '' true; read x; echo $x; }",
        "1",
    ),
    same("a further descriptor", "lock '' sh -c 'echo three >&3' 3>&1", "three"),
    differs(
        "standard input that is closed",
        "lock '' sh -c 'basename $(readlink /proc/self/fd/0)' <&-",
        "lock-file",
        "null",
    ),
    same(
        "descriptors more than without",
        "a=$(ls /proc/self/fd | wc -l); b=$(lock '' sh -c 'ls /proc/self/fd | wc -l'); echo $((b-a))",
        "1",
    ),
    same(
        "descriptors more than without, -o",
        "a=$(ls /proc/self/fd | wc -l); b=$(lock -o sh -c 'ls /proc/self/fd | wc -l'); echo $((b-a))",
        "0",
    ),
    same(
        "nothing is printed",
        "lock '' true 2>&1; hold; lock '-n -E 0' true 2>&1; CLEAN; echo end",
        "end",
    ),
    differs(
        "what is left behind keeps the lock",
        "lock '' sh -c \"sleep 1000.$TAG >&- 2>&- & exit\"; is_free; cleanup",
        "held",
        "free",
    ),
    same(
        "what is left behind keeps the lock, -o",
        "lock -o sh -c \"sleep 1000.$TAG >&- 2>&- & exit\"; is_free; cleanup",
        "free",
    ),
    same(
        "what is left behind goes on",
        "lock '' sh -c \"sleep 1000.$TAG >&- 2>&- & exit\"; sleeping; cleanup",
        "runs",
    ),
    // Signals.
    same(
        "the program killed: the command goes on",
        "$LOCK sh -c \"echo > held; exec sleep 1000.$TAG\" & await held; kill -9 $!; wait; sleeping; cleanup",
        "runs",
    ),
    same(
        "the program killed: the lock stays",
        "$LOCK sh -c \"echo > held; exec sleep 1000.$TAG\" & await held; kill -9 $!; wait; is_free; cleanup",
        "held",
    ),
    same(
        "TERM to the program, its end",
        "$LOCK sh -c \"echo > held; exec sleep 1000.$TAG\" & await held; kill $!; wait $!; echo $?; cleanup",
        "143",
    ),
    differs(
        "TERM to the program, the command",
        "$LOCK sh -c \"echo > held; exec sleep 1000.$TAG\" & await held; kill $!; wait $!; sleeping; cleanup",
        "runs",
        "gone",
    ),
    same(
        "TERM while it waits",
        "hold; $LOCK true & sleep 0.3; kill $!; wait $!; echo $?; CLEAN",
        "143",
    ),
    same("timeout", "timeout 0.5 $LOCK sleep 1000.$TAG; echo $?; ended; is_free", "124 gone free"),
    same(
        "timeout -s KILL",
        "timeout -s KILL 0.5 $LOCK sleep 1000.$TAG; echo $?; ended; becomes_free",
        "137 gone free",
    ),
    same("stopped and continued", "hold; kill -STOP $pid; is_free; kill -CONT $pid; CLEAN", "held"),
    same(
        "ignored signals stay ignored",
        "trap '' HUP; lock '' sh -c 'kill -HUP $$; echo alive'",
        "alive",
    ),
    same("SIGCHLD ignored by the caller", "trap '' CHLD; lock '' sh -c 'exit 5'; echo $?", "5"),
    differs(
        "SIGPIPE ignored by the caller",
        "trap '' PIPE; lock '' sh -c 'kill -PIPE $$; echo alive'; true",
        "alive",
        "nothing",
    ),
    differs(
        "signals blocked by the caller",
        "env --block-signal=USR1 $LOCK grep SigBlk /proc/self/status",
        "SigBlk: 0000000000000200",
        "SigBlk: 0000000000000000",
    ),
];

fn run(row: &Row, place: &Place, name: &str, lock: &str, with: &str) -> String {
    let tag = format!("{}{}", std::process::id(), place.dir.path().display());
    let tag = tag.bytes().map(u64::from).fold(7, |sum: u64, byte| sum.wrapping_mul(31) ^ byte);
    let clean =
        "kill -9 $pid $! 2>/dev/null; pkill -9 -s 0 -f '^sleep 1000$'; wait 2>/dev/null; true";
    let script = format!("{PRELUDE}\nlock() {{ local o=$1; shift; {with}; }}\n{}", row.script);
    let script = script.replace("CLEAN", clean);
    // A session of its own, so that the clean-up finds all of it.
    let mut command = Command::new("setsid");
    command.args(["--wait", "bash", "--norc", "-c", &script]).current_dir(place.dir.path());
    command.env("DISTRIBUTED_LOCK_URL", place.url()).env("TAG", tag.to_string());
    command.env("LOCK", lock).env("PROGRAM", name).env_remove("SHELL");
    match name {
        "flock" => command.env("TRY", "flock").env("NAME", "lock-file").env("DD", ""),
        _ => command.env("TRY", format!("{name} run -q")).env("NAME", "x").env("DD", "--"),
    };
    let (_, out, _) = output(&mut command);
    match out.split_whitespace().collect::<Vec<_>>().join(" ") {
        nothing if nothing.is_empty() => "nothing".to_owned(),
        // As Markdown needs it.
        words => words.replace('|', "\\|"),
    }
}

#[test]
fn what_scripts_depend_on_is_as_with_flock_or_documented() {
    let dlock = program();
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/flock.md");
    let document = std::fs::read_to_string(document).unwrap();
    let only = std::env::var("ROW").unwrap_or_default();
    let mut wrong = Vec::new();
    for row in ROWS.iter().filter(|row| row.what.contains(&only)) {
        let place = Place::new();
        let flock = run(row, &place, "flock", "flock lock-file", "flock $o lock-file \"$@\"");
        let place = Place::new();
        let lock = format!("{dlock} run -q x --");
        let ours = run(row, &place, &dlock, &lock, "$PROGRAM run -q $o x -- \"$@\"");
        let ours = ours.replace(&dlock, "dlock");
        let line = match flock == ours {
            true => format!("| {} | {flock} | as `flock` |", row.what),
            false => format!("| {} | {flock} | **{ours}** |", row.what),
        };
        println!("{line}");
        if (flock.as_str(), ours.as_str()) != (row.flock, row.dlock) {
            wrong.push(format!("{}: flock {flock:?}, dlock {ours:?}", row.what));
        } else if !document.contains(&line) {
            wrong.push(format!("not in docs/flock.md: {line}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
