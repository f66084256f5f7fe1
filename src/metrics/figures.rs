//! What is read from the store now and then, and shown as it was at that time.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::labelled::Labelled;
use super::list::List;

/// What a look at the whole store shows.
pub struct StoreFigures {
    /// Webhooks, by `health`.
    pub webhooks: Labelled<Gauge>,
    /// Deliveries that are to be sent, by `health` of their webhooks.
    pub deliveries_pending: Labelled<Gauge>,
    /// For how many seconds the one waits that was due first, by the same.
    pub delivery_lag_seconds: Labelled<Gauge>,
    /// Sessions that have not expired.
    pub sessions: Gauge,
    /// What the store takes up on disk.
    pub store_bytes: Gauge,
    /// Servers that share the store.
    pub nodes: Gauge,
    /// Leases that this one holds.
    pub leases_held: Gauge,
    /// Leases that nobody holds.
    pub leases_free: Gauge,
    /// For how many seconds the oldest snapshot of the database has been open.
    pub snapshot_age_seconds: Gauge,
    /// How many transactions have begun since it was taken.
    pub snapshot_age_transactions: Gauge,
    /// Rows that are to be vacuumed away, by `table`.
    pub dead_rows: Labelled<Gauge>,
    /// When all of this was last read, in seconds since 1970.
    pub survey_timestamp_seconds: Gauge,
    /// Times that it could not be read.
    pub surveys_failed: Counter,
}

impl StoreFigures {
    /// Declares them.
    pub fn declared(list: &mut List) -> Self {
        let gauges = Labelled::<Gauge>::new;
        let mut gauge = |name, unit, help| list.add(name, unit, help, Gauge::default());
        let sessions = gauge("sessions", "sessions", "Sessions that have not expired.");
        let store_bytes = gauge("store_bytes", "bytes", "What the store takes up on disk.");
        let nodes = gauge("nodes", "servers", "Servers that share the store.");
        let leases_held = gauge("leases_held", "leases", "Leases by which this server sends.");
        let leases_free = gauge("leases_free", "leases", "Leases that no server holds.");
        let snapshot_age_seconds = gauge(
            "snapshot_age_seconds",
            "seconds",
            "How long the transaction with the oldest snapshot of the database has been open.",
        );
        let snapshot_age_transactions = gauge(
            "snapshot_age_transactions",
            "transactions",
            "Transactions that have begun since the oldest snapshot of the database was taken.",
        );
        let survey_timestamp_seconds = gauge(
            "survey_timestamp_seconds",
            "seconds",
            "When the store was last looked through for the values that need that, in seconds since 1970.",
        );
        Self {
            webhooks: list.add("webhooks", "webhooks", "Webhooks, by how they are doing.", gauges(&["health"])),
            deliveries_pending: list.add(
                "deliveries_pending",
                "deliveries",
                "Deliveries that are to be sent, for the first time or again, by how their webhooks are doing.",
                gauges(&["health"]),
            ),
            delivery_lag_seconds: list.add(
                "delivery_lag_seconds",
                "seconds",
                "How long the delivery waits that has been due for longest, by how its webhook is doing.",
                gauges(&["health"]),
            ),
            sessions,
            store_bytes,
            nodes,
            leases_held,
            leases_free,
            snapshot_age_seconds,
            snapshot_age_transactions,
            dead_rows: list.add(
                "dead_rows",
                "rows",
                "Rows of the database that wait to be vacuumed away, by table.",
                gauges(&["table"]),
            ),
            survey_timestamp_seconds,
            surveys_failed: list.add(
                "surveys_failed",
                "looks",
                "Times that the store could not be looked through.",
                Counter::default(),
            ),
        }
    }
}
