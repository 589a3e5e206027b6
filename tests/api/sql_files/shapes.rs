//! The parameters and columns of each statement, as the code uses them.

use healthcare_backend::db::Sql;
use healthcare_backend::db::row::{self, FromRow, SqlType};
use healthcare_backend::models::doctor::{self, Doctor};
use healthcare_backend::models::input::Field;
use healthcare_backend::models::mapping::{self, AssignmentRow, CreatedMapping, MappingRow};
use healthcare_backend::models::patient::{self, Patient};
use healthcare_backend::models::user::User;
use tokio_postgres::types::Type;

pub struct Shape {
    pub parameters: Vec<Type>,
    pub columns: Vec<Column>,
}

pub struct Column {
    pub name: &'static str,
    pub sql_type: Type,
    /// None for a computed column: PostgreSQL does not say whether it may be null.
    pub nullable: Option<bool>,
    /// An outer join can make the column null, whatever the table says, and the code reads it
    /// before it knows that it is not.
    pub outer: bool,
}

/// A match, so that a statement without a shape does not compile.
#[allow(clippy::match_same_arms, reason = "in the order of the files")]
#[expect(clippy::too_many_lines, reason = "one arm for each statement")]
pub fn shape(sql: Sql) -> Shape {
    use Type as T;
    let (parameters, columns) = match sql {
        Sql::ServerState => (
            vec![],
            vec![Column::computed("server", T::TEXT), Column::computed("moment", T::TIMESTAMPTZ)],
        ),

        Sql::UsersCreate => {
            let parameters = vec![T::TEXT, T::TEXT, T::TEXT, T::INT4, T::INT4, T::UUID];
            (parameters, [columns(User::COLUMNS), vec![seconds_left()]].concat())
        }
        Sql::UsersAdd => (vec![T::TEXT, T::TEXT, T::TEXT, T::TEXT], id()),
        Sql::UsersGet => (vec![T::INT8], columns(User::COLUMNS)),
        Sql::UsersLogin => {
            let hash = Column::stored("password_hash", T::TEXT);
            (vec![T::TEXT], [columns(User::COLUMNS), vec![hash]].concat())
        }
        Sql::UsersSetRole => (vec![T::TEXT, T::TEXT], id()),
        Sql::UsersPassword => (
            vec![T::INT8],
            vec![Column::stored("email", T::TEXT), Column::stored("password_hash", T::TEXT)],
        ),
        Sql::UsersReplaceHash => (vec![T::INT8, T::TEXT, T::TEXT], id()),

        Sql::SessionsCreate => {
            (vec![T::INT8, T::TEXT, T::INT4, T::INT4, T::UUID], vec![seconds_left()])
        }
        Sql::SessionsRefresh => {
            let verdict = Column::computed("verdict", T::TEXT);
            let parameters = vec![T::UUID, T::INT8, T::INT4, T::INT4, T::INT4];
            (parameters, [columns(User::COLUMNS), vec![verdict, seconds_left()]].concat())
        }
        Sql::SessionsEnd | Sql::SessionsIsLive => (vec![T::UUID, T::INT8], id()),
        Sql::SessionsEndOthers => {
            let ended = Column::computed("ended", T::UUID_ARRAY);
            (vec![T::INT8, T::UUID, T::TEXT], vec![ended])
        }
        Sql::SessionsEnded => (vec![T::TIMESTAMPTZ], sid()),
        Sql::SessionsSweep => (vec![T::INT4], id()),

        Sql::LimitsLock => {
            (vec![T::INT4, T::TEXT], vec![Column::computed("pg_advisory_xact_lock", T::VOID)])
        }
        Sql::LoginsReserve => {
            let parameters = vec![T::TEXT, T::TEXT, T::INT4, T::INT4, T::INT4, T::INT4];
            let reserved_at = Column::computed("reserved_at", T::TIMESTAMPTZ);
            (parameters, vec![Column::computed("wait", T::INT4), reserved_at])
        }
        Sql::LoginsRelease => {
            (vec![T::TEXT, T::TIMESTAMPTZ], vec![Column::stored("failed_at", T::TIMESTAMPTZ)])
        }
        Sql::LoginsSucceed => (
            vec![T::TEXT, T::TEXT, T::TIMESTAMPTZ],
            vec![Column::stored("seen_at", T::TIMESTAMPTZ)],
        ),
        Sql::LoginsSweep => {
            let count = |name| Column::computed(name, T::INT8);
            (vec![T::INT4], vec![count("forgiven"), count("forgotten")])
        }

        Sql::RegistrationsAdmit => {
            // None if it is not admitted.
            let admitted_at = Column::nullable("registered_at", T::TIMESTAMPTZ);
            let admitted_at = Column { outer: true, ..admitted_at };
            let columns = vec![Column::computed("wait", T::INT4), admitted_at];
            (vec![T::TEXT, T::INT4, T::INT4], columns)
        }
        Sql::RegistrationsRelease => {
            (vec![T::TEXT, T::TIMESTAMPTZ], vec![Column::stored("registered_at", T::TIMESTAMPTZ)])
        }
        Sql::RegistrationsSweep => {
            (vec![T::INT4], vec![Column::stored("registered_at", T::TIMESTAMPTZ)])
        }

        Sql::PatientsCreate => (create(&patient::FIELDS), columns(Patient::COLUMNS)),
        Sql::PatientsCreateMany => {
            let arrays = create(&patient::FIELDS).into_iter().map(array_of);
            (arrays.collect(), with_ordinal(Patient::COLUMNS))
        }
        Sql::PatientsGet => (vec![T::INT8, T::INT8], short(columns(Patient::COLUMNS))),
        Sql::PatientsGetMany => {
            let ordinal = Column::computed("ordinal", T::INT8);
            let columns = [short(columns(Patient::COLUMNS)), vec![ordinal]];
            (vec![T::INT8_ARRAY, T::INT8_ARRAY], columns.concat())
        }
        Sql::PatientsGetWhole => (vec![T::INT8, T::INT8], columns(Patient::COLUMNS)),
        Sql::PatientsFirst => (list(&[T::INT8]), short(columns(Patient::COLUMNS))),
        Sql::PatientsList => (list(&[T::INT8, T::TEXT, T::TEXT]), chunk(columns(Patient::COLUMNS))),
        Sql::PatientsPage => (list(&[T::INT8, T::TEXT, T::TEXT]), ids()),
        Sql::PatientsUpdate => (update(), updated(Patient::COLUMNS)),
        Sql::PatientsDelete => (delete(), deleted()),
        Sql::PatientsCreateOnce => {
            let ordinal = Column::computed("ordinal", T::INT8);
            let parameters = once(create(&patient::FIELDS)).into_iter().map(array_of);
            (parameters.collect(), [answer(), vec![ordinal]].concat())
        }
        Sql::PatientsUpdateOnce => (once(update()), answer()),
        Sql::PatientsDeleteOnce => (once(delete()), verdict()),

        Sql::DoctorsCreate => (create(&doctor::FIELDS), columns(Doctor::COLUMNS)),
        Sql::DoctorsGet => (vec![T::INT8], short(columns(Doctor::COLUMNS))),
        Sql::DoctorsGetWhole => (vec![T::INT8], columns(Doctor::COLUMNS)),
        Sql::DoctorsFirst => (list(&[]), short(columns(Doctor::COLUMNS))),
        Sql::DoctorsList => (list(&[T::TEXT, T::TEXT]), chunk(columns(Doctor::COLUMNS))),
        Sql::DoctorsPage => (list(&[T::TEXT, T::TEXT]), ids()),
        Sql::DoctorsUpdate => (update(), updated(Doctor::COLUMNS)),
        Sql::DoctorsDelete => (delete(), deleted()),
        Sql::DoctorsCreateOnce => (once(create(&doctor::FIELDS)), answer()),
        Sql::DoctorsUpdateOnce => (once(update()), answer()),
        Sql::DoctorsDeleteOnce => (once(delete()), verdict()),

        Sql::MappingsCreate => {
            let outer = |column| Column { outer: true, ..column };
            let columns = columns(CreatedMapping::COLUMNS).into_iter().map(outer);
            (create(&mapping::FIELDS), columns.collect())
        }
        Sql::MappingsFirst => (list(&[T::INT8, T::INT8, T::INT8]), short(of_a_union())),
        Sql::MappingsList => (list(&[T::INT8, T::INT8, T::INT8]), chunk(of_a_union())),
        Sql::MappingsPage => (list(&[T::INT8, T::INT8, T::INT8]), ids()),
        // Outer joins too, but the code first checks that the mapping's id is not null.
        Sql::MappingsFirstDoctors => {
            let both = [columns(AssignmentRow::COLUMNS), columns(Doctor::COLUMNS)];
            (list(&[T::INT8, T::INT8]), short(both.concat()))
        }
        Sql::MappingsDoctors => {
            let both = [columns(AssignmentRow::COLUMNS), columns(Doctor::COLUMNS)];
            (list(&[T::INT8, T::INT8]), chunk(both.concat()))
        }
        Sql::MappingsPageDoctors => (list(&[T::INT8, T::INT8]), ids()),
        Sql::MappingsDelete => (vec![T::INT8, T::INT8], id()),
        Sql::MappingsCreateOnce => (once(create(&mapping::FIELDS)), answer()),
        Sql::MappingsDeleteOnce => (once(vec![T::INT8, T::INT8]), verdict()),

        Sql::IdempotencyKeysGet => (once(vec![T::INT8]), kept_answer()),
        Sql::IdempotencyKeysSweep => {
            (vec![T::INT4], vec![Column::stored("created_at", T::TIMESTAMPTZ)])
        }

        Sql::ImportsInsert => (vec![T::INT8], vec![]),
        Sql::UsersAny => (vec![], vec![Column::computed("found", T::BOOL)]),
        Sql::DoctorsDrawIds | Sql::PatientsDrawIds => {
            (vec![T::INT8], vec![Column::computed("id", T::INT8)])
        }
        Sql::ImportsCreate
        | Sql::ImportsCopy
        | Sql::DoctorsCopy
        | Sql::PatientsCopy
        | Sql::MappingsCopy => (vec![], vec![]),
    };
    Shape { parameters, columns }
}

