//! Votes that a held lock does not have: its server was away when the lock was won, still had the
//! owner before, or has lost it since. They are asked for after each extension, so that what a lock
//! survives does not become less the longer it is held.

use std::sync::Arc;

use super::Several;
use super::extend::Extended;
use super::fanout::Fanout;
use super::place::RoundRequests;
use super::vote::Question;
use crate::redlock::renewal::Renewal;
use crate::redlock::servers::ServerId;

impl Several {
    /// Hears out those whose extensions were not waited for, and asks for each missing vote once. Who
    /// does not have it to give is asked again after the next extension.
    pub(super) async fn regain<F>(
        self: Arc<Self>,
        fanout: Fanout<F>,
        mut renewals: Vec<Renewal>,
        extended: Vec<Option<Arc<RoundRequests>>>,
    ) where
        F: Future<Output = (ServerId, Extended)>,
    {
        let heard = |server, (answers, _): Extended| {
            for (renewal, answer) in renewals.iter_mut().zip(answers) {
                renewal.on_answer(server, answer);
            }
        };
        fanout.drain(heard).await;
        for (requests, renewal) in extended.iter().zip(renewals) {
            let Some(requests) = requests else { continue };
            for server in renewal.missing().iter() {
                self.ask_again(requests, server).await;
            }
        }
    }

    async fn ask_again(&self, requests: &Arc<RoundRequests>, server: ServerId) {
        let question = Question::again(requests);
        let asked = self.vote_of(self.member(server), &question);
        // Without an answer the vote may still come. What undoes the lock allows for that.
        let _ = tokio::time::timeout(self.timing.patience, asked).await;
    }
}
