//! Filters are case-insensitive, and every character is literal.

use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{column, ids};
use crate::harness::{Client, TestServer};

/// The names in a list for a query string, whose values the test encodes.
async fn names(client: &Client, path: &str, query: &[(&str, &str)]) -> Vec<Value> {
    let pairs: Vec<String> =
        query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    column(&client.get(&format!("{path}?{}", pairs.join("&"))).await.expect(200), "name")
}

fn encode(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}

#[tokio::test]
async fn patients_are_found_by_a_part_of_name_email_or_phone() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for body in [
        json!({"name": "Ada Lovelace", "email": "countess@example.com", "phone": "+44 (1) 5x"}),
        json!({"name": "Élodie ŽIŽKOVÁ", "email": "Elodie.Z@Example.ORG"}),
        json!({"name": "ГРЕЙС", "phone": "555-0100", "address": "Ada Street", "notes": "countess"}),
    ] {
        user.post("/api/patients", &body).await.expect(201);
    }
    let (ada, elodie, grace) = ("Ada Lovelace", "Élodie ŽIŽKOVÁ", "ГРЕЙС");
    for (search, found) in [
        ("ada", &[ada][..]),
        ("LOVE", &[ada]),
        ("a l", &[ada]),
        ("Lovelace ", &[]),
        ("COUNTESS", &[ada]),
        ("@example.", &[ada, elodie]),
        ("@EXAMPLE.org", &[elodie]),
        ("élodie", &[elodie]),
        ("ÉLODIE žižková", &[elodie]),
        ("elodie", &[elodie]),
        ("грейс", &[grace]),
        ("рей", &[grace]),
        ("(1) 5X", &[ada]),
        ("+44", &[ada]),
        ("5", &[ada, grace]),
        ("Street", &[]),
        ("", &[ada, elodie, grace]),
    ] {
        assert_eq!(names(&user, "/api/patients", &[("search", search)]).await, found, "{search:?}");
    }
    let eve = server.user().await;
    assert_eq!(eve.get("/api/patients?search=ada").await.expect(200).json(), json!([]));
}

#[tokio::test]
async fn patients_are_found_by_gender() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for gender in ["male", "Male", "female", "FEMALE", "m", "M", "f", "o", "other", "Unknown"] {
        let body = json!({"name": gender, "gender": gender});
        user.post("/api/patients", &body).await.expect(201);
    }
    user.post("/api/patients", &json!({"name": "not known"})).await.expect(201);
    for (gender, found) in [
        ("male", &["male", "Male"][..]),
        ("MALE", &["male", "Male"]),
        ("Female", &["female", "FEMALE"]),
        ("m", &["m", "M"]),
        ("F", &["f"]),
        ("O", &["o"]),
        ("OTHER", &["other"]),
        ("unknown", &["Unknown"]),
    ] {
        assert_eq!(names(&user, "/api/patients", &[("gender", gender)]).await, found);
    }
    let both = [("search", "F"), ("gender", "female")];
    assert_eq!(names(&user, "/api/patients", &both).await, ["female", "FEMALE"]);
    for gender in ["", "x", "male ", "woman"] {
        let refused = user.get(&format!("/api/patients?gender={}", encode(gender))).await;
        assert_eq!(refused.expect_error(400, "bad_query").bad_fields(), ["gender"]);
    }
}

#[tokio::test]
async fn doctors_are_found_by_a_part_of_name_email_or_hospital() {
    let server = TestServer::start().await;
    let (ada, eve) = (server.user().await, server.user().await);
    for (client, body) in [
        (&ada, json!({"name": "House", "specialization": "A", "email": "greg@princeton.example"})),
        (
            &eve,
            json!({"name": "Wilson", "specialization": "A", "hospital": "PRINCETON Plainsboro"}),
        ),
        (
            &ada,
            json!({"name": "Cuddy", "specialization": "Princeton", "address": "House", "bio": "house"}),
        ),
    ] {
        client.post("/api/doctors", &body).await.expect(201);
    }
    for (search, found) in [
        ("HOUSE", &["House"][..]),
        ("GREG@", &["House"]),
        ("princeton", &["House", "Wilson"]),
        ("ton plains", &["Wilson"]),
        ("s", &["House", "Wilson"]),
        ("", &["House", "Wilson", "Cuddy"]),
        ("nobody", &[]),
    ] {
        assert_eq!(names(&eve, "/api/doctors", &[("search", search)]).await, found, "{search:?}");
    }
}

#[tokio::test]
async fn doctors_are_found_by_their_whole_specialization() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for specialization in ["Cardiology", "cardiology", "Cardiology (children)", "Žilní", "100%"] {
        let body = json!({"name": specialization, "specialization": specialization});
        user.post("/api/doctors", &body).await.expect(201);
    }
    for (specialization, found) in [
        ("CARDIOLOGY", &["Cardiology", "cardiology"][..]),
        ("Cardio", &[]),
        ("Cardiology ", &[]),
        ("cardiology (CHILDREN)", &["Cardiology (children)"]),
        ("ŽILNÍ", &["Žilní"]),
        ("100%", &["100%"]),
        ("100_", &[]),
        ("%", &[]),
    ] {
        let query = [("specialization", specialization)];
        assert_eq!(names(&user, "/api/doctors", &query).await, found, "{specialization:?}");
    }
    let both = [("specialization", "cardiology"), ("search", "Cardiology")];
    assert_eq!(names(&user, "/api/doctors", &both).await, ["Cardiology", "cardiology"]);
}

