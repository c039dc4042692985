//! Whether a program could be started, by what the kernel reads of its file. Nothing is started.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// How much of a file the kernel looks at to know how to start it.
const HEAD: usize = 256;
/// Where the headers and the loader's name stand in a program that was compiled.
const ELF_HEAD: u64 = 64 * 1024;
/// How many interpreters the kernel follows when each is a script, too.
const INTERPRETERS: usize = 5;

/// Why a program cannot be started, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// A sentence without its end, with `it` for the program.
    pub(super) why: String,
    pub(super) hint: String,
}

impl Obstacle {
    fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { why: why.into(), hint: hint.into() }
    }

    fn missing(why: &str) -> Self {
        Self::new(
            format!("it {why}"),
            "install it, or correct its name in the runbook; a name without `/` is searched in PATH",
        )
    }
}

/// Why a program could not be started. `by_env` is how `env` would start it: a text without `#!` is given to
/// a shell then.
pub(super) fn obstacle(program: &str, by_env: bool) -> Option<Obstacle> {
    let mut file = match find(program) {
        Ok(file) => file,
        Err(why) => return Some(Obstacle::missing(&why)),
    };
    for nested in 0..=INTERPRETERS {
        let shown = file.display().to_string();
        let mend = format!("correct the first line of {shown}, or install what it names");
        // A program that may be started and not be read is left to the system.
        let Ok(begin) = head(&file, HEAD as u64) else { return None };
        let whose = if nested == 0 {
            "its".to_owned()
        } else {
            format!("its interpreter {shown} is a script, whose")
        };
        let line = match Start::of(&begin) {
            Start::Script(line) => line,
            Start::Compiled => {
                let what = if nested == 0 { "it".to_owned() } else { format!("its interpreter {shown}") };
                return loader_obstacle(&file, &what);
            }
            Start::Unknown => return None,
            Start::Text if nested == 0 && by_env => return None,
            Start::Text => {
                let what =
                    if nested == 0 { "it is".to_owned() } else { format!("its interpreter {shown} is") };
                return Some(Obstacle::new(
                    format!(
                        "{what} a script whose first line does not name an interpreter, so the system cannot start it"
                    ),
                    format!("write an interpreter into the first line of {shown}, such as #!/bin/sh"),
                ));
            }
        };
        let interpreter = PathBuf::from(OsStr::from_bytes(&line.interpreter));
        // The kernel does not search PATH.
        if let Err(why) = executable(&interpreter) {
            if line.interpreter.ends_with(b"\r") {
                return Some(carriage_return(&shown, &whose));
            }
            let interpreter = interpreter.display();
            return Some(Obstacle::new(
                format!("{whose} first line names the interpreter {interpreter}, which {why}"),
                mend,
            ));
        }
        if interpreter.file_name().is_some_and(|name| name == "env")
            && let Some(started) = line.argument.and_then(|argument| env_starts(&[argument]))
            && let Some(deeper) = env_obstacle(&started, &shown, &whose, &mend)
        {
            return Some(deeper);
        }
        file = interpreter;
    }
    Some(Obstacle::new(
        format!("its interpreter is a script, and so on, more than {INTERPRETERS} times"),
        format!("name a program that is not a script in the first line of {program}"),
    ))
}

fn carriage_return(script: &str, whose: &str) -> Obstacle {
    Obstacle::new(
        format!(
            "{whose} first line ends in a carriage return, which the system takes for a part of the name there"
        ),
        format!("remove the carriage returns: type `sed -i 's/\\r$//' {script}`"),
    )
}

/// Why what a script's first line starts by `env` cannot be started. Only the program itself is looked at: a
/// script that `env` finds there would be named as one of its own.
fn env_obstacle(started: &str, script: &str, whose: &str, mend: &str) -> Option<Obstacle> {
    let why = find(started).err()?;
    Some(match started.strip_suffix('\r') {
        Some(_) => carriage_return(script, whose),
        None => Obstacle::new(format!("{whose} first line has `env` start `{started}`, which {why}"), mend),
    })
}

/// The program that `env` starts with these arguments. `None` where there is none, or where what `env` does
/// before it is more than this reads: then nothing is said about it.
pub(super) fn env_starts(arguments: &[String]) -> Option<String> {
    let (first, rest) = arguments.split_first()?;
    let words = if first == "-S" {
        let (text, rest) = rest.split_first()?;
        split(text, rest)?
    } else if let Some(text) = first.strip_prefix("-S").or_else(|| first.strip_prefix("--split-string=")) {
        split(text, rest)?
    } else {
        arguments.to_vec()
    };
    let started = words.into_iter().find(|word| !word.contains('=') || word.starts_with("PATH="))?;
    // Other options and another PATH change where it is searched.
    (!started.starts_with('-') && !started.starts_with("PATH=")).then_some(started)
}

