use std::collections::BTreeSet;

use async_trait::async_trait;

use super::MemoryStore;
use crate::election::{ComponentName, TermKey};
use crate::store::error::StoreError;
use crate::store::roster::{self, Rostered};
use crate::store::traits::{Outcome, Roster};

#[async_trait]
impl Roster for MemoryStore {
    async fn read_roster(
        &self,
        component: &ComponentName,
        members: &BTreeSet<String>,
    ) -> Result<Rostered, StoreError> {
        let tables = self.tables();
        let name = component.as_str();
        let all = tables.reports.get(name).into_iter().flatten();
        Ok(Rostered {
            row: tables.rows.get(name).cloned(),
            record: tables.recorded.get(name).cloned(),
            reports: all
                .filter(|(member, _)| members.contains(*member))
                .map(|(member, says)| (member.clone(), says.clone()))
                .collect(),
            wishes: tables
                .wishes
                .get(name)
                .into_iter()
                .flatten()
                .filter(|(member, _)| members.contains(*member))
                .map(|(member, wish)| (member.clone(), wish.clone()))
                .collect(),
        })
    }

    async fn record(&self, term: &TermKey, record: &str) -> Result<Outcome, StoreError> {
        roster::check("record", record)?;
        let mut tables = self.tables();
        let name = term.component.as_str();
        let is_held = tables.rows.get(name).is_some_and(|row| row.is_term(term));
        if is_held {
            tables.recorded.insert(name.to_owned(), record.to_owned());
        }
        Ok(Outcome::of(is_held))
    }

    fn begin_above(&self, component: &ComponentName, version: i64) {
        let mut tables = self.tables();
        let known = tables.above.entry(component.as_str().to_owned()).or_default();
        *known = version.max(*known);
    }

    async fn report(&self, component: &ComponentName, member: &str, says: &str) -> Result<(), StoreError> {
        roster::check("report", says)?;
        let mut tables = self.tables();
        let reports = tables.reports.entry(component.as_str().to_owned()).or_default();
        reports.insert(member.to_owned(), says.to_owned());
        Ok(())
    }

    async fn wish(
        &self,
        component: &ComponentName,
        member: &str,
        wish: Option<&str>,
    ) -> Result<(), StoreError> {
        roster::check("wish", wish.unwrap_or_default())?;
        let mut tables = self.tables();
        let wishes = tables.wishes.entry(component.as_str().to_owned()).or_default();
        match wish {
            Some(wish) => drop(wishes.insert(member.to_owned(), wish.to_owned())),
            None => drop(wishes.remove(member)),
        }
        Ok(())
    }
}
