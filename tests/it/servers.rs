//! Servers of one kind or another, as the tests of what happens to databases need them.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use component_lease_testkit::{mysql, postgres, wait};
use sqlx::{Connection, Executor, MySqlConnection, PgConnection};

use crate::store_mysql::SEE_NEW_TRANSACTIONS;

/// Which server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Make {
    Postgres,
    Postgres18,
    MySql(mysql::Kind),
}

/// A server of a test's own, with a database that has its copies on the replicas.
pub(crate) enum Machine {
    Postgres(postgres::Server),
    MySql(mysql::Server),
}

/// The database on [`Machine::MySql`]. On PostgreSQL it is the one that every server has.
const NAME: &str = "failover";

impl Machine {
    pub(crate) async fn start(make: Make) -> Self {
        match make {
            Make::Postgres => Self::Postgres(postgres::Server::start().await.unwrap()),
            Make::Postgres18 => Self::Postgres(postgres::Server::builder().newest().start().await.unwrap()),
            Make::MySql(kind) => {
                let server = mysql::Server::builder(kind).replicated().start().await.unwrap();
                server.sql(&format!("CREATE DATABASE {NAME}")).await.unwrap();
                Self::MySql(server)
            }
        }
    }

    /// The administrator's.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Postgres(server) => server.superuser_url().to_owned(),
            Self::MySql(server) => server.url(NAME),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Postgres(server) => server.port(),
            Self::MySql(server) => server.port(),
        }
    }

    /// Through a proxy on this machine.
    pub(crate) fn url_through(&self, port: u16) -> String {
        match self {
            Self::Postgres(server) => server.url_through(port, "postgres"),
            Self::MySql(server) => server.url_through(port, NAME),
        }
    }

    pub(crate) async fn sql(&self, sql: &str) -> String {
        match self {
            Self::Postgres(server) => server.psql(sql).await.unwrap(),
            Self::MySql(server) => server.sql(&format!("USE {NAME}; {sql}")).await.unwrap(),
        }
    }

    /// Those that `migrate` made.
    pub(crate) async fn drop_tables(&self) {
        let here = match self {
            Self::Postgres(_) => "current_schema()",
            Self::MySql(_) => "DATABASE()",
        };
        let names = format!(
            "SELECT table_name FROM information_schema.tables
             WHERE table_schema = {here} AND table_name LIKE 'component_%'"
        );
        let tables = self.sql(&names).await.replace('\n', ", ");
        self.sql(&format!("DROP TABLE {tables} CASCADE")).await;
    }

    /// In order.
    pub(crate) async fn stop(&self) {
        match self {
            Self::Postgres(server) => server.stop(postgres::Stop::Fast).await.unwrap(),
            Self::MySql(server) => server.stop(mysql::Stop::Fast).await.unwrap(),
        }
    }

    /// As if its machine had lost its power.
    pub(crate) async fn crash(&self) {
        match self {
            Self::Postgres(server) => server.stop(postgres::Stop::Immediate).await.unwrap(),
            Self::MySql(server) => server.stop(mysql::Stop::Immediate).await.unwrap(),
        }
    }

    pub(crate) async fn start_again(&self) {
        match self {
            Self::Postgres(server) => server.start_again().await.unwrap(),
            Self::MySql(server) => server.start_again().await.unwrap(),
        }
    }

    /// It does nothing at all until it is thawed, and every connection stays open.
    pub(crate) fn freeze(&self) {
        match self {
            Self::Postgres(server) => server.freeze_all().unwrap(),
            Self::MySql(server) => server.freeze_all().unwrap(),
        }
    }

    pub(crate) fn thaw(&self) {
        match self {
            Self::Postgres(server) => server.thaw_all().unwrap(),
            Self::MySql(server) => server.thaw_all().unwrap(),
        }
    }

    /// A standby or replica that follows asynchronously and has all that was written so far.
    pub(crate) async fn standby(&self) -> Self {
        let standby = match self {
            Self::Postgres(server) => Self::Postgres(server.standby().await.unwrap()),
            Self::MySql(server) => Self::MySql(server.replica().await.unwrap()),
        };
        self.caught_up(&standby).await;
        standby
    }

    pub(crate) async fn caught_up(&self, standby: &Self) {
        match (self, standby) {
            (Self::Postgres(primary), Self::Postgres(standby)) => primary.caught_up(standby).await.unwrap(),
            (Self::MySql(primary), Self::MySql(replica)) => primary.caught_up(replica).await.unwrap(),
            _ => unreachable!("a standby is of its primary's kind"),
        }
    }

    /// What its primary writes from now on, it will not have.
    pub(crate) async fn lag_for_ever(&self) {
        match self {
            Self::Postgres(server) => server.lag_for_ever().await.unwrap(),
            Self::MySql(server) => server.lag_for_ever().await.unwrap(),
        }
    }

    pub(crate) async fn promote(&self) {
        match self {
            Self::Postgres(server) => server.promote().await.unwrap(),
            Self::MySql(server) => server.promote().await.unwrap(),
        }
    }

    /// Keeps a copy of the files. The server must be stopped.
    pub(crate) fn snapshot(&self) {
        match self {
            Self::Postgres(server) => server.snapshot().unwrap(),
            Self::MySql(server) => server.snapshot().unwrap(),
        }
    }

    /// Puts the copy back. The server must be stopped.
    pub(crate) fn restore(&self) {
        match self {
            Self::Postgres(server) => server.restore().unwrap(),
            Self::MySql(server) => server.restore().unwrap(),
        }
    }

    /// What an operator does to keep a primary from being written to.
    pub(crate) async fn set_read_only(&self, read_only: bool) {
        match self {
            Self::Postgres(server) => {
                let value = if read_only { "on" } else { "off" };
                let set = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
                server.psql(&set).await.unwrap();
                server.psql("SELECT pg_reload_conf()").await.unwrap();
            }
            Self::MySql(server) => {
                let value = i32::from(read_only);
                // A user who may write all the same would.
                let set = format!(
                    "SET GLOBAL {} = {value}",
                    if server.kind().is_mariadb() { "read_only" } else { "super_read_only" }
                );
                server.sql(&set).await.unwrap();
                server.sql(&format!("SET GLOBAL read_only = {value}")).await.unwrap();
            }
        }
    }

    /// The URL of a user who may do what a participant needs, with the one connection that it cannot do without.
    pub(crate) async fn limited_user(&self) -> String {
        match self {
            Self::Postgres(server) => {
                let user = "CREATE ROLE app LOGIN PASSWORD 'pass-word' CONNECTION LIMIT 1;
                            GRANT ALL ON ALL TABLES IN SCHEMA public TO app";
                server.psql(user).await.unwrap();
                server.url_as("app", "pass-word", "postgres")
            }
            Self::MySql(server) => {
                let user = format!(
                    "CREATE USER 'app'@'%' IDENTIFIED BY 'pass-word' WITH MAX_USER_CONNECTIONS 1;
                     GRANT SELECT, INSERT, UPDATE ON {NAME}.* TO 'app'@'%'"
                );
                server.sql(&user).await.unwrap();
                server.url_as("app", "pass-word", NAME)
            }
        }
    }

    /// Until a participant has all the connections of [`Machine::limited_user`].
    pub(crate) async fn until_no_room(&self) {
        let sql = match self {
            Self::Postgres(_) => "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'",
            Self::MySql(_) => "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'app'",
        };
        wait::until_true(Duration::from_secs(30), "no room", async || self.sql(sql).await == "1")
            .await
            .unwrap();
    }

    /// Somebody else's transaction that holds every lease's row until the value is dropped.
    pub(crate) async fn lock_rows(&self) -> Box<dyn Any + Send> {
        const LOCK: &str = "SELECT component_name FROM component_lease FOR UPDATE";
        match self {
            Self::Postgres(_) => {
                let mut other = PgConnection::connect(&self.url()).await.unwrap();
                other.execute("BEGIN").await.unwrap();
                other.execute(LOCK).await.unwrap();
                Box::new(other)
            }
            Self::MySql(_) => {
                let mut other = MySqlConnection::connect(&self.url()).await.unwrap();
                other.execute("BEGIN").await.unwrap();
                other.execute(LOCK).await.unwrap();
                Box::new(other)
            }
        }
    }

    /// How many statements wait for a row's lock.
    pub(crate) async fn waiting_for_locks(&self) -> usize {
        let sql = match self {
            Self::Postgres(_) => {
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'".to_owned()
            }
            Self::MySql(_) => format!(
                "{SEE_NEW_TRANSACTIONS} SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'"
            ),
        };
        self.sql(&sql).await.parse().unwrap()
    }

    /// From now on (until 0), what begins a term takes so many seconds more, or what renews one.
    pub(crate) async fn slow_down(&self, seconds: f64, renewals: bool) {
        let changes = if renewals { "=" } else { "<>" };
        match self {
            // In the commit itself.
            Self::Postgres(_) => {
                let sql = format!(
                    "SET client_min_messages = warning;
                     DROP TRIGGER IF EXISTS slow ON component_lease;
                     CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;
                     CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON component_lease DEFERRABLE INITIALLY DEFERRED
                     FOR EACH ROW WHEN (NEW.version {changes} OLD.version AND {seconds} > 0) EXECUTE FUNCTION slow()"
                );
                self.sql(&sql).await;
            }
            Self::MySql(_) => {
                let sql = format!(
                    "DROP TRIGGER IF EXISTS slow;
                     CREATE TRIGGER slow BEFORE UPDATE ON component_lease FOR EACH ROW
                     SET @component_lease_test = IF(NEW.version {changes} OLD.version, SLEEP({seconds}), 0)"
                );
                self.sql(&sql).await;
            }
        }
    }
}