/// The columns of a mapping come from a UNION, the names do not.
fn of_a_union() -> Vec<Column> {
    let (mapping, names) = MappingRow::COLUMNS.split_at(AssignmentRow::COLUMNS.len());
    let mapping = columns(mapping).into_iter();
    let mapping = mapping.map(|column| Column::computed(column.name, column.sql_type));
    mapping.chain(columns(names)).collect()
}

/// The user, then the fields in their order.
fn create(fields: &[Field]) -> Vec<Type> {
    let fields = fields.iter().map(|field| field.rule.sql_type());
    [Type::INT8].into_iter().chain(fields).collect()
}

/// The array type for values of this type.
fn array_of(element: Type) -> Type {
    match element {
        Type::INT4 => Type::INT4_ARRAY,
        Type::INT8 => Type::INT8_ARRAY,
        Type::TEXT => Type::TEXT_ARRAY,
        Type::DATE => Type::DATE_ARRAY,
        Type::JSON => Type::JSON_ARRAY,
        Type::BYTEA => Type::BYTEA_ARRAY,
        other => panic!("no array of {other}"),
    }
}

/// The id to start after and the number of rows, then the keys and the filters.
fn list(keys_and_filters: &[Type]) -> Vec<Type> {
    [&[Type::INT8, Type::INT8], keys_and_filters].concat()
}

