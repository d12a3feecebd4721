//! Who holds a lock, as the server sees it.

use std::sync::Arc;

use distributed_lock_core::Holder;
use distributed_lock_core::error::LockResult;

use crate::connection::{Sessions, column};
use crate::driver::PostgresKey;

/// One of those who hold it, the longest connected; `None` for semaphores, whose slots are many.
pub(crate) async fn of(sessions: &Arc<Sessions>, key: &PostgresKey) -> LockResult<Option<Holder>> {
    let PostgresKey::Lock(key) = key else { return Ok(None) };
    let (class, object, form) = key.in_pg_locks();
    let words = format!(
        "SELECT a.pid, a.application_name, coalesce(a.client_hostname, host(a.client_addr)) \
         FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
         WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {class} \
         AND l.objid = {object} AND l.objsubid = {form} AND l.database = \
         (SELECT oid FROM pg_database WHERE datname = current_database()) \
         ORDER BY a.backend_start LIMIT 1"
    );
    let session = sessions.any().await?;
    let answers = session.words(&words).await?;
    let Some(pid) = column(&answers, 0).and_then(|pid| pid.parse().ok()) else { return Ok(None) };
    let text = |index| column(&answers, index).filter(|text| !text.is_empty()).map(str::to_owned);
    let mut holder = Holder::default();
    holder.pid = Some(pid);
    holder.label = text(1);
    holder.host = text(2);
    Ok(Some(holder))
}
