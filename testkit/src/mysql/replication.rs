//! Asynchronous replicas: one more server that follows from the first command on.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

use super::server::{ADMIN, Builder, Server};

impl Builder {
    /// Logs what replicas must hear, under a number of its own. For a server that has replicas, or is one.
    #[must_use]
    pub fn replicated(self) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mariadb = self.kind.is_mariadb();
        let own = self.option(&format!("server-id={number}")).option("log-bin=binlog");
        if mariadb {
            own.option("binlog-format=ROW").option("log-slave-updates=ON")
        } else {
            own.option("gtid-mode=ON").option("enforce-gtid-consistency=ON")
        }
    }
}

impl Server {
    /// Starts a read-only replica of this server, which must be [`Builder::replicated`].
    ///
    /// # Errors
    /// When it does not come up, or does not get what was written here so far.
    pub async fn replica(&self) -> Result<Self> {
        let replica = Self::builder(self.kind()).replicated().start().await?;
        let (port, password) = (self.port(), self.password());
        let follow = if self.kind().is_mariadb() {
            format!(
                "RESET MASTER;
                 CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = '{ADMIN}',
                     MASTER_PASSWORD = '{password}', MASTER_SSL = 0, MASTER_USE_GTID = slave_pos;
                 START SLAVE"
            )
        } else {
            // What it did itself at its start must not look like something that the other one lacks.
            format!(
                "RESET BINARY LOGS AND GTIDS;
                 CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port},
                     SOURCE_USER = '{ADMIN}', SOURCE_PASSWORD = '{password}', GET_SOURCE_PUBLIC_KEY = 1,
                     SOURCE_AUTO_POSITION = 1;
                 START REPLICA"
            )
        };
        replica.sql(&format!("SET GLOBAL read_only = 1; {follow}")).await?;
        self.caught_up(&replica).await?;
        Ok(replica)
    }

    /// Waits until a replica has everything that was written here so far.
    ///
    /// # Errors
    /// When it does not come; what the replica says is in the message.
    pub async fn caught_up(&self, replica: &Self) -> Result<()> {
        let mariadb = self.kind().is_mariadb();
        let written = if mariadb { "SELECT @@gtid_binlog_pos" } else { "SELECT @@gtid_executed" };
        let written = self.sql(written).await?.replace('\n', "");
        let wait = if mariadb { "MASTER_GTID_WAIT" } else { "WAIT_FOR_EXECUTED_GTID_SET" };
        if replica.sql(&format!("SELECT {wait}('{written}', 30)")).await? != "0" {
            let state = if mariadb { "SHOW SLAVE STATUS" } else { "SHOW REPLICA STATUS" };
            bail!("the replica did not catch up with {written}: {}", replica.sql(state).await?);
        }
        Ok(())
    }

    /// Cuts a replica off from its source: what is written there from now on, it will not have.
    ///
    /// # Errors
    /// When it does not let go.
    pub async fn lag_for_ever(&self) -> Result<()> {
        self.sql(if self.kind().is_mariadb() { "STOP SLAVE" } else { "STOP REPLICA" }).await.map(drop)
    }

    /// Makes a replica a primary that can be written to.
    ///
    /// # Errors
    /// When it does not become one.
    pub async fn promote(&self) -> Result<()> {
        let forget = if self.kind().is_mariadb() {
            "STOP SLAVE; RESET SLAVE ALL"
        } else {
            "STOP REPLICA; RESET REPLICA ALL"
        };
        self.sql(&format!("{forget}; SET GLOBAL read_only = 0")).await.map(drop)
    }
}
