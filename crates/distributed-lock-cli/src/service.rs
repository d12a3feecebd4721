//! Which lock service is meant.

use std::ffi::OsString;

use crate::args::RunArgs;
use crate::default_dir;
use crate::exit::{Failure, UNAVAILABLE, USAGE};

/// Names the lock service if `--url` does not.
pub(crate) const URL_VARIABLE: &str = "DISTRIBUTED_LOCK_URL";

/// The lock service to use.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) url: String,
}

impl Service {
    /// What changes in the command's environment.
    pub(crate) fn environment(&self, _args: &RunArgs) -> Vec<(&'static str, Option<OsString>)> {
        Vec::new()
    }
}

/// Finds the lock service that the options, the environment or the configuration name.
pub(crate) fn find(args: &RunArgs) -> Result<Service, Failure> {
    Ok(Service { url: url(&args.url)? })
}

/// The URL to connect to: the options', else the environment's, else the default directory's.
///
/// URLs are never repeated in messages, since they may hold a password.
fn url(options: &[String]) -> Result<String, Failure> {
    if options.len() > 1 && !options.iter().all(|url| is_redis(url)) {
        let message = "several --url are several Redis servers: redis://, rediss:// or unix://";
        return Err(Failure::new(USAGE, message));
    }
    let url = match (options, from_environment(std::env::var_os(URL_VARIABLE))?) {
        ([_, ..], _) => options.join(","),
        ([], Some(url)) => url,
        ([], None) => {
            let path = default_dir::path();
            default_dir::prepare(&path).map_err(|error| {
                Failure::new(UNAVAILABLE, "no place for the lock").because(&error)
            })?;
            return Ok(format!("file://{}", path.display()));
        }
    };
    if is_memory(&url) {
        return Err(Failure::new(
            USAGE,
            "memory: locks exclude nobody here, since other processes cannot see them; \
             use file:///DIRECTORY, or leave out the URL",
        ));
    }
    Ok(url)
}

/// An empty variable is one that is not set.
fn from_environment(value: Option<OsString>) -> Result<Option<String>, Failure> {
    match value.map(OsString::into_string).transpose() {
        Ok(url) => Ok(url.filter(|url| !url.is_empty())),
        Err(_) => Err(Failure::new(USAGE, format!("{URL_VARIABLE} is not UTF-8; correct it"))),
    }
}

fn is_redis(url: &str) -> bool {
    ["redis://", "rediss://", "unix://"].iter().any(|scheme| url.starts_with(scheme))
}

fn is_memory(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, _)| scheme.trim().eq_ignore_ascii_case("memory"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn an_empty_variable_is_not_set() {
        assert_eq!(from_environment(None).unwrap(), None);
        assert_eq!(from_environment(Some("".into())).unwrap(), None);
        assert_eq!(
            from_environment(Some("file:///x".into())).unwrap().as_deref(),
            Some("file:///x")
        );
        assert_eq!(
            from_environment(Some(OsString::from_vec(vec![0xff]))).unwrap_err().show().status(),
            USAGE
        );
    }

    #[test]
    fn memory_is_refused_however_it_is_written() {
        for url in ["memory:", "memory://x", "MEMORY:x"] {
            assert_eq!(super::url(&[url.into()]).unwrap_err().show().status(), USAGE, "{url}");
        }
        assert_eq!(super::url(&["file:///memory".into()]).unwrap(), "file:///memory");
    }

    #[test]
    fn several_are_servers_of_redis() {
        let urls = ["redis://a".to_owned(), "rediss://b?expiry=1s".to_owned()];
        assert_eq!(super::url(&urls).unwrap(), "redis://a,rediss://b?expiry=1s");
        let mixed = ["redis://a".to_owned(), "file:///b".to_owned()];
        assert_eq!(super::url(&mixed).unwrap_err().show().status(), USAGE);
    }
}
