//! Attacks over raw sockets on the real program: each has exactly one response, does no harm, and
//! leaves no trace. What is wrong by mistake is in `bad_input`, clients that are slow in `edge`.

mod bodies;
mod flow;
mod framing;
mod heads;
mod ids;
mod tokens;

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::program::{Program, Workplace, database_url};
use crate::harness::raw::{RawAnswer, converse};
use crate::harness::{Client, JWT_SECRET, TestDb};

/// Bytes for one connection, and the statuses of the responses until it is closed.
struct Attack {
    name: String,
    bytes: Vec<u8>,
    /// The connection is closed without a response.
    statuses: Vec<u16>,
}

impl Attack {
    fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>, statuses: &[u16]) -> Self {
        Self { name: name.into(), bytes: bytes.into(), statuses: statuses.to_vec() }
    }
}

/// The end of every head without special headers.
const END: &str = "host: x\r\nconnection: close\r\n\r\n";

/// A request with a token and, if there are any, bytes of a JSON body.
fn request(method: &str, target: &str, token: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nauthorization: Bearer {token}\r\n{headers}\
         content-type: application/json\r\ncontent-length: {length}\r\n{END}"
    );
    [head.as_bytes(), body].concat()
}

/// The attacker and the victim, with the same kinds of rows.
struct Scene {
    attacker: Holdings,
    victim: Holdings,
}

struct Holdings {
    client: Client,
    user: i64,
    patient: i64,
    /// Assigned to the patient.
    doctor: i64,
    mapping: i64,
}

impl Holdings {
    async fn of(client: Client) -> Self {
        let user = client.user_id().await;
        let patient = client.post("/api/patients", &json!({"name": "P"})).await.expect(201).id();
        let body = json!({"name": "D", "specialization": "S"});
        let doctor = client.post("/api/doctors", &body).await.expect(201).id();
        let pair = json!({"patient_id": patient, "doctor_id": doctor});
        let mapping = client.post("/api/mappings", &pair).await.expect(201).id();
        Self { client, user, patient, doctor, mapping }
    }

    fn token(&self) -> &str {
        self.client.token()
    }

    /// Everything that could be changed or deleted.
    async fn all(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let doctor = format!("/api/doctors/{}", self.doctor);
        for path in ["/api/auth/me", "/api/patients", &doctor, "/api/mappings"] {
            all.push(self.client.get(path).await.expect(200).json());
        }
        all
    }
}

impl Scene {
    async fn new(program: &Program) -> Self {
        let attacker = program.client().registered("eve@example.com").await;
        let victim = program.client().registered("ada@example.com").await;
        Self { attacker: Holdings::of(attacker).await, victim: Holdings::of(victim).await }
    }

    fn attacks(&self) -> Vec<Attack> {
        let parts = [
            framing::attacks(self),
            heads::attacks(self),
            bodies::attacks(self),
            tokens::attacks(self),
            ids::attacks(self),
        ];
        parts.into_iter().flatten().collect()
    }
}

async fn serve(workplace: &Workplace, database: &TestDb) -> Program {
    let url = database_url(&database.config());
    let secret = std::str::from_utf8(JWT_SECRET).unwrap();
    let program = workplace.serve(&[("DATABASE_URL", &url), ("JWT_SECRET", secret)]);
    program.client().get("/health/ready").await.expect(200);
    program
}

/// What is wrong with the responses, if anything.
fn mistake(attack: &Attack, answers: &[RawAnswer]) -> Option<String> {
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let expected = &attack.statuses;
    (statuses != *expected).then(|| {
        let last = answers.last().map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
        format!("{}: {statuses:?} instead of {expected:?} {last:?}", attack.name)
    })
}

/// How much the program's memory may grow during all attacks, in KiB.
const MARGIN: u64 = 64 << 10;

#[tokio::test]
async fn every_attack_gets_its_exact_answer_and_leaves_the_service_as_it_was() {
    let (workplace, database) = (Workplace::new(), TestDb::new().await);
    let program = serve(&workplace, &database).await;
    let scene = Scene::new(&program).await;
    let attacks = scene.attacks();
    assert!(attacks.len() >= 60, "{}", attacks.len());
    let names: HashSet<&str> = attacks.iter().map(|attack| attack.name.as_str()).collect();
    assert_eq!(names.len(), attacks.len(), "names are not unique");
    let server_errors = attacks.iter().flat_map(|attack| &attack.statuses).any(|s| *s >= 500);
    assert!(!server_errors, "an attack is expected to break the service");

    let before = scene.victim.all().await;
    let memory = program.resident_kib();
    let mut mistakes = Vec::new();
    for attack in &attacks {
        let answers = converse(program.address(), &attack.bytes).await;
        mistakes.extend(mistake(attack, &answers));
    }
    assert!(mistakes.is_empty(), "of {}:\n{}", attacks.len(), mistakes.join("\n"));

    assert_eq!(scene.victim.all().await, before, "the victim has lost something");
    ids::nobody_has_become_more(&scene, &database).await;
    let after = program.resident_kib();
    assert!(after < memory + MARGIN, "{memory} KiB have become {after}");
    let ended = program.stop();
    assert!(!ended.stdout.contains("panicked") && ended.stderr.is_empty(), "{ended:?}");
}
