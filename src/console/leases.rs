//! Where the leases are: a database that was named, or a cluster.

use std::sync::Arc;

use super::args::Place;
use super::cluster::Cluster;
use super::database::Database;
use super::verbs::{Asking, Ended, Told};
use super::view::LeaseView;
use crate::process::args::DatabaseArgs;
use crate::process::{ExitCode, Failure};
use crate::store::Directory;

/// How a database that was named is opened.
pub type Open<'a> = &'a (dyn Fn(DatabaseArgs) -> Result<Arc<dyn Directory>, Failure> + Sync);

/// Where the leases are.
pub(super) enum Leases {
    Database(Database),
    Cluster(Cluster),
}

impl Leases {
    pub(super) async fn at(place: Place, open: Open<'_>) -> Result<Self, Failure> {
        if place.is_database() {
            if place.context.is_some() {
                return Err(Failure::new(
                    ExitCode::Usage,
                    "--context names a cluster, and a database is named too",
                ));
            }
            let Place { namespace, database, .. } = place;
            return Ok(Self::Database(Database { store: open(database)?, namespace }));
        }
        Cluster::new(place.context, place.namespace).await.map(Self::Cluster)
    }

    /// Those of these names; all where none is given.
    pub(super) async fn views(&self, names: &[String], everywhere: bool) -> Result<Vec<LeaseView>, Failure> {
        let mut views = Vec::new();
        match self {
            Self::Database(database) if names.is_empty() => return database.all().await,
            Self::Cluster(cluster) if names.is_empty() => return cluster.all(everywhere).await,
            _ => {}
        }
        for name in names {
            views.push(self.one(name).await?);
        }
        Ok(views)
    }

    pub(super) async fn one(&self, name: &str) -> Result<LeaseView, Failure> {
        match self {
            Self::Database(database) => database.one(&database.component(name)?).await,
            Self::Cluster(cluster) => cluster.one(name).await,
        }
    }

    pub(super) async fn ask(&self, asking: &Asking, told: &Told<'_>) -> Result<Ended, Failure> {
        match self {
            Self::Database(database) => database.ask(&asking.lease, asking, told).await,
            Self::Cluster(cluster) => cluster.ask(&asking.lease, asking, told).await,
        }
    }

    /// As a person would name this lease here.
    pub(super) fn called(&self, view: &LeaseView) -> String {
        match self {
            Self::Database(database) => database.called(&view.component),
            Self::Cluster(_) => view.title(),
        }
    }
}
