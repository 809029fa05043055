//! Finding and reading files.
//!
//! In a directory only `*.yaml`, `*.yml` and `*.json` count, at any depth, sorted by name; entries
//! that begin with a dot are passed over (editors and ConfigMap volumes keep their own there), and
//! so is what is no regular file. Links are followed, each directory once. A file that is named
//! outright is read whatever its name.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy_compiler::diagnostic::{Diagnostic, Severity};
use policy_compiler::document::{Location, Position};

use super::{InputError, Loaded, Options, ParsedFile, merge_layers, parse_file};

/// The path that means standard input.
pub const STDIN: &str = "-";

/// More than this is no manifest, and would be held in memory several times over.
pub const MAX_BYTES: u64 = 64 << 20;

/// The files that a path stands for.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The files, in path order, each named from the path as it was given.
    pub files: Vec<PathBuf>,
    /// The directories that were looked into, each by its canonical path.
    pub directories: BTreeSet<PathBuf>,
    /// What could not be looked into.
    pub errors: Vec<InputError>,
}

/// Reads what `paths` name: files, directories, and `-` for standard input. A file that is reached
/// twice is read once.
#[must_use]
pub fn read<P: AsRef<Path>>(paths: &[P], options: &Options) -> Loaded {
    read_from(paths, options, &mut io::stdin())
}

/// As [`read`], with `stdin` in the place of standard input.
#[must_use]
pub fn read_from<P: AsRef<Path>>(paths: &[P], options: &Options, stdin: &mut dyn Read) -> Loaded {
    read_layers(&[], paths, options, stdin)
}

/// As [`read`], laid over what `base` holds: an object of the files replaces the one of the same kind
/// and name, and a workload's template changes the pods that the workload has made.
#[must_use]
pub fn read_over<P: AsRef<Path>>(base: &[ParsedFile], paths: &[P], options: &Options) -> Loaded {
    read_layers(base, paths, options, &mut io::stdin())
}

fn read_layers<P: AsRef<Path>>(
    base: &[ParsedFile],
    paths: &[P],
    options: &Options,
    stdin: &mut dyn Read,
) -> Loaded {
    let mut parsed = parse_paths(paths, options, stdin);
    let errors = std::mem::take(&mut parsed.errors);
    let mut loaded = merge_layers(&[base.iter().collect(), parsed.files.iter().collect()]);
    loaded.add_failures(errors, parsed.notes);
    loaded
}

/// What the files hold that some paths name, each parsed on its own and not yet merged.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The files, in the order in which they were found.
    pub files: Vec<ParsedFile>,
    /// What could not be read at all.
    pub errors: Vec<InputError>,
    /// What is noteworthy about the paths: directories without manifests.
    pub notes: Vec<Diagnostic>,
}

/// Parses what `paths` name, as [`read_from`] would, and leaves the merging to the caller.
#[must_use]
pub fn parse_paths<P: AsRef<Path>>(paths: &[P], options: &Options, stdin: &mut dyn Read) -> Parsed {
    let mut parsed = Parsed::default();
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    for path in paths.iter().map(AsRef::as_ref) {
        if path == Path::new(STDIN) {
            if seen.insert(path.to_owned()) {
                match read_all(path, stdin) {
                    Ok(text) => parsed.files.push(parse_file(STDIN, &text, options)),
                    Err(error) => parsed.errors.push(error),
                }
            }
            continue;
        }
        let listing = list(path);
        if listing.files.is_empty() && listing.errors.is_empty() {
            parsed.notes.push(nothing_in(path));
        }
        parsed.errors.extend(listing.errors);
        for file in listing.files {
            // What cannot be resolved is at worst read twice.
            let identity = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
            if !seen.insert(identity) {
                continue;
            }
            match read_text(&file) {
                Ok(text) => {
                    parsed.files.push(parse_file(&file.display().to_string(), &text, options));
                }
                Err(error) => parsed.errors.push(error),
            }
        }
    }
    parsed
}

