//! A disk under SQLite that remembers what was written and what was synced,
//! so that the power can be cut at any point of a story afterwards; and that
//! can be made to fail.
//!
//! It is a VFS of SQLite, put in front of the system's own and made the
//! default, so that whatever the product opens goes through it. Files in a
//! watched folder are recorded; all else passes.

#![allow(dead_code, reason = "each test program that includes this uses a part of it")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, Once};

use rusqlite::ffi::{
    SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_OK, sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_io_methods,
    sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// Something that happened to a file.
#[derive(Clone, Debug)]
pub enum Op {
    Write {
        file: String,
        offset: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        file: String,
        size: usize,
    },
    /// What was written to the file before is on the disk.
    Sync {
        file: String,
    },
    /// The system said that it could not: what was written to the file before
    /// can still be read, and will never be on the disk (as on Linux).
    SyncFailed {
        file: String,
    },
    Delete {
        file: String,
    },
}

/// The disk of one folder.
#[derive(Debug, Default)]
pub struct Disk {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ops: Vec<Op>,
    /// Every n-th sync fails.
    sync_failures: Option<usize>,
    syncs: usize,
    /// No file grows.
    is_full: bool,
    /// What failed so far.
    failures: usize,
}

impl Disk {
    /// Records whatever SQLite does to files in that folder from now on.
    pub fn watch(folder: &Path) -> Arc<Self> {
        install();
        let disk = Arc::new(Self::default());
        DISKS.lock().unwrap().insert(folder.to_owned(), Arc::clone(&disk));
        disk
    }

    /// How much has happened.
    pub fn now(&self) -> usize {
        self.state.lock().unwrap().ops.len()
    }

    /// All that has happened.
    pub fn ops(&self) -> Vec<Op> {
        self.state.lock().unwrap().ops.clone()
    }

    /// Has every n-th sync fail; `None`: none.
    pub fn fail_syncs(&self, every: Option<usize>) {
        self.state.lock().unwrap().sync_failures = every;
    }

    /// Has no file grow, or lets them.
    pub fn fill(&self, is_full: bool) {
        self.state.lock().unwrap().is_full = is_full;
    }

    /// How many writes and syncs failed.
    pub fn failures(&self) -> usize {
        self.state.lock().unwrap().failures
    }
}

/// What is on the disk, and what may be.
#[derive(Clone, Debug, Default)]
pub struct Image {
    files: BTreeMap<String, File>,
}

#[derive(Clone, Debug, Default)]
struct File {
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8>, is_lost: bool },
    Truncate { size: usize },
}

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    Nothing,
    Everything,
    /// Some sectors, by this seed.
    Some(u64),
}

