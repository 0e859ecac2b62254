//! `countersign audit`: prints the audit log, from the database of the server.

use std::{io, thread, time::Duration};

use serde_json::{Value, json};

use super::{CommandError, ConfigSource, arguments::AuditArgs, print, table::print_list};
use crate::{
    audit::{AuditEvent, AuditFilter},
    base::clock,
    store::{Store, StoreError},
};

/// Interval of `--follow`.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(source: &ConfigSource, args: &AuditArgs) -> Result<(), CommandError> {
    let store = source.store(&source.load_for_client()?)?;
    let mut filter = AuditFilter {
        since: args.since.map(|since| since.before(clock::now())),
        after: 0,
        user: args.user.clone(),
        operation: args.operation,
        outcome: args.outcome,
        before: None,
        limit: args.limit,
    };
    loop {
        let events = read(&store, &filter)?;
        print_events(&events, args.json)?;
        if !args.follow {
            return Ok(());
        }
        filter.after = events.last().map_or(filter.after, |(id, _)| *id);
        thread::sleep(POLL_INTERVAL);
    }
}

fn read(store: &Store, filter: &AuditFilter) -> Result<Vec<(i64, AuditEvent)>, CommandError> {
    if !store.exists().map_err(CommandError::failed)? {
        return Err(CommandError::failed(format_args!(
            "{} does not exist\n  help: use the --config or --state-dir of the server",
            store.location()
        )));
    }
    store.block_on(store.audit_events(filter.clone())).map_err(|error: StoreError| {
        CommandError::failed(format_args!("{error}\n  help: check [database]"))
    })
}

fn print_events(events: &[(i64, AuditEvent)], as_json: bool) -> io::Result<()> {
    if as_json {
        return events.iter().try_for_each(|(_, event)| print(event.json()));
    }
    const COLUMNS: &[(&str, &str)] = &[
        ("TIME", "time"),
        ("OPERATION", "operation"),
        ("OUTCOME", "outcome"),
        ("BY", "by"),
        ("FROM", "from"),
        ("TARGET", "target"),
        ("DETAIL", "detail"),
        ("COUNT", "count"),
    ];
    print_list(&events.iter().map(|(_, event)| row(event)).collect(), COLUMNS, false)
}

fn row(event: &AuditEvent) -> Value {
    let AuditEvent { caller, origin, target, .. } = event;
    let joined = |parts: &[&Option<String>]| {
        let parts: Vec<_> = parts.iter().filter_map(|part| part.as_deref()).collect();
        Some(parts.join(" ")).filter(|text| !text.is_empty())
    };
    let outcome = match &event.reason {
        Some(reason) => format!("{}: {reason}", event.outcome.name()),
        None => event.outcome.name().into(),
    };
    json!({
        "time": clock::rfc3339(event.at),
        "operation": event.operation.name(),
        "outcome": outcome,
        // A token of a program has no user.
        "by": joined(&[caller.user.as_ref().map_or(&caller.jti, |_| &caller.user), &caller.issuer]),
        "from": origin.client,
        "target": joined(&[
            &target.user,
            &target.role,
            &target.token,
            &target.project,
            &target.environment,
        ]),
        "detail": event.detail,
        "count": event.count,
    })
}
