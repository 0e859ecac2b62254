//! Options of the database, of revocations, of the token cache, and of the code for signatures.

use super::{OptionSpec, SectionSpec, choice, decimal, flag, ignored, number, number_or_off, text};

pub(super) const DATABASE: SectionSpec = SectionSpec::new(
    "database",
    "The database of users, roles and tokens: an SQLite file in the state directory by default. \
     Either `url`, or the five options `host`, `port`, `name`, `username` and `password` of a \
     PostgreSQL server.",
    &[
        &[
            text("url", "URL", "").unset("SQLite in the state directory").secret().restart().about(
                "Location of the database: `sqlite:/path` or `postgres://user@host/name`.",
                "postgres://countersign@db.example/countersign",
            ),
            text("listen_url", "URL", "").unset("`url`").secret().restart().about(
                "URL of a direct connection to PostgreSQL, if `url` goes through a transaction \
                     pooler. The pooler must support prepared statements.",
                "postgres://countersign@db.example:5432/countersign",
            ),
            text("host", "host or directory of a Unix socket", "localhost")
                .restart()
                .about("Host of the PostgreSQL server.", "db.example"),
            number("port", 1, u16::MAX as u64, "5432")
                .restart()
                .about("Port of the PostgreSQL server.", "5433"),
            text("name", "text", "inmanta").restart().about("Name of the database.", "countersign"),
            text("username", "text", "postgres")
                .restart()
                .about("User of the database.", "countersign"),
            text("password", "text", "")
                .secret()
                .restart()
                .about("Password of the user.", "correct horse battery staple"),
        ],
        CONNECTIONS,
    ],
);

const CONNECTIONS: &[OptionSpec] = &[
    number("connection_pool_max_size", 1, 1000, "10")
        .restart()
        .about("Maximum number of connections.", "20"),
    decimal("connection_timeout", 0.0, 3600.0, "5")
        .restart()
        .about("Timeout in seconds for obtaining a connection.", "2.5"),
    flag("migrate", "true").restart().about(
        "Whether the server may migrate the schema when it starts. Otherwise run `countersign \
         database migrate`.",
        "false",
    ),
    ignored("connection_pool_min_size"),
    ignored("wait_time"),
];

pub(super) const REVOCATION: SectionSpec = SectionSpec::new(
    "revocation",
    "Storage of revocations: the PostgreSQL database if there is one, otherwise an SQLite file.",
    &[&[
        text("file", "path", "")
            .unset("the database, or `revocations` in the state directory")
            .restart()
            .about("SQLite file of revocations.", "/var/lib/countersign/revocations"),
        number("capacity", 1, 100_000_000, "1000000").restart().about(
            "Maximum number of revocations in force. Two to four bytes of memory are reserved \
                 for each.",
            "100000",
        ),
        number_or_off("max_staleness", 2, 86_400, "off").restart().about(
            "Seconds for which tokens are verified by the last known revocations while their store \
             cannot be read. Afterwards they are answered with 503, until it can be read again. \
             `off`: without a limit.",
            "600",
        ),
    ]],
);

pub(super) const FEED: SectionSpec = SectionSpec::new(
    "feed",
    "The feed of keys and revocations from the server to the tiers in other processes of its \
     machine, such as nginx. The server listens on the socket, and the tiers connect to it.",
    &[&[
        text("socket", "path", "").unset("no feed").restart().about(
            "Unix socket of the feed. A tier with it fetches no keys, and opens no database. Only \
             root and the server's user should be able to create files in its directory.",
            "/run/countersign/feed.sock",
        ),
        text("mode", "octal number", "0660")
            .restart()
            .about("Mode of the socket's file. Tiers need write permission.", "0600"),
        text("group", "name or number", "")
            .unset("that of the process")
            .restart()
            .about("Group of the socket's file.", "www-data"),
        decimal("max_staleness", 2.0, 3600.0, "5").restart().about(
            "Seconds for which a tier verifies tokens by what it knows while the server is silent. \
             Afterwards they are answered with 503.",
            "10",
        ),
    ]],
);

pub(super) const AUDIT: SectionSpec = SectionSpec::new(
    "audit",
    "The audit log: logins, refusals of administrative calls, and administrative changes. They are \
     stored in the database, and `countersign audit` prints them.",
    &[&[
        number("retention_days", 1, 36_500, "90")
            .restart()
            .about("Number of days that events are stored.", "365"),
        number("max_rows", 1000, 1_000_000_000, "1000000").restart().about(
            "Maximum number of stored refusals, of logins of machine identities with what they do with \
             their own tokens, and of other stored events. The oldest are deleted.",
            "100000",
        ),
        text("file", "path", "").unset("no file").restart().about(
            "File to which events are also appended, one JSON object per line. It may be rotated at \
             any time.",
            "/var/log/countersign/audit.jsonl",
        ),
    ]],
);

pub(super) const CRYPTO: SectionSpec = SectionSpec::new(
    "crypto",
    "The code that verifies signatures.",
    &[&[choice("rsa", &["auto", "aws-lc"], "auto").restart().about(
        "Code for the RSA signatures of `/v1/verify/batch`. `auto` verifies eight at a time where \
         the processor has AVX-512 IFMA, and uses aws-lc elsewhere; `aws-lc` always uses aws-lc. \
         The results are the same.",
        "aws-lc",
    )]],
);

pub(super) const CACHE: SectionSpec = SectionSpec::new(
    "cache",
    "The cache of verified tokens.",
    &[&[number("megabytes", 0, 1 << 20, "64").restart().about(
        "Memory of the cache. 64 MB hold some 60,000 tokens of the usual size; 0 switches the cache \
         off. Up to as much again is for tokens as HTTP/2 and HTTP/3 clients send them, in a code \
         that takes longer to read than all else.",
        "256",
    ), number("worker_megabytes", 0, 1 << 20, "8").restart().about(
        "Memory of the cache in each worker of nginx with the module, and in each process with the \
         C library, instead of `megabytes`.",
        "32",
    )]],
);
