//! The tables of a store, as both engines have them: what is copied, in which order.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers.
    Int,
    /// Texts.
    Text,
    /// Bytes.
    Bytes,
    /// True or false.
    Flag,
}

use Kind::{Bytes, Flag, Int, Text};

/// A table. Its columns begin with its key, by which it is read in parts.
#[derive(Debug)]
pub struct Table {
    /// Its name, as statements have it.
    pub name: &'static str,
    /// How many columns are its key.
    pub key: usize,
    /// What is copied.
    pub columns: &'static [(&'static str, Kind)],
    /// Rows may be long, so they are measured before they are read.
    pub is_long: bool,
    /// Its key has texts of callers. An engine that can't hold one of them has another
    /// in its place, which stands elsewhere in the order.
    pub is_keyed_by_callers: bool,
}

/// The last number that a webhook has given out. In one engine it is a column, in the
/// other it follows from the deliveries.
pub const LAST_NUMBER: &str = "last_increment_id";

/// All that a store has but facts about itself, each table behind those that it names.
pub const TABLES: &[Table] = &[
    Table {
        name: "merchant",
        key: 1,
        columns: &[
            ("merchant_id", Int),
            ("code", Text),
            ("event_type", Int),
            ("created_at", Int),
            ("paused_at", Int),
            ("webhooks_max", Int),
            ("pending_deliveries_max", Int),
            ("events_per_day_max", Int),
            ("calls_per_second_max", Int),
            ("event_day", Int),
            ("event_day_events", Int),
        ],
        is_long: false,
        is_keyed_by_callers: false,
    },
    Table {
        name: "\"user\"",
        key: 1,
        columns: &[
            ("user_id", Int),
            ("merchant_id", Int),
            ("name", Text),
            ("key_hash", Bytes),
            ("permissions", Int),
            ("is_demo", Flag),
            ("created_at", Int),
            ("disabled_at", Int),
            ("revoked_at", Int),
            ("application_name", Text),
            ("application_description", Text),
            ("application_logo_url", Text),
            ("developer_name", Text),
            ("developer_website", Text),
            ("old_key_hash", Bytes),
            ("old_key_until", Int),
        ],
        is_long: false,
        is_keyed_by_callers: false,
    },
    Table {
        name: "session",
        key: 1,
        columns: &[("key_hash", Bytes), ("user_id", Int), ("expires_at", Int), ("ends_at", Int)],
        is_long: false,
        is_keyed_by_callers: false,
    },
    Table {
        name: "token",
        key: 1,
        columns: &[
            ("token_id", Int),
            ("merchant_id", Int),
            ("user_id", Int),
            ("name", Text),
            ("key_hash", Bytes),
            ("permissions", Int),
            ("confinement", Text),
            ("created_at", Int),
            ("expires_at", Int),
        ],
        is_long: false,
        is_keyed_by_callers: false,
    },
    Table {
        name: "webhook",
        key: 1,
        columns: &[
            ("webhook_id", Int),
            ("merchant_id", Int),
            ("user_id", Int),
            ("name", Text),
            ("description", Text),
            ("is_active", Flag),
            ("topics", Text),
            ("url", Text),
            ("extra_headers", Text),
            ("secret_key", Text),
            ("old_secrets", Text),
            ("format", Text),
            ("retry", Text),
            ("delivery_mode", Text),
            ("max_concurrency", Int),
            ("rate_per_second", Int),
            ("rate_burst", Int),
            ("connect_timeout_ms", Int),
            ("timeout_ms", Int),
            ("basic_username", Text),
            ("basic_password", Text),
            ("batch_events", Int),
            ("batch_bytes", Int),
            ("batch_wait_ms", Int),
            ("expansions", Text),
            (LAST_NUMBER, Int),
            ("settled_through", Int),
            ("acknowledged_through", Int),
            ("consecutive_failures", Int),
            ("failing_since", Int),
            ("disabled_reason", Text),
            ("is_recovering", Flag),
            ("created_at", Int),
            ("updated_at", Int),
            ("deleted_at", Int),
            ("pulled_through", Int),
            ("paused_until", Int),
            ("pause_reason", Text),
            ("is_paused", Flag),
            ("signing_key", Text),
            ("client_certificate", Text),
            ("client_key", Text),
            ("labels", Text),
            ("oauth2", Text),
            ("oauth2_secret", Text),
        ],
        is_long: true,
        is_keyed_by_callers: false,
    },
    Table {
        name: "event",
        key: 1,
        columns: &[
            ("event_id", Int),
            ("merchant_id", Int),
            ("topic", Text),
            ("message", Text),
            ("created_at", Int),
            ("published_at", Int),
            ("traceparent", Text),
            ("labels", Text),
        ],
        is_long: true,
        is_keyed_by_callers: false,
    },
    Table {
        name: "topic",
        key: 1,
        columns: &[
            ("topic_id", Int),
            ("merchant_id", Int),
            ("topic", Text),
            ("category", Text),
            ("name", Text),
            ("description", Text),
            ("event_type", Int),
            ("message_schema", Text),
            ("validation", Text),
            ("is_deprecated", Flag),
            ("is_discontinued", Flag),
            ("version", Int),
            ("created_at", Int),
            ("updated_at", Int),
        ],
        is_long: true,
        is_keyed_by_callers: false,
    },
    Table {
        name: "idempotency",
        key: 2,
        columns: &[
            ("merchant_id", Int),
            ("key", Text),
            ("content_hash", Bytes),
            ("event_id", Int),
            ("receipt", Text),
            ("expires_at", Int),
        ],
        is_long: true,
        is_keyed_by_callers: true,
    },
    Table {
        name: "delivery",
        key: 2,
        columns: &[
            ("webhook_id", Int),
            ("increment_id", Int),
            ("event_id", Int),
            ("state", Int),
            ("attempts", Int),
            ("policy_start", Int),
            ("format", Int),
            ("expansion", Text),
            ("created_at", Int),
            ("next_attempt_at", Int),
            ("ended_at", Int),
            ("reason", Text),
            ("batch_first", Int),
            ("batch_last", Int),
            ("resends_asked", Int),
        ],
        is_long: false,
        is_keyed_by_callers: false,
    },
    Table {
        name: "attempt",
        key: 3,
        columns: &[
            ("webhook_id", Int),
            ("increment_id", Int),
            ("attempt", Int),
            ("started_at", Int),
            ("queue_delay_ms", Int),
            ("duration_us", Int),
            ("address", Text),
            ("status_code", Int),
            ("error_class", Text),
            ("error_detail", Text),
            ("request_headers", Text),
            ("response_headers", Text),
            ("response_body", Bytes),
            ("is_compressed", Flag),
        ],
        is_long: true,
        is_keyed_by_callers: false,
    },
    Table {
        name: "log_size",
        key: 1,
        columns: &[("webhook_id", Int), ("bytes", Int), ("emptied_number", Int), ("emptied_attempt", Int)],
        is_long: false,
        is_keyed_by_callers: false,
    },
    Table {
        name: "fanout",
        key: 1,
        columns: &[("fanout_id", Int), ("merchant_id", Int), ("events", Text)],
        is_long: true,
        is_keyed_by_callers: false,
    },
    Table {
        name: "job",
        key: 1,
        columns: &[
            ("job_id", Int),
            ("webhook_id", Int),
            ("kind", Text),
            ("next_id", Int),
            ("last_id", Int),
            ("since", Int),
            ("topics", Text),
            ("merchant_id", Int),
            ("is_of_all", Flag),
            ("until", Int),
            ("state", Int),
            ("looked_at", Int),
            ("queued", Int),
            ("unavailable", Int),
            ("unavailable_webhook_id", Int),
            ("unavailable_increment_id", Int),
            ("created_at", Int),
            ("ended_at", Int),
            ("is_cancelled", Flag),
        ],
        is_long: true,
        is_keyed_by_callers: false,
    },
    Table {
        name: "notice",
        key: 2,
        columns: &[
            ("webhook_id", Int),
            ("kind", Text),
            ("count", Int),
            ("first_increment_id", Int),
            ("last_increment_id", Int),
            ("due_at", Int),
        ],
        is_long: false,
        is_keyed_by_callers: false,
    },
    Table {
        name: "audit",
        key: 1,
        columns: &[
            ("audit_id", Int),
            ("merchant_id", Int),
            ("at", Int),
            ("user_id", Int),
            ("peer", Text),
            ("request_id", Text),
            ("action", Text),
            ("kind", Text),
            ("subject", Text),
            ("before", Text),
            ("after", Text),
            ("is_cut", Flag),
            ("token_id", Int),
        ],
        is_long: true,
        is_keyed_by_callers: false,
    },
];

impl Table {
    /// Its name, for people.
    pub fn title(&self) -> &'static str {
        self.name.trim_matches('"')
    }

    /// The names of its columns, as statements have them.
    pub fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// The names of its key.
    pub fn key_names(&self) -> String {
        self.columns[..self.key].iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// What has ids that are counted up, and never given again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastIds {
    /// The last of each, 0 if there was none, in the order of [`COUNTED`].
    pub ids: [i64; COUNTED.len()],
}

/// The tables whose ids are counted up.
pub const COUNTED: [&str; 9] = ["merchant", "user", "token", "webhook", "event", "topic", "fanout", "job", "audit"];

impl LastIds {
    /// Each by the name of its table.
    pub fn members(&self) -> impl Iterator<Item = (&'static str, i64)> {
        COUNTED.into_iter().zip(self.ids)
    }
}

impl std::fmt::Display for LastIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (name, id)) in self.members().enumerate() {
            write!(f, "{}{name} {id}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
