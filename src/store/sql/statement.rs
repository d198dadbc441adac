//! Statements as a dialect writes them, in a file `statements.sql` of its folder.
//!
//! `--- statement NAME` begins a statement, `--- word NAME` what `{NAME}` stands for in statements and other words.
//! Values have names (`:component`), so that each may stand where and as often as the database wants it, and
//! the calls give them once.

use std::borrow::Cow;

use super::value::{Given, Value};
use crate::election::life::{EPOCH_MAX, EPOCH_ZERO};
use crate::store::roster::TEXT_MAX;
use crate::store::traits::{HOLDER_READ, INSTANCES_EACH, INSTANCES_IN_ALL, PRUNED_AT_ONCE};

/// How a database marks the places of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) mark: char,
    /// Whether each value has a number; else the values come in the order of the text.
    pub(super) numbered: bool,
}

/// A statement, and which value belongs to which place.
#[derive(Debug)]
pub(super) struct Statement {
    template: Cow<'static, str>,
    text: String,
    places: Vec<String>,
}

impl Statement {
    pub(super) fn new(template: impl Into<Cow<'static, str>>, how: Places) -> Self {
        let template = template.into();
        let (mut text, mut places) = (String::new(), Vec::<String>::new());
        for piece in pieces(&template) {
            let name = match piece {
                Piece::Text(piece) => {
                    text.push_str(piece);
                    continue;
                }
                Piece::Place(name) => name,
            };
            text.push(how.mark);
            let known = places.iter().position(|place| place == name).filter(|_| how.numbered);
            let number = known.unwrap_or_else(|| {
                places.push(name.to_owned());
                places.len() - 1
            });
            if how.numbered {
                text.push_str(&(number + 1).to_string());
            }
        }
        Self { template, text, places }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// As it is prepared.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn places(&self) -> &[String] {
        &self.places
    }

    /// In the order of the places.
    pub(super) fn values<'a>(&self, given: &Given<'a>) -> Result<Vec<Value<'a>>, sqlx::Error> {
        self.places.iter().map(|name| value(name, given)).collect()
    }

    /// With the values in it, for what cannot be prepared. `write` makes a literal of each.
    pub(super) fn written(
        &self,
        given: &Given<'_>,
        write: impl Fn(Value<'_>) -> String,
    ) -> Result<String, sqlx::Error> {
        let mut text = String::new();
        for piece in pieces(&self.template) {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Place(name) => text.push_str(&write(value(name, given)?)),
            }
        }
        Ok(text)
    }
}

/// Numbers that are Rust's, too.
fn constants() -> [(&'static str, String); 7] {
    [
        ("epoch_zero", EPOCH_ZERO.to_string()),
        ("epoch_max", EPOCH_MAX.to_string()),
        ("holder_read", HOLDER_READ.to_string()),
        ("instances_each", INSTANCES_EACH.to_string()),
        ("instances_in_all", INSTANCES_IN_ALL.to_string()),
        ("pruned_at_once", PRUNED_AT_ONCE.to_string()),
        // One character more than anybody writes, so that what is longer is known as such.
        ("text_read", (TEXT_MAX + 1).to_string()),
    ]
}

/// A file of statements, taken apart.
struct Sections<'a> {
    words: Vec<(&'a str, Cow<'a, str>)>,
    statements: Vec<(&'a str, String)>,
}

impl<'a> Sections<'a> {
    fn of(file: &'a str) -> Self {
        let mut sections = Self { words: Vec::new(), statements: Vec::new() };
        for section in file.split("\n--- ").skip(1) {
            let (head, body) = section.split_once('\n').unwrap_or((section, ""));
            let lines = body.lines().filter(|line| !line.starts_with("-- ") && *line != "--");
            let body = lines.collect::<Vec<_>>().join("\n").trim().to_owned();
            match head.split_once(' ') {
                Some(("word", name)) => sections.words.push((name, body.into())),
                Some(("statement", name)) => sections.statements.push((name, body)),
                _ => panic!("`--- {head}` begins nothing"),
            }
        }
        sections
    }

    /// With what the words stand for, and the words within these.
    fn written_out(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // No word stands in itself.
        for _ in 0..=self.words.len() {
            let before = text.clone();
            for (name, word) in &self.words {
                text = text.replace(&format!("{{{name}}}"), word);
            }
            if text == before {
                break;
            }
        }
        text
    }
}

fn value<'a>(name: &str, given: &Given<'a>) -> Result<Value<'a>, sqlx::Error> {
    let found = given.iter().find(|(known, _)| *known == name);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| sqlx::Error::Encode(format!("there is no value :{name}").into()))
}

