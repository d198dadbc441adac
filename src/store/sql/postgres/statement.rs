//! How a statement is sent: prepared, with its values beside it, on a session of our own; or as one text with
//! the values in it, where a pooler hands out sessions by the transaction (`pooler.rs`). Such a text is one
//! transaction and one round trip, so a client that freezes behind it holds no lock.
//!
//! The text is ASCII whatever the values are, so it means the same in every encoding that the session may
//! have been left in, and with every setting of `standard_conforming_strings` and `backslash_quote`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::task::{Context, Poll};

use sqlx::postgres::{PgConnection, PgQueryResult, PgRow};
use sqlx::{AssertSqlSafe, Either, Executor};

use super::pooler::How;

/// Stands for `$1` and so on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Text(Option<&'a str>),
    Texts(&'a [String]),
    Long(Option<i64>),
    Int(i32),
    Bool(Option<bool>),
}

macro_rules! values {
    ($($from:ty => |$value:ident| $to:expr;)*) => {
        $(impl<'a> From<$from> for Value<'a> {
            fn from($value: $from) -> Self {
                $to
            }
        })*
    };
}

values! {
    &'a str => |value| Self::Text(Some(value));
    &'a String => |value| Self::Text(Some(value));
    &'a Option<String> => |value| Self::Text(value.as_deref());
    Option<&'a str> => |value| Self::Text(value);
    &'a [String] => |value| Self::Texts(value);
    i64 => |value| Self::Long(Some(value));
    Option<i64> => |value| Self::Long(value);
    i32 => |value| Self::Int(value);
    bool => |value| Self::Bool(Some(value));
    Option<bool> => |value| Self::Bool(value);
}

/// One statement with its values.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    sql: Cow<'static, str>,
    values: Vec<Value<'a>>,
}

impl<'a> Statement<'a> {
    /// `sql` is ours, and no value is a part of it.
    pub(super) fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self { sql: sql.into(), values: Vec::new() }
    }

    pub(super) fn bind(mut self, value: impl Into<Value<'a>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// With the values in it.
    pub(super) fn text(&self, literals: Literals) -> Result<String, sqlx::Error> {
        let mut out = String::with_capacity(self.sql.len() + 64 * self.values.len());
        let mut rest = &*self.sql;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let number: usize = after[..digits].parse().unwrap_or_default();
            let value = number.checked_sub(1).and_then(|index| self.values.get(index));
            literals.write(value.ok_or_else(|| unsent("a statement has a value too few"))?, &mut out)?;
            rest = &after[digits..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn unsent(why: &str) -> sqlx::Error {
    sqlx::Error::Encode(why.into())
}

/// How characters that are not ASCII are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Literals {
    /// By their numbers: the server translates them into its encoding.
    #[default]
    Characters,
    /// By their bytes in UTF-8, for a database that has no encoding (`SQL_ASCII`).
    Bytes,
}

impl Literals {
    fn write(self, value: &Value<'_>, out: &mut String) -> Result<(), sqlx::Error> {
        // Writing to a string never fails.
        let _ = match value {
            Value::Text(None) => write!(out, "NULL::pg_catalog.text"),
            Value::Text(Some(text)) => {
                self.quote(text, out)?;
                write!(out, "::pg_catalog.text")
            }
            Value::Texts(texts) => {
                out.push_str("ARRAY[");
                for (index, text) in texts.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    self.quote(text, out)?;
                }
                write!(out, "]::pg_catalog.text[]")
            }
            Value::Long(None) => write!(out, "NULL::pg_catalog.int8"),
            // In quotes, as a sign would bind less tightly than what follows.
            Value::Long(Some(number)) => write!(out, "'{number}'::pg_catalog.int8"),
            Value::Int(number) => write!(out, "'{number}'::pg_catalog.int4"),
            Value::Bool(None) => write!(out, "NULL::pg_catalog.bool"),
            Value::Bool(Some(is)) => write!(out, "{is}"),
        };
        Ok(())
    }

    /// Whatever could end a literal or begin an escape is written by its number: between the quotes
    /// stand neither a quote nor a backslash that is not ours.
    fn quote(self, text: &str, out: &mut String) -> Result<(), sqlx::Error> {
        out.push_str("E'");
        for character in text.chars() {
            let _ = match character {
                '\0' => return Err(unsent("a text has a NUL in it, which PostgreSQL cannot hold")),
                '\'' | '\\' | '\x01'..='\x1f' | '\x7f' => write!(out, "\\x{:02x}", u32::from(character)),
                ' '..='~' => write!(out, "{character}"),
                _ if self == Self::Bytes => {
                    let mut bytes = [0; 4];
                    let mut bytes = character.encode_utf8(&mut bytes).bytes();
                    bytes.try_for_each(|byte| write!(out, "\\x{byte:02x}"))
                }
                _ => write!(out, "\\U{:08x}", u32::from(character)),
            };
        }
        out.push('\'');
        Ok(())
    }
}

/// What the last statement of a text answered.
#[derive(Debug, Default)]
struct Answer {
    rows: Vec<PgRow>,
    affected: u64,
}

/// A connection, and how statements are sent on it.
pub(super) struct Line<'c> {
    pub(super) connection: &'c mut PgConnection,
    pub(super) how: &'c How,
}

