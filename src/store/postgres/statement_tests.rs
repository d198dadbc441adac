use proptest::prelude::*;

use super::*;

fn literal(text: &str, literals: Literals) -> String {
    Statement::new("$1").bind(text).text(literals).unwrap()
}

#[test]
fn a_value_takes_the_place_of_its_number_and_is_never_read_again() {
    let names = ["a".to_owned(), "$1".to_owned()];
    let text = Statement::new("SELECT $2::bigint, $1, $3, $4, $5, $6, $12 FROM t WHERE $1")
        .bind("$2")
        .bind(-5)
        .bind(&names[..])
        .bind(true)
        .bind(None::<bool>)
        .bind(&None::<String>)
        .bind(None::<i64>);
    assert!(text.text(Literals::Characters).is_err(), "$12 has no value");
    let text = Statement { sql: text.sql.replace(", $12", "").into(), values: text.values };
    assert_eq!(
        text.text(Literals::Characters).unwrap(),
        "SELECT '-5'::pg_catalog.int4::bigint, E'$2'::pg_catalog.text, ARRAY[E'a',E'$1']::pg_catalog.text[], true, \
         NULL::pg_catalog.bool, NULL::pg_catalog.text FROM t WHERE E'$2'::pg_catalog.text"
    );
}

#[test]
fn quotes_backslashes_and_what_is_not_ascii_are_written_by_their_numbers() {
    for (text, characters, bytes) in [
        ("plain-1.5_x y", "plain-1.5_x y", "plain-1.5_x y"),
        ("'", "\\x27", "\\x27"),
        ("\\'; DROP TABLE t; --", "\\x5c\\x27; DROP TABLE t; --", "\\x5c\\x27; DROP TABLE t; --"),
        ("a\nb\x7f", "a\\x0ab\\x7f", "a\\x0ab\\x7f"),
        ("\u{17c}1", "\\U0000017c1", "\\xc5\\xbc1"),
        ("\u{1f980}", "\\U0001f980", "\\xf0\\x9f\\xa6\\x80"),
    ] {
        assert_eq!(literal(text, Literals::Characters), format!("E'{characters}'::pg_catalog.text"));
        assert_eq!(literal(text, Literals::Bytes), format!("E'{bytes}'::pg_catalog.text"));
    }
}

#[test]
fn a_nul_is_refused() {
    for values in [["a\0", "b"], ["\0", ""]] {
        let values = values.map(str::to_owned);
        for literals in [Literals::Characters, Literals::Bytes] {
            let one = Statement::new("SELECT $1").bind(&values[0]).text(literals);
            let many = Statement::new("SELECT $1").bind(&values[..]).text(literals);
            assert!(one.unwrap_err().to_string().contains("NUL") && many.is_err());
        }
    }
}

proptest! {
    /// What stands between the quotes has no quote, no byte that an encoding could read as a part of another
    /// character, and no backslash but those that begin a number of fixed length.
    #[test]
    fn nothing_ends_a_literal_but_its_own_quote(text in any::<String>(), bytes in any::<bool>()) {
        prop_assume!(!text.contains('\0'));
        let literal = literal(&text, if bytes { Literals::Bytes } else { Literals::Characters });
        let inside = literal.strip_prefix("E'").and_then(|rest| rest.strip_suffix("'::pg_catalog.text")).unwrap();
        prop_assert!(inside.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'\''));
        let mut pieces = inside.split('\\');
        pieces.next();
        for piece in pieces {
            let digits = match piece.chars().next() {
                Some('x') => 2,
                Some('U') => 8,
                other => return Err(TestCaseError::fail(format!("{other:?} after a backslash"))),
            };
            prop_assert!(piece.len() > digits);
            prop_assert!(piece[1..=digits].bytes().all(|digit| digit.is_ascii_hexdigit()));
        }
    }
}
