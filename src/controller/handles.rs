//! What the controller works with: the database, the cluster, and what it says of both.

use std::sync::Arc;

use super::announcer::Announcer;
use super::cluster::Cluster;
use super::database::Database;

pub(super) struct Handles {
    pub(super) database: Arc<Database>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) announcer: Arc<Announcer>,
}