enum Piece<'a> {
    Text(&'a str),
    Place(&'a str),
}

/// A colon in front of a letter is a place; two are a cast.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let bytes = template.as_bytes();
    let (mut pieces, mut from, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let is_cast = at > 0 && bytes[at - 1] == b':';
        if bytes[at] == b':' && !is_cast && bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase) {
            let name = &template[at + 1..];
            let end = name.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(name.len());
            pieces.push(Piece::Text(&template[from..at]));
            pieces.push(Piece::Place(&name[..end]));
            at += 1 + end;
            from = at;
        } else {
            at += 1;
        }
    }
    pieces.push(Piece::Text(&template[from..]));
    pieces
}

/// What the dialects say, and the values that each statement may use.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident($($given:ident),* $(,)?);)*) => {
        /// As they are sent. A statement that a dialect has no need of is empty.
        #[derive(Debug)]
        pub(super) struct Statements {
            $($(#[$doc])* pub(super) $name: Statement,)*
        }

        impl Statements {
            /// `words` are those that the file does not have; `finish` is the last thing that is done to each text.
            /// What is made stays: each set of statements is made once in a process.
            pub(super) fn read(
                file: &'static str,
                words: &[(&'static str, String)],
                how: Places,
                finish: impl Fn(String) -> String,
            ) -> &'static Self {
                let mut sections = Sections::of(file);
                let more = words.iter().cloned().chain(constants());
                sections.words.extend(more.map(|(name, word)| (name, word.into())));
                let statement = |wanted: &str| {
                    let found = sections.statements.iter().find(|(name, _)| *name == wanted);
                    let text = found.map_or_else(String::new, |(_, text)| finish(sections.written_out(text)));
                    Statement::new(text, how)
                };
                Box::leak(Box::new(Self { $($name: statement(stringify!($name)),)* }))
            }

            /// With the values that each is given.
            #[cfg(test)]
            pub(super) fn all(&self) -> Vec<(&'static str, &Statement, &'static [&'static str])> {
                vec![$((stringify!($name), &self.$name, &[$(stringify!($given)),*]),)*]
            }
        }
    };
}

statements! {
    /// The row, its past, the standing intent, the clock and the life of the database.
    look(component, server);
    look_bare(component);
    /// The highest version that a participant says it leads or has led.
    claimed(component);
    take_missing(component, holder, version, ttl, highest, identity, epoch, server);
    take_missing_bare(component, holder, version, ttl);
    take_row(component, holder, version, ttl, seen_version, seen_renew_time, identity, epoch, server);
    take_row_bare(component, holder, version, ttl, seen_version, seen_renew_time);
    renew(component, holder, version);
    release(component, holder, version);
    release_late(component, holder, version, identity, epoch, server);
    /// First the clock and the life of the database, without a name; then what there is of each name.
    look_at(names, server);
    look_at_bare(names);
    /// Those that are alive, the ones that matter most first where there are too many.
    instances(names);
    move_heartbeat(id, component, holder, lasts, healthy, leads);
    begin_instance(
        id, component, holder, lasts, healthy, leads, namespace, pod, pod_uid, container, node, address, program_version,
        mode, longest_promise, promises_outside, priority,
    );
    /// In ms.
    prune_instances(older_than);
    set_intent(component, ttl, preferred, cooldown);
    clear_intent(component);
    /// By compare-and-set: whether it was seen to be paused, and by whom.
    pause(component, asked_by, reason, was, over);
    /// That of this one, or any.
    resume(component, any, over);
    begin_intent(component);
    /// By compare-and-set: `replaces` is the request that was seen, empty for none.
    ask(component, id, verb, version, target, away, asked_by, reason, replaces);
    withdraw(component, id);
    components(after, at_most);
    history(component, newest, at_most);
    /// Once; who asked is copied from the request, if one ended the term.
    end_term(component, version, reason, ended_at, ago, request);
    /// In ms.
    prune_history(component, kept, older_than);
    /// The rule is `store::rules::begin`.
    begin_epoch(latest_date, at_least, identity, epoch, deliberate, server);
    first_record(latest_date, at_least, max_ttl, settled, first, server, uuid);
    settle(identity, epoch, server);
    /// By compare-and-set on the lease: only while this holder has it at this version.
    write_record(component, holder, version, record);
    write_report(component, member, report);
    /// What an operator asks of a member, or nothing more.
    write_wish(component, member, wish);
    /// First the lease with its record, without a member; then what each of these members says. At one moment.
    read_roster(component, names);
    /// Of `migrate`.
    record_step(version, is_foreign);
    /// The second half of a take, where the first cannot do both.
    write_history(component, holder, version);
    /// Tells all who listen.
    notify(component);
    /// Whether another connection would find room.
    has_room();
    /// Whether a row that a change did not find is there as it was (`same`), and which triggers may do that.
    still_led(component, holder, version);
    still_seen(component, seen_version, seen_renew_time);
    still_missing(component);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "SELECT :a::bigint, ':', '$[*]' FROM t WHERE b = :b AND c > :a";

    const NUMBERED: Places = Places { mark: '?', numbered: true };
    const BARE: Places = Places { mark: '?', numbered: false };

    #[test]
    fn places_are_numbered_as_each_database_wants_them() {
        let numbered = Statement::new(TEMPLATE, NUMBERED);
        assert_eq!(numbered.text(), "SELECT ?1::bigint, ':', '$[*]' FROM t WHERE b = ?2 AND c > ?1");
        assert_eq!(numbered.places(), ["a", "b"]);
        let bare = Statement::new(TEMPLATE, BARE);
        assert_eq!(bare.text(), "SELECT ?::bigint, ':', '$[*]' FROM t WHERE b = ? AND c > ?");
        assert_eq!(bare.places(), ["a", "b", "a"]);
    }

    #[test]
    fn a_value_that_nobody_gave_is_said_and_never_taken_for_null() {
        let statement = Statement::new(TEMPLATE, NUMBERED);
        let error = statement.values(&[("a", 1_i64.into())]).unwrap_err();
        assert!(error.to_string().contains(":b"), "{error}");
        let given = [("b", "x".into()), ("a", 1_i64.into()), ("unused", true.into())];
        assert!(matches!(
            statement.values(&given).unwrap().as_slice(),
            [Value::Int(Some(1)), Value::Text(Some("x"))]
        ));
        let written = statement.written(&given, |value| format!("<{value:?}>")).unwrap();
        assert!(
            written.starts_with("SELECT <Int(Some(1))>::bigint") && written.ends_with("c > <Int(Some(1))>")
        );
    }

    #[test]
    fn words_are_written_out_within_words_and_comments_are_left_out() {
        let file = "-- A comment.\n\n--- word now\nclock({epoch_zero})\n\n-- Another.\n--- word row\na, {now}\n\n--- statement renew\nSET {row}, {given}\n-- One more.\n--- statement look\nSELECT 1\n";
        let read =
            Statements::read(file, &[("given", "x".to_owned())], NUMBERED, |text| text.replace('1', "one"));
        assert_eq!(read.renew.text(), "SET a, clock(one767225600), x");
        assert_eq!(read.look.text(), "SELECT one");
        assert!(read.settle.is_empty());
    }
}
