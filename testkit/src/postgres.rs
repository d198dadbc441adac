//! Throw-away PostgreSQL servers and a database of its own for each test.
//!
//! [`shared`] is the one for nearly every test; [`Server::start`] and [`Server::builder`]
//! give one that may be stopped, frozen or set up differently. `TEST_POSTGRES_BIN` names the
//! folder of the programs, `TEST_POSTGRES_URL` a running server (a superuser's URL) for
//! [`shared`] to use instead of starting one.

mod database;
pub mod member;
mod own;
mod pgbouncer;
mod programs;
mod server;

pub use database::Database;
pub use pgbouncer::{PgBouncer, PgBouncerBuilder};
pub use programs::folder;
pub use server::{Builder, Server, Stop};

use anyhow::Result;
use tokio::sync::OnceCell;

/// The server that the tests of this process share: durable, password protected, with
/// `pg_stat_statements`. Nobody may stop it.
///
/// # Errors
/// When no server can be started or found; the message says what is missing.
pub async fn shared() -> Result<&'static Server> {
    static SHARED: OnceCell<Server> = OnceCell::const_new();
    SHARED
        .get_or_try_init(async || match std::env::var("TEST_POSTGRES_URL") {
            Ok(url) if !url.is_empty() => Server::existing(&url).await,
            _ => Server::start().await,
        })
        .await
}

/// As [`shared`], but PostgreSQL 18, whatever is installed here (a tree of `hack/databases.sh`).
///
/// # Errors
/// As [`shared`].
pub async fn shared_newest() -> Result<&'static Server> {
    static SHARED: OnceCell<Server> = OnceCell::const_new();
    SHARED.get_or_try_init(async || Server::builder().newest().start().await).await
}
