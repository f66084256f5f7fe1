//! A copy of the file, made beside a running server, and a copy that is put back.
//!
//! All of a copy is read in one transaction: what the server commits meanwhile goes into its
//! log, and neither waits nor has the copy begin anew. The price is that the log can't be
//! emptied until the last page is read, so it grows by what is committed in between. Hence
//! the copy rests only as long as it works.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::Config;
use super::check::Reading;
use super::mark::{Mark, sync_folder};
use super::open::{ServeLock, check_magic, checkpoint, open_current};
use super::place::beside;
use crate::domain::id::StoreId;
use crate::store::backup::{BackupError, News, Restored, Terms, Written};
use crate::store::error::StoreError;
use crate::store::sql::check::{Checked, Checker, Kind, News as Found};

/// How many pages are copied between two rests: 4 MiB.
const STEP_PAGES: i32 = 1_024;
/// How many bytes of a file are copied at once.
const PIECE_BYTES: usize = 1_024 * 1_024;
/// The longest rest; it is as long as the step before it, or the disk would be the copy's alone.
const REST_MAX: Duration = Duration::from_millis(250);
/// A fact about a store: it sends nothing, and why.
const HELD: &str = "held";
/// What SQLite keeps beside a store, and what we do.
const BESIDE: [&str; 4] = ["-wal", "-shm", "-journal", "-mark"];

