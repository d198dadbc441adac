//! Logs: to standard error, because standard output belongs to the program that is supervised.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use super::args::{LogArgs, LogFormat};
use super::exit::{ExitCode, Failure};

/// Begins to log.
pub fn init(args: &LogArgs) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&args.log).map_err(|error| {
        Failure::new(
            ExitCode::Usage,
            format!(
                "--log {:?} is no log filter ({error}); write for example info or component_lease=debug",
                args.log
            ),
        )
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let begun = match args.log_format {
        LogFormat::Text => builder.with_target(false).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    begun.map_err(|error| Failure::unexpected(format!("cannot begin to log: {error}")))
}
