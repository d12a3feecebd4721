//! The scripts, and requests that run them.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, Script};

/// A script; the server knows it by its hash once it has seen it.
pub(crate) struct Text {
    source: &'static str,
    hash: LazyLock<String>,
}

macro_rules! script {
    ($($file:literal),+) => {{
        const SOURCE: &str = concat!($(include_str!(concat!("scripts/", $file)), "\n"),+);
        Text { source: SOURCE, hash: LazyLock::new(|| Script::new(SOURCE).get_hash().to_owned()) }
    }};
}

pub(crate) static ACQUIRE: Text =
    script!("acquire_free.lua", "resource.lua", "cut_back.lua", "acquire.lua");
pub(crate) static ACQUIRE_ALONE: Text = script!("acquire_alone.lua");
pub(crate) static RELEASE_ALONE: Text = script!("release_alone.lua");
pub(crate) static RELEASE: Text = script!("release_last.lua", "resource.lua", "release.lua");
pub(crate) static WITHDRAW: Text = script!("resource.lua", "withdraw.lua");
pub(crate) static DRAW: Text = script!("resource.lua", "counter.lua", "draw.lua");
pub(crate) static REPAIR: Text = script!("repair.lua");
pub(crate) static EXTEND: Text = script!("extend.lua");
pub(crate) static PROBE: Text = script!("probe.lua");

pub(crate) static QUORUM_ACQUIRE: Text =
    script!("resource.lua", "cut_back.lua", "quorum_acquire.lua");
pub(crate) static QUORUM_UNDO: Text = script!("resource.lua", "quorum_undo.lua");
pub(crate) static QUORUM_TOKEN: Text = script!("resource.lua", "counter.lua", "quorum_token.lua");
pub(crate) static INTRODUCE: Text = script!("introduce.lua");

/// What is sent in one write.
#[derive(Clone, Copy)]
pub(crate) enum Request<'a> {
    Script(Run<'a>),
    /// Replied to by an array of the commands' replies, errors among them; an error of the first is that
    /// of all.
    Commands(&'a Pipeline),
}

impl<'a> From<Run<'a>> for Request<'a> {
    fn from(run: Run<'a>) -> Self {
        Self::Script(run)
    }
}

impl<'a> From<&'a Pipeline> for Request<'a> {
    fn from(commands: &'a Pipeline) -> Self {
        Self::Commands(commands)
    }
}

/// One run of a script. It may be repeated: every script can be.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) text: &'static Text,
    pub(crate) keys: &'a [String],
    pub(crate) arguments: &'a [&'a str],
}

impl Run<'_> {
    pub(crate) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.text.hash)
    }

    /// With the whole text, which the server then knows.
    pub(crate) fn in_full(&self) -> Cmd {
        self.command("EVAL", self.text.source)
    }

    fn command(&self, name: &str, text: &str) -> Cmd {
        let mut command = Cmd::with_capacity(16, 512);
        command.arg(name).arg(text).arg(self.keys.len()).arg(self.keys).arg(self.arguments);
        command
    }
}
