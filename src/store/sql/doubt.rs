//! What "no row" means, where a race or a lost term does not explain it.

use super::dialect::{About, Dialect};
use super::session::Session;
use super::session::of_term;
use super::suspicion::suppressed;
use super::value::Given;
use crate::election::Expected;
use crate::store::error::StoreError;

/// The inner error: the row is as it was, or something hides it, so the change was suppressed.
pub(super) async fn ask<D: Dialect>(
    place: &D,
    session: &mut Session<D>,
    about: &About<'_>,
) -> Result<Result<(), StoreError>, sqlx::Error> {
    let component = about.component().as_str();
    let of_component = ("component", component.into());
    let (statement, given): (_, Vec<_>) = match about {
        About::Term(term) => (&session.table.sql.still_led, of_term(term).to_vec()),
        About::Take(take) => match take.expected {
            Expected::Missing { .. } => (&session.table.sql.still_missing, vec![of_component]),
            Expected::Row { version, renew_time } => (
                &session.table.sql.still_seen,
                vec![of_component, ("seen_version", version.into()), ("seen_renew_time", renew_time.into())],
            ),
        },
    };
    let given: &Given<'_> = &given;
    let row = session.fetch_one(statement, given).await?;
    if let Err(why) = place.hidden(&row) {
        return Ok(Err(why));
    }
    if !row.yes("same")? {
        return Ok(Ok(()));
    }
    let triggers: Vec<String> =
        row.text_or_none("triggers")?.into_iter().filter(|names| !names.is_empty()).collect();
    Ok(Err(suppressed(place, component, &triggers)))
}
