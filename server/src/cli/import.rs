//! `countersign import`: copies users, roles, environments and tokens of an Inmanta server.

use std::path::Path;

use super::{
    CommandError, ConfigSource,
    arguments::{ImportArgs, ImportCommand},
    database::databases,
    print, printable, record_change, variable,
};
use crate::{
    audit::{AuditOperation, AuditTarget},
    base::{clock, watched_file::read_text},
    config::Config,
    import::{
        self, ImportSettings,
        source::{self, SourceAddress},
    },
};

pub(super) fn run(source: &ConfigSource, command: ImportCommand) -> Result<(), CommandError> {
    let ImportCommand::Inmanta(args) = command;
    let address = address(&args)?;
    if source.config.is_empty() {
        return Err(CommandError::failed(
            "no configuration is given, so the key of the source cannot be in it\n  help: name the \
             configuration of this server with --config",
        ));
    }
    let config = source.load()?;
    let databases = databases(source, &config)?;
    let store = &databases.main;
    let contents = store.block_on(source::read(&address)).map_err(CommandError::failed)?;
    if contents.tokens.is_none() {
        print("The source has no registry of tokens (it is older than 18.2).")?;
    }
    let settings = settings(&config);
    let (from, to) = (printable(&address.location), printable(store.location()));
    if args.dry_run {
        let previewed = store.block_on(import::preview(&databases, &contents, &settings));
        let report = previewed.map_err(CommandError::failed)?;
        return Ok(print(format_args!(
            "Import from {from} into {to} would do this:\n{report}\n\
             Nothing was changed (--dry-run)."
        ))?);
    }
    let imported = store.block_on(import::run(&databases, &contents, &settings));
    let report = imported.map_err(CommandError::failed)?;
    print(format_args!("Imported from {from} into {to}:\n{report}"))?;
    let [new, unchanged, changed, skipped] = report.totals();
    let detail = format!(
        "from {from}: {new} new, {unchanged} unchanged, {changed} changed, {skipped} skipped"
    );
    let (operation, target) = (AuditOperation::Import, AuditTarget::default());
    record_change(Some(store), operation, target, Some(detail))
}

/// Environment variable with the address of the source.
const FROM: &str = "COUNTERSIGN_IMPORT_FROM";

/// Returns the address of the source.
fn address(args: &ImportArgs) -> Result<SourceAddress, CommandError> {
    if let Some(address) = &args.from {
        return Ok(address.clone());
    }
    let (place, text) = if let Some(file) = &args.from_file {
        (file.display().to_string(), read_address(file)?)
    } else {
        let text = variable(FROM)?.ok_or_else(|| {
            CommandError::failed(format_args!(
                "no source is given\n  help: write the address of the database to a file for \
                 --from-file, or set {FROM}"
            ))
        })?;
        (FROM.to_owned(), text)
    };
    SourceAddress::parse(text.trim())
        .map_err(|reason| CommandError::failed(format_args!("{place}: {reason}")))
}

fn read_address(file: &Path) -> Result<String, CommandError> {
    const MAX_BYTES: u64 = 16 * 1024;
    read_text(file, MAX_BYTES)
        .map_err(|error| CommandError::failed(format_args!("{}: {error}", file.display())))
}

fn settings(config: &Config) -> ImportSettings {
    let signing = config.signing();
    ImportSettings {
        issuer: signing.map(|section| section.issuer.name.to_string()),
        leeway: signing.map_or(0, |section| section.issuer.rules.leeway.into()),
        token_retention: config.settings.api.login.token_retention.into(),
        revocation_capacity: config.revocation.capacity,
        now: clock::now(),
    }
}
