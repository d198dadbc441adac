//! A participant with its own SQL, as the original proposal words it: INSERT to win, renew by holder
//! alone, seize what the database's clock calls expired. Its statements arrive at once or never.

use component_lease::election::LeaseRow;

use super::sim::{Real, SECOND, Sim, Working};

#[derive(Debug, Clone)]
pub(super) struct Foreign {
    name: String,
    /// Some raise the version at each renewal.
    bumps: bool,
    pub(super) working: Option<Working>,
}

impl Foreign {
    pub(super) fn new(number: usize) -> Self {
        Self { name: format!("foreign-{number}"), bumps: number.is_multiple_of(2), working: None }
    }

    /// One turn of its loop; when the next is due.
    pub(super) fn act(&mut self, sim: &mut Sim) -> Result<Real, String> {
        let ttl = sim.ttl();
        let now = sim.database_now();
        let again = sim.now + ttl / 3;
        // Stops by its own clock when it could not renew.
        if self.working.is_some_and(|working| working.until <= sim.now) {
            self.working = None;
        }
        if sim.delay().is_none() {
            return Ok(again);
        }
        let ttl_ms = i64::from(sim.setup.ttl) * 1000;
        let mine = |version| LeaseRow {
            holder: self.name.clone(),
            lease_time: now,
            renew_time: now,
            version,
            ttl: i64::from(sim.setup.ttl),
        };
        let (after, take) = match sim.row.as_ref() {
            None => (mine(1), true),
            Some(row) if row.holder == self.name => {
                let version = row.version + i64::from(self.bumps);
                (LeaseRow { lease_time: row.lease_time, ..mine(version) }, false)
            }
            Some(row) if row.renew_time < now - ttl_ms.max(row.ttl * 1000) => (mine(row.version + 1), true),
            Some(_) => {
                self.working = None;
                return Ok(again);
            }
        };
        let version = after.version;
        sim.write(after, take)?;
        let until = sim.now + ttl * 9 / 10;
        self.working = Some(Working { version, until });
        // Some die without a word and come back.
        if sim.rng.u32(..20) == 0 {
            self.working = None;
            return Ok(sim.now + ttl * 2 + sim.rng.u64(0..10 * SECOND));
        }
        Ok(again)
    }
}
