//! Cost of machine identities: a login with a certificate, compared with the verification of its
//! chain and a committed insert; `/auth` with their access tokens, compared with a plain token; and
//! logins with a million stored tokens.
//!
//! Usage: `taskset -c 1 target/dist/identities`, on an otherwise idle machine with two cores. The
//! server is on the first core. Certificates are made by `openssl`.

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Instant, SystemTime},
};

use countersign_bench::{
    e2e::process::CpuTime,
    own_server::{ChildGuard, Connection, SIGNING, StateDirectory},
    paired::report,
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CONFIGURATION: &str = "
[server]
auth=true
bind_port=18883
[metrics]
bind_port=18884
[listen]
threads=1
trusted_proxies=127.0.0.1
[login]
attempts_per_source=off
[identities]
enabled=true
";
const ADDRESS: (&str, u16) = ("127.0.0.1", 18883);
const ROUNDS: usize = 15;
const LOGINS: u32 = 100;
/// Batches of pipelined requests in a round, and requests in a batch.
const BATCHES: usize = 1000;
const BATCH: usize = 32;
/// Uses of a token in all rounds, and as many again.
const USES: usize = ROUNDS * BATCHES * BATCH * 2;
const STORED_TOKENS: u32 = 1_000_000;

fn main() -> Result<()> {
    let state = StateDirectory::create("identities", &[CONFIGURATION, SIGNING].concat())?;
    let certificates = OpensslCertificates::create(state.path())?;
    let server = state.serve(ADDRESS)?;
    let mut api = AdminClient { connection: Connection::open(ADDRESS)?, token: String::new() };
    api.token = state.run(&["token", "bootstrap"])?;
    let plain = api.identity(&certificates, 0)?;
    let limited = api.identity(&certificates, USES)?;
    logins(&mut api, &plain, &certificates, state.path())?;
    uses(&state, &mut api, &server, [&plain, &limited])?;
    stored_tokens(&mut api, &limited, state.path())
}

/// A CA and a client certificate.
struct OpensslCertificates {
    ca: String,
    leaf: String,
}

impl OpensslCertificates {
    fn create(directory: &Path) -> Result<Self> {
        let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
                      -keyout ca.key -out ca.pem -subj /CN=ca -days 30 \
                      -addext keyUsage=critical,keyCertSign && \
                      openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
                      -keyout leaf.key -out leaf.csr -subj /CN=client && \
                      openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -out leaf.pem -days 30 \
                      -extfile extensions";
        fs::write(directory.join("extensions"), "extendedKeyUsage=clientAuth\n")?;
        let mut openssl = Command::new("sh");
        openssl.args(["-c", script]).current_dir(directory).stderr(Stdio::null());
        if !openssl.status()?.success() {
            return Err("openssl failed".into());
        }
        let read = |name: &str| fs::read_to_string(directory.join(name));
        Ok(Self { ca: read("ca.pem")?, leaf: read("leaf.pem")? })
    }

    /// Verifies the chain as the library does, without rules of an identity.
    fn verify(&self) -> Result<()> {
        let ca = CertificateDer::from_pem_slice(self.ca.as_bytes())?;
        let leaf = CertificateDer::from_pem_slice(self.leaf.as_bytes())?;
        let anchor = webpki::anchor_from_trusted_cert(&ca)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        webpki::EndEntityCert::try_from(&leaf)?.verify_for_usage(
            &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
            &[anchor],
            &[],
            UnixTime::since_unix_epoch(now),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )?;
        Ok(())
    }
}

/// The API of the server, called by its administrator.
struct AdminClient {
    connection: Connection,
    token: String,
}

/// An identity, and its login.
struct IdentityLogin {
    login: String,
    lines: String,
}

impl AdminClient {
    fn call(&mut self, call: &str, body: &Value) -> Result<Value> {
        let (status, answer) =
            self.connection.exchange_body(call, "", &self.token, &body.to_string())?;
        if status != 200 {
            return Err(format!("{call}: {status} {answer}").into());
        }
        Ok(serde_json::from_str(&answer)?)
    }

    /// Creates an identity whose tokens have this limit of uses.
    fn identity(
        &mut self,
        certificates: &OpensslCertificates,
        uses: usize,
    ) -> Result<IdentityLogin> {
        let organizations = self.call("GET /api/v1/organization", &json!({}))?;
        let organization = &organizations["organizations"][0]["id"];
        let new = json!({ "name": "bench", "organizationId": organization });
        let created = self.call("POST /api/v1/identities", &new)?;
        let id = created["identity"]["id"].as_str().unwrap_or_default();
        let terms = json!({ "caCertificate": certificates.ca, "accessTokenNumUsesLimit": uses });
        self.call(&format!("POST /api/v1/auth/tls-cert-auth/identities/{id}"), &terms)?;
        let mut lines = "x-identity-tls-cert-auth-client-cert: ".to_owned();
        for byte in certificates.leaf.bytes() {
            write!(lines, "%{byte:02X}")?;
        }
        lines.push_str("\r\n");
        Ok(IdentityLogin { login: json!({ "identityId": id }).to_string(), lines })
    }

    fn log_in(&mut self, identity: &IdentityLogin) -> Result<String> {
        let path = "POST /api/v1/auth/tls-cert-auth/login";
        let IdentityLogin { login, lines } = identity;
        let (status, answer) = self.connection.exchange_body(path, lines, "", login)?;
        assert_eq!(status, 200, "a login: {answer}");
        let answer: Value = serde_json::from_str(&answer)?;
        Ok(answer["accessToken"].as_str().unwrap_or_default().to_owned())
    }

    /// Returns the seconds of a login.
    fn time_of_login(&mut self, identity: &IdentityLogin) -> Result<f64> {
        let start = Instant::now();
        for _ in 0..LOGINS {
            self.log_in(identity)?;
        }
        Ok(start.elapsed().as_secs_f64() / f64::from(LOGINS))
    }
}

/// A database with one table, configured as the server's.
struct RawInserts {
    runtime: Runtime,
    database: SqliteConnection,
}

impl RawInserts {
    fn open(path: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let options = SqliteConnectOptions::new().filename(path);
        let mut database =
            runtime.block_on(SqliteConnection::connect_with(&options.create_if_missing(true)))?;
        runtime.block_on(async {
            sqlx::query("PRAGMA journal_mode = WAL").execute(&mut database).await?;
            sqlx::query("PRAGMA synchronous = FULL").execute(&mut database).await?;
            let table = "CREATE TABLE IF NOT EXISTS raw (id INTEGER PRIMARY KEY, text TEXT)";
            sqlx::query(table).execute(&mut database).await
        })?;
        Ok(Self { runtime, database })
    }

    fn insert(&mut self) -> Result<()> {
        let insert = sqlx::query("INSERT INTO raw (text) VALUES ('an access token')");
        self.runtime.block_on(insert.execute(&mut self.database))?;
        Ok(())
    }
}

fn logins(
    api: &mut AdminClient,
    identity: &IdentityLogin,
    certificates: &OpensslCertificates,
    directory: &Path,
) -> Result<()> {
    let mut raw = RawInserts::open(&directory.join("raw.db"))?;
    let (mut ratios, mut times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..LOGINS {
            certificates.verify()?;
            raw.insert()?;
        }
        let raw = start.elapsed().as_secs_f64() / f64::from(LOGINS);
        let login = api.time_of_login(identity)?;
        ratios.push(login / raw);
        times.push((login, raw));
    }
    let (login, raw) = times[ROUNDS / 2];
    let detail = format!("; {:.0} us and {:.0} us", login * 1e6, raw * 1e6);
    report("login with a certificate / chain and committed insert", ratios, &detail);
    Ok(())
}

/// Returns a token of this size that is not of an identity.
fn plain_token(state: &StateDirectory, size: usize) -> Result<String> {
    let sign = |padding: usize| {
        let claim = format!("padding={}", "x".repeat(padding));
        state.run(&["token", "sign", "--client-type", "api", "--claim", &claim])
    };
    let unpadded = sign(0)?.len();
    sign(size.saturating_sub(unpadded) * 3 / 4)
}

/// Measures the CPU time of the server for `/auth` with each kind of token, of the same size.
fn uses(
    state: &StateDirectory,
    api: &mut AdminClient,
    server: &ChildGuard,
    [plain, limited]: [&IdentityLogin; 2],
) -> Result<()> {
    let (plain, limited) = (api.log_in(plain)?, api.log_in(limited)?);
    let tokens = [plain_token(state, plain.len())?, plain, limited];
    let mut nanoseconds = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        for turn in 0..tokens.len() {
            let kind = (round + turn) % tokens.len();
            // The first batch has what is not cached yet.
            send_batches(&mut api.connection, &tokens[kind], 10)?;
            let before = CpuTime::of(&[server.id()])?;
            send_batches(&mut api.connection, &tokens[kind], BATCHES)?;
            let (used, _) = CpuTime::of(&[server.id()])?.since(&before);
            #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "nanoseconds")]
            nanoseconds[kind].push(used as f64 / (BATCHES * BATCH) as f64);
        }
    }
    let [plain, free, limited] = nanoseconds;
    for (name, times) in [("an access token", free), ("a limit of uses", limited)] {
        let ratios = times.iter().zip(&plain).map(|(one, plain)| one / plain).collect();
        let of = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let detail = format!("; {:.0} ns and {:.0} ns", of(times), of(plain.clone()));
        report(&format!("/auth with {name} / with a plain token"), ratios, &detail);
    }
    Ok(())
}

