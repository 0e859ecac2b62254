//! The log of a tier about a server with another configuration.

use std::{future, path::Path, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::configuration::{ConfigDifference, SectionDigests};

/// Logs how the configurations of the server and of this process differ, once for each difference.
pub(super) struct DifferenceLog<'s> {
    socket: &'s Path,
    /// That of the server; `None` until it is known.
    server: watch::Receiver<Option<Arc<SectionDigests>>>,
    own: watch::Receiver<Arc<SectionDigests>>,
    logged: Option<ConfigDifference>,
}

/// Time without a change before both are compared. A changed file is noticed by both within four
/// seconds, and not at the same moment.
const SETTLING_TIME: Duration = Duration::from_secs(6);

impl<'s> DifferenceLog<'s> {
    pub(super) fn new(
        socket: &'s Path,
        server: watch::Receiver<Option<Arc<SectionDigests>>>,
        own: watch::Receiver<Arc<SectionDigests>>,
    ) -> Self {
        Self { socket, server, own, logged: None }
    }

    /// Compares them after each change. Never returns.
    pub(super) async fn run(&mut self) {
        loop {
            while timeout(SETTLING_TIME, self.changed()).await.is_ok() {}
            self.log();
            self.changed().await;
        }
    }

    async fn changed(&mut self) {
        let changed = tokio::select! {
            changed = self.server.changed() => changed,
            changed = self.own.changed() => changed,
        };
        if changed.is_err() {
            // This process ends.
            future::pending().await
        }
    }

    fn log(&mut self) {
        let Some(server) = self.server.borrow().clone() else { return };
        let difference = self.own.borrow().difference(&server);
        if difference == self.logged {
            return;
        }
        let socket = self.socket.display();
        match &difference {
            Some(difference) => tracing::warn!(
                "the server of the feed at {socket} has another configuration: {difference}; this \
                 process decides by its own: unless that is intended, use the same files and \
                 environment for both, and reload both"
            ),
            None => tracing::info!("the server of the feed at {socket} has the same configuration"),
        }
        self.logged = difference;
    }
}
