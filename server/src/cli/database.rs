//! `countersign database`: schema migrations.

use super::{CommandError, ConfigSource, arguments::DatabaseCommand, print};

pub(super) fn run(source: &ConfigSource, command: &DatabaseCommand) -> Result<(), CommandError> {
    let DatabaseCommand::Migrate = command;
    let store = source.store(&source.load()?)?;
    store.block_on(store.migrate()).map_err(CommandError::failed)?;
    Ok(print(format_args!("the database {} is up to date", store.location()))?)
}
