//! The macro that makes a backend's public types.

/// Makes a backend's public types: newtypes over the generic ones, with every trait delegated.
///
/// A backend names its driver and its types, each with its own documentation; the macro writes the
/// rest, so that thirty types in as many files do not repeat each other.
///
/// The provider gets `pub(crate) fn over(DriverProvider<Driver>)`; its builder is the backend's own.
#[macro_export]
macro_rules! backend_types {
    (
        driver $driver:ty;
        $(#[$provider_doc:meta])* provider $provider:ident;
        $(#[$lock_doc:meta])* lock $lock:ident;
        $(#[$handle_doc:meta])* handle $handle:ident;
        $(#[$rw_doc:meta])* reader_writer_lock $rw:ident;
        $(#[$read_doc:meta])* read_handle $read:ident;
        $(#[$write_doc:meta])* write_handle $write:ident;
        $(#[$semaphore_doc:meta])* semaphore $semaphore:ident;
        $(#[$permit_doc:meta])* semaphore_handle $permit:ident;
    ) => {
        $(#[$provider_doc])*
        #[derive(Debug, Clone)]
        pub struct $provider($crate::DriverProvider<$driver>);

        impl $provider {
            pub(crate) fn over(provider: $crate::DriverProvider<$driver>) -> Self {
                Self(provider)
            }
        }

        impl $crate::traits::LockProvider for $provider {
            type Lock = $lock;

            fn create_lock(&self, name: &str) -> $lock {
                $lock(self.0.create_lock(name))
            }
        }

        impl $crate::traits::ReaderWriterLockProvider for $provider {
            type Lock = $rw;

            fn create_reader_writer_lock(&self, name: &str) -> $rw {
                $rw(self.0.create_reader_writer_lock(name))
            }
        }

        impl $crate::traits::SemaphoreProvider for $provider {
            type Semaphore = $semaphore;

            fn create_semaphore(&self, name: &str, max_count: u32) -> $semaphore {
                $semaphore(self.0.create_semaphore(name, max_count))
            }
        }

        impl $crate::traits::Provider for $provider {
            fn guarantees(&self) -> $crate::Guarantees {
                self.0.guarantees()
            }

            async fn shutdown(&self) -> Vec<(String, $crate::error::LockError)> {
                self.0.shutdown().await
            }

            fn native_key(&self, name: &str) -> $crate::error::LockResult<String> {
                self.0.native_key(name)
            }

            async fn holder(
                &self,
                name: &str,
                mode: $crate::Mode,
            ) -> $crate::error::LockResult<Option<$crate::Holder>> {
                self.0.holder(name, mode).await
            }
        }

        $(#[$lock_doc])*
        #[derive(Debug, Clone)]
        pub struct $lock($crate::Lock<$driver>);

        impl $crate::traits::DistributedLock for $lock {
            type Handle = $handle;

            fn name(&self) -> &str {
                self.0.name()
            }

            $crate::backend_types!(@acquire $handle, acquire, try_acquire);
        }

        $(#[$rw_doc])*
        #[derive(Debug, Clone)]
        pub struct $rw($crate::ReaderWriterLock<$driver>);

        impl $crate::traits::DistributedReaderWriterLock for $rw {
            type ReadHandle = $read;
            type WriteHandle = $write;

            fn name(&self) -> &str {
                self.0.name()
            }

            $crate::backend_types!(@acquire $read, acquire_read, try_acquire_read);
            $crate::backend_types!(@acquire $write, acquire_write, try_acquire_write);
        }

        $(#[$semaphore_doc])*
        #[derive(Debug, Clone)]
        pub struct $semaphore($crate::Semaphore<$driver>);

        impl $crate::traits::DistributedSemaphore for $semaphore {
            type Handle = $permit;

            fn name(&self) -> &str {
                self.0.name()
            }

            fn max_count(&self) -> u32 {
                self.0.max_count()
            }

            $crate::backend_types!(@acquire $permit, acquire, try_acquire);
        }

        $crate::backend_types!(@handle $driver, $(#[$handle_doc])* $handle);
        $crate::backend_types!(@handle $driver, $(#[$read_doc])* $read);
        $crate::backend_types!(@handle $driver, $(#[$write_doc])* $write);
        $crate::backend_types!(@handle $driver, $(#[$permit_doc])* $permit);
    };

    (@acquire $handle:ident, $acquire:ident, $try_acquire:ident) => {
        async fn $acquire(
            &self,
            timeout: Option<std::time::Duration>,
        ) -> $crate::error::LockResult<$handle> {
            self.0.$acquire(timeout).await.map($handle)
        }

        async fn $try_acquire(&self) -> $crate::error::LockResult<Option<$handle>> {
            Ok(self.0.$try_acquire().await?.map($handle))
        }
    };

    (@handle $driver:ty, $(#[$doc:meta])* $handle:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        #[must_use = "the lock is released as soon as its handle is dropped"]
        pub struct $handle($crate::Handle<$driver>);

        impl $crate::traits::LockHandle for $handle {
            async fn release(self) -> $crate::error::LockResult<()> {
                self.0.release().await
            }

            fn lost_token(&self) -> &$crate::CancellationToken {
                self.0.lost_token()
            }

            fn is_lost(&self) -> bool {
                self.0.is_lost()
            }

            fn remaining(&self) -> Option<std::time::Duration> {
                self.0.remaining()
            }

            async fn fencing_token(&self) -> $crate::error::LockResult<$crate::FencingToken> {
                self.0.fencing_token().await
            }

            fn loss_reason(&self) -> Option<String> {
                self.0.loss_reason()
            }

            fn loss_signal(&self) -> &$crate::CancellationToken {
                self.0.loss_signal()
            }

            #[cfg(unix)]
            fn keep_alive_fd(&self) -> $crate::error::LockResult<Option<std::os::fd::OwnedFd>> {
                self.0.keep_alive_fd()
            }
        }
    };
}
