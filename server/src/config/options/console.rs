//! Options of the console.

use super::{CONSOLE_SECTION, OptionSpec, SectionSpec, flag, number, text};

pub(super) const CONSOLE: SectionSpec = SectionSpec::new(
    CONSOLE_SECTION,
    "The web console of this server, at `/console`. It needs `auth = true`.",
    &[OPTIONS],
);

const OPTIONS: &[OptionSpec] = &[
    text("listener", "listener, or off", "")
        .unset("`main` if the API has accounts or `[web-ui]` a provider, otherwise `off`")
        .about(
            "The listener that serves the console: `main`, the name of a `[listener_<name>]` with \
             `serves = everything`, or `off`.",
            "internal",
        ),
    number("session_idle", 60, 604_800, "1800")
        .about("Time in seconds without a request after which a session ends.", "900"),
    number("session_max", 300, 2_592_000, "43200")
        .about("Time in seconds after its start at which a session ends.", "28800"),
    number("reauthenticate", 10, 86_400, "300").about(
        "Time in seconds after a sign-in for which changes that cannot be undone need no password \
         again.",
        "60",
    ),
    flag("backchannel_revokes_tokens", "false").about(
        "Whether a back-channel logout also revokes the tokens that the OpenID provider issued to \
         the user before it. Otherwise it ends the sessions of the console only.",
        "true",
    ),
];
