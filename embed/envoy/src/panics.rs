//! Defects of this module. A panic that reached Envoy would end it, with all connections.

use std::{
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook},
    sync::Once,
};

use crate::envoy::{LogLevel, log};

/// Reports panics to Envoy's log, also those on threads of the tier.
pub(crate) fn report_panics() {
    static REPORTED: Once = Once::new();
    REPORTED.call_once(|| {
        set_hook(Box::new(|panic| log(LogLevel::Error, &report(panic))));
    });
}

/// Describes a panic by its place and, if it is a constant of the source, its message. Another
/// message could contain parts of a token.
fn report(panic: &PanicHookInfo<'_>) -> String {
    let message = panic.payload().downcast_ref::<&'static str>().copied();
    let place = panic.location().map(ToString::to_string);
    format!(
        "countersign: defect at {}: {}; please report it",
        place.as_deref().unwrap_or("an unknown place"),
        message.unwrap_or("its message is left out, as it may contain a secret"),
    )
}

/// Returns the result of `call`; `None` if it panics. A tier has no state that a panic leaves half
/// changed: its shared state is replaced as a whole.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}
