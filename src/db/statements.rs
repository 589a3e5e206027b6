//! Every SQL statement of the service: one file each under `sql/`, identified by its position in
//! this list.

macro_rules! statements {
    (
        requests: { $($name:ident => $file:literal,)* }
        bulk: { $($bulk_name:ident => $bulk_file:literal,)* }
    ) => {
        /// A statement, prepared on a connection at its first use there.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Sql {
            $($name,)*
            $($bulk_name,)*
        }

        impl Sql {
            /// Those of single requests, in the order of their discriminants.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Those that add many rows, in the order in which a connection of its own runs them.
            pub const BULK: &[Self] = &[$(Self::$bulk_name,)*];

            /// The file below `sql/`, without its extension.
            pub const fn file(self) -> &'static str {
                match self {
                    $(Self::$name => $file,)*
                    $(Self::$bulk_name => $bulk_file,)*
                }
            }

            /// The table that it is about: the folder of its file.
            pub fn noun(self) -> &'static str {
                self.file().split_once('/').map_or(self.file(), |(noun, _)| noun)
            }

            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => include_str!(concat!("../../sql/", $file, ".sql")),)*
                    $(Self::$bulk_name => include_str!(concat!("../../sql/", $bulk_file, ".sql")),)*
                }
            }

            /// Whether it changes rows, by the keywords in its text.
            pub fn is_change(self) -> bool {
                ["INSERT", "UPDATE", "DELETE"].iter().any(|keyword| self.text().contains(keyword))
            }
        }
    };
}

statements! {
    requests: {
        ServerState => "server/state",
        UsersCreate => "users/create",
        UsersAdd => "users/add",
        UsersGet => "users/get",
        UsersLogin => "users/login",
        UsersSetRole => "users/set_role",
        UsersPassword => "users/password",
        UsersReplaceHash => "users/replace_hash",
        SessionsCreate => "sessions/create",
        SessionsRefresh => "sessions/refresh",
        SessionsEnd => "sessions/end",
        SessionsEndOthers => "sessions/end_others",
        SessionsEnded => "sessions/ended",
        SessionsIsLive => "sessions/is_live",
        SessionsSweep => "sessions/sweep",
        LimitsLock => "limits/lock",
        LoginsReserve => "logins/reserve",
        LoginsRelease => "logins/release",
        LoginsSucceed => "logins/succeed",
        LoginsSweep => "logins/sweep",
        RegistrationsAdmit => "registrations/admit",
        RegistrationsRelease => "registrations/release",
        RegistrationsSweep => "registrations/sweep",
        PatientsCreate => "patients/create",
        PatientsCreateMany => "patients/create_many",
        PatientsGet => "patients/get",
        PatientsGetMany => "patients/get_many",
        PatientsGetWhole => "patients/get_whole",
        PatientsFirst => "patients/first",
        PatientsList => "patients/list",
        PatientsPage => "patients/page",
        PatientsUpdate => "patients/update",
        PatientsDelete => "patients/delete",
        PatientsCreateOnce => "patients/create_once",
        PatientsUpdateOnce => "patients/update_once",
        PatientsDeleteOnce => "patients/delete_once",
        DoctorsCreate => "doctors/create",
        DoctorsGet => "doctors/get",
        DoctorsGetWhole => "doctors/get_whole",
        DoctorsFirst => "doctors/first",
        DoctorsList => "doctors/list",
        DoctorsPage => "doctors/page",
        DoctorsUpdate => "doctors/update",
        DoctorsDelete => "doctors/delete",
        DoctorsCreateOnce => "doctors/create_once",
        DoctorsUpdateOnce => "doctors/update_once",
        DoctorsDeleteOnce => "doctors/delete_once",
        MappingsCreate => "mappings/create",
        MappingsFirst => "mappings/first",
        MappingsList => "mappings/list",
        MappingsPage => "mappings/page",
        MappingsPageDoctors => "mappings/page_doctors",
        MappingsFirstDoctors => "mappings/first_doctors",
        MappingsDoctors => "mappings/doctors",
        MappingsDelete => "mappings/delete",
        MappingsCreateOnce => "mappings/create_once",
        MappingsDeleteOnce => "mappings/delete_once",
        IdempotencyKeysGet => "idempotency_keys/get",
        IdempotencyKeysSweep => "idempotency_keys/sweep",
    }
    bulk: {
        ImportsCreate => "imports/create",
        ImportsCopy => "imports/copy",
        ImportsInsert => "imports/insert",
        UsersAny => "users/any",
        DoctorsDrawIds => "doctors/draw_ids",
        DoctorsCopy => "doctors/copy",
        PatientsDrawIds => "patients/draw_ids",
        PatientsCopy => "patients/copy",
        MappingsCopy => "mappings/copy",
    }
}
