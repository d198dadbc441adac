//! Throw-away MySQL and MariaDB servers and a database of its own for each test.
//!
//! [`shared`] is the one for nearly every test; [`Server::start`] and [`Server::builder`] give one
//! that may be stopped, frozen or set up differently. What is not installed here comes as a tree
//! (`hack/databases.sh`). SQL is run by the program `mariadb`, which speaks to all of them.

mod database;
mod own;
mod replication;
mod server;

pub use database::Database;
pub use server::{Builder, Server, Stop};

use std::fmt;

use anyhow::Result;
use tokio::sync::OnceCell;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    MariaDb10_11,
    MariaDb11_8,
    MySql9,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::MariaDb10_11, Self::MariaDb11_8, Self::MySql9];

    #[must_use]
    pub fn is_mariadb(self) -> bool {
        self != Self::MySql9
    }

    /// Among [`Kind::ALL`].
    fn place(self) -> usize {
        Self::ALL.iter().position(|other| *other == self).expect("ALL has them all")
    }

    fn tree(self) -> &'static str {
        match self {
            Self::MariaDb10_11 => "mariadb-10.11",
            Self::MariaDb11_8 => "mariadb-11.8",
            Self::MySql9 => "mysql-9",
        }
    }

    /// The server's program, and what `--version` says of one that is this kind.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::MariaDb10_11 => ("/usr/sbin/mariadbd", " 10.11."),
            Self::MariaDb11_8 => ("/usr/sbin/mariadbd", " 11.8."),
            Self::MySql9 => ("/usr/sbin/mysqld", "Ver 9."),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MariaDb10_11 => "MariaDB 10.11",
            Self::MariaDb11_8 => "MariaDB 11.8",
            Self::MySql9 => "MySQL 9",
        })
    }
}

/// The server of this kind that the tests of this process share: durable, with a log of every
/// command. Nobody may stop it.
///
/// # Errors
/// When it cannot be started; the message says what is missing.
pub async fn shared(kind: Kind) -> Result<&'static Server> {
    static SHARED: [OnceCell<Server>; 3] =
        [OnceCell::const_new(), OnceCell::const_new(), OnceCell::const_new()];
    SHARED[kind.place()].get_or_try_init(async || Server::start(kind).await).await
}
