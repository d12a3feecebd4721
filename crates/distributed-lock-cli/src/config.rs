//! `dlock.toml`: where the locks of a user or of a machine are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::exit::{Failure, UNAVAILABLE, USAGE};

/// What the configuration files say, the user's before the machine's.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// The first URL, or several of Redis servers, and the file that has it.
    pub(crate) url: Option<(Vec<String>, PathBuf)>,
    /// The file that forbids locks where no lock service is named.
    pub(crate) requires_url: Option<PathBuf>,
}

/// Reads the files that there are.
///
/// # Errors
/// If one cannot be read or understood: locks must not silently be elsewhere then.
pub(crate) fn read() -> Result<Config, Failure> {
    let mut config = Config::default();
    for path in paths() {
        match fs::read_to_string(&path) {
            Ok(text) => config.add(&text, path)?,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => {
                let message = format!("cannot read {}", path.display());
                return Err(Failure::new(UNAVAILABLE, message).because(&error));
            }
        }
    }
    Ok(config)
}

fn paths() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || variable("HOME").map(|home| Path::new(&home).join(".config"));
    let user = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    user.map(|directory| directory.join("dlock.toml"))
        .into_iter()
        .chain([PathBuf::from("/etc/dlock.toml")])
        .collect()
}

impl Config {
    fn add(&mut self, text: &str, path: PathBuf) -> Result<(), Failure> {
        let wrong = |what: String| Failure::new(USAGE, format!("in {}: {what}", path.display()));
        // The parser's own message would show the line, which may have a password.
        let table = DeTable::parse(text).map_err(|error| wrong(error.message().to_owned()))?;
        let mut requires = false;
        let mut found = None;
        for (key, value) in table.into_inner() {
            match (key.get_ref().as_ref(), value.into_inner()) {
                ("url", DeValue::String(url)) => found = Some(vec![url.into_owned()]),
                ("url", DeValue::Array(urls)) => {
                    let urls = urls.iter().map(|url| url.get_ref().as_str().map(str::to_owned));
                    let urls = urls.collect::<Option<Vec<_>>>().filter(|urls| !urls.is_empty());
                    found = Some(urls.ok_or_else(|| wrong("url: a list of texts".into()))?);
                }
                ("url", _) => return Err(wrong("url: a text, or a list of them".into())),
                ("require_url", DeValue::Boolean(on)) => requires = on,
                ("require_url", _) => return Err(wrong("require_url: true or false".into())),
                (unknown, _) => {
                    let message = format!("unknown key {unknown:?}; known are url, require_url");
                    return Err(wrong(message));
                }
            }
        }
        if requires && self.requires_url.is_none() {
            self.requires_url = Some(path.clone());
        }
        if let (None, Some(urls)) = (&self.url, found) {
            self.url = Some((urls, path));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Result<Config, Failure> {
        let mut config = Config::default();
        for (number, text) in texts.iter().enumerate() {
            config.add(text, format!("/{number}").into())?;
        }
        Ok(config)
    }

    #[test]
    fn the_first_file_wins_and_each_may_require() {
        let config = of(&["# nothing\n", "require_url = true\nurl = 'file:///a'", "url = 'b'"]);
        let config = config.unwrap();
        assert_eq!(config.url, Some((vec!["file:///a".to_owned()], "/1".into())));
        assert_eq!(config.requires_url, Some("/1".into()));
        let servers = of(&["url = ['redis://a', 'redis://b']"]).unwrap().url.unwrap().0;
        assert_eq!(servers, ["redis://a", "redis://b"]);
    }

    #[test]
    fn mistakes_are_refused_and_no_password_is_shown() {
        for text in [
            "url = 1",
            "url = []",
            "url = ['redis://a', 2]",
            "require_url = 'yes'",
            "urll = 'redis://:s3cr3t@a'",
            "url = 'redis://:s3cr3t@a",
            "url",
        ] {
            let shown = format!("{:?}", of(&[text]).unwrap_err());
            assert!(shown.contains("in /0") && !shown.contains("s3cr3t"), "{shown}");
        }
    }
}
