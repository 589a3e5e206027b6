//! `import`: patients from a file, by the code that serves `POST /api/patients/import`.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use healthcare_backend::bulk::Format;
use healthcare_backend::bulk::import::Import;
use healthcare_backend::db::{ConnectOptions, Sql};

use super::progress::Progress;
use super::statement::{describe, query_opt};
use super::user::WrongInput;
use crate::Failure;

/// Bytes that are read at once.
const PART: usize = 128 << 10;

/// The arguments of an import.
#[derive(clap::Args)]
pub struct ImportArguments {
    /// The file, or - for standard input.
    file: PathBuf,
    /// The e-mail address of the user whom the patients are to belong to.
    #[arg(long)]
    user: String,
    /// How the patients are written; else what the file's name ends in says it.
    #[arg(long)]
    format: Option<FormatName>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    /// A JSON object a line (.ndjson, .jsonl).
    Ndjson,
    /// Comma-separated values under a line with the names of fields (.csv).
    Csv,
}

impl ImportArguments {
    fn format(&self) -> Result<Format, WrongInput> {
        if let Some(format) = self.format {
            return Ok(match format {
                FormatName::Ndjson => Format::Ndjson,
                FormatName::Csv => Format::Csv,
            });
        }
        let extension = self.file.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("ndjson" | "jsonl") => Ok(Format::Ndjson),
            Some("csv") => Ok(Format::Csv),
            _ => Err(WrongInput(
                "the file's name ends in neither .ndjson, .jsonl nor .csv: say --format".to_owned(),
            )),
        }
    }
}

/// A file whose format is known.
pub struct Source {
    reader: Box<dyn Read>,
    /// None if it is no file.
    size: Option<u64>,
    format: Format,
    user: String,
}

impl ImportArguments {
    /// Opens the file before anything is started.
    pub fn open(&self) -> Result<Source, Failure> {
        let (format, user) = (self.format()?, self.user.clone());
        if self.file == Path::new("-") {
            if io::stdin().is_terminal() {
                return Err(WrongInput("standard input is a terminal, not a file".into()).into());
            }
            return Ok(Source { reader: Box::new(io::stdin()), size: None, format, user });
        }
        let unreadable = |error| WrongInput(format!("{}: {error}", self.file.display()));
        let file = File::open(&self.file).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let size = metadata.is_file().then_some(metadata.len());
        Ok(Source { reader: Box::new(file), size, format, user })
    }
}

/// Imports all patients of the source, or none.
pub async fn run(database: &ConnectOptions, mut source: Source) -> Result<(), Failure> {
    let user = query_opt(database, Sql::UsersLogin, &[&source.user]).await?;
    let user: i64 = user.ok_or("no user has registered with this e-mail address")?.get(0);

    let progress = Progress::bytes(source.size);
    let mut import = Import::new(source.format, database.clone());
    let mut part = Vec::with_capacity(PART);
    loop {
        part.clear();
        let read = (&mut source.reader).take(PART as u64).read_to_end(&mut part)?;
        let last = read < PART;
        import.read(&part, last).await.map_err(|error| describe(&error))?;
        progress.add(read as u64);
        if last {
            break;
        }
    }
    let imported = import.finish(user).await.map_err(|error| describe(&error))?;
    println!("Imported {imported} patients {}.", progress.finish(imported));
    Ok(())
}
