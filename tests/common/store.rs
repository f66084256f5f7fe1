//! Where the stores of tests are: in files, or in the program's own PostgreSQL if
//! `HOOKTESTS_STORE` is `postgres`. What a test looks up or holds beside the server
//! is said in words that both engines have.
//!
//! What only a file has is tested in modules called `sqlite_own`, which the run on
//! PostgreSQL skips.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, OnceLock};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tallyhook::config::{Config, Sources};
use tallyhook::store::admin::Admin;
use tempfile::TempDir;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::PATIENCE;
use super::postgres::{Postgres, Transaction};

/// Whether the stores of this run are in PostgreSQL.
pub fn is_postgres() -> bool {
    static STORE: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("HOOKTESTS_STORE").ok());
    match STORE.as_deref() {
        None | Some("sqlite") => false,
        Some("postgres") => true,
        Some(other) => panic!("HOOKTESTS_STORE is sqlite or postgres, not {other}"),
    }
}

/// A place for one store, and a folder for what lies beside it, until it is dropped.
pub struct Place {
    folder: TempDir,
    /// Where it is in PostgreSQL.
    schema: Option<String>,
    /// Asks it there.
    asker: OnceLock<Asker>,
}

/// Keeps others from changing what is there, until it is dropped.
pub enum Held<'a> {
    /// Somebody writes to the file.
    File(Connection),
    /// Somebody has locked rows.
    Rows(Transaction),
    /// Whatever is changed is refused.
    Refused(&'a Place),
}

/// Refuses whatever changes a row.
const REFUSE: &str = "
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
DO $$ DECLARE name TEXT; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema()
        AND tablename NOT IN ('meta', 'node', 'lease')
    LOOP
        EXECUTE format('CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON %I
            FOR EACH ROW EXECUTE FUNCTION refuse()', name);
    END LOOP;
END $$";

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Self::Refused(place) = self {
            place.rows("DROP FUNCTION refuse CASCADE");
        }
    }
}

impl Place {
    /// A place of the run's engine, with nothing in it.
    pub fn new() -> Self {
        let schema = is_postgres().then(|| Postgres::shared().expect("PostgreSQL is installed").schema());
        Self { folder: tempfile::tempdir().unwrap(), schema, asker: OnceLock::new() }
    }

    /// A place for a file, whatever the run's engine is.
    pub fn file() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), schema: None, asker: OnceLock::new() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The store's file, which there is with SQLite alone.
    pub fn store_file(&self) -> PathBuf {
        assert!(self.schema.is_none(), "there is no file: this is for a module called sqlite_own");
        self.path().join("store.db")
    }

    /// What the key `store` is to be.
    pub fn store(&self) -> String {
        self.schema.clone().unwrap_or_else(|| format!("sqlite:{}", self.store_file().display()))
    }

    /// Another connection to the file, as another process may have one.
    pub fn database(&self) -> Connection {
        let conn = Connection::open(self.store_file()).unwrap();
        conn.busy_timeout(PATIENCE).unwrap();
        conn
    }

    /// True if it is a file.
    pub fn is_file(&self) -> bool {
        self.schema.is_none()
    }

    /// What a statement gives, as text: nothing is an empty one, and bytes are `\x` and
    /// their digits. Flags are asked for as numbers.
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        self.try_rows(sql).unwrap_or_else(|problem| panic!("{sql}: {problem}"))
    }

    /// The same of a store that may be broken.
    pub fn try_rows(&self, sql: &str) -> Result<Vec<Vec<String>>, String> {
        match &self.schema {
            Some(url) => {
                let asker = self.asker.get_or_init(|| Asker::start(url.clone()));
                // Of two who wait for one another, such as this and a server at work, the
                // database undoes one.
                std::iter::repeat_with(|| asker.ask(sql))
                    .find(|said| !said.as_ref().is_err_and(|problem| problem.contains("deadlock detected")))
                    .expect("it is asked again and again")
            }
            None => file_rows(&self.database(), sql).map_err(|problem| problem.to_string()),
        }
    }

    /// The one value that a statement gives.
    pub fn value(&self, sql: &str) -> String {
        self.rows(sql).swap_remove(0).swap_remove(0)
    }

    /// The one number that a statement gives.
    pub fn number(&self, sql: &str) -> i64 {
        self.value(sql).parse().unwrap()
    }

    /// Holds what others have to have before they write; reading goes on. In PostgreSQL
    /// that is every merchant there is.
    pub fn hold(&self) -> Held<'_> {
        match &self.schema {
            Some(url) => {
                let server = Postgres::shared().expect("PostgreSQL is installed");
                Held::Rows(server.begin(url, "SELECT 1 FROM merchant FOR UPDATE"))
            }
            None => {
                let conn = self.database();
                conn.execute_batch("BEGIN IMMEDIATE").unwrap();
                Held::File(conn)
            }
        }
    }

    /// Has every change fail, of a server that does not wait; reading goes on.
    pub fn refuse_changes(&self) -> Held<'_> {
        if self.is_file() {
            return self.hold();
        }
        self.rows(REFUSE);
        Held::Refused(self)
    }

    /// Lets an operator do something. A thread of its own drives the connection.
    pub fn administer<T: Send>(&self, run: impl FnOnce(&mut Admin) -> T + Send) -> T {
        let flags = vec![("store", self.store())];
        let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
        on_a_thread(|| run(&mut Admin::open(&config.store).unwrap()))
    }
}

/// Runs what blocks on a connection, which may not be done by who drives others.
pub fn on_a_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn file_rows(conn: &Connection, sql: &str) -> rusqlite::Result<Vec<Vec<String>>> {
    let text = |value: ValueRef<'_>| match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
    };
    let mut statement = conn.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((0..columns).map(|column| row.get_ref(column).map(text)).collect::<rusqlite::Result<_>>()?);
    }
    Ok(found)
}

/// A connection to PostgreSQL, driven by a thread of its own.
struct Asker(Mutex<Sender<(String, Sender<Answer>)>>);

type Answer = Result<Vec<Vec<String>>, String>;

impl Asker {
    fn start(url: String) -> Self {
        let (asker, asked) = channel::<(String, Sender<Answer>)>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let client = runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
                tokio::spawn(connection);
                client
            });
            while let Ok((sql, answer)) = asked.recv() {
                let found = runtime.block_on(client.simple_query(&sql));
                let rows = found.map(|messages| messages.iter().filter_map(texts).collect());
                // Whoever asked waits for it.
                let _ = answer.send(rows.map_err(|problem| format!("{problem:?}")));
            }
        });
        Self(Mutex::new(asker))
    }

    fn ask(&self, sql: &str) -> Answer {
        let (sender, answer) = channel();
        self.0.lock().unwrap().send((sql.to_owned(), sender)).unwrap();
        answer.recv().unwrap()
    }
}

fn texts(message: &SimpleQueryMessage) -> Option<Vec<String>> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect())
}
