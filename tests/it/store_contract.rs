//! Every engine against the contract (`src/contract`). This is the list of engines: a further one is a line here.

use component_lease::store_contract;
use component_lease_testkit::mysql::Kind;

use crate::stores::Bench;

store_contract! {
    memory: Bench::memory(),
    left_out: {
        a_retryable_error_delays_a_participant_and_costs_no_term: "no call within a process fails",
    }
}

store_contract! { sqlite: Bench::sqlite().await, left_out: {} }
store_contract! { postgres: Bench::postgres().await, left_out: {} }
store_contract! { postgres_18: Bench::postgres_18().await, left_out: {} }

store_contract! {
    pgbouncer: Bench::pgbouncer().await,
    left_out: {
        a_change_of_holder_wakes_who_listens: "nothing listens behind a pooler that hands out sessions by the transaction",
    }
}

store_contract! {
    mariadb_10_11: Bench::mysql(Kind::MariaDb10_11).await,
    left_out: {
        a_change_of_holder_wakes_who_listens: "the server notifies nobody of anything: followers poll",
    }
}

store_contract! {
    mariadb_11_8: Bench::mysql(Kind::MariaDb11_8).await,
    left_out: {
        a_change_of_holder_wakes_who_listens: "the server notifies nobody of anything: followers poll",
    }
}

store_contract! {
    mysql_9: Bench::mysql(Kind::MySql9).await,
    left_out: {
        a_change_of_holder_wakes_who_listens: "the server notifies nobody of anything: followers poll",
    }
}
