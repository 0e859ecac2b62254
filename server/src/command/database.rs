//! `countersign database`.

use super::{Failure, Place, print};
use crate::cli::DatabaseCommand;

pub(super) fn run(place: &Place, command: &DatabaseCommand) -> Result<(), Failure> {
    let DatabaseCommand::Migrate = command;
    let store = place.store(&place.load()?)?;
    store.block_on(store.migrate()).map_err(Failure::work)?;
    Ok(print(format_args!("the database {} is up to date", store.place()))?)
}
