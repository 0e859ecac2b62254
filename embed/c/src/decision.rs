//! Decisions as C reads them.

use countersign_server::embedding::CheckDecision;

use crate::layout::{cs_decision, cs_line, cs_text};

/// A decision, and the arrays by which C reads it.
#[derive(Default)]
pub(crate) struct DecisionBuffer {
    pub(crate) decision: CheckDecision,
    lines: Vec<cs_line>,
    removed: Vec<cs_text>,
}

impl DecisionBuffer {
    pub(crate) const fn new() -> Self {
        Self { decision: CheckDecision::new(), lines: Vec::new(), removed: Vec::new() }
    }

    pub(crate) fn shared(&mut self) -> cs_decision {
        share(&self.decision, &mut self.lines, &mut self.removed)
    }
}

/// Returns a decision as C reads it. The arrays are written to `lines` and `removed`.
pub(crate) fn share(
    decision: &CheckDecision,
    lines: &mut Vec<cs_line>,
    removed: &mut Vec<cs_text>,
) -> cs_decision {
    lines.clear();
    removed.clear();
    let line = |(name, value)| cs_line { name: cs_text::of(name), value: cs_text::of(value) };
    lines.extend(decision.lines().map(line));
    removed.extend(decision.removed().map(cs_text::of));
    let identity = decision.identity();
    cs_decision {
        is_allowed: decision.is_allowed(),
        status: decision.status(),
        lines: lines.as_ptr(),
        line_count: lines.len(),
        removed: removed.as_ptr(),
        removed_count: removed.len(),
        body: cs_text::of(decision.body()),
        subject: cs_text::of(identity.subject),
        user: cs_text::of(identity.user),
        issuer: cs_text::of(identity.issuer),
        client_types: cs_text::of(identity.client_types),
        environment: cs_text::of(identity.environment),
        tenant: cs_text::of(identity.tenant),
        claims: cs_text::of(decision.claims()),
    }
}