/// The user, the id, the patch, the versions.
fn update() -> Vec<Type> {
    vec![Type::INT8, Type::INT8, Type::JSON, Type::INT8_ARRAY]
}

/// The user, the id, the versions.
fn delete() -> Vec<Type> {
    vec![Type::INT8, Type::INT8, Type::INT8_ARRAY]
}

/// The columns, and the ordinal of the row.
fn with_ordinal(columns_of: &[row::Column]) -> Vec<Column> {
    [columns(columns_of), vec![Column::computed("ordinal", Type::INT8)]].concat()
}

/// The columns for the shared connection: long texts only of a row that is not large.
fn short(mut columns: Vec<Column>) -> Vec<Column> {
    const LONG: [&str; 8] = [
        "address",
        "allergies",
        "medical_history",
        "notes",
        "metadata",
        "qualification",
        "hospital",
        "bio",
    ];
    for column in columns.iter_mut().filter(|column| LONG.contains(&column.name)) {
        column.nullable = None;
    }
    columns.push(Column::computed("large", Type::BOOL));
    columns
}

/// As many rows as fit.
fn chunk(mut columns: Vec<Column>) -> Vec<Column> {
    columns.push(Column::computed("full", Type::BOOL));
    columns
}

/// The same with an idempotency key and the hash of its request.
fn once(parameters: Vec<Type>) -> Vec<Type> {
    [parameters, vec![Type::TEXT, Type::BYTEA]].concat()
}

