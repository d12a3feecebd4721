//! URLs of lock services as far as `dlock` looks into them: for messages, and for the label.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::args::{RunArgs, quoted};

/// What a label keeps as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/');
/// The longest label that every service keeps whole: PostgreSQL's names have 63 bytes.
const LONGEST: usize = 63;

pub(crate) fn scheme(url: &str) -> &str {
    url.split_once(':').map_or("", |(scheme, _)| scheme.trim())
}

pub(crate) fn is_redis(url: &str) -> bool {
    ["redis", "rediss", "unix"].contains(&scheme(url))
}

/// The URL without user, password and options, and in one spelling.
pub(crate) fn shown(url: &str) -> String {
    if is_redis(url) {
        let servers = url.split(',').map(shown_one);
        return servers.collect::<Vec<_>>().join(",");
    }
    shown_one(url)
}

fn shown_one(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return scheme(url).to_owned();
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    if scheme == "file" {
        let path =
            std::fs::canonicalize(rest).ok().and_then(|path| path.to_str().map(str::to_owned));
        return format!("file://{}", path.as_deref().unwrap_or(rest).trim_end_matches('/'));
    }
    // A password may have any character, an @ and a / included.
    let (authority, path) = match rest.rsplit_once('@') {
        Some((_, rest)) => rest.split_once('/').unwrap_or((rest, "")),
        None => rest.split_once('/').unwrap_or((rest, "")),
    };
    let scheme = if scheme == "postgresql" { "postgres" } else { scheme };
    let end = if path.is_empty() { String::new() } else { format!("/{path}") };
    format!("{scheme}://{}{end}", authority.to_ascii_lowercase())
}

/// Whether the URL carries a password.
pub(crate) fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let before_options = rest.split('?').next().unwrap_or_default();
    let in_authority = before_options.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    let options = url.split_once('?').map_or("", |(_, options)| options);
    let in_options = options
        .split('&')
        .any(|option| option.starts_with("pass=") || option.starts_with("password="));
    in_authority || in_options
}

/// Adds what this holder is, unless the URL says so already.
pub(crate) fn with_label(url: &str, args: &RunArgs) -> String {
    let option = match scheme(url) {
        "file" => "label",
        "redis" | "rediss" | "unix" => "owner_label",
        "postgres" | "postgresql" => "application_name",
        _ => return url.to_owned(),
    };
    let options = url.rsplit_once('?').map_or("", |(_, options)| options);
    let given = options.split('&').any(|one| one.split('=').next() == Some(option));
    if given {
        return url.to_owned();
    }
    let label = label(args, option != "label");
    let label = utf8_percent_encode(&label, KEPT);
    let separator =
        if url.rsplit_once(',').map_or(url, |(_, last)| last).contains('?') { '&' } else { '?' };
    format!("{url}{separator}{option}={label}")
}

/// For example `root@web1 pid 4711: ./backup --full`, or the given label instead of the command.
/// Files record process and host by themselves.
fn label(args: &RunArgs, with_process: bool) -> String {
    let user = || {
        let id = rustix::process::geteuid().as_raw().to_string();
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or(id)
    };
    let what = args.label.clone().unwrap_or_else(|| {
        let words = args.words();
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    });
    let text = if with_process {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{}@{host} pid {}: {what}", user(), std::process::id())
    } else {
        format!("{}: {what}", user())
    };
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = LONGEST.min(one_line.len());
    while !one_line.is_char_boundary(end) {
        end -= 1;
    }
    one_line[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_options_are_not_shown() {
        for (url, expected) in [
            ("redis://u:p@ss/w@Host:1/3?expiry=1s", "redis://host:1/3"),
            ("redis://a,rediss://:s3cr3t@b?expiry=1s", "redis://a,rediss://b"),
            ("postgresql://u:p@h/db?password=x", "postgres://h/db"),
            ("unix:///run/redis.sock?pass=x", "unix:///run/redis.sock"),
            ("file:///no/such/directory/?mode=660", "file:///no/such/directory"),
            ("nonsense", ""),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }

    #[test]
    fn passwords_are_noticed() {
        for url in [
            "redis://:p@h",
            "postgres://u:p@h/d",
            "unix:///s?pass=p",
            "postgres:///d?a=b&password=p",
        ] {
            assert!(has_password(url), "{url}");
        }
        for url in ["redis://h:6379", "postgres://u@h:5432/d", "file:///a:b", ""] {
            assert!(!has_password(url), "{url}");
        }
    }
}
