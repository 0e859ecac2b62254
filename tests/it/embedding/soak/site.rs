//! The processes of a soak test: providers, one server, and two proxies that follow its feed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use countersign_tests::{
    binary::{Sandbox, Server},
    process::children,
    providers::{CannedResponse, JwksServer},
    proxies::Application,
};
use serde_json::json;

use super::{
    super::{
        contract::with_listener, envoy::dynamic::DynamicEnvoy, module_proxy::ModuleProxy, nginx,
    },
    answers::{AnswerPeriod, AnswerPeriods, AnswerSet, PeriodNumber},
    target::{FaultList, LoadTarget},
    tokens::{LoadToken, ProviderKey, TokenDefect},
};
use crate::{fixture, revocation};

/// Seconds for which a proxy relies on a server that does not answer.
const MAX_STALENESS: u64 = 4;

/// An issuer, and the provider that publishes its keys.
pub(super) struct SoakIssuer {
    algorithm: &'static str,
    url: String,
    provider: JwksServer,
    /// Keys that were published, oldest first. The last one signs.
    pub(super) keys: Vec<Arc<ProviderKey>>,
    generated: u32,
    pub(super) is_down: bool,
    /// When an unknown `kid` may be undecided: while no fetch succeeds.
    undecided: Arc<AnswerPeriods>,
    /// Its period in which the provider fails.
    pub(super) outage: Option<PeriodNumber>,
}

impl SoakIssuer {
    fn start(algorithm: &'static str) -> Self {
        let url = format!("https://{}.example/", algorithm.to_lowercase());
        let provider = JwksServer::start("");
        let (keys, generated, is_down, undecided, outage) = Default::default();
        let mut issuer =
            Self { algorithm, url, provider, keys, generated, is_down, undecided, outage };
        issuer.add_key().usable.set(Instant::now());
        issuer
    }

    /// Publishes one more key, which signs from now on.
    pub(super) fn add_key(&mut self) -> Arc<ProviderKey> {
        self.generated += 1;
        let kid = format!("{}-{}", self.algorithm, self.generated);
        let key = Arc::new(ProviderKey::generate(self.algorithm, kid, &self.url, &self.undecided));
        self.keys.push(Arc::clone(&key));
        self.publish();
        key
    }

    /// Withdraws its oldest key.
    pub(super) fn withdraw_key(&mut self) -> Arc<ProviderKey> {
        let key = self.keys.remove(0);
        key.withdrawing.set(Instant::now());
        self.publish();
        key
    }

    fn publish(&self) {
        let keys: Vec<_> = self.keys.iter().map(|key| &key.jwk).collect();
        self.provider.publish(&json!({ "keys": keys }).to_string());
    }

    /// Lets the provider fail from now on.
    pub(super) fn stop(&mut self, random: &mut fastrand::Rng) {
        self.is_down = true;
        self.outage = self.outage.or_else(|| Some(self.begin_undecided()));
        self.provider.respond_with(match random.u8(..3) {
            0 => CannedResponse::hang(),
            1 => CannedResponse::close(),
            _ => CannedResponse::status("500 Internal Server Error"),
        });
    }

    /// Lets the provider answer again. Fetches may still fail for a moment.
    pub(super) fn restore(&mut self) {
        self.is_down = false;
        self.publish();
    }

    /// Begins a period in which no fetch of the keys may succeed.
    pub(super) fn begin_undecided(&self) -> PeriodNumber {
        let unavailable = AnswerPeriod::Tolerated(AnswerSet::UNAVAILABLE);
        self.undecided.begin(unavailable, Instant::now())
    }

    pub(super) fn end_undecided(&self, period: PeriodNumber, until: Instant) {
        self.undecided.end(period, until);
    }

    /// Returns a token whose key the provider has never had.
    pub(super) fn unknown(&self) -> LoadToken {
        let key = self.keys.last().expect("an issuer has a key");
        LoadToken::sign(key, TokenDefect::UnknownKey)
    }

    fn section(&self) -> String {
        let options = format!(
            "jwks_uri={}\njwks_refresh_interval=2\njwks_cool_down=1\njwks_request_timeout=1",
            self.provider.uri()
        );
        let name = self.algorithm.to_lowercase();
        fixture::issuer_section(&name, self.algorithm, &self.url, &options)
    }
}

/// Issuers, the directory of the server, and its configuration.
pub(super) struct SoakSite {
    pub(super) sandbox: Sandbox,
    configuration: String,
    has_more: AtomicBool,
}