/// The words of a text that `env` takes apart, and those behind it.
fn split(text: &str, rest: &[String]) -> Option<Vec<String>> {
    // Quotes and the like have a meaning of their own in there.
    if text.contains(['\'', '"', '\\', '$', '#']) {
        return None;
    }
    Some(text.split_ascii_whitespace().map(str::to_owned).chain(rest.iter().cloned()).collect())
}

/// How the kernel starts a file, by how it begins.
enum Start {
    Script(Line),
    Compiled,
    Text,
    /// Another format, which the system may have been taught.
    Unknown,
}

/// The first line of a script.
struct Line {
    interpreter: Vec<u8>,
    /// All that follows, as one argument.
    argument: Option<String>,
}

impl Start {
    fn of(begin: &[u8]) -> Self {
        if begin.starts_with(b"\x7fELF") {
            return Self::Compiled;
        }
        let Some(line) = begin.strip_prefix(b"#!") else {
            return if begin.contains(&0) { Self::Unknown } else { Self::Text };
        };
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let end = line.iter().position(|byte| matches!(byte, b'\n' | 0));
        let whole = end.is_some() || begin.len() < HEAD;
        let line = &line[..end.unwrap_or(line.len())];
        // Only blanks and tabs part the words: a carriage return belongs to one.
        let from = line.iter().position(|byte| !blank(byte)).unwrap_or(line.len());
        let line = &line[from..];
        let to = line.iter().position(blank);
        // A name that the kernel does not see the end of is not one to it.
        if line.is_empty() || (to.is_none() && !whole) {
            return Self::Text;
        }
        let (interpreter, rest) = line.split_at(to.unwrap_or(line.len()));
        let rest = String::from_utf8_lossy(rest);
        let rest = rest.trim_matches([' ', '\t']);
        Self::Script(Line {
            interpreter: interpreter.to_owned(),
            argument: (!rest.is_empty()).then(|| rest.to_owned()),
        })
    }
}

/// Why a compiled program lacks the loader that it names. Only the usual layout is read.
fn loader_obstacle(file: &Path, what: &str) -> Option<Obstacle> {
    let loader = elf_loader(&head(file, ELF_HEAD).ok()?)?;
    let why = executable(&loader).err()?;
    Some(Obstacle::new(
        format!("{what} needs the loader {}, which {why}", loader.display()),
        "install the program in the build for this system",
    ))
}

/// The loader that a 64-bit little-endian program names (its `PT_INTERP` header).
fn elf_loader(elf: &[u8]) -> Option<PathBuf> {
    const PT_INTERP: u64 = 3;
    let number = |at: u64, bytes: u64| -> Option<u64> {
        let field = elf.get(usize::try_from(at).ok()?..usize::try_from(at.checked_add(bytes)?).ok()?)?;
        Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    if elf.get(4..6)? != [2, 1] {
        return None;
    }
    let (first, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut headers = (0..count).map_while(|n| first.checked_add(n * size));
    let header = headers.find(|at| number(*at, 4) == Some(PT_INTERP))?;
    let (at, length) = (number(header + 8, 8)?, number(header + 32, 8)?);
    let name = elf.get(usize::try_from(at).ok()?..usize::try_from(at.checked_add(length)?).ok()?)?;
    Some(PathBuf::from(OsStr::from_bytes(name.strip_suffix(b"\0")?)))
}

fn head(file: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut begin = Vec::new();
    std::fs::File::open(file)?.take(most).read_to_end(&mut begin)?;
    Ok(begin)
}

/// The file that would be executed, found as the system finds it, or why there is none.
fn find(program: &str) -> Result<PathBuf, String> {
    if program.contains('/') {
        return executable(Path::new(program)).map(|()| program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut why = "is not in PATH".to_owned();
    for folder in std::env::split_paths(&path) {
        let file = folder.join(program);
        match executable(&file) {
            Ok(()) => return Ok(file),
            Err(_) if !file.exists() => {}
            Err(other) => why = other,
        }
    }
    Err(why)
}

fn executable(file: &Path) -> Result<(), String> {
    let found = std::fs::metadata(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound if file.is_symlink() => "is a link that leads nowhere".to_owned(),
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be looked at ({error})"),
    })?;
    if !found.is_file() {
        return Err("is not a file".into());
    }
    access(file, Access::EXEC_OK).map_err(|_| "cannot be executed by this user".to_owned())
}
