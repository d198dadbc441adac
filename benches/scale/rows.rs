//! The database: rows of others, those of the resources, and what participants write into them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use component_lease_testkit::postgres::Server;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::cluster::{NAMESPACE, lease, pod};

/// Seconds: nothing expires here.
const TTL: i32 = 600;

pub(crate) struct Rows {
    server: Server,
}

impl Rows {
    /// PostgreSQL with the tables that this program makes, and so many rows that no resource claims.
    pub(crate) async fn start(program: &Path, others: usize) -> Result<Self> {
        let server = Server::builder().start().await?;
        let rows = Self { server };
        let made = Command::new(program)
            .args(["migrate", "--first-install"])
            .env("COMPONENT_LEASE_DATABASE_URL", rows.url())
            .output()
            .await?;
        ensure!(made.status.success(), "migrate: {}", String::from_utf8_lossy(&made.stderr));
        let fill = format!(
            "INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
             SELECT 'others/component-' || n, 'component-' || n || '-7d9c5b6f4-x2v9k_0a1b2c3d_4e5f6a7b',
                    1764000000000, 1764000000000, n, 15
             FROM generate_series(1, {others}) AS n"
        );
        let mut admin = rows.connect().await?;
        // Nobody listens yet, and a hundred thousand notifications would be kept.
        admin.execute("SET component_lease.notifies = 'later'").await?;
        admin.execute(sqlx::AssertSqlSafe(fill)).await?;
        admin.execute("ANALYZE component_lease").await?;
        Ok(rows)
    }

    pub(crate) fn url(&self) -> &str {
        self.server.superuser_url()
    }

    async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(self.url()).await?)
    }

    /// A participant in each pod, of which the first leads.
    pub(crate) async fn fill(&self, uids: &BTreeMap<String, String>, pods: usize) -> Result<()> {
        let mut admin = self.connect().await?;
        let (mut keys, mut names, mut of, mut holders) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let leases = uids.len() / pods;
        for number in 0..leases {
            for which in 0..pods {
                let name = pod(number, which);
                keys.push(key(number));
                holders.push(holder(uids, number, which));
                of.push(uids.get(&name).cloned().unwrap_or_default());
                names.push(name);
            }
        }
        sqlx::query(
            "INSERT INTO component_instance (component_name, instance, start_time, heartbeat, heartbeat_ttl, namespace,
                                             pod, pod_uid, mode, priority, healthy)
             SELECT c, h, t.ms, t.ms, 3600, $5, p, u, 'embedded', 100, true
             FROM unnest($1::varchar[], $2::varchar[], $3::varchar[], $4::varchar[]) AS n (c, h, p, u),
                  (SELECT (extract(epoch FROM now()) * 1000)::bigint AS ms) AS t",
        )
        .bind(keys)
        .bind(holders)
        .bind(names)
        .bind(of)
        .bind(NAMESPACE)
        .execute(&mut admin)
        .await?;
        let keys: Vec<String> = (0..leases).map(key).collect();
        let holders: Vec<String> = (0..leases).map(|number| holder(uids, number, 0)).collect();
        sqlx::query(
            "WITH taken AS (
                 INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
                 SELECT c, h, t.ms, t.ms, 1, $3
                 FROM unnest($1::varchar[], $2::varchar[]) AS n (c, h),
                      (SELECT (extract(epoch FROM now()) * 1000)::bigint AS ms) AS t
                 RETURNING *)
             INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
             SELECT component_name, version, holder_id, lease_time, ttl FROM taken",
        )
        .bind(keys)
        .bind(holders)
        .bind(TTL)
        .execute(&mut admin)
        .await?;
        admin.execute("ANALYZE component_lease; ANALYZE component_instance").await?;
        Ok(())
    }

    /// The first `count` resources get the pod of this number as their leader, all at once; the moment just before.
    pub(crate) async fn hand_over(
        &self,
        uids: &BTreeMap<String, String>,
        count: usize,
        leader: usize,
    ) -> Result<Instant> {
        let mut admin = self.connect().await?;
        let keys: Vec<String> = (0..count).map(key).collect();
        let holders: Vec<String> = (0..count).map(|number| holder(uids, number, leader)).collect();
        let began = Instant::now();
        let changed = sqlx::query(
            "WITH taken AS (
                 UPDATE component_lease AS l
                 SET holder_id = n.h, lease_time = t.ms, renew_time = greatest(t.ms, l.renew_time + 1),
                     version = l.version + 1
                 FROM unnest($1::varchar[], $2::varchar[]) AS n (c, h),
                      (SELECT (extract(epoch FROM now()) * 1000)::bigint AS ms) AS t
                 WHERE l.component_name = n.c
                 RETURNING l.*)
             INSERT INTO component_lease_history (component_name, version, holder_id, lease_time, ttl)
             SELECT component_name, version, holder_id, lease_time, ttl FROM taken",
        )
        .bind(keys)
        .bind(holders)
        .execute(&mut admin)
        .await?;
        ensure!(changed.rows_affected() == count as u64, "{} rows changed", changed.rows_affected());
        Ok(began)
    }

    /// Renews every row of a resource once in ten seconds, until it is aborted.
    pub(crate) fn renew_all(&self) -> JoinHandle<Result<()>> {
        let url = self.url().to_owned();
        tokio::spawn(async move {
            let mut admin = PgConnection::connect(&url).await?;
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            for turn in 0.. {
                ticks.tick().await;
                sqlx::query(
                    "UPDATE component_lease SET renew_time = greatest((extract(epoch FROM now()) * 1000)::bigint, renew_time + 1)
                     WHERE component_name LIKE $1",
                )
                .bind(format!("{NAMESPACE}/lease-%{}", turn % 10))
                .execute(&mut admin)
                .await?;
            }
            Ok(())
        })
    }
}

fn key(number: usize) -> String {
    format!("{NAMESPACE}/{}", lease(number))
}

/// As our own programs write it.
fn holder(uids: &BTreeMap<String, String>, number: usize, which: usize) -> String {
    let name = pod(number, which);
    let uid = uids.get(&name).and_then(|uid| uid.get(..8)).unwrap_or("00000000");
    format!("{name}_{uid}_{number:08x}")
}