fn send_batches(connection: &mut Connection, token: &str, batches: usize) -> Result<()> {
    let request =
        format!("GET /auth HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n");
    let batch = request.repeat(BATCH);
    for _ in 0..batches {
        connection.pipeline(&batch, BATCH, 200)?;
    }
    Ok(())
}

/// Compares logins that store a token with many stored tokens, and before.
fn stored_tokens(api: &mut AdminClient, identity: &IdentityLogin, directory: &Path) -> Result<()> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        before.push(api.time_of_login(identity)?);
    }
    let mut fill = String::new();
    write!(
        fill,
        "INSERT INTO countersign_identity_token (id, method, uses_limit, created_at, expires_at)
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers
         WHERE n < {STORED_TOKENS})
         SELECT lower(hex(randomblob(16))), (SELECT method FROM countersign_identity_token LIMIT 1),
         100, 1700000000 + n, 4000000000 + n FROM numbers"
    )?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(directory.join("countersign.db"));
        let mut database = SqliteConnection::connect_with(&options).await?;
        sqlx::query(sqlx::AssertSqlSafe(fill)).execute(&mut database).await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut database).await?;
        database.close().await
    })?;
    for _ in 0..ROUNDS {
        after.push(api.time_of_login(identity)?);
    }
    let ratios = after.iter().zip(&before).map(|(after, before)| after / before).collect();
    let detail = format!("; {:.0} us and {:.0} us", after[7] * 1e6, before[7] * 1e6);
    report("login with 1,000,000 stored tokens / with few", ratios, &detail);
    Ok(())
}