#[tokio::test]
async fn no_character_of_a_search_is_a_pattern() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let texts =
        ["50% off", "50 off", "a_b", "axb", r"a\b", r"a\\b", "a.b", "[a]", "(a", "a'b", "^a$", "*"];
    for text in texts {
        user.post("/api/patients", &json!({"name": text})).await.expect(201);
        let doctor = json!({"name": text, "specialization": "x"});
        user.post("/api/doctors", &doctor).await.expect(201);
    }
    for search in
        ["%", "_", r"\", r"\\", "a.b", "[a]", "(", "'", "^", "*", "50%", "a_", r"\_", "0%o"]
    {
        let expected: Vec<&str> =
            texts.iter().copied().filter(|text| text.contains(search)).collect();
        for path in ["/api/patients", "/api/doctors"] {
            assert_eq!(names(&user, path, &[("search", search)]).await, expected, "{search}");
        }
    }
}

#[tokio::test]
async fn no_character_of_a_search_is_a_pattern_in_any_field() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for (name, part) in [("1", "a%b"), ("2", "a_b"), ("3", "axb"), ("4", "ab")] {
        let email = format!("{part}@example.com");
        let patient = json!({"name": name, "email": email});
        user.post("/api/patients", &patient).await.expect(201);
        let doctor = json!({"name": name, "specialization": "x", "email": email, "hospital": part});
        user.post("/api/doctors", &doctor).await.expect(201);
    }
    for (search, found) in [
        ("A%B", "1"),
        ("A%B@", "1"),
        ("a_b", "2"),
        ("a_b@", "2"),
        ("%", "1"),
        ("_", "2"),
        ("axb", "3"),
    ] {
        for path in ["/api/patients", "/api/doctors"] {
            assert_eq!(names(&user, path, &[("search", search)]).await, [found], "{search}");
        }
    }
    // Only the hospital contains it.
    let doctor = json!({"name": "5", "specialization": "x", "hospital": r"50% \ _"});
    user.post("/api/doctors", &doctor).await.expect(201);
    for (search, found) in [("% ", &["5"][..]), (r"\", &["5"]), ("_%", &[]), ("0_ ", &[])] {
        assert_eq!(names(&user, "/api/doctors", &[("search", search)]).await, found, "{search}");
    }
}

#[tokio::test]
async fn filters_go_with_limit_and_after() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for n in 0..12 {
        let body = json!({"name": format!("{}{n}", ["Ada", "Eve"][n % 2]), "gender": "f"});
        user.post("/api/patients", &body).await.expect(201);
    }
    let all = ids(&user.get("/api/patients?search=ADA").await.expect(200));
    assert_eq!(all.len(), 6);
    let rest = user.get(&format!("/api/patients?search=ada&after={}", all[2])).await;
    assert_eq!(ids(&rest), all[3..]);
    let page = user.get(&format!("/api/patients?search=ada&after={}&limit=2", all[2])).await;
    assert_eq!(ids(&page), all[3..5]);
    let target = format!("/api/patients?limit=2&after={}&search=ada", all[4]);
    assert_eq!(page.next_page().as_deref(), Some(&*target));
    // Further rows that do not match yield no link.
    let last = user.get(&target).await.expect(200);
    assert_eq!(ids(&last), all[5..]);
    assert_eq!(last.header("link"), None);
}

#[tokio::test]
async fn filters_have_no_other_names_and_each_list_has_its_own() {
    let server = TestServer::start().await;
    let user = server.user().await;
    for (path, names) in [
        ("/api/patients", &["name", "phone", "specialization", "patient_id", "Search", "sex"][..]),
        ("/api/doctors", &["specialty", "gender", "hospital", "doctor_id"]),
        ("/api/mappings", &["patient", "doctor", "search", "patientId"]),
    ] {
        for name in names {
            let refused = user.get(&format!("{path}?{name}=1")).await;
            assert_eq!(refused.expect_error(400, "bad_query").bad_fields(), [*name]);
        }
    }
    let patient = user.post("/api/patients", &json!({"name": "Grace"})).await.expect(201).id();
    for name in ["search", "patient_id", "doctor_id"] {
        let refused = user.get(&format!("/api/mappings/{patient}?{name}=1")).await;
        assert_eq!(refused.expect_error(400, "bad_query").bad_fields(), [name]);
    }
    let target = format!("/api/patients/{patient}");
    for method in [Method::GET, Method::DELETE] {
        let refused = user.send(method, &format!("{target}?limit=1"), None).await;
        refused.expect_error(400, "bad_query");
    }
}

#[tokio::test]
async fn a_filter_that_no_field_could_hold_is_refused() {
    let server = TestServer::start().await;
    let user = server.user().await;
    let long = "é".repeat(201);
    for (target, name) in [
        ("/api/patients?search=%00".to_owned(), "search"),
        (format!("/api/patients?search={}", encode(&long)), "search"),
        ("/api/patients?search=%ff".to_owned(), "search"),
        ("/api/patients?search=%4".to_owned(), "search"),
        ("/api/patients?search=a&search=a".to_owned(), "search"),
        ("/api/doctors?specialization=".to_owned(), "specialization"),
        (format!("/api/doctors?specialization={}", encode(&long[..202])), "specialization"),
    ] {
        let refused = user.get(&target).await.expect_error(400, "bad_query");
        assert_eq!(refused.bad_fields(), [name], "{target}");
    }
    let longest = encode(&long[2..]);
    user.get(&format!("/api/patients?search={longest}")).await.expect(200);
}
