//! Which lock service is used, and what is said about it.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(test)]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use distributed_lock_testkit::history::now;
use distributed_lock_testkit::servers::RedisServer;
use support::service::Service;
use support::{HOLD, Place, Running, dlock, output};

/// A `dlock run` without a URL, with a configuration of the user.
fn configured(place: &Place, toml: &str, args: &[&str]) -> Command {
    let directory = place.dir.path().join("config");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("dlock.toml"), toml).unwrap();
    let mut command = dlock();
    command.arg("run").args(args).env("XDG_CONFIG_HOME", &directory);
    command
}

#[test]
fn the_configuration_names_the_lock_service() {
    let place = Place::new();
    let toml = format!("url = '{}'\n", place.url());
    let mut named = configured(&place, &toml, &["--verbose", "x", "--", "echo", "ran"]);
    let (status, out, err) = output(&mut named);
    assert_eq!((status, out.as_str()), (0, "ran\n"), "{err}");
    assert!(err.contains("config/dlock.toml") && err.contains("/locks"), "{err}");
    assert!(place.dir.path().join("locks").is_dir());
    // What is nearer wins.
    let nearer = format!("file://{}/nearer", place.dir.path().display());
    let mut by_environment = configured(&place, &toml, &["x", "--", "true"]);
    assert_eq!(output(by_environment.env("DISTRIBUTED_LOCK_URL", nearer)).0, 0);
    assert!(place.dir.path().join("nearer").is_dir());
}

#[test]
fn a_configuration_forbids_the_default_directory() {
    let place = Place::new();
    let run = |toml: &str| output(&mut configured(&place, toml, &["x", "--", "echo", "ran"]));
    let (status, out, err) = run("require_url = true");
    assert_eq!((status, out.as_str()), (64, ""), "{err}");
    assert!(err.contains("require_url") && err.contains("--url"), "{err}");
    let (status, _, err) = run("urll = 'redis://:s3cr3t@a'");
    assert_eq!(status, 64, "{err}");
    assert!(err.contains("dlock.toml") && !err.contains("s3cr3t"), "{err}");
}

#[test]
fn a_misspelt_variable_and_a_private_directory_are_noticed() {
    let mut misspelt = dlock();
    misspelt.args(["run", "dlock test", "--", "true"]).env("DISTRIBUTED_LOCK_URI", "redis://x");
    let (status, _, err) = output(&mut misspelt);
    assert_eq!(status, 0);
    assert!(err.contains("DISTRIBUTED_LOCK_URI is set and means nothing"), "{err}");

    let mount = "mount -t tmpfs tmpfs /var/tmp && exec \"$0\" run x -- true";
    let mut private = Command::new("unshare");
    private.args(["--mount", "sh", "-c", mount]).arg(support::program());
    let (status, _, err) = output(private.env_remove("DISTRIBUTED_LOCK_URL"));
    assert_eq!(status, 0, "{err}");
    assert!(err.contains("private"), "{err}");
}

#[test]
fn a_lock_inside_itself_is_an_error_and_not_a_wait() {
    let place = Place::new();
    let program = support::program();
    let nested = |outer: &[&str], inner: &[&str]| {
        let inner = [&["--", program.as_str(), "run"], inner, &["x", "--", "echo", "ran"]].concat();
        let (status, out, err) = place.output(&[outer, &["x"], &inner].concat());
        (status, out == "ran\n", err)
    };
    for (outer, inner) in
        [("--write", "--write"), ("--write", "--read"), ("--read", "--write"), ("--write", "-w9")]
    {
        let (status, ran, err) = nested(&[outer], &[inner]);
        assert_eq!((status, ran), (64, false), "{outer} {inner}: {err}");
        assert!(err.contains("the dlock that this one runs under"), "{err}");
    }
    assert_eq!(nested(&["--write"], &["--no-wait"]).0, 75);
    assert_eq!(nested(&["--permits=1"], &["--permits=1"]).0, 64);
    for (outer, inner) in [("--read", "--read"), ("--permits=2", "--permits=2")] {
        let (status, ran, err) = nested(&[outer], &[inner]);
        assert_eq!((status, ran), (0, true), "{outer} {inner}: {err}");
    }
    // A lock that has ended is in nobody's way.
    let script = format!("{program} run y -- {program} run x -- echo ran");
    assert_eq!(place.output(&["z", "--", "sh", "-c", &script]).1, "ran\n");
}

#[test]
fn a_bounded_wait_covers_a_server_that_is_unreachable_at_the_start() {
    let server = RedisServer::start(&[]);
    let service = Service(server.url());
    server.kill();
    let started = now();
    let (status, _, err) = service.output(&["--wait", "1s", "x", "--", "echo", "ran"]);
    assert_eq!(status, 69, "{err}");
    assert!(now() - started >= Duration::from_secs(1), "{:?}", now() - started);
    assert!(err.contains("trying again") && err.contains("127.0.0.1:"), "{err}");
    let mut waiting =
        Running::start(&mut service.run(&["--wait", "60s", "x", "--", "echo", "ran"]));
    waiting.err.expect("trying again");
    server.restart();
    assert_eq!(waiting.status(), 0);
    assert_eq!(waiting.out.rest(), "ran\n");
}

#[test]
fn a_waiter_is_shown_that_the_server_does_not_answer_and_that_it_is_back() {
    let server = RedisServer::start(&[]);
    let service = Service(format!("{}?expiry=60s", server.url()));
    let mut first = service.hold("x");
    let second = Running::start(&mut service.run(&["x", "--", "echo", "second"]));
    second.err.expect("waiting for \"x\", held by ");
    server.pause();
    second.err.expect("has not answered for ");
    server.resume();
    second.err.expect("answers again");
    first.end_input();
    assert_eq!(first.status(), 0);
    second.out.expect("second");
}

