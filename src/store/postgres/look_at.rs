//! The look at many components.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::connection::Session;
use super::statement::Statement;
use super::{lease_row, life, standing_ttl};
use crate::membership::{Mode, Promise, SeenInstance, Whereabouts};
use crate::store::{Names, Snapshot, StandingIntent};

fn seen_instance(row: &PgRow, component: String) -> Result<SeenInstance, sqlx::Error> {
    Ok(SeenInstance {
        id: row.try_get(14)?,
        component,
        holder: row.try_get(15)?,
        start_time: row.try_get(16)?,
        heartbeat: row.try_get(17)?,
        lasts: row.try_get::<i32, _>(18)?.into(),
        whereabouts: Whereabouts {
            namespace: row.try_get(19)?,
            pod: row.try_get(20)?,
            pod_uid: row.try_get(21)?,
            container: row.try_get(22)?,
            node: row.try_get(23)?,
            address: row.try_get(24)?,
        },
        program_version: row.try_get(25)?,
        healthy: row.try_get(26)?,
        leads: row.try_get(27)?,
        mode: row.try_get::<Option<String>, _>(28)?.and_then(|mode| Mode::parse(&mode)),
        promise: Promise::stored(row.try_get(29)?, row.try_get(30)?),
    })
}

pub(super) async fn looked_at(
    session: &mut Session,
    names: &Names,
    instances: bool,
) -> Result<Snapshot, sqlx::Error> {
    let (table, step) = (&session.table, session.table.step());
    let statement =
        if instances && table.instances { table.sql.look_at_with_instances } else { table.look_at() };
    let query = Statement::new(statement).bind(names.as_slice());
    let rows = session.line().fetch_all(query).await?;
    snapshot(&rows, names, step)
}

fn snapshot(rows: &[PgRow], names: &Names, step: i64) -> Result<Snapshot, sqlx::Error> {
    // There is always one with the clock: an answer without is no look at an empty database.
    if rows.is_empty() {
        return Err(sqlx::Error::RowNotFound);
    }
    let mut out = Snapshot::default();
    for row in rows {
        if row.len() > 14 {
            let instances = out.instances.get_or_insert_default();
            if row.try_get::<Option<i64>, _>(14)?.is_some() {
                instances.push(seen_instance(row, row.try_get(13)?)?);
                continue;
            }
        }
        let Some(name) = row.try_get::<Option<String>, _>(13)? else {
            out.database_now = row.try_get(0)?;
            out.life = life(row, step)?;
            continue;
        };
        // The collation of somebody else's column may take another name for this one.
        if !names.contains(&name) {
            continue;
        }
        if let Some(ttl) = standing_ttl(row)? {
            out.intents.insert(name.clone(), StandingIntent { ttl });
        }
        if let Some(lease) = lease_row(row)? {
            out.rows.insert(name, lease);
        }
    }
    Ok(out)
}
