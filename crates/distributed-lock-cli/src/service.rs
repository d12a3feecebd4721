//! Which lock service is meant, and what says so.

use std::ffi::OsString;
use std::path::PathBuf;

use distributed_lock::Mode;

use crate::args::RunArgs;
use crate::exit::{Failure, UNAVAILABLE, USAGE};
use crate::nested::Held;
use crate::{config, default_dir, nested, url};

/// Names the lock service if `--url` does not.
pub(crate) const URL_VARIABLE: &str = "DISTRIBUTED_LOCK_URL";
/// What the command gets besides; none of it names a lock service.
pub(crate) const NAME_VARIABLE: &str = "DISTRIBUTED_LOCK_NAME";
pub(crate) const TOKEN_VARIABLE: &str = "DISTRIBUTED_LOCK_TOKEN";

/// The lock service to use.
#[derive(Debug)]
pub(crate) struct Service {
    /// Never shown: it may have a password.
    pub(crate) url: String,
    /// The same without secrets and options.
    pub(crate) shown: String,
    source: Source,
}

/// What named the lock service.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    Option,
    Environment,
    File(PathBuf),
    Default,
}

/// Finds the lock service that the options, the environment or the configuration name.
pub(crate) fn find(args: &RunArgs) -> Result<Service, Failure> {
    let (urls, source) = named(args)?;
    let url = match &urls[..] {
        [] => {
            let path = default_dir::path();
            default_dir::prepare(&path).map_err(|error| {
                Failure::new(UNAVAILABLE, "there is no directory for locks").because(&error)
            })?;
            format!("file://{}", path.display())
        }
        [url] => url.clone(),
        several if several.iter().all(|one| url::is_redis(one)) => several.join(","),
        _ => {
            let message = "several URLs are several Redis servers: redis://, rediss:// or unix://";
            return Err(Failure::new(USAGE, message));
        }
    };
    if url::scheme(&url).eq_ignore_ascii_case("memory") {
        return Err(Failure::new(
            USAGE,
            "memory: locks exclude nothing here, since other processes cannot see them; \
             use file:///DIRECTORY, or leave out the URL",
        ));
    }
    let shown = url::shown(&url);
    Ok(Service { url, shown, source })
}

fn named(args: &RunArgs) -> Result<(Vec<String>, Source), Failure> {
    if !args.url.is_empty() {
        return Ok((args.url.clone(), Source::Option));
    }
    if let Some(url) = from_environment(std::env::var_os(URL_VARIABLE))? {
        return Ok((vec![url], Source::Environment));
    }
    let config = config::read()?;
    match (config.url, config.requires_url) {
        (Some((urls, path)), _) => Ok((urls, Source::File(path))),
        (None, Some(path)) => {
            let message = format!(
                "no lock service is named, and {} requires one (require_url): give --url, or set \
                 {URL_VARIABLE} or `url` there",
                path.display()
            );
            Err(Failure::new(USAGE, message))
        }
        (None, None) => Ok((Vec::new(), Source::Default)),
    }
}

/// An empty variable is one that is not set.
fn from_environment(value: Option<OsString>) -> Result<Option<String>, Failure> {
    match value.map(OsString::into_string).transpose() {
        Ok(url) => Ok(url.filter(|url| !url.is_empty())),
        Err(_) => Err(Failure::new(USAGE, format!("{URL_VARIABLE} is not UTF-8; correct it"))),
    }
}

impl Service {
    /// Says which service it is, and why.
    pub(crate) fn describe(&self) -> String {
        let source = match &self.source {
            Source::Option => "--url".to_owned(),
            Source::Environment => URL_VARIABLE.to_owned(),
            Source::File(path) => path.display().to_string(),
            Source::Default => "nothing names another, so files of this user".to_owned(),
        };
        format!("the lock service is {} ({source})", self.shown)
    }

    /// What is doubtful about the choice.
    pub(crate) fn doubts(&self) -> Vec<String> {
        if self.source != Source::Default {
            return Vec::new();
        }
        let private = default_dir::private_mount().map(|why| {
            format!(
                "{} is private to this service or container ({why}): others do not see its locks; \
                 name a directory that all share with --url file:///DIRECTORY",
                self.shown
            )
        });
        let known = [URL_VARIABLE, NAME_VARIABLE, TOKEN_VARIABLE, nested::VARIABLE];
        let misspelt = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let misspelt = misspelt.filter(|name| {
            let ours = name.starts_with("DISTRIBUTED_LOCK") || name.starts_with("DLOCK_");
            ours && name.contains("UR") && !known.contains(&name.as_str())
        });
        let misspelt = misspelt.map(|name| {
            format!("{name} is set and means nothing; the lock service is named by {URL_VARIABLE}")
        });
        private.into_iter().chain(misspelt).collect()
    }

    /// What is added to the URL so that others see what this holder is.
    pub(crate) fn labelled_url(&self, args: &RunArgs) -> String {
        url::with_label(&self.url, args)
    }

    /// Which locks a command that gets the lock runs under.
    pub(crate) fn held(&self, name: &str, mode: Mode) -> Held {
        Held::by_this_process(&self.shown, name, mode)
    }

    /// What changes in the command's environment.
    pub(crate) fn environment(&self, args: &RunArgs) -> Vec<(&'static str, Option<OsString>)> {
        let mut changes = Vec::new();
        let inherited = std::env::var(URL_VARIABLE).unwrap_or_default();
        if !args.pass_url && url::has_password(&inherited) {
            changes.push((URL_VARIABLE, None));
        }
        let held = nested::with(self.held(&args.name, args.mode()));
        changes.push((nested::VARIABLE, Some(held.into())));
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn find(urls: &[&str]) -> Result<String, u8> {
        let words = urls.iter().flat_map(|url| ["--url", url]);
        let words: Vec<OsString> = ["dlock", "run"]
            .into_iter()
            .chain(words)
            .chain(["x", "--", "y"])
            .map(Into::into)
            .collect();
        let crate::args::Command::Run(args) = crate::args::parse(&words).unwrap().command;
        super::find(&args).map(|service| service.url).map_err(|failure| failure.show().status())
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        assert_eq!(from_environment(None).unwrap(), None);
        assert_eq!(from_environment(Some("".into())).unwrap(), None);
        let given = from_environment(Some("file:///x".into())).unwrap();
        assert_eq!(given.as_deref(), Some("file:///x"));
        let wrong = from_environment(Some(OsString::from_vec(vec![0xff]))).unwrap_err();
        assert_eq!(wrong.show().status(), USAGE);
    }

    #[test]
    fn memory_is_refused_however_it_is_written() {
        for url in ["memory:", "memory://x", "MEMORY:x"] {
            assert_eq!(find(&[url]), Err(USAGE), "{url}");
        }
        assert_eq!(find(&["file:///memory"]).unwrap(), "file:///memory");
    }

    #[test]
    fn several_are_servers_of_redis() {
        let both = find(&["redis://a", "rediss://b?expiry=1s"]);
        assert_eq!(both.unwrap(), "redis://a,rediss://b?expiry=1s");
        assert_eq!(find(&["redis://a", "file:///b"]), Err(USAGE));
    }
}