fn verdict() -> Vec<Column> {
    vec![Column::computed("verdict", Type::TEXT)]
}

/// A verdict and a resource.
fn answer() -> Vec<Column> {
    let resource = [("resource_id", Type::INT8), ("version", Type::INT8), ("answer", Type::JSON)];
    let resource = resource.map(|(name, sql_type)| Column::computed(name, sql_type));
    [verdict(), resource.into()].concat()
}

/// As it is kept: a mapping has no version, and what was deleted has no id.
fn kept_answer() -> Vec<Column> {
    let [resource_id, version] =
        ["resource_id", "version"].map(|name| Column::nullable(name, Type::INT8));
    [verdict(), vec![resource_id, version, Column::computed("answer", Type::JSON)]].concat()
}

fn id() -> Vec<Column> {
    vec![Column::stored("id", Type::INT8)]
}

fn ids() -> Vec<Column> {
    vec![Column::computed("ids", Type::INT8_ARRAY)]
}

/// A session of an older program has none.
fn sid() -> Vec<Column> {
    vec![Column::nullable("sid", Type::UUID)]
}

fn seconds_left() -> Column {
    Column::computed("seconds_left", Type::INT4)
}

/// The resource comes from an outer join, but the code first checks that its id is not null.
fn updated(resource: &[row::Column]) -> Vec<Column> {
    [vec![Column::computed("allowed", Type::BOOL)], columns(resource)].concat()
}

fn deleted() -> Vec<Column> {
    vec![Column::computed("allowed", Type::BOOL), Column::computed("deleted", Type::BOOL)]
}

fn columns(columns: &[row::Column]) -> Vec<Column> {
    let column = |column: &row::Column| Column {
        name: column.name,
        sql_type: match column.sql_type {
            SqlType::Bool => Type::BOOL,
            SqlType::Int4 => Type::INT4,
            SqlType::Int8 => Type::INT8,
            SqlType::Text => Type::TEXT,
            SqlType::Date => Type::DATE,
            SqlType::Timestamptz => Type::TIMESTAMPTZ,
            SqlType::Json => Type::JSON,
        },
        nullable: Some(column.nullable),
        outer: false,
    };
    columns.iter().map(column).collect()
}

impl Column {
    fn stored(name: &'static str, sql_type: Type) -> Self {
        Self { name, sql_type, nullable: Some(false), outer: false }
    }

    fn nullable(name: &'static str, sql_type: Type) -> Self {
        Self { nullable: Some(true), ..Self::stored(name, sql_type) }
    }

    fn computed(name: &'static str, sql_type: Type) -> Self {
        Self { name, sql_type, nullable: None, outer: false }
    }
}

impl Clone for Column {
    fn clone(&self) -> Self {
        Self { sql_type: self.sql_type.clone(), ..*self }
    }
}
