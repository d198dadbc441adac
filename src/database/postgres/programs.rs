//! PostgreSQL's other programs: run below guardians like the server, as one that goes on without us would work on the
//! data beside its successor.

use std::ffi::OsString;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use super::{Postgres, lock};
use crate::database::engine::EngineError;
use crate::supervise::OF_THE_LEASES;
use crate::supervise::children::Ended;
use crate::supervise::guardians::Program;
use crate::supervise::ward::Ward;

/// How much of what a program says is kept: the end of it.
const KEPT: usize = 4096;

/// A program that nobody waits for any more is ended.
struct KillOnDrop<'w>(&'w Ward);

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        self.0.kill_at(Duration::ZERO);
    }
}

impl Postgres {
    /// Runs a program to its end; what it said.
    pub(super) async fn run_program(
        &self,
        name: &str,
        arguments: Vec<OsString>,
        limit: Duration,
    ) -> Result<String, EngineError> {
        let failed = |why: String| EngineError::failed(format!("{name}: {why}"));
        self.until_programs_have_ended().await;
        let (mut reader, writer) = std::io::pipe().map_err(|error| failed(error.to_string()))?;
        let mut command = self.config.programs.command(name);
        command.extend(arguments);
        let program = Program {
            command,
            // Its messages are read below.
            set: vec![("LC_ALL", "C".into())],
            unset: OF_THE_LEASES.to_vec(),
            guardian: self.config.guardian.clone(),
            output: Some(writer.into()),
        };
        let heard = tokio::task::spawn_blocking(move || {
            let mut said = Vec::new();
            let _ = reader.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let ward = Ward::start(&self.children, program).await;
        let ward = ward.map_err(|error| EngineError::refused(format!("{name} cannot be run: {error}")))?;
        let ward = Arc::new(ward);
        // It stays here until it has ended, also when this call is given up: nothing may work on the data beside it.
        *lock(&self.program) = Some(Arc::clone(&ward));
        let given_up = KillOnDrop(&ward);
        ward.kill_at(self.clock.boot() + limit);
        let ended = ward.gone().await;
        drop(given_up);
        let said = heard.await.unwrap_or_default();
        if ended == Ended::Exited(0) {
            return Ok(said);
        }
        let from = said.char_indices().map(|(at, _)| at).find(|at| said.len() - at <= KEPT).unwrap_or(0);
        Err(failed(format!("{ended}: {}", said[from..].trim())))
    }

    /// Those of a call that was given up are being killed.
    pub(super) async fn until_programs_have_ended(&self) {
        let ward = lock(&self.program).clone();
        if let Some(ward) = ward {
            ward.gone().await;
        }
    }

    /// A field of `pg_controldata`, by the words that it begins with.
    pub(super) async fn control(&self) -> Result<Control, EngineError> {
        let arguments = vec![self.config.data.clone().into_os_string()];
        let said = self.run_program("pg_controldata", arguments, Duration::from_secs(20)).await?;
        Control::parse(&said).ok_or_else(|| {
            EngineError::failed(format!("what pg_controldata says cannot be understood: {said}"))
        })
    }
}

/// What the control file of a server says that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) system: u64,
    /// Whether it was ended in order, so that nothing must be recovered.
    pub(super) clean: bool,
    /// The highest timeline that it knows of.
    pub(super) line: u32,
}

impl Control {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let line = |name: &str| field(name).and_then(|value| value.parse::<u32>().ok());
        Some(Self {
            system: field("Database system identifier:")?.parse().ok()?,
            clean: matches!(field("Database cluster state:")?, "shut down" | "shut down in recovery"),
            line: line("Latest checkpoint's TimeLineID:")?
                .max(line("Min recovery ending loc's timeline:").unwrap_or(0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_file_says_which_data_it_is_whether_they_are_whole_and_the_highest_timeline() {
        let text = |state: &str, recovered: u32| {
            format!(
                "pg_control version number:            1300\nDatabase system identifier:           7312345678901234567\n\
                 Database cluster state:               {state}\nLatest checkpoint's TimeLineID:       2\n\
                 Min recovery ending loc's timeline:   {recovered}\n"
            )
        };
        let read = |state, recovered| Control::parse(&text(state, recovered)).unwrap();
        let clean = Control { system: 7_312_345_678_901_234_567, clean: true, line: 2 };
        assert_eq!(read("shut down", 0), clean);
        assert_eq!(read("shut down in recovery", 3), Control { line: 3, ..clean });
        for state in ["in production", "in archive recovery", "shutting down"] {
            assert!(!read(state, 0).clean, "{state}");
        }
        assert_eq!(Control::parse("nonsense"), None);
    }
}
