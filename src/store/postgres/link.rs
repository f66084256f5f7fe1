//! The connection on which a node says that it is there, takes leases, and tells the
//! others.

use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Connection, Socket};
use tracing::warn;

use super::asking::Asking;
use super::config::NodeSettings;
use super::faults::no_answer;
use super::notes::Note;
use super::polling::Marks;
use super::settings::Settings;
use super::taking_over::{NOW, numbers};
use super::tls::Stream;
use super::values::Parameter;
use crate::domain::node::{Bucket, NodeId};
use crate::store::error::StoreError;

/// Notes that are taken out at once.
const NOTES_PER_POLL: i64 = 1_000;

type Result<T> = std::result::Result<T, StoreError>;

/// A connection, and what is heard on it.
pub struct Link {
    asking: Asking,
    /// The one on which it listens; `None`: it hears nothing.
    hearing: Option<Hearing>,
    channel: String,
}

/// A connection on which others are heard.
struct Hearing {
    /// As long as it is there, so is the connection.
    _client: Option<Client>,
    heard: mpsc::UnboundedReceiver<String>,
}

/// What there is, as a node sees it when it says that it is there.
pub struct Seen {
    /// This node is.
    pub is_there: bool,
    /// Nodes were taken out.
    pub are_gone: bool,
    /// The nodes that send, this one left out.
    pub senders: Vec<NodeId>,
    /// When the next of the others has to say that it is there.
    pub next_expiry: Option<Duration>,
    /// There are other nodes.
    pub has_others: bool,
    /// Who holds each lease, and its epoch.
    pub leases: Vec<(Option<NodeId>, i64)>,
}

/// What there is for one who sends.
pub struct Polled {
    /// What others have left to it.
    pub notes: Vec<Note>,
    /// There is more of that.
    pub are_left: bool,
    /// How far others have come.
    pub marks: Marks,
}

impl Link {
    /// Connects, and listens if others tell something.
    pub async fn open(database: &Settings, own: &NodeSettings) -> Result<Self> {
        let opened = tokio::time::timeout(database.timeouts.statement, Self::open_at_leisure(database, own)).await;
        opened.map_err(|_| no_answer())?
    }

    async fn open_at_leisure(database: &Settings, own: &NodeSettings) -> Result<Self> {
        let (client, connection, way) = database.link().await?;
        let heard = drive(connection);
        let (set, patience) = (database.session(), database.timeouts.statement);
        let asking = Asking::on(client, &way, &set, "tallyhook keeper", patience).await?;
        let mut link = Self { asking, hearing: None, channel: String::new() };
        // Notifications go to all of a database, which may hold several stores.
        const SCHEMA: &str = "SELECT current_schema()::regnamespace::oid::int8";
        let rows = link.asking.ask(SCHEMA, &[]).await?;
        let schema: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        link.channel = format!("tallyhook_{schema}");
        link.hearing = match &own.notify_database {
            _ if !own.notifies => None,
            Some(other) => link.listen_at(other).await,
            None if way.is_pooled => {
                warn!("behind a pooler nothing is heard of other nodes but by store_poll_ms; store_notify_url helps");
                None
            }
            None => {
                link.asking.batch(&format!("LISTEN {}", link.channel)).await?;
                Some(Hearing { _client: None, heard })
            }
        };
        Ok(link)
    }

    /// Listens at another address of the database. Without it there is still the look at
    /// the store now and then.
    async fn listen_at(&self, other: &Settings) -> Option<Hearing> {
        let listening = async {
            let (client, connection, _) = other.link().await?;
            let heard = drive(connection);
            client.batch_execute(&format!("LISTEN {}", self.channel)).await?;
            Ok::<_, StoreError>(Hearing { _client: Some(client), heard })
        };
        match listening.await {
            Ok(hearing) => Some(hearing),
            Err(cause) => {
                warn!(%cause, database = %other, "nothing is heard of other nodes but by store_poll_ms");
                None
            }
        }
    }

