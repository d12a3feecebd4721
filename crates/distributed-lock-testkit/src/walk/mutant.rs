//! Wrong variants of the product, each of which a walk must find.

/// A change of what a server runs, or of what a client does.
#[derive(Debug)]
pub struct Mutant {
    /// What is wrong.
    pub name: &'static str,
    /// Texts that are replaced in every script that has them.
    pub scripts: &'static [(&'static str, &'static str)],
    /// A change of the engine.
    pub engine: Wrong,
}

/// What an engine does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wrong {
    /// Nothing.
    #[default]
    Nothing,
    /// An attempt that is given up is not withdrawn.
    NeverWithdraws,
    /// A lease counts from when its reply was read.
    LeaseFromReply,
}

impl Mutant {
    /// A mutant that changes nothing yet.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, scripts: &[], engine: Wrong::Nothing }
    }

    /// With texts replaced in the scripts.
    #[must_use]
    pub const fn scripts(mut self, scripts: &'static [(&'static str, &'static str)]) -> Self {
        self.scripts = scripts;
        self
    }

    /// With another engine.
    #[must_use]
    pub const fn engine(mut self, wrong: Wrong) -> Self {
        self.engine = wrong;
        self
    }

    /// What runs instead of a script, if that is another.
    pub(super) fn script(&self, text: &str) -> Option<String> {
        let mutated = self
            .scripts
            .iter()
            .fold(text.to_owned(), |text, (right, wrong)| text.replace(right, wrong));
        (mutated != text).then_some(mutated)
    }

    /// Fails unless each of its texts is in one of the scripts.
    pub(super) fn must_apply<'a>(&self, scripts: impl Iterator<Item = &'a str> + Clone) {
        for (right, _) in self.scripts {
            let applies = scripts.clone().any(|script| script.contains(right));
            assert!(applies, "mutant {:?}: no script has {right:?}", self.name);
        }
    }
}