impl Line<'_> {
    /// How many rows were changed.
    pub(super) async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, sqlx::Error> {
        Ok(self.send(statement).await?.affected)
    }

    pub(super) async fn fetch_all(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, sqlx::Error> {
        Ok(self.send(statement).await?.rows)
    }

    /// What is asked now and then: a text everywhere, which takes one round trip without being prepared.
    pub(super) async fn ask(&mut self, statement: Statement<'_>) -> Result<PgRow, sqlx::Error> {
        first(self.send_text(&statement).await?)
    }

    pub(super) async fn ask_all(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, sqlx::Error> {
        Ok(self.send_text(&statement).await?.rows)
    }

    /// As [`Line::ask`], for what changes rows.
    pub(super) async fn run(&mut self, statement: Statement<'_>) -> Result<u64, sqlx::Error> {
        Ok(self.send_text(&statement).await?.affected)
    }

    /// Several statements without values. (A `$` of theirs is a part of them.)
    pub(super) async fn script(&mut self, sql: impl Into<Cow<'static, str>>) -> Result<(), sqlx::Error> {
        self.connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.into()))).await.map(drop)
    }

    async fn send(&mut self, statement: Statement<'_>) -> Result<Answer, sqlx::Error> {
        if self.how.is_shared() {
            return self.send_text(&statement).await;
        }
        let mut query = match statement.sql {
            Cow::Borrowed(sql) => sqlx::query(sql),
            Cow::Owned(sql) => sqlx::query(AssertSqlSafe(sql)),
        };
        for value in statement.values {
            query = match value {
                Value::Text(value) => query.bind(value),
                Value::Texts(value) => query.bind(value),
                Value::Long(value) => query.bind(value),
                Value::Int(value) => query.bind(value),
                Value::Bool(value) => query.bind(value),
            };
        }
        let mut stream = self.connection.fetch_many(query);
        last(|context| stream.as_mut().poll_next(context), 1).await
    }

    async fn send_text(&mut self, statement: &Statement<'_>) -> Result<Answer, sqlx::Error> {
        let (before, statements) = self.how.before();
        // Semicolons of a value are none.
        let statements = statements + statement.sql.matches(';').count() + 1;
        let text = format!("{before}{}", statement.text(self.how.literals())?);
        let mut stream = self.connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(text)));
        last(|context| stream.as_mut().poll_next(context), statements).await
    }
}

fn first(answer: Answer) -> Result<PgRow, sqlx::Error> {
    answer.rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)
}

type Next = Option<Result<Either<PgQueryResult, PgRow>, sqlx::Error>>;

/// The answer of the last of at most so many statements.
async fn last(
    mut next: impl FnMut(&mut Context<'_>) -> Poll<Next>,
    statements: usize,
) -> Result<Answer, sqlx::Error> {
    let (mut answer, mut ended, mut is_over) = (Answer::default(), 0, false);
    while let Some(next) = poll_fn(&mut next).await {
        let is_row = match next {
            Ok(Either::Right(row)) => {
                if is_over {
                    answer.rows.clear();
                }
                answer.rows.push(row);
                true
            }
            Ok(Either::Left(done)) => {
                if is_over {
                    answer.rows.clear();
                }
                answer.affected = done.rows_affected();
                ended += 1;
                false
            }
            // Somebody left a LISTEN behind on a session that a pooler handed to us. All is done by then.
            Err(sqlx::Error::Protocol(says))
                if ended == statements && says.contains("NotificationResponse") =>
            {
                break;
            }
            Err(error) => return Err(error),
        };
        is_over = !is_row;
    }
    Ok(answer)
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;
