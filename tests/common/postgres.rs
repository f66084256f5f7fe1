//! A PostgreSQL server of the test program's own, which ends with it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// PostgreSQL refuses to run as root, so it runs as nobody.
const NOBODY: u32 = 65_534;

/// What keeps a server going until the end of its input: that of the test program,
/// however it ends.
const KEEP: &str = r#"
"$1/postgres" -D "$2" -k "$2" -c listen_addresses= -c fsync="$3" -c max_connections=300 -c logging_collector=off \
    -c lc_messages=C >"$2/log" 2>&1 &
server=$!
until "$1/pg_isready" -q -h "$2"; do
    kill -0 "$server" 2>/dev/null || { tail -n 20 "$2/log"; exit 1; }
    sleep 0.05
done
echo ready
read -r _
kill -QUIT "$server"
wait "$server"
"#;

/// A server, until it is dropped.
pub struct Postgres {
    folder: TempDir,
    keeper: Child,
    schemas: AtomicU32,
}

impl Postgres {
    /// One for the whole test program; `None` if PostgreSQL is not installed.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        SHARED.get_or_init(|| Some(Self::start(&programs()?, "off"))).as_ref()
    }

    fn start(programs: &Path, fsync: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("postgres").tempdir().unwrap();
        let is_root = rustix::process::geteuid().is_root();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
        if is_root {
            chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let as_nobody = |program: &mut Command| {
            program.current_dir("/").env("LC_ALL", "C");
            if is_root {
                program.uid(NOBODY).gid(NOBODY);
            }
        };
        let mut initdb = Command::new(programs.join("initdb"));
        initdb.args(["-U", "hook", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"]).arg(&data);
        as_nobody(&mut initdb);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEP, "keep"]).arg(programs).arg(&data).arg(fsync);
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped());
        as_nobody(&mut keeper);
        let mut keeper = keeper.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "PostgreSQL did not start");
        Self { folder, keeper, schemas: AtomicU32::new(0) }
    }

    /// Where an empty schema of the server is.
    pub fn schema(&self) -> String {
        let name = format!("s{}", self.schemas.fetch_add(1, Ordering::Relaxed));
        self.run(&format!("CREATE SCHEMA {name}"));
        format!("{}?options=-csearch_path%3D{name}", self.url())
    }

    /// Runs a statement; what it gives, without decoration.
    pub fn run(&self, sql: &str) -> String {
        self.run_in(&self.url(), sql)
    }

    /// The same in one of its schemas.
    pub fn run_in(&self, url: &str, sql: &str) -> String {
        let psql = Command::new(psql()).args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(url).output().unwrap();
        assert!(psql.status.success(), "{sql}: {}", String::from_utf8_lossy(&psql.stderr));
        String::from_utf8(psql.stdout).unwrap().trim_end().to_owned()
    }

    /// Begins a transaction in one of its schemas, with a statement.
    pub fn begin(&self, url: &str, sql: &str) -> Transaction {
        let mut psql = Command::new(psql());
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1"]).arg(url).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut psql = psql.spawn().unwrap();
        write!(psql.stdin.as_mut().unwrap(), "BEGIN;\n{sql};\n\\echo begun\n").unwrap();
        let said = BufReader::new(psql.stdout.take().unwrap());
        assert!(said.lines().any(|line| line.unwrap() == "begun"), "{sql} did not work");
        Transaction(psql)
    }

    fn url(&self) -> String {
        let folder = self.folder.path().join("data");
        format!("postgres://hook@{}/postgres", folder.to_str().unwrap().replace('/', "%2F"))
    }
}

/// A transaction that somebody has open.
pub struct Transaction(Child);

impl Transaction {
    /// Commits it.
    pub fn commit(mut self) {
        writeln!(self.0.stdin.take().unwrap(), "COMMIT;").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

/// Takes it back, unless it was committed.
impl Drop for Transaction {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// That of the system may be a script, which takes its time.
fn psql() -> PathBuf {
    programs().map_or_else(|| "psql".into(), |folder| folder.join("psql"))
}

/// Where Debian and others put the programs of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    found.retain(|folder| folder.join("initdb").exists());
    found.sort();
    found.pop()
}
