use super::*;

use std::time::Duration;

use crate::store::sql::address;

fn postgres(text: &str) -> PostgresUrl {
    with_variables(text, &[])
}

fn with_variables(text: &str, variables: &[(&str, &str)]) -> PostgresUrl {
    parsed(text, variables).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn parsed(text: &str, variables: &[(&str, &str)]) -> Result<PostgresUrl, StoreError> {
    address::read(text, &|name| {
        variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    })
}

fn refused(text: &str) -> String {
    refused_with(text, &[])
}

fn refused_with(text: &str, variables: &[(&str, &str)]) -> String {
    match parsed(text, variables) {
        Err(StoreError::Misconfigured { message: why, .. }) => why,
        Err(other) => panic!("{text}: {other}"),
        Ok(url) => panic!("{text} was taken for {url}"),
    }
}

#[test]
fn a_postgres_url_is_taken_apart() {
    let url = postgres(
        "postgresql://me%40corp:p%40s%3As@db.example:6432/my%20app?sslmode=verify-ca&sslrootcert=/ca.crt",
    );
    assert_eq!(url.hosts, [(Host::Tcp("db.example".into()), 6432)]);
    assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("me@corp"), Some("p@s:s")));
    assert_eq!(url.database.as_deref(), Some("my app"));
    assert_eq!(url.ssl_mode, Some(SslMode::VerifyCa));
    assert_eq!(url.ssl_root, Root::File("/ca.crt".into()));
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
        let url = postgres(url);
        assert_eq!(url.ssl_mode_in_force(&url.hosts[0].0), mode, "{url}");
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
        assert_eq!(postgres(url).hosts[0].0, Host::Socket("/run/postgresql".into()), "{url}");
    }
    assert_eq!(postgres("postgres://me@/app?host=/run/postgresql").user.as_deref(), Some("me"));
}

#[test]
fn an_ipv6_address_loses_its_brackets_for_the_resolver_and_keeps_them_for_people() {
    let url = postgres("postgres://[2001:db8::1]:5433/app");
    assert_eq!(url.hosts[0].0, Host::Tcp("2001:db8::1".into()));
    assert_eq!(url.to_string(), "PostgreSQL database app at [2001:db8::1]:5433");
}

#[test]
fn a_malformed_url_is_refused_with_what_to_write_and_without_a_piece_of_the_password() {
    for url in [
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
        "postgres://u:hunter2@h1,,h2/d",
        "postgres://u:hunter2@h1:1,h2:x/d",
        "postgres://u:hunter2@h/d?connect_timeout=soon",
        "postgres://u:hunter2@h/d?sslmode",
        "postgres://u:hunter2@h/d?sslcert=/x",
        "postgres://u:hunter2@h/d?host=a,b&port=1,2,3",
    ] {
        let why = refused(url);
        assert!(!why.contains("hunter2") && !why.contains("hun@"), "{url}: {why}");
        assert!(why.len() > 30, "{url}: {why}");
    }
}

#[test]
fn a_url_is_shown_without_its_secrets() {
    assert_eq!(postgres("postgres://u:hunter2@h/d").to_string(), "PostgreSQL database d at h:5432");
}

#[test]
fn several_hosts_keep_their_order_and_their_ports() {
    for (url, wanted) in [
        ("postgres://h1,h2/d", "h1:5432, h2:5432"),
        ("postgres://h1:1,h2:2,[::1]:3/d?target_session_attrs=read-write", "h1:1, h2:2, [::1]:3"),
        ("postgres://h1:1,h2/d?target_session_attrs=any", "h1:1, h2:5432"),
        ("postgres:///d?host=h1,h2&port=6432&target_session_attrs=primary", "h1:6432, h2:6432"),
        ("postgres:///d?host=h1,/run/postgresql&port=1,2", "h1:1, /run/postgresql"),
        ("postgres:///d?hostaddr=10.0.0.1", "10.0.0.1:5432"),
    ] {
        assert_eq!(postgres(url).to_string(), format!("PostgreSQL database d at {wanted}"), "{url}");
    }
    let mixed = postgres("postgres://db.example,127.0.0.1/d");
    let modes: Vec<SslMode> = mixed.hosts.iter().map(|(host, _)| mixed.ssl_mode_in_force(host)).collect();
    assert_eq!(modes, [SslMode::VerifyFull, SslMode::Prefer]);
    assert!(postgres("postgres://h1,h2/d?load_balance_hosts=random").shuffled);
}

#[test]
fn parameters_of_other_programs_that_do_no_harm_are_taken() {
    let url = postgres(
        "postgresql://u:p@ep-x.neon.tech/d?sslmode=require&channel_binding=require&options=endpoint%3Dep-x&connect_timeout=1&application_name=a&keepalives_idle=30&client_encoding=UTF8&gssencmode=prefer&sslsni=1&tcp_user_timeout=5",
    );
    // What channel binding guards against, this does.
    assert_eq!(url.ssl_mode, Some(SslMode::VerifyFull));
    assert_eq!(url.options.as_deref(), Some("endpoint=ep-x"));
    assert_eq!(
        (url.connect_timeout, url.application_name.as_deref()),
        (Some(Duration::from_secs(2)), Some("a"))
    );
    assert_eq!(postgres("postgres://h/d?fallback_application_name=f").application_name.as_deref(), Some("f"));
    assert_eq!(postgres("postgres://h/d?connect_timeout=0").connect_timeout, None);
}

