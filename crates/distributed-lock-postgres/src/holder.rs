//! Who holds a lock, as the server sees it.

use std::sync::Arc;

use distributed_lock_core::Holder;
use distributed_lock_core::error::LockResult;

use crate::connection::{Sessions, column, holder};
use crate::driver::PostgresKey;

/// The longest connected of its holders. `None` for semaphores, whose slots are many, and where it cannot
/// be known: all sessions of this provider wait, and there is no room for another.
pub(crate) async fn of(sessions: &Arc<Sessions>, key: &PostgresKey) -> LockResult<Option<Holder>> {
    let PostgresKey::Lock(key) = key else { return Ok(None) };
    let Some(session) = sessions.beside_waits(None).await? else { return Ok(None) };
    let answers = session.words(&holder(*key)).await?;
    let Some(pid) = column(&answers, 0).and_then(|pid| pid.parse::<u32>().ok()) else {
        return Ok(None);
    };
    let text = |index| column(&answers, index).filter(|text| !text.is_empty()).map(str::to_owned);
    let mut holder = Holder::default();
    // The process id is the server's and not the holder's, who is somewhere else.
    holder.label = Some(match text(1) {
        Some(application) => format!("{application}, PostgreSQL session {pid}"),
        None => format!("PostgreSQL session {pid}"),
    });
    holder.host = text(2);
    Ok(Some(holder))
}
