//! Votes that a held lock does not have: its server was away when the lock was won, still had the
//! owner before, or has lost it since. They are asked for after each extension, so that what a lock
//! survives does not become less the longer it is held.

use std::sync::Arc;

use super::Several;
use super::inquiry::Inquiry;
use super::place::Ballot;
use super::vote::Question;
use crate::redlock::renewal::Renewal;
use crate::redlock::servers::ServerId;
use crate::redlock::tally::Answer;

impl Several {
    /// Hears out those whose extensions were not waited for, and asks for each missing vote once. Who
    /// does not have it to give is asked again after the next extension.
    pub(super) async fn regain<F>(
        self: Arc<Self>,
        inquiry: Inquiry<F>,
        mut renewals: Vec<Renewal>,
        extended: Vec<Option<Arc<Ballot>>>,
    ) where
        F: Future<Output = (ServerId, Vec<Answer>)>,
    {
        let heard = |server, answers: Vec<Answer>| {
            for (renewal, answer) in renewals.iter_mut().zip(answers) {
                renewal.on_answer(server, answer);
            }
        };
        inquiry.hear_out(heard).await;
        for (ballot, renewal) in extended.iter().zip(renewals) {
            let Some(ballot) = ballot else { continue };
            for server in renewal.missing().iter() {
                self.ask_again(ballot, server).await;
            }
        }
    }

    async fn ask_again(&self, ballot: &Arc<Ballot>, server: ServerId) {
        if !ballot.may_be_asked_again(server) {
            return;
        }
        let question = Question::again(ballot);
        let asked = self.vote_of(self.member(server), &question);
        // Without an answer it may still come, which whoever undoes the lock allows for.
        if let Ok(Ok(vote)) = tokio::time::timeout(self.timing.patience, asked).await {
            ballot.is_answered(server, &vote);
        }
    }
}