pub(crate) const POSTGRES: Make = Make::Postgres;
pub(crate) const POSTGRES_18: Make = Make::Postgres18;
pub(crate) const MARIADB: Make = Make::MySql(mysql::Kind::MariaDb11_8);
pub(crate) const MYSQL: Make = Make::MySql(mysql::Kind::MySql9);

impl fmt::Display for Make {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres => f.write_str("PostgreSQL"),
            Self::Postgres18 => f.write_str("PostgreSQL 18"),
            Self::MySql(kind) => kind.fmt(f),
        }
    }
}

/// Runs a scenario on each of these servers at once, since most of it is waiting. On a thread of its
/// own each, so that nobody's files keep somebody else's participants from renewing.
pub(crate) fn on_each<F: Future<Output = ()>>(servers: &[Make], scenario: fn(Make) -> F) {
    let run = |make: Make| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(scenario(make));
    };
    std::thread::scope(|scope| {
        let start = |make: &Make| {
            let (make, name) = (*make, make.to_string());
            (make, std::thread::Builder::new().name(name).spawn_scoped(scope, move || run(make)).unwrap())
        };
        let runs: Vec<_> = servers.iter().map(start).collect();
        let failed = runs.into_iter().filter_map(|(make, run)| run.join().is_err().then(|| make.to_string()));
        let failed: Vec<_> = failed.collect();
        assert!(failed.is_empty(), "failed on {failed:?}: see the panics of the threads of these names");
    });
}

/// Makes a test of each scenario, on these servers.
macro_rules! on_servers {
    ($($servers:expr => $($name:ident),* $(,)?;)*) => {
        mod on_servers {
            use crate::servers::*;
            $($(#[test] fn $name() { on_each(&$servers, super::$name); })*)*
        }
    };
}
pub(crate) use on_servers;
