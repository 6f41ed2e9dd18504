//! What the operator sees of it at `/metrics`. Every label has a fixed few values.

use super::callers::Stranger;
use hyper::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters of the API.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    answers: Family<StatusLabel, Counter>,
    strangers: Family<WhyLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

impl Counts {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "revocations_api_answers",
            "Answers of the API for revocations, by status",
            self.answers.clone(),
        );
        registry.register(
            "revocations_api_strangers",
            "Requests to it that were not let in, notices refused, and handshakes that failed, by reason",
            self.strangers.clone(),
        );
        // There from the start, so that the first of a kind is an increase.
        for stranger in Stranger::ALL {
            let _ = self.strangers.get_or_create(&WhyLabel { why: stranger.name() });
        }
    }

    pub(super) fn answered(&self, status: StatusCode) {
        self.answers.get_or_create(&StatusLabel { status: status.as_u16() }).inc();
    }

    pub(super) fn stranger(&self, stranger: Stranger) {
        self.strangers.get_or_create(&WhyLabel { why: stranger.name() }).inc();
    }
}
