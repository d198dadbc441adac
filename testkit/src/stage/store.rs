//! The database of a stage, and what of it has to be in the cluster before anything else.

use std::os::unix::fs::chown;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::rows::Place;
use crate::node::{ADDRESS, Node};
use crate::postgres::Server;
use crate::repository;

/// As which user the image runs.
const USER: u32 = 65532;
/// Where pods find the PostgreSQL server.
pub const PORT: u16 = 5432;
/// Roles of the PostgreSQL database: who owns the tables, who reads them for the controller, and
/// whom the participants are.
const ROLES: [&str; 3] = ["leases_owner", "leases_controller", "discovery"];

/// Where the rows of a stage are.
#[derive(Debug)]
pub enum Store {
    /// A file in a folder of the node.
    Sqlite { folder: PathBuf },
    /// A server beside the node, with TLS.
    Postgres { server: Box<Server>, passwords: [String; 3] },
}

impl Store {
    /// A file in a new folder that the node's volumes may use.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn sqlite(node: &Node) -> Result<Self> {
        let folder = node.host_folder().join(format!("leases-{:08x}", fastrand::u32(..)));
        std::fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // No kubelet changes the owner of a hostPath volume.
        chown(&folder, Some(USER), Some(USER))?;
        Ok(Self::Sqlite { folder })
    }

    /// A new server with a database, its owner, and a role each for controller and participants,
    /// which may do nothing yet. Pods reach it once somebody calls [`Node::expose`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn postgres() -> Result<Self> {
        let server = Box::new(Server::builder().tls().start().await?);
        let passwords = ROLES.map(|_| std::iter::repeat_with(fastrand::alphanumeric).take(20).collect());
        let [owner, controller, participant] = ROLES;
        for (role, password) in ROLES.iter().zip::<&[String; 3]>(&passwords) {
            server.psql(&format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'")).await?;
        }
        server.psql(&format!("CREATE DATABASE leases OWNER {owner}")).await?;
        server
            .psql(&format!(
                "REVOKE CONNECT ON DATABASE leases FROM PUBLIC;
                 GRANT CONNECT ON DATABASE leases TO {controller}, {participant}"
            ))
            .await?;
        Ok(Self::Postgres { server, passwords })
    }

    /// The folder `demo/NAME` and the chart's name for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }

    /// Where this machine sees the rows.
    ///
    /// # Errors
    /// When a path is no text.
    pub fn place(&self) -> Result<Place> {
        Ok(match self {
            Self::Sqlite { folder } => Place::Sqlite(folder.join("component-lease.db")),
            Self::Postgres { server, .. } => {
                let authority = server.authority().context("a server with TLS has an authority")?;
                let authority = authority.to_str().context("a path that is no text")?;
                Place::Postgres(format!(
                    "{}?sslmode=verify-full&sslrootcert={authority}",
                    server.url("leases")
                ))
            }
        })
    }

    /// The manifests that have to be in a namespace before chart and program: the volume, or the
    /// secrets with the URLs and the authority's certificate.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn manifests(&self, namespace: &str) -> Result<String> {
        match self {
            Self::Sqlite { folder } => {
                let file = repository().join("demo/sqlite/volume.yaml");
                let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                let folder = folder.to_str().context("a path that is no text")?;
                // A volume belongs to no namespace: the name has to be one of its own.
                let volume = format!("leases-{namespace}");
                Ok(text
                    .replace("/var/lib/component-lease-demo", folder)
                    .replace("component-lease-demo", &volume))
            }
            Self::Postgres { server, passwords } => {
                let authority = server.authority().context("a server with TLS has an authority")?;
                let certificate = std::fs::read_to_string(authority)?;
                let mut objects = vec![serde_json::json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "database-ca"},
                    "data": {"ca.crt": certificate},
                })];
                let address = ADDRESS.map(|part| part.to_string()).join(".");
                for (role, password) in ROLES.iter().zip::<&[String; 3]>(passwords) {
                    let url = format!(
                        "postgres://{role}:{password}@{address}:{PORT}/leases\
                         ?sslmode=verify-full&sslrootcert=/etc/component-lease/tls/ca.crt"
                    );
                    objects.push(serde_json::json!({
                        "apiVersion": "v1", "kind": "Secret",
                        "metadata": {"name": format!("database-{}", role.replace('_', "-"))},
                        "stringData": {"url": url},
                    }));
                }
                let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
                Ok(list.to_string())
            }
        }
    }

    /// Gives controller and participants the rights that `component-lease migrate` printed, and
    /// no others.
    ///
    /// # Errors
    /// When the database refuses, or nothing was printed.
    pub async fn grant(&self, printed: &str) -> Result<()> {
        let Self::Postgres { server, passwords } = self else { return Ok(()) };
        let [owner, controller, participant] = ROLES;
        // No member of a database has its lease here.
        let needed = |line: &&str| line.starts_with("GRANT ") && !line.ends_with("TO my_member;");
        let grants: Vec<&str> = printed.lines().filter(needed).collect();
        anyhow::ensure!(!grants.is_empty(), "`component-lease migrate` printed no GRANT: {printed}");
        let grants =
            grants.join("\n").replace("my_participant", participant).replace("my_controller", controller);
        let url = server.url_as(owner, &passwords[0], "leases");
        let Place::Postgres(verified) = self.place()? else { unreachable!("it is PostgreSQL") };
        let parameters = verified.split_once('?').map_or("", |(_, parameters)| parameters);
        let mut session = PgConnection::connect(&format!("{url}?{parameters}")).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(grants)).execute(&mut session).await?;
        session.close().await?;
        Ok(())
    }
}