#[test]
fn what_is_said_of_tls_in_several_places_is_put_together_as_libpq_does() {
    for (parameters, mode, root) in [
        ("sslrootcert=system", SslMode::VerifyFull, Root::System),
        ("sslrootcert=system&sslmode=verify-full", SslMode::VerifyFull, Root::System),
        ("sslrootcert=/ca", SslMode::VerifyFull, Root::File("/ca".into())),
        ("sslrootcert=/ca&sslmode=require", SslMode::VerifyCa, Root::File("/ca".into())),
        ("ssl=true", SslMode::Require, Root::Public),
        ("sslcertmode=disable&sslcert=/c&sslmode=verify-ca", SslMode::VerifyCa, Root::Public),
    ] {
        let url = postgres(&format!("postgres://127.0.0.1/d?{parameters}"));
        assert_eq!((url.ssl_mode, url.ssl_root), (Some(mode), root), "{parameters}");
    }
    let mut url = postgres("postgresql://app:pw@cluster-rw:5432/app");
    url.trust("/ca".into()).unwrap();
    assert_eq!((url.ssl_mode, url.ssl_root), (Some(SslMode::VerifyFull), Root::File("/ca".into())));
    for (parameters, pieces) in [
        ("sslrootcert=system&sslmode=require", &["system", "verify-full"][..]),
        ("channel_binding=require&sslmode=disable", &["channel_binding", "verify-full"]),
        ("sslcertmode=require", &["sslcertmode", "sslcert"]),
    ] {
        let why = refused(&format!("postgres://h/d?{parameters}"));
        assert!(pieces.iter().all(|piece| why.contains(piece)), "{why}");
    }
}

#[test]
fn what_is_unknown_or_cannot_be_obeyed_is_refused_by_name() {
    for (parameter, pieces) in [
        ("sslmod=require", &["parameter sslmod,", "did you mean sslmode"][..]),
        ("statement_cache_size=0", &["statement_cache_size", "libpq"]),
        ("schema=app", &["schema", "search_path"]),
        ("service=x", &["service"]),
        ("passfile=/x", &["passfile", "--database-password-file"]),
        ("require_auth=scram-sha-256", &["require_auth"]),
        ("sslcrl=/x", &["sslcrl"]),
        ("gssencmode=require", &["gssencmode", "GSSAPI"]),
        ("sslnegotiation=direct", &["sslnegotiation"]),
        ("ssl_min_protocol_version=TLSv1.3", &["ssl_min_protocol_version"]),
        ("client_encoding=LATIN1", &["client_encoding", "UTF8"]),
        ("target_session_attrs=standby", &["target_session_attrs=standby", "read-write"]),
        ("target_session_attrs=writable", &["target_session_attrs", "read-write"]),
        ("load_balance_hosts=yes", &["load_balance_hosts", "random"]),
        ("hostaddr=10.0.0.1", &["host", "hostaddr"]),
        ("pgbouncer=transaction", &["pgbouncer", "true, false"]),
    ] {
        let why = refused(&format!("postgres://u:hunter2@h/d?{parameter}"));
        assert!(pieces.iter().all(|piece| why.contains(piece)), "{parameter}: {why}");
        assert!(!why.contains("hunter2"), "{why}");
    }
    // What does not look like a name may be a piece of something else.
    for parameter in ["hunter2!=x", "hunter2 x=1", "%68unter2%21=1"] {
        assert!(!refused(&format!("postgres://h/d?{parameter}")).contains("hunter2"), "{parameter}");
    }
}

#[test]
fn each_of_libpqs_variables_is_used_where_the_url_says_nothing_or_refused_by_its_name() {
    let all = [
        ("PGHOST", "h1,h2"),
        ("PGPORT", "6432"),
        ("PGUSER", "u"),
        ("PGPASSWORD", "p"),
        ("PGDATABASE", "d"),
        ("PGSSLMODE", "verify-ca"),
        ("PGSSLROOTCERT", "/ca"),
        ("PGAPPNAME", "a"),
        ("PGOPTIONS", "-c search_path=app"),
        ("PGCONNECT_TIMEOUT", "5"),
        ("PGTARGETSESSIONATTRS", "read-write"),
        ("PGLOADBALANCEHOSTS", "random"),
        ("PGREQUIRESSL", "1"),
        ("PGCLIENTENCODING", ""),
    ];
    let url = with_variables("postgres://", &all);
    assert_eq!(url.to_string(), "PostgreSQL database d at h1:6432, h2:6432");
    assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("u"), Some("p")));
    assert_eq!((url.ssl_mode, &url.ssl_root), (Some(SslMode::VerifyCa), &Root::File("/ca".into())));
    assert_eq!(
        (url.application_name.as_deref(), url.options.as_deref()),
        (Some("a"), Some("-c search_path=app"))
    );
    assert_eq!((url.connect_timeout, url.shuffled), (Some(Duration::from_secs(5)), true));
    let url = with_variables("postgres://me:mine@h:1/e?sslmode=verify-full&application_name=b", &all);
    assert_eq!(url.to_string(), "PostgreSQL database e at h:1");
    assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("me"), Some("mine")));
    assert_eq!((url.ssl_mode, url.application_name.as_deref()), (Some(SslMode::VerifyFull), Some("b")));
    for (variable, value) in [
        ("PGPASSFILE", "/x"),
        ("PGSERVICE", "x"),
        ("PGSERVICEFILE", "/x"),
        ("PGREQUIREAUTH", "md5"),
        ("PGREQUIREPEER", "x"),
        ("PGSSLCRL", "/x"),
        ("PGSSLCRLDIR", "/x"),
        ("PGGSSENCMODE", "require"),
        ("PGCLIENTENCODING", "LATIN1"),
        ("PGSSLMINPROTOCOLVERSION", "TLSv1.3"),
    ] {
        let why = refused_with("postgres://h/d", &[(variable, value)]);
        assert!(why.contains(&format!("variable {variable} ")), "{why}");
    }
}
