//! A PostgreSQL server of the test program's own, which ends with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::bouncer::Bouncer;

/// PostgreSQL refuses to run as root, so it runs as nobody.
pub const NOBODY: u32 = 65_534;

/// What keeps a server going until the end of its input: that of the test program,
/// however it ends, and the folder goes then, too. At each line of it the server, which is dead by then, starts again.
const KEEP: &str = r#"
programs=$1 data=$2
shift 2
start() {
    "$programs/postgres" -D "$data" -k "$data" -c listen_addresses= -c max_connections=300 -c logging_collector=off \
        -c lc_messages=C "$@" >>"$data/log" 2>&1 &
    server=$!
    until "$programs/pg_isready" -q -h "$data" -p "$PORT"; do
        kill -0 "$server" 2>/dev/null || { tail -n 20 "$data/log"; exit 1; }
        sleep 0.05
    done
    echo ready
}
start "$@"
while read -r _; do
    wait "$server"
    start "$@"
done
kill -QUIT "$server"
kill -CONT "$server"
wait "$server"
rm -rf "$(dirname "$data")"
"#;

/// Where a server listens unless a test says otherwise.
const PORT: &str = "5432";

/// A server, until it is dropped.
pub struct Postgres {
    folder: TempDir,
    keeper: Child,
    said: Mutex<BufReader<ChildStdout>>,
    port: String,
    schemas: AtomicU32,
}

impl Postgres {
    /// One for the whole test program; `None` if PostgreSQL is not installed.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        SHARED.get_or_init(|| Self::private(&[], &[])).as_ref()
    }

    /// One for one test, which may ill-treat it: started with these arguments, and with
    /// these files in its folder. `None` if PostgreSQL is not installed.
    pub fn private(more: &[&str], files: &[(&str, &str)]) -> Option<Self> {
        Some(Self::start(&programs()?, more, files))
    }

    fn start(programs: &Path, more: &[&str], files: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("postgres").tempdir().unwrap();
        let is_root = rustix::process::geteuid().is_root();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
        if is_root {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut initdb = Command::new(programs.join("initdb"));
        initdb.args(["-U", "hook", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"]).arg(&data);
        as_nobody(&mut initdb);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        for (name, content) in files {
            let file = data.join(name);
            std::fs::write(&file, content).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            if is_root {
                chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEP, "keep"]).arg(programs).arg(&data).args(["-c", "fsync=off"]).args(more);
        let port = more.iter().find_map(|argument| argument.strip_prefix("port=")).unwrap_or(PORT);
        keeper.env("PORT", port);
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped());
        as_nobody(&mut keeper);
        let mut keeper = keeper.spawn().unwrap();
        let said = Mutex::new(BufReader::new(keeper.stdout.take().unwrap()));
        let server = Self { folder, keeper, said, port: port.to_owned(), schemas: AtomicU32::new(0) };
        server.await_start();
        server
    }

    fn await_start(&self) {
        let (mut said, mut told) = (String::new(), self.said.lock().unwrap());
        told.read_line(&mut said).unwrap();
        if said != "ready\n" {
            told.read_to_string(&mut said).unwrap();
            panic!("PostgreSQL did not start: {said}");
        }
    }

    /// Its folder, where its socket is, too.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Kills it, with all it consists of, as a power cut would.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Starts it again, once it was killed.
    pub fn start_again(&self) {
        writeln!(self.keeper.stdin.as_ref().unwrap()).unwrap();
        self.await_start();
    }

    /// Nothing of it runs any more, and its connections stay.
    pub fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// To the server first, which makes no others then, and to all that it has made.
    fn signal(&self, signal: Signal) {
        let Ok(file) = std::fs::read_to_string(self.data().join("postmaster.pid")) else { return };
        let server: i32 = file.lines().next().unwrap().trim().parse().unwrap();
        let send = |pid: i32| {
            // It may have ended by itself.
            let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
        };
        if signal == Signal::STOP {
            send(server);
        }
        children(server).into_iter().for_each(send);
        if signal != Signal::STOP {
            send(server);
        }
    }

    /// Where an empty schema of the server is; or, if `TALLYHOOK_POOLED` is set, an empty
    /// database of the shared one, behind PgBouncer.
    pub fn schema(&self) -> String {
        static POOLED: OnceLock<Option<Bouncer>> = OnceLock::new();
        if std::env::var_os("TALLYHOOK_POOLED").is_some() {
            let pooled = POOLED.get_or_init(|| Bouncer::start(Self::shared()?));
            return pooled.as_ref().expect("PgBouncer is installed").database().0;
        }
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

    /// Where it is, in its first schema.
    pub fn url(&self) -> String {
        let folder = self.data();
        format!("postgres://hook@{}:{}/postgres", folder.to_str().unwrap().replace('/', "%2F"), self.port)
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
        // What hangs does not end.
        self.go_on();
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Has a program be of the user that PostgreSQL, which refuses root, runs as.
pub fn as_nobody(program: &mut Command) {
    program.current_dir("/").env("LC_ALL", "C");
    if rustix::process::geteuid().is_root() {
        program.uid(NOBODY).gid(NOBODY);
    }
}

fn children(parent: i32) -> Vec<i32> {
    let own = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // Behind the name, which may have spaces: the state, and the parent.
        let of: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (of == parent).then_some(pid)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(own).collect()
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