#[test]
fn the_library_warns_once_unless_quiet() {
    let server = RedisServer::start(&["--save", "", "--appendonly", "no"]);
    let service = Service(server.url());
    let (status, _, err) = service.output(&["x", "--", "true"]);
    assert_eq!(status, 0);
    assert_eq!(err.matches("keeps nothing on disk").count(), 1, "{err}");
    assert_eq!(service.output(&["-q", "x", "--", "true"]), (0, String::new(), String::new()));
}

#[test]
fn a_lost_lock_is_reported_with_the_servers_reason() {
    let server = RedisServer::start(&[]);
    let service = Service(format!("{}?expiry=2s", server.url()));
    let mut first = service.hold("x");
    assert_eq!(server.cli(&["CONFIG", "SET", "requirepass", "changed"]), "OK");
    // It says how many, besides a warning of the password.
    let _ = server.cli(&["-a", "changed", "CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(first.status(), 76);
    let err = first.err.rest();
    let lost = err.lines().find(|line| line.contains("lost the lock")).unwrap_or_default();
    assert!(lost.contains("NOAUTH") || lost.contains("password"), "{err}");
}

#[test]
fn errors_speak_of_the_command_line_and_name_the_server() {
    let server = RedisServer::start(&["--requirepass", "s3cr3t"]);
    let service = Service(format!("redis://127.0.0.1:{}", server.port()));
    let (status, _, err) = service.output(&["x", "--", "true"]);
    assert_eq!(status, 69, "{err}");
    assert!(err.contains(&format!("127.0.0.1:{}", server.port())), "{err}");
    assert!(err.contains("password"), "{err}");
    let place = Place::new();
    let (status, _, err) = place.output(&["--permits", "0", "x", "--", "true"]);
    assert_eq!(status, 64);
    assert!(err.contains("--permits") && !err.contains("max_count"), "{err}");
}

#[test]
fn something_else_that_answers_is_no_redis_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::Write;
        for mut stream in listener.incoming().flatten() {
            // The client may have gone.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let service = Service(format!("redis://127.0.0.1:{port}"));
    let (status, _, err) = service.output(&["x", "--", "true"]);
    assert_eq!(status, 69, "{err}");
    assert!(err.contains("not a Redis server") && err.contains(&port.to_string()), "{err}");
}

#[test]
fn a_url_with_a_password_is_not_inherited_unless_asked() {
    let server = RedisServer::start(&["--requirepass", "s3cr3t"]);
    let service = Service(format!("redis://:s3cr3t@127.0.0.1:{}", server.port()));
    let shows = ["x", "--", "sh", "-c", "echo \"<$DISTRIBUTED_LOCK_URL>\""];
    assert_eq!(service.output(&shows).1, "<>\n");
    let with = service.output(&[&["--pass-url"][..], &shows].concat()).1;
    assert!(with.contains("s3cr3t"), "{with}");
    let place = Place::new();
    assert_eq!(place.output(&shows).1, format!("<{}>\n", place.url()));
}

#[test]
fn a_waiter_is_shown_what_the_holder_runs() {
    let holder = ["x", "--", "sh", "-c", HOLD];
    for service in [Service(RedisServer::shared().url()), Service(Place::new().url())] {
        let mut first = Running::start(&mut service.run(&holder));
        first.out.expect("holding");
        let second = Running::start(&mut service.run(&["x", "--", "echo", "second"]));
        second.err.expect("waiting for \"x\", held by ");
        second.err.expect(&first.pid().to_string());
        second.err.expect("sh -c");
        first.end_input();
        first.status();
        second.out.expect("second");
        let labelled = [&["--label", "nightly backup"][..], &holder].concat();
        let mut first = Running::start(&mut service.run(&labelled));
        first.out.expect("holding");
        let (_, _, err) = service.output(&["-n", "x", "--", "true"]);
        assert!(err.contains("nightly backup"), "{err}");
        first.end_input();
        first.status();
    }
}

/// The directory of our own help, as its users make it.
#[test]
fn a_directory_that_a_group_shares_works_for_the_second_user() {
    if !rustix::process::geteuid().is_root() {
        return println!("only root can be several users");
    }
    let place = Place::new();
    let open = |path: &Path, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, mode).unwrap();
    };
    open(place.dir.path(), 0o755);
    let locks = place.dir.path().join("srv");
    let install = ["-d", "-m", "2770", "-g", "60001"];
    assert!(Command::new("install").args(install).arg(&locks).status().unwrap().success());
    let program = place.dir.path().join("dlock");
    std::fs::copy(support::program(), &program).unwrap();
    let url = format!("file://{}?mode=660", locks.display());
    for user in ["60002", "60003", "60002"] {
        for mode in ["--write", "--read", "--permits=2"] {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", user, "--groups", "60001"]).arg(&program);
            command.args(["run", mode, "--url", &url, "x", "--", "echo", "ran"]);
            let (status, out, err) = output(&mut command);
            assert_eq!((status, out.as_str()), (0, "ran\n"), "{user} {mode}: {err}");
        }
    }
}

#[test]
fn a_command_ends_after_the_longest_time() {
    let place = Place::new();
    let started = now();
    let run = ["--max-run", "0.3", "x", "--", "sleep", "1000"];
    let (status, _, err) = place.output(&run);
    assert_eq!(status, 124, "{err}");
    assert!(now() - started < Duration::from_secs(10));
    assert!(place.is_free("x"));
    let mut lost =
        Running::start(&mut place.run(&["--lost-exit-code", "9", "x", "--", "sh", "-c", HOLD]));
    lost.out.expect("holding");
    place.remove_files();
    assert_eq!(lost.status(), 9);
}
