//! A time limit that outlives the runtime that it began on.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, Sleep, sleep_until};

/// What the future returns, or `None` if that takes longer than `limit`.
///
/// A timer belongs to the runtime that it was made on, and panics when it is polled after that has
/// ended. Whoever polls this may move to another: it makes a timer there.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut timer = Timer { end: Instant::now().checked_add(limit), armed: None };
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.poll(context).map(|()| None),
    })
    .await
}

struct Timer {
    /// `None`: further off than time goes.
    end: Option<Instant>,
    /// On the runtime where it was polled last.
    armed: Option<(Id, Pin<Box<Sleep>>)>,
}

impl Timer {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (Some(end), Ok(here)) = (self.end, Handle::try_current()) else { return Poll::Pending };
        let armed = self.armed.take().filter(|(runtime, _)| *runtime == here.id());
        let (_, sleep) = self.armed.insert(match armed {
            Some(armed) => armed,
            None => (here.id(), Box::pin(sleep_until(end))),
        });
        sleep.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn it_goes_on_after_its_runtime_has_ended() {
        let limit = Duration::from_millis(20);
        let mut limited = Box::pin(within(limit, std::future::pending::<()>()));
        let first = runtime();
        first.block_on(async {
            let mut context = Context::from_waker(Waker::noop());
            assert!(limited.as_mut().poll(&mut context).is_pending());
        });
        drop(first);
        assert_eq!(runtime().block_on(limited), None);
    }

    #[test]
    fn an_answer_in_time_is_returned() {
        let answered = runtime().block_on(within(Duration::MAX, async {
            tokio::task::yield_now().await;
            7
        }));
        assert_eq!(answered, Some(7));
    }
}
