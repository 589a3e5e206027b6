//! The SQL files against the migrated schema: they fit the code that sends their parameters and
//! reads their rows, and their comments are true.

mod plans;
mod shapes;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use healthcare_backend::db::Sql;
use healthcare_backend::db::migrations::MIGRATIONS;
use healthcare_backend::db::migrations::history::requirement;
use tokio_postgres::Column;

use self::shapes::shape;
use crate::harness::TestDb;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every statement of the service.
fn all() -> impl Iterator<Item = &'static Sql> {
    Sql::ALL.iter().chain(Sql::BULK)
}

/// Every file below a folder, relative to it.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// The comment before the statement of a file.
fn comment(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("--"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The indexes that a comment names.
fn named_indexes(text: &str) -> Vec<String> {
    let comment = comment(text);
    let words = comment.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_index = |word: &&str| ["_pkey", "_key", "_idx"].iter().any(|end| word.ends_with(end));
    words.filter(is_index).map(str::to_owned).collect()
}

#[test]
fn every_file_is_a_statement_of_the_service_and_the_other_way_round() {
    let listed: BTreeSet<String> = all().map(|sql| format!("{}.sql", sql.file())).collect();
    assert_eq!(listed.len(), all().count(), "a file is listed twice");
    assert_eq!(files(&root().join("sql")), listed);
}

#[test]
fn every_file_begins_with_its_purpose() {
    for sql in all() {
        assert!(comment(sql.text()).len() > 10, "{}", sql.file());
    }
}

#[tokio::test]
async fn every_statement_fits_the_code() {
    let database = TestDb::new().await;
    let database = database.connect().await;
    // The statements of an import need its table.
    database.batch_execute(Sql::ImportsCreate.text()).await.unwrap();
    for sql in all() {
        // PostgreSQL prepares a single statement: a file with two fails here.
        let statement = database
            .prepare(sql.text())
            .await
            .unwrap_or_else(|error| panic!("{}: {error:?}", sql.file()));
        let expected = shape(*sql);
        assert_eq!(statement.params(), expected.parameters, "the parameters of {}", sql.file());
        let names: Vec<&str> = statement.columns().iter().map(Column::name).collect();
        let expected_names: Vec<&str> = expected.columns.iter().map(|column| column.name).collect();
        assert_eq!(names, expected_names, "the columns of {}", sql.file());
        for (column, expected) in statement.columns().iter().zip(&expected.columns) {
            let at = format!("{} of {}", expected.name, sql.file());
            assert_eq!(*column.type_(), expected.sql_type, "the type of {at}");
            let Some(nullable) = expected.nullable else {
                assert_eq!(column.table_oid(), None, "{at} is no computed column");
                continue;
            };
            let (Some(table), Some(number)) = (column.table_oid(), column.column_id()) else {
                panic!("{at} is computed");
            };
            let row = database
                .query_one(
                    "SELECT attnotnull FROM pg_attribute WHERE attrelid = $1 AND attnum = $2",
                    &[&table, &number],
                )
                .await
                .unwrap();
            let can_be_null = !row.get::<_, bool>(0) || expected.outer;
            assert_eq!(nullable, can_be_null, "whether {at} may be null");
        }
    }
}

#[tokio::test]
async fn every_index_that_a_comment_names_exists() {
    let database = TestDb::new().await;
    let database = database.connect().await;
    let sql = "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public'";
    let rows = database.query(sql, &[]).await.unwrap();
    let indexes: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut used = BTreeSet::new();
    for sql in all() {
        let named = named_indexes(sql.text());
        // Inserting rows without reading others needs no index, nor does anything without tables.
        let needs_none = [
            "server/state",
            "patients/create",
            "patients/create_many",
            "doctors/create",
            "limits/lock",
            "imports/create",
            "imports/copy",
            "imports/insert",
            "doctors/draw_ids",
            "doctors/copy",
            "patients/draw_ids",
            "patients/copy",
            "mappings/copy",
        ];
        assert_eq!(named.is_empty(), needs_none.contains(&sql.file()), "{}", sql.file());
        for index in named {
            assert!(indexes.contains(&index), "{} names {index}", sql.file());
            used.insert(index);
        }
    }
    // Conversely, no index is unused.
    let unused: Vec<_> = indexes.difference(&used).collect();
    assert_eq!(unused, ["refinery_schema_history_pkey", "schema_requirements_pkey"]);
}

#[test]
fn the_migrations_are_the_files_in_their_order() {
    let folder = root().join("refinery_migrations");
    let mut found: Vec<(u32, String)> = files(&folder)
        .iter()
        .filter_map(|file| file.strip_suffix(".sql"))
        .map(|name| {
            let number = name.strip_prefix('V').and_then(|rest| rest.split_once("__")).unwrap().0;
            (number.parse().unwrap(), name.to_owned())
        })
        .collect();
    found.sort();
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "a number is taken twice");
    let listed: Vec<&str> = MIGRATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, found.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>());
    for (name, text) in MIGRATIONS {
        assert_eq!(fs::read_to_string(folder.join(format!("{name}.sql"))).unwrap(), *text);
        assert!(comment(text).len() > 10, "{name} does not say why");
        if let Some(minimum) = requirement(text) {
            let number = |version: &str| version.parse::<u32>().unwrap();
            let numbers: Vec<u32> = minimum.split('.').map(number).collect();
            let own: Vec<u32> = env!("CARGO_PKG_VERSION").split('.').map(number).collect();
            assert!(numbers.len() == 3 && numbers <= own, "{name} requires {minimum}");
        }
    }
}
