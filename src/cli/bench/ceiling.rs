//! What this machine could do at best: the same signed POSTs from a bare
//! client to the same receiver, the same rows into SQLite in batches, and one
//! `fdatasync`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use rusqlite::params;

use super::load::Wire;
use super::sink::now_ns;
use crate::cli::Failure;
use crate::domain::secret::SecretKey;
use crate::domain::signature::standard_webhooks;

/// Requests in flight at once.
const WIRES: usize = 64;
/// POSTs that are made.
const POSTS: usize = 60_000;
/// Rows that are written.
const ROWS: usize = 100_000;
/// Rows a transaction.
const ROWS_PER_COMMIT: usize = 64;
/// How often `fdatasync` is timed.
const SYNCS: usize = 200;

/// Signed POSTs a second from a bare client, on one thread.
pub async fn posts_per_second(address: &str, message_bytes: usize) -> Result<f64, Failure> {
    let mut wires = Vec::with_capacity(WIRES);
    for _ in 0..WIRES {
        wires.push(Wire::open(address).await?);
    }
    let (next, pad, began) = (Arc::new(AtomicUsize::new(1)), "x".repeat(message_bytes), Instant::now());
    let posters = wires.into_iter().map(|mut wire| {
        let (next, pad) = (Arc::clone(&next), pad.clone());
        let secret = SecretKey::generate();
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number > POSTS {
                    return Ok::<_, Failure>(());
                }
                let (headers, body) = delivery(&secret, number, &pad)?;
                wire.post("/ceiling", &headers, body).await?;
            }
        })
    });
    for poster in posters.collect::<Vec<_>>() {
        poster.await.map_err(Failure::failed)??;
    }
    Ok(POSTS as f64 / began.elapsed().as_secs_f64())
}

fn delivery(secret: &SecretKey, number: usize, pad: &str) -> Result<(HeaderMap, Bytes), Failure> {
    let (id, now) = (format!("msg_bench000_1_{number}"), now_ns());
    let timestamp = i64::try_from(now / 1_000_000_000).map_err(Failure::failed)?;
    let body = format!(
        r#"{{"webhook_id": 1, "increment_id": {number}, "event_id": {number}, "topic": "bench:event", "created_at": "2026-11-22T03:04:05.678Z", "message": {{"t":{now},"pad":"{pad}"}}}}"#
    );
    let signature = standard_webhooks(secret, &id, timestamp, body.as_bytes());
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("user-agent", "bench".to_owned()),
        ("webhook-id", id),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signature),
        ("tallyhook-increment-id", number.to_string()),
    ];
    let header = |(name, value): (&'static str, String)| {
        Ok::<_, Failure>((HeaderName::from_static(name), HeaderValue::from_str(&value).map_err(Failure::failed)?))
    };
    Ok((headers.into_iter().map(header).collect::<Result<_, _>>()?, body.into()))
}

/// Rows a second into a table like that of deliveries, in batches, each
/// batch flushed to disk.
pub fn rows_per_second(folder: &Path) -> Result<f64, Failure> {
    let fill = || -> rusqlite::Result<f64> {
        let mut conn = rusqlite::Connection::open(folder.join("ceiling.db"))?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.execute_batch(
            "CREATE TABLE row (a INTEGER, b INTEGER, c INTEGER, d INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID",
        )?;
        let began = Instant::now();
        for first in (0..ROWS).step_by(ROWS_PER_COMMIT) {
            let tx = conn.transaction()?;
            for number in first..first + ROWS_PER_COMMIT {
                tx.prepare_cached("INSERT INTO row VALUES (1, ?1, ?1, 0)")?.execute(params![number as i64])?;
            }
            tx.commit()?;
        }
        Ok(ROWS as f64 / began.elapsed().as_secs_f64())
    };
    fill().map_err(Failure::failed)
}

/// How long an `fdatasync` takes here: the median.
pub fn sync_time(folder: &Path) -> Result<Duration, Failure> {
    let time = || -> std::io::Result<Duration> {
        let mut file = File::create(folder.join("ceiling.sync"))?;
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            file.write_all(&[7; 4_096])?;
            let began = Instant::now();
            file.sync_data()?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        Ok(times[SYNCS / 2])
    };
    time().map_err(Failure::failed)
}