type Result<T> = std::result::Result<T, BackupError>;
type Tell<'a> = &'a mut dyn FnMut(News<'_>);

/// A file that becomes what it is to be once it is whole; until then it has another name, and
/// goes if it does not get that far.
struct Part {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl Part {
    fn of(target: &Path) -> Result<Self> {
        let path = with_ending(target, ".part");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(file) => Ok(Self { path, file, is_kept: false }),
            Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => Err(BackupError::Exists {
                path,
                what: "it is being written by another command, or was when that was interrupted: delete it then",
            }),
            Err(cause) => Err(BackupError::Io { path, cause }),
        }
    }

    /// Gives it its name. Fails if something has that by now.
    fn keep(mut self, target: &Path) -> Result<()> {
        refuse_existing(target)?;
        let failed = |cause| BackupError::Io { path: target.to_owned(), cause };
        self.file.sync_all().map_err(failed)?;
        std::fs::rename(&self.path, target).map_err(failed)?;
        self.is_kept = true;
        sync_folder(&beside(target, "")).map_err(failed)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_kept {
            // What can't be deleted is told of by the next command.
            let _ = std::fs::remove_file(&self.path);
            BESIDE.iter().for_each(|ending| _ = std::fs::remove_file(with_ending(&self.path, ending)));
        }
    }
}

/// Copies the store beside a server that goes on.
pub fn back_up(config: &Config, to: &Path, tell: Tell<'_>) -> Result<Written> {
    refuse_existing(to)?;
    let mut reading = Reading::open(config)?;
    let part = Part::of(to)?;
    let failed = |cause: StoreError| BackupError::Failed { path: to.to_owned(), cause };
    copy_pages(reading.conn().map_err(failed)?, &part, tell).map_err(failed)?;
    drop(reading);
    part.file.sync_all().map_err(|cause| BackupError::Io { path: to.to_owned(), cause })?;
    let looked = look_through(&at(config, &part.path), tell)?;
    if looked.damages > 0 {
        let outcome = "it was not kept; tallyhook check says whether the store has them too";
        return Err(BackupError::Faulty { path: to.to_owned(), faults: looked.checked.faults, outcome });
    }
    let bytes = part.file.metadata().map_err(|cause| BackupError::Io { path: to.to_owned(), cause })?.len();
    part.keep(to)?;
    Ok(Written { bytes, checked: looked.checked })
}

fn copy_pages(source: &mut Connection, part: &Part, tell: Tell<'_>) -> std::result::Result<(), StoreError> {
    // What begins with the first look ends with the last step.
    source.execute_batch("BEGIN")?;
    let page_bytes: i64 = source.query_row("SELECT page_size FROM pragma_page_size", [], |row| row.get(0))?;
    source.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(&part.path, flags)?;
    // Nobody else reads it, and what is not whole is thrown away.
    target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    let backup = Backup::new(source, &mut target)?;
    loop {
        let began = Instant::now();
        let came = backup.step(STEP_PAGES)?;
        let progress = backup.progress();
        let bytes = |pages: i32| u64::try_from(i64::from(pages) * page_bytes).unwrap_or(0);
        tell(News::Copied(bytes(progress.pagecount - progress.remaining), bytes(progress.pagecount)));
        if came == StepResult::Done {
            break;
        }
        // Little by little, or a commit of the server's would wait for all of it.
        part.file.sync_data().map_err(|cause| StoreError::failed(cause.to_string()))?;
        rest(began.elapsed());
    }
    drop(backup);
    source.execute_batch("ROLLBACK")?;
    Ok(())
}

/// Leaves the disk to others for as long as a step took.
#[expect(clippy::disallowed_methods, reason = "nothing is waited for: it is the pace")]
fn rest(step: Duration) {
    std::thread::sleep(step.min(REST_MAX));
}

/// What was found in a copy.
struct Looked {
    checked: Checked,
    /// Faults of the file, rather than of what it says.
    damages: u64,
}

fn look_through(config: &Config, tell: Tell<'_>) -> Result<Looked> {
    let mut damages = 0;
    let mut checker = Checker::on(Reading::open(config)?);
    let checked = checker.run(|found| match found {
        Found::Progress(what, _) => tell(News::Checking(what)),
        Found::Fault(fault) => {
            damages += u64::from(fault.kind == Kind::Damaged);
            tell(News::Fault(fault));
        }
    });
    match checked {
        Ok(checked) => Ok(Looked { checked, damages }),
        // What is damaged can't be read to its end.
        Err(_) if damages > 0 => Ok(Looked { checked: Checked { faults: damages, ..Checked::default() }, damages }),
        Err(cause) => Err(BackupError::Failed { path: config.path.clone(), cause }),
    }
}

/// Puts a copy in the place of the store.
pub fn restore(from: &Path, config: &Config, terms: Terms, tell: Tell<'_>) -> Result<Restored> {
    // Where a link leads, if the store is one.
    let target = &beside(&config.path, "");
    refuse_what_is_none(from)?;
    // Until the end, so that no server begins with what is being moved away.
    let _lock = target.exists().then(|| ServeLock::take(target)).transpose()?;
    let all = [""].into_iter().chain(BESIDE);
    let there: Vec<_> = all.filter(|ending| with_ending(target, ending).exists()).collect();
    if let (Some(ending), false) = (there.first(), terms.moves_aside) {
        let what = "--aside moves it out of the way, with all that lies beside it";
        return Err(BackupError::Exists { path: with_ending(target, ending), what });
    }
    let mut part = Part::of(target)?;
    copy_bytes(from, &mut part.file, tell)?;
    let own = at(config, &part.path);
    // An older one is brought up to date by that.
    drop(open_current(&own)?);
    let Looked { checked, .. } = look_through(&own, tell)?;
    if checked.faults > 0 {
        let outcome = "it was not put back";
        return Err(BackupError::Faulty { path: from.to_owned(), faults: checked.faults, outcome });
    }
    let (old_id, new_id) = begin_anew(&own, from, terms)?;
    let aside = if there.is_empty() { None } else { Some(move_aside(target, &there, terms)?) };
    part.keep(target)?;
    let failed = |cause: rusqlite::Error| BackupError::Failed { path: target.clone(), cause: cause.into() };
    Mark::make(target, &open_current(&at(config, target))?, terms.now).map_err(failed)?;
    Ok(Restored { old_id, new_id, aside, checked })
}

/// The copy becomes a store of its own, before it has the name under which it can be served.
fn begin_anew(own: &Config, from: &Path, terms: Terms) -> Result<(StoreId, StoreId)> {
    let failed = |cause: StoreError| BackupError::Failed { path: own.path.clone(), cause };
    let conn = open_current(own)?;
    let renewed = Mark::renew_store_id(&own.path, &conn, terms.now).map_err(|cause| failed(cause.into()))?;
    // That of the store is made in its place.
    let _ = std::fs::remove_file(beside(&own.path, "-mark"));
    let held = match terms.is_held {
        true => {
            let why = format!("it was restored from {} at {}", from.display(), terms.now.rfc3339_s());
            conn.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", [HELD, &why])
        }
        false => conn.execute("DELETE FROM meta WHERE key = ?1", [HELD]),
    };
    held.map_err(|cause| failed(cause.into()))?;
    // Only the file gets the name: what were left in its log would be lost, and the old id be there again.
    let is_whole = checkpoint(&conn).map_err(|cause| failed(cause.into()))?;
    conn.close().map_err(|(_, cause)| failed(cause.into()))?;
    match is_whole && !beside(&own.path, "-wal").exists() {
        true => Ok(renewed),
        false => Err(failed(StoreError::failed("another program has the copy open"))),
    }
}

/// A copy is one whole file.
fn refuse_what_is_none(from: &Path) -> Result<()> {
    let none = |problem| Err(BackupError::NoCopy { path: from.to_owned(), problem });
    if !from.is_file() {
        return none("there is no such file");
    }
    check_magic(from)?;
    if std::fs::metadata(beside(from, "-wal")).is_ok_and(|log| log.len() > 0) {
        return none(
            "a log lies beside it (-wal), so the file alone is not whole; copy the store with tallyhook backup",
        );
    }
    Ok(())
}

fn copy_bytes(from: &Path, to: &mut File, tell: Tell<'_>) -> Result<()> {
    let failed = |cause| BackupError::Io { path: from.to_owned(), cause };
    let mut source = File::open(from).map_err(failed)?;
    let of = source.metadata().map_err(failed)?.len();
    let (mut piece, mut copied) = (vec![0; PIECE_BYTES], 0);
    loop {
        let count = source.read(&mut piece).map_err(failed)?;
        if count == 0 {
            return to.sync_all().map_err(failed);
        }
        to.write_all(&piece[..count]).map_err(failed)?;
        copied += count as u64;
        tell(News::Copied(copied, of));
    }
}

/// Gives all of a store that is there another name: the file, and what ends so beside it.
fn move_aside(store: &Path, there: &[&str], terms: Terms) -> Result<PathBuf> {
    let aside = with_ending(store, &format!(".before-{}", terms.now.print("%Y%m%dT%H%M%SZ")));
    refuse_existing(&aside)?;
    for ending in there {
        let path = with_ending(store, ending);
        let moved = std::fs::rename(&path, with_ending(&aside, ending));
        moved.map_err(|cause| BackupError::Io { path, cause })?;
    }
    Ok(aside)
}

/// Why the store is held back, if it is.
pub fn held(config: &Config) -> Option<String> {
    if !config.path.exists() {
        return None;
    }
    // What can't be read, whoever opens it says.
    let mut reading = Reading::open(config).ok()?;
    let conn = reading.conn().ok()?;
    conn.query_row("SELECT value FROM meta WHERE key = ?1", [HELD], |row| row.get(0)).optional().ok()?
}

/// Holds it back no longer.
pub fn resume(config: &Config) -> Result<bool> {
    super::open::check_name(&config.path)?;
    let conn = open_current(config)?;
    let deleted = conn.execute("DELETE FROM meta WHERE key = ?1", [HELD]);
    deleted.map(|rows| rows > 0).map_err(|cause| BackupError::Failed { path: config.path.clone(), cause: cause.into() })
}

fn refuse_existing(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(BackupError::Exists { path: path.to_owned(), what: "name another file, or move it away" }),
        Err(_) => Ok(()),
    }
}

fn at(config: &Config, path: &Path) -> Config {
    Config { path: path.to_owned(), ..config.clone() }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}