fn nothing_in(path: &Path) -> Diagnostic {
    Diagnostic {
        location: Location { file: Some(Arc::from(path.display().to_string())), position: None },
        object: None,
        field: String::new(),
        severity: Severity::Warning,
        message: "this directory has no *.yaml, *.yml or *.json".to_owned(),
        help: None,
    }
}

/// The files that `path` stands for: itself, or those in the directory that it is.
#[must_use]
pub fn list(path: &Path) -> Listing {
    let mut listing = Listing::default();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => walk(path, &mut listing),
        Ok(_) => listing.files.push(path.to_owned()),
        Err(error) => listing.errors.push(InputError::of_io(path, error)),
    }
    listing
}

/// Whether a file of that name counts in a directory.
#[must_use]
pub fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    !is_hidden(path) && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn walk(directory: &Path, listing: &mut Listing) {
    // A link back to where we came from would never end.
    let canonical = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    if !listing.directories.insert(canonical) {
        return;
    }
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut paths: Vec<PathBuf> = match entries {
        Ok(entries) => entries.into_iter().map(|e| e.path()).collect(),
        Err(error) => {
            listing.errors.push(InputError::of_io(directory, error));
            return;
        }
    };
    paths.sort();
    for path in paths.into_iter().filter(|path| !is_hidden(path)) {
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => walk(&path, listing),
            Ok(metadata) if metadata.is_file() && is_manifest(&path) => listing.files.push(path),
            Err(error) if is_there(&path, &error) => {
                listing.errors.push(InputError::of_io(&path, error));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Whether what could not be looked at for this reason is there all the same: a link to nothing is.
fn is_there(path: &Path, error: &io::Error) -> bool {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    !gone(error) || !fs::symlink_metadata(path).is_err_and(|error| gone(&error))
}

/// The text of a file.
///
/// # Errors
/// Where it cannot be read or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, InputError> {
    let mut file = fs::File::open(path).map_err(|e| InputError::of_io(path, e))?;
    read_all(path, &mut file)
}

/// The text on standard input.
pub(crate) fn read_stdin() -> Result<String, InputError> {
    read_all(Path::new(STDIN), &mut io::stdin())
}

/// As [`read_text`], for a file of a directory: whatever has come to stand there, the reading does
/// not wait for others. A pipe, a device or the kernel's log is refused.
///
/// # Errors
/// Where it cannot be read now or is not UTF-8.
pub fn read_regular(path: &Path) -> Result<String, InputError> {
    let failed = |error| InputError::of_io(path, error);
    let mut file = open_at_once(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    read_all(path, &mut file)
}

/// Opens without waiting for the writer of a FIFO.
#[cfg(unix)]
fn open_at_once(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)
}

#[cfg(not(unix))]
fn open_at_once(path: &Path) -> io::Result<fs::File> {
    fs::File::open(path)
}

fn read_all(path: &Path, reader: &mut dyn Read) -> Result<String, InputError> {
    let mut bytes = Vec::new();
    let mut bounded = reader.take(MAX_BYTES + 1);
    bounded.read_to_end(&mut bytes).map_err(|e| InputError::of_io(path, e))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(InputError::TooLarge { path: path.to_owned(), mebibytes: MAX_BYTES >> 20 });
    }
    text_of(path, bytes)
}

/// The text that the content of `path` is.
///
/// # Errors
/// Where it is not UTF-8, with the place of the first byte that is not.
pub fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String, InputError> {
    String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let before = &bytes[..error.utf8_error().valid_up_to()];
        let line = before.split(|b| *b == b'\n').count();
        let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        InputError::NotUtf8 {
            file: Arc::from(path.display().to_string()),
            position: Position {
                line: u32::try_from(line).unwrap_or(u32::MAX),
                column: u32::try_from(column).unwrap_or(u32::MAX),
            },
            hint: match bytes {
                [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => " (it seems to be UTF-16)",
                _ => "",
            },
        }
    })
}
