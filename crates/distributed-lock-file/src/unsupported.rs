//! Stands in for the driver on platforms without `flock`: it cannot be made.

use std::path::Path;
use std::time::Duration;

use distributed_lock_core::background::Home;
use distributed_lock_core::driver::{Attempt, Driver, Granted, WakeUp};
use distributed_lock_core::error::{LockError, LockResult};
use distributed_lock_core::{FencingToken, Guarantees, LockName, Mode};

use crate::options::FileOptions;

/// File locks need a Unix system.
#[derive(Debug)]
#[cfg_attr(test, expect(unreachable_pub, reason = "it is the public driver where it is built in"))]
pub enum FileDriver {}

impl FileDriver {
    pub(crate) fn open(_directory: &Path, _options: FileOptions, _home: Home) -> LockResult<Self> {
        Err(LockError::Unsupported("file locks need a Unix system; use another backend".into()))
    }
}

impl Driver for FileDriver {
    type Key = String;
    type Place = ();
    type Grant = ();

    fn resolve(&self, _name: LockName<'_>, _mode: Mode) -> LockResult<String> {
        match *self {}
    }

    async fn try_acquire(
        &self,
        _attempt: &mut Attempt<String, ()>,
    ) -> LockResult<Option<Granted<()>>> {
        match *self {}
    }

    async fn wait(&self, _attempt: &mut Attempt<String, ()>) -> LockResult<WakeUp<()>> {
        match *self {}
    }

    fn must_withdraw(&self, _attempt: &Attempt<String, ()>) -> bool {
        match *self {}
    }

    async fn release(&self, _grant: &()) -> LockResult<()> {
        match *self {}
    }

    async fn fencing_token(&self, _grant: &()) -> LockResult<FencingToken> {
        match *self {}
    }

    fn guarantees(&self) -> Guarantees {
        match *self {}
    }

    fn fallback_period(&self) -> Duration {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_to_do() {
        let refused = FileDriver::open(Path::new("x"), FileOptions::default(), Home::default());
        assert!(matches!(refused, Err(LockError::Unsupported(_))));
    }
}
