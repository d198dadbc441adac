//! URLs as operators and providers write them, on real servers.

use std::time::Duration;

use component_lease::store::{self, Outcome, Source, StoreError};
use component_lease_testkit::port::Port;
use component_lease_testkit::postgres::{self, Server, Stop};
use component_lease_testkit::tcp_proxy::TcpProxy;

use crate::servers::{Machine, Make};
use crate::stores::{component, held, misconfigured, retryable, says};

async fn look(source: Source) -> Result<(), StoreError> {
    store::open(source, "addresses")?.look(&component("c")).await.map(drop)
}

#[tokio::test]
async fn of_several_hosts_the_one_that_can_be_written_to_is_used_and_a_failover_is_followed() {
    let primary = Server::start().await.unwrap();
    store::migrate(&Source::url(primary.superuser_url())).await.unwrap();
    let standby = primary.standby().await.unwrap();
    // A listener that says nothing, a port at which nobody listens, the standby, the primary.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|address| (silent, address.port())).unwrap();
    let nobody = Port::free().unwrap();
    for (ports, parameters) in [
        (vec![primary.port(), standby.port()], ""),
        (vec![standby.port(), primary.port()], ""),
        (vec![nobody.number(), standby.port(), primary.port()], "?target_session_attrs=read-write"),
        (vec![silent.1, standby.port(), primary.port()], "?target_session_attrs=any&connect_timeout=2"),
        (vec![standby.port(), primary.port()], "?load_balance_hosts=random&target_session_attrs=primary"),
    ] {
        let url = primary.url_of_several(&ports, "postgres") + parameters;
        look(Source::url(url)).await.unwrap();
    }
    let url = primary.url_of_several(&[standby.port(), primary.port()], "postgres");
    assert!(store::migrate(&Source::url(&url)).await.unwrap().applied.is_empty());
    let store = store::open(Source::url(url), "addresses").unwrap();
    let a = held(&*store, "c", "a").await;
    primary.caught_up(&standby).await.unwrap();
    primary.stop(Stop::Immediate).await.unwrap();
    standby.promote().await.unwrap();
    // The connection is found to be broken, and the next one leads to the other server.
    let _ = store.renew(&a).await;
    assert_eq!(store.renew(&a).await.unwrap(), Outcome::Applied);
    // With nobody to write to, each is named.
    standby.stop(Stop::Immediate).await.unwrap();
    let _ = store.renew(&a).await;
    let ports = [primary.port(), standby.port()].map(|port| format!("127.0.0.1:{port}:"));
    says(&retryable(store.renew(&a).await), &["can be written to", &ports[0], &ports[1]]);
}

#[tokio::test]
async fn of_two_primaries_the_later_one_is_used_and_one_that_is_frozen_delays_nobody() {
    let old = Server::start().await.unwrap();
    store::migrate(&Source::url(old.superuser_url())).await.unwrap();
    let new = old.standby().await.unwrap();
    let version = |version: u32| format!("ALTER ROLE ALL SET component_lease.primary_version = {version}");
    old.psql(&version(11)).await.unwrap();
    old.caught_up(&new).await.unwrap();
    new.promote().await.unwrap();
    new.psql(&version(12)).await.unwrap();
    // What only the later one knows.
    let insert =
        "INSERT INTO component_lease (component_name, holder_id, lease_time, renew_time, version, ttl)
                  VALUES ('c', 'me', 1, 1, 1, 30)";
    new.psql(insert).await.unwrap();
    // Its first sessions are slow. Once there is an answer that will do, the other is waited for only a moment: the old
    // one's comes into that moment, and not before it.
    look(Source::url(new.superuser_url())).await.unwrap();
    let slow = TcpProxy::start(([127, 0, 0, 1], old.port()).into()).unwrap();
    slow.delay(Duration::from_millis(5));
    let row = async |ports: [u16; 2]| {
        let url = old.url_of_several(&ports, "postgres");
        store::open(Source::url(url), "addresses").unwrap().look(&component("c")).await.unwrap().row
    };
    for ports in [[slow.port(), new.port()], [new.port(), slow.port()]] {
        assert!(row(ports).await.is_some(), "the old primary was asked: {ports:?}");
    }
    old.freeze_all().unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(5), row([slow.port(), new.port()])).await;
    old.thaw_all().unwrap();
    assert!(asked.expect("the frozen server is not waited for").is_some());
}

#[tokio::test]
async fn where_no_server_lets_us_in_that_is_said() {
    let server = postgres::shared().await.unwrap();
    let url = server.url_of_several(&[server.port(), server.port()], "postgres");
    let (before, after) = url.split_once("://postgres:").unwrap();
    let (_, hosts) = after.split_once('@').unwrap();
    let wrong = look(Source::url(format!("{before}://postgres:wrong@{hosts}"))).await;
    says(&misconfigured(wrong), &["rejects the user"]);
}

