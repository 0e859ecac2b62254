//! Tests of the load generator against trivial servers in this process.

mod answers;
mod connections;
mod certificate;
mod trivial;

use std::path::Path;

use countersign_bench::e2e::{
    protocol::ProtocolKind,
    report::Report,
    rounds::{Turn, run_scenario},
    scenario::Scenario,
};

use crate::{
    certificate::{certificate, tls_config},
    trivial::{TrivialServer, check_token, corpus, strict_answers},
};

#[test]
fn every_scenario_runs_and_prints_its_figures() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e");
    for mut scenario in Scenario::read(&data).unwrap() {
        scenario.pinned = false;
        scenario.rounds = 2;
        scenario.seconds = 0.05;
        scenario.idle = scenario.idle.map(|_| 20);
        let mut plans = scenario.turns();
        for plan in &mut plans {
            plan.connections = plan.connections.min(4);
            plan.streams = plan.streams.min(4);
        }
        let server = |protocol: ProtocolKind| {
            let alpn =
                [(ProtocolKind::H2, "h2"), (ProtocolKind::Grpc, "h2"), (ProtocolKind::H3, "h3")]
                    .into_iter()
                    .find(|(known, _)| *known == protocol);
            let tls =
                scenario.tls.map(|_| tls_config(&certificate(), true, alpn.map(|(_, name)| name)));
            TrivialServer::with_protocol(protocol, tls, check_token)
        };
        let servers: Vec<_> = plans.iter().map(|plan| server(plan.protocol)).collect();
        let turns = plans.into_iter().zip(&servers).map(|(plan, target)| Turn {
            plan,
            target,
            answers: strict_answers(),
        });
        let turns: Vec<_> = turns.collect();
        let measured =
            run_scenario(&scenario, &corpus(), certificate().join("certificate.pem"), &turns)
                .unwrap();
        for rounds in &measured {
            assert_eq!(rounds.len(), 2);
            assert!(
                rounds.iter().all(|round| round.requests > 0 || round.memory.is_some()),
                "{}",
                scenario.name
            );
        }
        let turns = turns.into_iter().map(|turn| turn.plan.name).collect();
        Report { scenario: &scenario, turns, measured }.print().unwrap();
    }
}