impl SoakSite {
    pub(super) const MAX_STALENESS: Duration = Duration::from_secs(MAX_STALENESS);

    pub(super) fn create() -> (Self, Vec<SoakIssuer>) {
        let issuers: Vec<_> = ["RS256", "ES256", "EdDSA"].map(SoakIssuer::start).into();
        let sections: String = issuers.iter().map(SoakIssuer::section).collect();
        let sandbox = Sandbox::new();
        let socket = sandbox.path().join("feed.sock");
        // A small cache, so that tokens leave it, too.
        let configuration = format!(
            "{}{sections}[feed]\nsocket={}\nmax_staleness={MAX_STALENESS}\n[cache]\nmegabytes=1\n",
            revocation::configuration(),
            socket.display()
        );
        (Self { sandbox, configuration, has_more: AtomicBool::new(false) }, issuers)
    }

    /// Returns the configuration of the server, as it is now.
    pub(super) fn of_server(&self) -> String {
        let key = format!("key={}", fixture::KEY);
        let more = fixture::issuer_section("more", "HS256", "https://more.example/", &key);
        let more = if self.has_more.load(Ordering::Relaxed) { &*more } else { "" };
        format!("{}{more}", self.configuration)
    }

    /// Returns that of the proxies, which have a listener of their own.
    pub(super) fn of_proxies(&self) -> String {
        with_listener(&self.of_server())
    }

    /// Adds an issuer to the configuration, or removes it.
    pub(super) fn change_configuration(&self) {
        self.has_more.fetch_xor(true, Ordering::Relaxed);
    }

    /// Starts the server.
    pub(super) fn serve(&self) -> Server<'_> {
        self.sandbox.serve(&self.of_server())
    }
}

/// nginx and Envoy, each in front of an application.
pub(super) struct SoakProxies {
    pub(super) nginx: ModuleProxy,
    pub(super) envoy: DynamicEnvoy,
}

impl SoakProxies {
    pub(super) fn start(configuration: &str) -> Self {
        let nginx = nginx::start(
            configuration,
            "location / {
                countersign_check on;
                proxy_set_header X-Auth-Subject $countersign_subject;
                proxy_pass http://APPLICATION;
            }",
        );
        Self { nginx, envoy: DynamicEnvoy::start(configuration) }
    }

    pub(super) fn both(&self) -> [(&'static str, &ModuleProxy); 2] {
        [("nginx", &self.nginx), ("Envoy", &self.envoy.proxy)]
    }

    pub(super) fn targets<'s>(&self, faults: &'s FaultList) -> [LoadTarget<'s>; 2] {
        self.both().map(|(name, proxy)| LoadTarget::new(name, proxy.address, faults))
    }

    /// Returns the workers of nginx.
    pub(super) fn workers(&self) -> Vec<u32> {
        children(self.nginx.running.process())
    }

    /// Checks that the applications received the subject of each token, and no other.
    pub(super) fn check_subjects(&self, faults: &FaultList) {
        for (name, proxy) in self.both() {
            check_subjects(name, &proxy.application, faults);
        }
    }

    /// Looks for crashes in the logs.
    pub(super) fn check_logs(&self, killed_workers: usize, faults: &FaultList) {
        for (name, proxy) in self.both() {
            let log = proxy.running.log();
            for line in log.lines().filter(|line| is_crash(line)) {
                faults.add(&format!("{name} logged: {line}"));
            }
        }
        let killed = self.nginx.running.log().matches("exited on signal 9").count();
        if killed != killed_workers {
            faults.add(&format!("{killed} workers of nginx were killed, not {killed_workers}"));
        }
    }
}

/// Whether a line of a log reports a crash, or nginx something that it should not meet.
pub(super) fn is_crash(line: &str) -> bool {
    const CRASHES: [&str; 6] =
        ["panicked", "[alert]", "[emerg]", "[critical]", "Caught ", "assert failure"];
    CRASHES.iter().any(|crash| line.contains(crash)) && !line.contains("exited on signal 9")
}

fn check_subjects(name: &str, application: &Application, faults: &FaultList) {
    for request in application.take() {
        let Some(subject) = request.target.strip_prefix("/soak/") else { continue };
        if request.lines("x-auth-subject") != [subject] {
            faults.add(&format!("the application behind {name} received {request:?}"));
        }
    }
}