#[tokio::test]
async fn of_several_mysql_hosts_the_one_that_can_be_written_to_is_used() {
    use component_lease_testkit::mysql::Kind;
    let machine = Machine::start(Make::MySql(Kind::MariaDb11_8)).await;
    let url = machine.url();
    store::migrate(&Source::url(&url)).await.unwrap();
    let other = Machine::start(Make::MySql(Kind::MariaDb11_8)).await;
    let Machine::MySql(server) = &other else { panic!("MariaDB was asked for") };
    server.sql("SET GLOBAL read_only = ON").await.unwrap();
    let nobody = Port::free().unwrap();
    let at = format!("127.0.0.1:{}", machine.port());
    let several = url.replace(&at, &format!("{},{at}", nobody.address()));
    assert!(several.contains(','), "{at}");
    look(Source::url(&several)).await.unwrap();
    let only = url.replace(&at, &format!("{0},{0}", nobody.address()));
    let why = retryable(look(Source::url(only)).await);
    says(&why, &["can be written to", &format!("{}:", nobody.address())]);
}

/// `openssl req -new -x509 -days 365 -nodes -subj "/CN=HOST"` is how PostgreSQL's manual makes a certificate.
#[tokio::test]
async fn the_certificate_of_postgresqls_manual_is_explained_and_the_advice_works() {
    let manual = Server::builder().self_signed(&["-subj", "/CN=localhost"]).start().await.unwrap();
    let of = |server: &Server| {
        let url = server.superuser_url().replace("127.0.0.1", "localhost");
        Source::url(url).ca_file(server.authority().unwrap())
    };
    let why = misconfigured(look(of(&manual)).await);
    says(
        &why,
        &["CA:TRUE", "openssl req -x509", "basicConstraints=critical,CA:FALSE", "subjectAltName=DNS:HOST"],
    );
    let advice = |more: &'static str| {
        Server::builder().self_signed(&[
            "-subj",
            "/CN=localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            more,
        ])
    };
    let advised = advice("subjectAltName=DNS:localhost").start().await.unwrap();
    store::migrate(&of(&advised)).await.unwrap();
    look(of(&advised)).await.unwrap();
    let other = advice("subjectAltName=DNS:db.example").start().await.unwrap();
    says(&misconfigured(look(of(&other)).await), &["other names", "subjectAltName"]);
    // The names of the CN do not count, and an unknown authority is said.
    let unknown = Source::url(format!(
        "{}?sslmode=verify-full",
        advised.superuser_url().replace("127.0.0.1", "localhost")
    ));
    says(&misconfigured(look(unknown).await), &["no authority", "--database-ca-file"]);
    assert!(!why.contains("disable") && !why.contains("sslmode=require"), "{why}");
}

#[tokio::test]
async fn an_authority_by_flag_is_used_and_system_means_the_operating_systems() {
    let server = Server::builder().tls().start().await.unwrap();
    let url = server.superuser_url().to_owned();
    let source = Source::url(&url).ca_file(server.authority().unwrap());
    store::migrate(&source).await.unwrap();
    look(source).await.unwrap();
    // It beats the URL's, and a missing one is said.
    let wrong = Source::url(format!("{url}?sslmode=verify-full&sslrootcert=/no/such"));
    says(&misconfigured(look(wrong.clone()).await), &["/no/such", "cannot read"]);
    look(wrong.ca_file(server.authority().unwrap())).await.unwrap();
    // A server that none of the system's authorities signed.
    says(&misconfigured(look(Source::url(format!("{url}?sslrootcert=system"))).await), &["no authority"]);
    // As libpq: an authority that is named is asked.
    let named = format!("{url}?sslmode=require&sslrootcert={}", server.authority().unwrap().display());
    look(Source::url(named)).await.unwrap();
    let sqlite = Source::url("sqlite:/tmp/x.db").ca_file("/ca");
    says(&misconfigured(look(sqlite).await), &["SQLite", "CA file"]);
}

#[tokio::test]
async fn parameters_of_providers_and_of_other_programs_are_obeyed() {
    let server = postgres::shared().await.unwrap();
    let database = crate::stores::migrated_database(server).await;
    let parameters = "connect_timeout=3&application_name=obeyed&client_encoding=utf8&keepalives_idle=30&gssencmode=disable\
                      &options=-c%20search_path%3Dpublic%20-c%20work_mem%3D3MB&tcp_user_timeout=1000&sslcompression=0";
    let source = Source::url(format!("{}?{parameters}", database.url));
    let store = store::open(source, "another").unwrap();
    held(&*store, "c", "a").await;
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'obeyed' AND datname = current_database()";
    assert_eq!(database.psql(asked).await.unwrap(), "1");
    // Nobody answers: given up after the time of the URL.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("{}?connect_timeout=2", server.url_through(port, "postgres"));
    let answer = tokio::time::timeout(Duration::from_secs(8), look(Source::url(url))).await.unwrap();
    says(&retryable(answer), &["no connection within 2s"]);
}
