//! The load generator against trivial servers in this process: does it see what it is
//! there to see?

mod answers;
mod connections;
mod certificate;
mod trivial;

use std::path::Path;

use countersign_bench::e2e::{
    protocol::Way,
    report::Report,
    rounds::{Turn, play},
    scenario::Scenario,
};

use crate::{
    certificate::{certificate, tls_config},
    trivial::{Trivial, corpus, honest, strict},
};

#[test]
fn every_scenario_can_be_played_and_has_its_figures() {
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
        let server = |way: Way| {
            let alpn = [(Way::H2, "h2"), (Way::Grpc, "h2"), (Way::H3, "h3")]
                .into_iter()
                .find(|(known, _)| *known == way);
            let tls =
                scenario.tls.map(|_| tls_config(&certificate(), true, alpn.map(|(_, name)| name)));
            Trivial::speaking(way, tls, honest)
        };
        let servers: Vec<_> = plans.iter().map(|plan| server(plan.protocol)).collect();
        let turns = plans.into_iter().zip(&servers).map(|(plan, target)| Turn {
            plan,
            target,
            answers: strict(),
        });
        let turns: Vec<_> = turns.collect();
        let measured =
            play(&scenario, &corpus(), certificate().join("certificate.pem"), &turns).unwrap();
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
