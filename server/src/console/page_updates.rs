//! [`PageUpdates`]: what open overviews receive, so that it is rendered once for each sample.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

/// Updates of the overview.
///
/// # Synchronization
/// An update is replaced as a whole. Two requests that render the same update may both keep it.
#[derive(Default)]
pub struct PageUpdates {
    /// By [`FigureAudience`].
    updates: [ArcSwapOption<PageUpdate>; 2],
}

/// Users who see the same figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FigureAudience {
    /// They also see the last changes.
    Administrators,
    Others,
}

/// What all consoles of a [`FigureAudience`] that poll between two samples receive.
struct PageUpdate {
    /// Time of the sample before.
    at: Duration,
    body: Bytes,
}

impl PageUpdates {
    /// Returns the update that is kept for this audience since the sample at this time.
    pub(super) fn kept(
        &self,
        audience: FigureAudience,
        sampled_at: Option<Duration>,
    ) -> Option<Bytes> {
        let kept = self.updates[audience as usize].load_full();
        kept.filter(|kept| Some(kept.at) == sampled_at).map(|kept| kept.body.clone())
    }

    /// Keeps an update that was created after the sample at this time, for [`kept`](Self::kept).
    pub(super) fn keep(
        &self,
        audience: FigureAudience,
        sampled_at: Option<Duration>,
        body: &Bytes,
    ) {
        if let Some(at) = sampled_at {
            let update = PageUpdate { at, body: body.clone() };
            self.updates[audience as usize].store(Some(Arc::new(update)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{figures::RecentFigures, metrics::Metrics, settings::MetricsSettings};

    #[test]
    fn update_is_kept_until_the_next_sample() {
        use FigureAudience::{Administrators, Others};

        let metrics = Metrics::new(1, &MetricsSettings::default());
        let (figures, updates) = (RecentFigures::default(), PageUpdates::default());
        let keep = |text: &'static str, audience| {
            let body = Bytes::from_static(text.as_bytes());
            updates.keep(audience, figures.sampled_at(), &body);
        };
        let kept = |audience| updates.kept(audience, figures.sampled_at());
        keep("a", Others);
        assert_eq!(kept(Others), None, "before any sample");
        figures.add_sample(&metrics);
        keep("b", Administrators);
        assert_eq!((kept(Administrators), kept(Others)), (Some("b".into()), None));
        keep("c", Others);
        assert_eq!((kept(Administrators), kept(Others)), (Some("b".into()), Some("c".into())));
        figures.add_sample(&metrics);
        assert_eq!((kept(Administrators), kept(Others)), (None, None));
    }
}