impl Image {
    /// The next thing happens.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { file, offset, bytes } => {
                self.file(file).unsynced.push(Change::Write { offset: *offset, bytes: bytes.clone(), is_lost: false })
            }
            Op::Truncate { file, size } => self.file(file).unsynced.push(Change::Truncate { size: *size }),
            Op::Sync { file } => {
                let file = self.file(file);
                for change in std::mem::take(&mut file.unsynced) {
                    change.reach(&mut file.synced, |_| true);
                }
            }
            Op::SyncFailed { file } => {
                for change in &mut self.file(file).unsynced {
                    if let Change::Write { is_lost, .. } = change {
                        *is_lost = true;
                    }
                }
            }
            Op::Delete { file } => drop(self.files.remove(file)),
        }
    }

    fn file(&mut self, name: &str) -> &mut File {
        self.files.entry(name.to_owned()).or_default()
    }

    /// Puts what a power cut leaves into a folder.
    pub fn write_to(&self, folder: &Path, left: Left) {
        let mut random = fastrand::Rng::with_seed(if let Left::Some(seed) = left { seed } else { 0 });
        for (name, file) in &self.files {
            let mut bytes = file.synced.clone();
            for change in &file.unsynced {
                change.reach(&mut bytes, |_| match left {
                    Left::Nothing => false,
                    Left::Everything => true,
                    Left::Some(_) => random.bool(),
                });
            }
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

impl Change {
    /// Does it to the bytes on the disk, as far as it gets there.
    fn reach(&self, disk: &mut Vec<u8>, mut gets_there: impl FnMut(usize) -> bool) {
        match self {
            Self::Truncate { size } if gets_there(0) => disk.resize(*size, 0),
            Self::Write { offset, bytes, is_lost: false } => {
                let mut at = 0;
                while at < bytes.len() {
                    let place = offset + at;
                    let end = (at + SECTOR - place % SECTOR).min(bytes.len());
                    if gets_there(place) {
                        disk.resize(disk.len().max(offset + end), 0);
                        disk[place..offset + end].copy_from_slice(&bytes[at..end]);
                    }
                    at = end;
                }
            }
            Self::Truncate { .. } | Self::Write { .. } => {}
        }
    }
}

static DISKS: LazyLock<Mutex<BTreeMap<PathBuf, Arc<Disk>>>> = LazyLock::new(Mutex::default);

/// A file as SQLite sees it; the system's own lies behind it in memory.
#[repr(C)]
struct Handle {
    base: sqlite3_file,
    watched: *mut Watched,
}

struct Watched {
    disk: Arc<Disk>,
    name: String,
}

struct Front {
    vfs: sqlite3_vfs,
    system: *mut sqlite3_vfs,
}

// SAFETY: written once, before anybody reads it.
unsafe impl Sync for Front {}
// SAFETY: as above.
unsafe impl Send for Front {}

static FRONT: LazyLock<Front> = LazyLock::new(|| {
    // SAFETY: the system's VFS is there from SQLite's start, and stays. A copy
    // of it with another name, size, and ways to open and delete is a VFS;
    // the other functions of the system's own don't care which they come from.
    unsafe {
        let system = sqlite3_vfs_find(std::ptr::null());
        let mut vfs = *system;
        vfs.szOsFile += size_of::<Handle>() as c_int;
        vfs.zName = c"watched".as_ptr();
        vfs.pNext = std::ptr::null_mut();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        Front { vfs, system }
    }
});

fn install() {
    static ONCE: Once = Once::new();
    // SAFETY: FRONT stays where it is for ever, and SQLite writes to nothing of it but the list's pointer.
    ONCE.call_once(|| unsafe {
        let vfs = Box::leak(Box::new(FRONT.vfs));
        assert_eq!(sqlite3_vfs_register(vfs, 1), SQLITE_OK);
    });
}

/// The disk of a path, and the file's name on it.
fn watched(path: *const c_char) -> Option<Watched> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite gives a string that ends with a zero.
    let path = Path::new(unsafe { CStr::from_ptr(path) }.to_str().ok()?);
    let disk = Arc::clone(DISKS.lock().unwrap().get(path.parent()?)?);
    Some(Watched { disk, name: path.file_name()?.to_str()?.to_owned() })
}

unsafe fn system_file(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: szOsFile has room for both, one behind the other.
    unsafe { file.cast::<Handle>().add(1).cast() }
}

unsafe fn watcher<'a>(file: *mut sqlite3_file) -> Option<&'a Watched> {
    // SAFETY: set when the file was opened, and freed when it is closed.
    unsafe { (*file.cast::<Handle>()).watched.as_ref() }
}

extern "C" fn open(
    _: *mut sqlite3_vfs,
    path: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives szOsFile bytes; the system's VFS opens its own part of them.
    unsafe {
        (*file).pMethods = std::ptr::null();
        let opened = (*FRONT.system).xOpen.unwrap()(FRONT.system, path, system_file(file), flags, out);
        if opened == SQLITE_OK {
            let watched = watched(path).map_or(std::ptr::null_mut(), |watched| Box::into_raw(Box::new(watched)));
            file.cast::<Handle>().write(Handle { base: sqlite3_file { pMethods: &METHODS }, watched });
        }
        opened
    }
}

extern "C" fn delete(_: *mut sqlite3_vfs, path: *const c_char, sync_folder: c_int) -> c_int {
    // SAFETY: passed on as it came.
    let deleted = unsafe { (*FRONT.system).xDelete.unwrap()(FRONT.system, path, sync_folder) };
    if let Some(Watched { disk, name }) = watched(path).filter(|_| deleted == SQLITE_OK) {
        disk.state.lock().unwrap().ops.push(Op::Delete { file: name });
    }
    deleted
}

/// Hands a call on to the system's own file.
macro_rules! pass_on {
    ($($name:ident = $method:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {$(
        extern "C" fn $name(file: *mut sqlite3_file $(, $arg: $type)*) -> $result {
            // SAFETY: passed on as it came, to the file that belongs to it.
            unsafe {
                let file = system_file(file);
                (*(*file).pMethods).$method.unwrap()(file $(, $arg)*)
            }
        }
    )*};
}

pass_on! {
    system_close = xClose() -> c_int;
    read = xRead(to: *mut c_void, count: c_int, offset: sqlite3_int64) -> c_int;
    system_write = xWrite(from: *const c_void, count: c_int, offset: sqlite3_int64) -> c_int;
    system_truncate = xTruncate(size: sqlite3_int64) -> c_int;
    system_sync = xSync(flags: c_int) -> c_int;
    file_size = xFileSize(size: *mut sqlite3_int64) -> c_int;
    lock = xLock(level: c_int) -> c_int;
    unlock = xUnlock(level: c_int) -> c_int;
    check_reserved_lock = xCheckReservedLock(out: *mut c_int) -> c_int;
    file_control = xFileControl(op: c_int, arg: *mut c_void) -> c_int;
    sector_size = xSectorSize() -> c_int;
    device_characteristics = xDeviceCharacteristics() -> c_int;
    shm_map = xShmMap(page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void) -> c_int;
    shm_lock = xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier = xShmBarrier() -> ();
    shm_unmap = xShmUnmap(delete: c_int) -> c_int;
}

extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let closed = system_close(file);
    // SAFETY: made by `open`, and nobody uses the file any more.
    unsafe {
        let watched = (*file.cast::<Handle>()).watched;
        if !watched.is_null() {
            drop(Box::from_raw(watched));
        }
    }
    closed
}

extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, count: c_int, offset: sqlite3_int64) -> c_int {
    // SAFETY: the file is open, and `count` bytes lie there.
    let (watched, bytes) = unsafe {
        let bytes = std::slice::from_raw_parts(from.cast::<u8>(), usize::try_from(count).unwrap());
        (watcher(file), bytes.to_vec())
    };
    let Some(Watched { disk, name }) = watched else { return system_write(file, from, count, offset) };
    let mut state = disk.state.lock().unwrap();
    if state.is_full {
        let mut size = MaybeUninit::new(0);
        file_size(file, size.as_mut_ptr());
        // SAFETY: it was made with a value.
        if offset + sqlite3_int64::from(count) > unsafe { size.assume_init() } {
            state.failures += 1;
            return SQLITE_FULL;
        }
    }
    let written = system_write(file, from, count, offset);
    if written == SQLITE_OK {
        state.ops.push(Op::Write { file: name.clone(), offset: usize::try_from(offset).unwrap(), bytes });
    }
    written
}

extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: the file is open.
    let watched = unsafe { watcher(file) };
    let Some(Watched { disk, name }) = watched else { return system_truncate(file, size) };
    let mut state = disk.state.lock().unwrap();
    let truncated = system_truncate(file, size);
    if truncated == SQLITE_OK {
        state.ops.push(Op::Truncate { file: name.clone(), size: usize::try_from(size).unwrap() });
    }
    truncated
}

extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the file is open.
    let watched = unsafe { watcher(file) };
    // What is recorded is what counts: the real disk need not be waited for.
    let Some(Watched { disk, name }) = watched else { return system_sync(file, flags) };
    let mut state = disk.state.lock().unwrap();
    state.syncs += 1;
    if state.sync_failures.is_some_and(|every| state.syncs.is_multiple_of(every)) {
        state.failures += 1;
        state.ops.push(Op::SyncFailed { file: name.clone() });
        return SQLITE_IOERR_FSYNC;
    }
    state.ops.push(Op::Sync { file: name.clone() });
    SQLITE_OK
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // Without memory-mapped reading and writing, which would pass by.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
