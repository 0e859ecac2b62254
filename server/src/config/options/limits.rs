//! Options of timeouts, budgets, logins and the log.

use super::{SectionSpec, choice, number, number_or_off, text};

pub(super) const LIMITS: SectionSpec = SectionSpec::new(
    "limits",
    "Limits of connections, of request heads and of memory, and CPU budgets for tokens with a bad \
     signature.",
    &[&[
        number("connections", 1, 1 << 20, "16384")
            .restart()
            .about("Maximum number of open connections, on all listeners together.", "65536"),
        number("max_head", 8192, 262_144, "65536").restart().about(
            "Maximum length in bytes of the head of a request: its request line and header lines. \
             Over HTTP/2 and HTTP/3, each line counts 32 bytes more than its text.",
            "131072",
        ),
        number("max_header_lines", 16, 1000, "200")
            .restart()
            .about("Maximum number of header lines of a request.", "400"),
        number("head_timeout", 1, 3600, "10").restart().about(
            "Time in seconds for a TLS handshake, and from the first byte of a request to the end \
             of its head.",
            "5",
        ),
        number("body_timeout", 1, 3600, "30")
            .restart()
            .about("Time in seconds from the end of a head to the end of the body.", "10"),
        number("idle_timeout", 1, 86_400, "120").restart().about(
            "Time in seconds from a response to the next request. Keep it longer than that of the \
             proxy.",
            "75",
        ),
        number("drain_timeout", 0, 3600, "10").restart().about(
            "Time in seconds from the signal to stop until open connections are closed.",
            "30",
        ),
        number("request_memory", 1 << 20, 1 << 40, "268435456").restart().about(
            "Memory in bytes for requests that wait for their body or response, of all clients \
             together. Buffers count, which may be up to twice as long as a body.",
            "1073741824",
        ),
        number("request_memory_per_source", 1 << 18, 1 << 40, "8388608").restart().about(
            "Share of that memory of one client address for bodies, and again for everything else. \
             Trusted proxies and Unix sockets have no share of their own.",
            "33554432",
        ),
        number("request_memory_per_connection", 1 << 18, 1 << 40, "1048576").restart().about(
            "Share of that memory of one connection, for bodies and again for everything else.",
            "4194304",
        ),
        number_or_off("bad_signatures_per_core", 1, 100, "75").restart().about(
            "Budget for all bad signatures: a percentage of a core's time. The shares below are \
                 enforced while less than a quarter of it is left; always, if it is off.",
            "50",
        ),
        number_or_off("bad_signatures_per_issuer", 1, 100, "50").restart().about(
            "Share of bad signatures in the name of one issuer, and of all unlisted proxies: a \
             percentage of a core's time.",
            "25",
        ),
        number_or_off("bad_signatures_per_source", 1, 100, "5").restart().about(
            "Share of bad signatures from one client address: a percentage of a core's time.",
            "2",
        ),
        number("sources", 8, 1 << 20, "4096")
            .restart()
            .about("Number of client addresses tracked separately, per core.", "16384"),
    ]],
);

pub(super) const LOGIN: SectionSpec = SectionSpec::new(
    "login",
    "Rate limits for logins of local users, and the threads that hash passwords.",
    &[&[
        number_or_off("failures_per_user", 1, 1_000_000, "10").restart().about(
            "Failed logins for a user after which a client address is locked out for that user.",
            "5",
        ),
        number("lockout", 1, 86_400, "300")
            .restart()
            .about("Duration of a lockout in seconds.", "900"),
        number_or_off("attempts_per_source", 1, 1_000_000, "60")
            .restart()
            .about("Login attempts of one client address per minute.", "20"),
        number("hashing_threads", 1, 1024, "")
            .unset("half of the cores, at most 4")
            .restart()
            .about("Number of threads that hash passwords. Each needs 64 MiB.", "2"),
        number("waiting", 1, 100_000, "64")
            .restart()
            .about("Maximum number of passwords queued for hashing.", "16"),
    ]],
);

pub(super) const LOG: SectionSpec = SectionSpec::new(
    "log",
    "The log on standard error. It never contains tokens, keys or query strings.",
    &[&[
        text("level", "filter", "info").about(
            "Lines that are written: error, warn, info, debug or trace, for all or for single \
             targets. The environment variable `COUNTERSIGN_LOG` takes precedence.",
            "warn,request=info",
        ),
        choice("requests", &["off", "refused", "all"], "off").about(
            "Requests in the access log, with client, path, status, reject code and time.",
            "refused",
        ),
        choice("format", &["auto", "json", "human"], "auto")
            .restart()
            .about("Format of the lines. `auto` is text on a terminal, otherwise JSON.", "json"),
    ]],
);