    /// What is heard next; `None`: the connection has ended.
    pub async fn hear(link: Option<&mut Self>) -> Option<String> {
        match link.and_then(|link| link.hearing.as_mut()) {
            Some(hearing) => hearing.heard.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Says that there is another node; its number.
    pub async fn register(&self, own: &NodeSettings) -> Result<NodeId> {
        let sql = format!(
            "INSERT INTO node (name, version, roles, sends, started_at, expires_at)
                VALUES ($1, $2, $3, $4, {NOW}, {NOW} + $5) RETURNING node_id"
        );
        let (roles, ttl) = (own.roles(), millis(own.lease_ttl));
        let values: [Parameter<'_>; 5] = [
            (&own.name, Type::TEXT),
            (&env!("CARGO_PKG_VERSION"), Type::TEXT),
            (&roles, Type::TEXT),
            (&own.sends, Type::BOOL),
            (&ttl, Type::INT8),
        ];
        let rows = self.asking.ask(&sql, &values).await?;
        let row = rows.first().ok_or_else(|| StoreError::failed("the node has got no number"))?;
        Ok(NodeId(row.try_get(0)?))
    }

    /// Says that the node is there, and takes those out that have not said so in time.
    pub async fn say(&self, node: NodeId, ttl: Duration, sends: bool) -> Result<Seen> {
        let sql = format!(
            "WITH clock AS MATERIALIZED (SELECT {NOW} AS now),
                gone AS (DELETE FROM node USING clock WHERE expires_at < clock.now AND node_id <> $1 RETURNING node_id),
                own AS (UPDATE node SET expires_at = clock.now + $2, sends = $3 FROM clock WHERE node_id = $1
                    RETURNING node_id),
                other AS (SELECT node.*, clock.now FROM node, clock WHERE node_id <> $1 AND expires_at >= clock.now)
            SELECT (SELECT count(*) FROM own), (SELECT count(*) FROM gone),
                ARRAY(SELECT node_id FROM other WHERE sends), (SELECT min(expires_at - now) + 1 FROM other),
                (SELECT count(*) FROM other),
                ARRAY(SELECT coalesce(node_id, 0) FROM lease ORDER BY bucket), ARRAY(SELECT epoch FROM lease ORDER BY bucket)"
        );
        let ttl = millis(ttl);
        let values: [Parameter<'_>; 3] = [(&node.0, Type::INT8), (&ttl, Type::INT8), (&sends, Type::BOOL)];
        let rows = self.asking.ask(&sql, &values).await?;
        let row = rows.first().ok_or_else(|| StoreError::failed("the database did not say what nodes there are"))?;
        let (own, gone, others): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(4)?);
        let (senders, nodes, epochs): (Vec<i64>, Vec<i64>, Vec<i64>) =
            (row.try_get(2)?, row.try_get(5)?, row.try_get(6)?);
        let expiry: Option<i64> = row.try_get(3)?;
        let holder = |node: i64| (node > 0).then_some(NodeId(node));
        Ok(Seen {
            is_there: own > 0,
            are_gone: gone > 0,
            senders: senders.into_iter().map(NodeId).collect(),
            next_expiry: expiry.map(|millis| Duration::from_millis(millis.unsigned_abs())),
            has_others: others > 0,
            leases: nodes.into_iter().map(holder).zip(epochs).collect(),
        })
    }

    /// Takes those of these leases that are free, or whose node is gone; with their
    /// epochs.
    pub async fn take(&self, node: NodeId, buckets: &[Bucket]) -> Result<Vec<(Bucket, i64)>> {
        const SQL: &str = "UPDATE lease SET node_id = $1, epoch = epoch + 1
            WHERE bucket IN (SELECT l.bucket FROM lease l WHERE l.bucket = ANY($2)
                    AND (l.node_id IS NULL OR NOT EXISTS (SELECT 1 FROM node n WHERE n.node_id = l.node_id))
                    ORDER BY l.bucket FOR UPDATE)
                AND (node_id IS NULL OR NOT EXISTS (SELECT 1 FROM node n WHERE n.node_id = lease.node_id))
                AND EXISTS (SELECT 1 FROM node n WHERE n.node_id = $1)
            RETURNING bucket, epoch";
        let buckets = numbers(buckets);
        let rows = self.asking.ask(SQL, &[(&node.0, Type::INT8), (&buckets, Type::INT8_ARRAY)]).await?;
        let lease = |row: &tokio_postgres::Row| {
            let bucket: i64 = row.try_get(0)?;
            Ok((Bucket(bucket.to_le_bytes()[0]), row.try_get(1)?))
        };
        rows.iter().map(lease).collect()
    }

    /// What there is for one who sends for the merchants of these buckets: takes notes
    /// out, and looks how far others have come. The last event is read after the
    /// moment as of which all else is seen.
    pub async fn poll(&self, buckets: &[Bucket]) -> Result<Polled> {
        const SQL: &str = "WITH taken AS (DELETE FROM note WHERE (bucket, note_id) IN
                    (SELECT bucket, note_id FROM note WHERE bucket = ANY($1) ORDER BY note_id LIMIT $2)
                RETURNING note_id, word)
            SELECT ARRAY(SELECT word FROM taken ORDER BY note_id), (SELECT last_value FROM event_id),
                (SELECT coalesce(max(generation), 0) FROM merchant), pg_current_snapshot()::text";
        let buckets = numbers(buckets);
        let rows = self.asking.ask(SQL, &[(&buckets, Type::INT8_ARRAY), (&NOTES_PER_POLL, Type::INT8)]).await?;
        let row = rows.first().ok_or_else(|| StoreError::failed("the database did not say what there is"))?;
        let (words, snapshot): (Vec<&str>, &str) = (row.try_get(0)?, row.try_get(3)?);
        Ok(Polled {
            are_left: words.len() as i64 == NOTES_PER_POLL,
            notes: words.into_iter().filter_map(Note::read).collect(),
            marks: Marks::new(row.try_get(1)?, row.try_get(2)?, snapshot),
        })
    }

    /// Takes a node out.
    pub async fn sign_off(&self, node: NodeId) -> Result<()> {
        self.asking.ask("DELETE FROM node WHERE node_id = $1", &[(&node.0, Type::INT8)]).await.map(drop)
    }

    /// Gives leases back.
    pub async fn release(&self, node: NodeId, buckets: &[Bucket]) -> Result<()> {
        const SQL: &str = "UPDATE lease SET node_id = NULL, epoch = epoch + 1 WHERE bucket = ANY($2) AND node_id = $1";
        let buckets = numbers(buckets);
        self.asking.ask(SQL, &[(&node.0, Type::INT8), (&buckets, Type::INT8_ARRAY)]).await?;
        Ok(())
    }

    /// Tells all others.
    pub async fn tell(&self, payloads: &Vec<String>) -> Result<()> {
        const SQL: &str = "SELECT pg_notify($1, payload) FROM unnest($2) AS payload";
        self.asking.ask(SQL, &[(&self.channel, Type::TEXT), (payloads, Type::TEXT_ARRAY)]).await?;
        Ok(())
    }
}

/// Drives a connection, as long as it is there; what is told on it.
fn drive(mut connection: Connection<Socket, Stream>) -> mpsc::UnboundedReceiver<String> {
    let (told, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                // Whoever does not listen has still something to ask on it.
                let _ = told.send(notification.payload().to_owned());
            }
        }
    });
    heard
}

fn millis(duration: Duration) -> i64 {
    duration.as_millis().try_into().unwrap_or(i64::MAX)
}
