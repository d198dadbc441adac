//! Settings under which a member's promises cannot be kept: each by its name, with what to do.

use std::collections::BTreeMap;

use super::session::Session;
use crate::database::engine::EngineError;

/// What the server is started with, whatever its files say. On the command line, as rewinding and copying bring the
/// files of another member, and as nobody can change them there while the server runs.
pub(super) const IMPOSED: &[(&str, &str)] = &[
    // With the default of 60 s a connection that was cut in one direction is noticed by nobody for that long.
    ("wal_receiver_timeout", "5s"),
    ("wal_sender_timeout", "5s"),
    // A member follows another one at once when it is asked to.
    ("wal_retrieve_retry_interval", "200ms"),
    // It is asked while it is a standby.
    ("hot_standby", "on"),
    // A query on a standby must not keep it from its seal.
    ("max_standby_streaming_delay", "1s"),
    ("max_standby_archive_delay", "1s"),
    ("recovery_target_timeline", "latest"),
    ("recovery_min_apply_delay", "0"),
];

/// Written by the engine, so nobody may say them where they would win over what it writes.
const OURS: &[&str] = &["primary_conninfo", "primary_slot_name", "synchronous_standby_names"];

/// A setting with its source.
#[derive(Debug, Clone)]
struct Setting {
    value: String,
    source: String,
}

/// All that is wrong, for a person.
fn faults(version: u32, settings: &BTreeMap<String, Setting>) -> Vec<String> {
    let value = |name: &str| settings.get(name).map_or("", |setting| setting.value.as_str());
    let number = |name: &str| value(name).parse::<i64>().unwrap_or(0);
    let mut faults = Vec::new();
    let mut refuse = |wrong: bool, why: &str| {
        if wrong {
            faults.push(why.to_owned());
        }
    };
    refuse(version < 130_000, "this PostgreSQL is older than 13; upgrade it");
    refuse(
        value("fsync") == "off",
        "fsync is off, so a crash of the machine loses what was acknowledged; set it to on",
    );
    refuse(
        value("full_page_writes") == "off",
        "full_page_writes is off, so a crash of the machine tears pages, and pg_rewind cannot use this server; set it to on",
    );
    refuse(
        value("wal_log_hints") == "off" && value("data_checksums") == "off",
        "wal_log_hints is off and the data have no checksums, so a former primary could not be rewound; set wal_log_hints \
         to on, or run pg_checksums --enable while the server is stopped",
    );
    refuse(
        value("restart_after_crash") == "off",
        "restart_after_crash is off, so the failure of one session ends the whole server; set it to on: after its \
         restart the server is a standby",
    );
    refuse(
        number("max_slot_wal_keep_size") < 0,
        "max_slot_wal_keep_size is unlimited (-1), so a member that is away fills the disk of the primary; set it to what \
         the disk can spare",
    );
    refuse(
        value("wal_level") == "minimal",
        "wal_level is minimal, so nobody can follow this server; set it to replica",
    );
    refuse(
        matches!(value("synchronous_commit"), "off" | "local"),
        "synchronous_commit is off or local, so commits are acknowledged that no other member has; set it to on (a \
         session or a role that can bear a loss may choose otherwise)",
    );
    refuse(
        number("max_wal_senders") == 0,
        "max_wal_senders is 0, so nobody can follow this server; set it to 10",
    );
    refuse(
        number("max_replication_slots") == 0,
        "max_replication_slots is 0, so the log is not kept for members that are away; set it to 10",
    );
    refuse(
        value("allow_alter_system") == "off",
        "allow_alter_system is off, but whom the server follows and waits for is changed by ALTER SYSTEM; set it to on",
    );
    for name in settings
        .keys()
        .filter(|name| name.starts_with("recovery_target") && *name != "recovery_target_timeline")
    {
        let unset = match name.as_str() {
            "recovery_target_action" | "recovery_target_inclusive" => true,
            other => value(other).is_empty(),
        };
        refuse(!unset, &format!("{name} is set, so a standby would stop on its way; remove it"));
    }
    for name in OURS {
        let said = settings.get(*name).is_some_and(|setting| setting.source == "command line");
        refuse(
            said,
            &format!("{name} is on the server's command line, where it cannot be changed; remove it there"),
        );
    }
    faults
}

/// An error that names everything that is wrong.
pub(super) async fn check(session: &mut Session) -> Result<(), EngineError> {
    let version = session.value("SELECT current_setting('server_version_num')").await?;
    let rows = session
        .rows("SELECT name, coalesce(reset_val, ''), source FROM pg_settings WHERE vartype IS NOT NULL")
        .await?;
    let settings = rows.into_iter().filter_map(|row| {
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let (name, value, source) = (values.next()?, values.next()?, values.next()?);
        Some((name, Setting { value, source }))
    });
    let faults = faults(version.parse().unwrap_or(0), &settings.collect());
    if faults.is_empty() {
        return Ok(());
    }
    Err(EngineError::refused(format!("the server cannot be a member as it is set up: {}", faults.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> BTreeMap<String, Setting> {
        let values = [
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("wal_log_hints", "off"),
            ("data_checksums", "on"),
            ("restart_after_crash", "on"),
            ("max_slot_wal_keep_size", "1024"),
            ("wal_level", "replica"),
            ("synchronous_commit", "on"),
            ("max_wal_senders", "10"),
            ("max_replication_slots", "10"),
            ("recovery_target_timeline", "latest"),
            ("recovery_target_action", "pause"),
            ("recovery_target_lsn", ""),
            ("primary_conninfo", ""),
        ];
        let setting =
            |value: &str| Setting { value: value.to_owned(), source: "configuration file".to_owned() };
        values.into_iter().map(|(name, value)| (name.to_owned(), setting(value))).collect()
    }

    #[test]
    fn a_sound_server_is_accepted_and_each_fault_is_named_with_its_remedy() {
        assert_eq!(faults(130_000, &sound()), Vec::<String>::new());
        for (name, value) in [
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("data_checksums", "off"),
            ("restart_after_crash", "off"),
            ("max_slot_wal_keep_size", "-1"),
            ("wal_level", "minimal"),
            ("synchronous_commit", "off"),
            ("synchronous_commit", "local"),
            ("max_wal_senders", "0"),
            ("max_replication_slots", "0"),
            ("allow_alter_system", "off"),
            ("recovery_target_lsn", "0/1"),
        ] {
            let mut settings = sound();
            settings.insert(name.to_owned(), Setting { value: value.to_owned(), source: String::new() });
            let found = faults(150_000, &settings);
            let named = if name == "data_checksums" { "wal_log_hints" } else { name };
            assert!(found.len() == 1 && found[0].contains(named), "{name}={value}: {found:?}");
            assert!(["set ", "remove it"].iter().any(|remedy| found[0].contains(remedy)), "{found:?}");
        }
    }

    #[test]
    fn what_the_engine_changes_must_not_stand_where_it_cannot() {
        for name in OURS {
            let mut settings = sound();
            let setting = Setting { value: "x".to_owned(), source: "command line".to_owned() };
            settings.insert((*name).to_owned(), setting);
            assert!(faults(150_000, &settings)[0].contains(name));
        }
        assert!(faults(120_011, &sound())[0].contains("older than 13"));
    }
}
