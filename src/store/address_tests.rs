use super::*;

fn postgres(text: &str) -> PostgresUrl {
    match DatabaseUrl::parse(text) {
        Ok(DatabaseUrl::Postgres(url)) => *url,
        Ok(other) => panic!("{text}: {other}"),
        Err(error) => panic!("{text}: {error}"),
    }
}

fn refused(text: &str) -> String {
    match DatabaseUrl::parse(text) {
        Err(StoreError::Misconfigured(why)) => why,
        Err(other) => panic!("{text}: {other}"),
        Ok(url) => panic!("{text} was taken for {url}"),
    }
}

#[test]
fn a_postgres_url_is_taken_apart() {
    let url = postgres(
        "postgresql://me%40corp:p%40s%3As@db.example:6432/my%20app?sslmode=verify-ca&sslrootcert=/ca.crt",
    );
    assert_eq!(url.host, Host::Tcp("db.example".into()));
    assert_eq!(
        (url.port, url.user.as_deref(), url.password.as_deref()),
        (6432, Some("me@corp"), Some("p@s:s"))
    );
    assert_eq!(url.database.as_deref(), Some("my app"));
    assert_eq!(url.ssl_mode, Some(SslMode::VerifyCa));
    assert_eq!(url.ssl_root_cert, Some("/ca.crt".into()));
}

#[test]
fn a_url_without_sslmode_is_verified_unless_it_stays_on_this_machine() {
    for (url, mode) in [
        ("postgres://db.example/app", SslMode::VerifyFull),
        ("postgres://10.0.0.7/app", SslMode::VerifyFull),
        ("postgres://[2001:db8::1]:5432/app", SslMode::VerifyFull),
        ("postgres://localhost/app", SslMode::Prefer),
        ("postgres://127.1.2.3/app", SslMode::Prefer),
        ("postgres://u:p@[::1]:5432/app", SslMode::Prefer),
        ("postgres://db.example/app?sslmode=disable", SslMode::Disable),
        ("postgres://localhost.example/app", SslMode::VerifyFull),
        ("postgres:///app?host=/run/postgresql", SslMode::Disable),
    ] {
        assert_eq!(postgres(url).ssl_mode_in_force(), mode, "{url}");
    }
}

#[test]
fn a_weaker_sslmode_to_another_machine_is_said_and_to_this_machine_is_not() {
    for mode in ["verify-ca", "require", "prefer", "allow", "disable"] {
        let says = postgres(&format!("postgres://db.example/a?sslmode={mode}")).weaker_tls();
        assert!(says.is_some_and(|says| says.contains(&format!("sslmode={mode} "))), "{mode}");
        assert_eq!(postgres(&format!("postgres://127.0.0.1/a?sslmode={mode}")).weaker_tls(), None);
    }
    assert_eq!(postgres("postgres://db.example/a?sslmode=verify-full").weaker_tls(), None);
}

#[test]
fn a_unix_socket_is_named_by_its_folder() {
    for url in [
        "postgres:///app?host=/run/postgresql",
        "postgres://me@/app?host=/run/postgresql",
        "postgres://%2Frun%2Fpostgresql/app",
    ] {
        assert_eq!(postgres(url).host, Host::Socket("/run/postgresql".into()), "{url}");
    }
    assert_eq!(postgres("postgres://me@/app?host=/run/postgresql").user.as_deref(), Some("me"));
}

#[test]
fn an_ipv6_address_loses_its_brackets_for_the_resolver_and_keeps_them_for_people() {
    let url = postgres("postgres://[2001:db8::1]:5433/app");
    assert_eq!(url.host, Host::Tcp("2001:db8::1".into()));
    assert_eq!(url.to_string(), "PostgreSQL database app at [2001:db8::1]:5433");
}

#[test]
fn a_malformed_url_is_refused_with_what_to_write_and_without_a_piece_of_the_password() {
    for url in [
        "",
        "hello",
        "oracle://u:hunter2@h/d",
        "postgres:",
        "postgres://",
        "postgres://u:hunter2@/d",
        "postgres://u:hunter2@h:port/d",
        "postgres://u:hunter2@h:99999/d",
        "postgres://u:hun@hunter2/x@h/d",
        "postgres://u:12#hunter2@h/d",
        "postgres://u:12?hunter2@h/d",
        "postgres://u:hun/hunter2@h/d",
        "postgres://u:hunter2%@h/d",
        "postgres://u:hunter2@h/d?sslmod=require",
        "postgres://u:hunter2@h/d?sslmode=on",
        "postgres://u:hunter2@h1,h2/d",
        "postgres://u:hunter2@h/d?sslcert=/x",
        "postgres://h/d?host=a,b",
    ] {
        let why = refused(url);
        assert!(!why.contains("hunter2") && !why.contains("hun@"), "{url}: {why}");
        assert!(why.len() > 30, "{url}: {why}");
    }
}

#[test]
fn a_sqlite_url_names_a_file() {
    let path = |text| match DatabaseUrl::parse(text) {
        Ok(DatabaseUrl::Sqlite(path)) => path,
        other => panic!("{text}: {:?}", other.err()),
    };
    assert_eq!(path("sqlite:///var/lib/lease.db"), PathBuf::from("/var/lib/lease.db"));
    assert_eq!(path("sqlite:/var/lib/lease.db"), PathBuf::from("/var/lib/lease.db"));
    assert_eq!(path("sqlite:lease.db"), PathBuf::from("lease.db"));
    assert_eq!(path("sqlite:///tmp/a%20b%3F.db"), PathBuf::from("/tmp/a b?.db"));
    for bad in ["sqlite:", "sqlite://", "sqlite::memory:", "sqlite://:memory:", "sqlite:/a.db?mode=rwc"] {
        refused(bad);
    }
}

#[test]
fn a_url_is_shown_without_its_secrets() {
    assert_eq!(postgres("postgres://u:hunter2@h/d").to_string(), "PostgreSQL database d at h:5432");
}
