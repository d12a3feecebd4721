//! The options of file locks, checked once.

/// What the builder collects.
#[derive(Debug, Clone)]
pub(crate) struct FileOptions {
    /// The permissions of lock files; those of the directory follow from it.
    pub(crate) file_mode: u32,
    /// A sticky directory that others can write to is accepted.
    pub(crate) shared_directory: bool,
    /// Any file system is accepted.
    pub(crate) any_file_system: bool,
    /// What the holder calls itself in the lock file.
    pub(crate) label: Option<String>,
    /// Whose files these must be, unless they are shared: the effective user.
    #[cfg(unix)]
    pub(crate) user: u32,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            file_mode: 0o600,
            shared_directory: false,
            any_file_system: false,
            label: None,
            #[cfg(unix)]
            user: rustix::process::geteuid().as_raw(),
        }
    }
}

#[cfg(unix)]
impl FileOptions {
    /// Who may read or write lock files may also enter the directory.
    pub(crate) fn directory_mode(&self) -> u32 {
        self.file_mode | (self.file_mode & 0o444) >> 2
    }

    /// Whether the group of the lock directory is trusted with it.
    pub(crate) fn is_for_group(&self) -> bool {
        self.file_mode & 0o020 != 0
    }

    /// Whether lock files are meant to be used by several users.
    pub(crate) fn is_shared(&self) -> bool {
        self.file_mode & 0o022 != 0
    }
}
