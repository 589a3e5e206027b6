//! The peer of `make load`: the same responses on the same schema, with axum and sqlx on tokio's
//! multi-thread runtime, written conventionally and tuned where that is easy.
//!
//! `PORT`, `DATABASE_URL`, `JWT_SECRET` and `POOL_SIZE` come from the environment.

mod auth;
mod json;
mod mappings;
mod patients;

use std::env;
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;

use auth::Keys;

#[derive(Clone)]
struct App {
    pool: PgPool,
    keys: Arc<Keys>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let connections = env::var("POOL_SIZE").map_or(Ok(8), |size| size.parse())?;
    let pool = PgPoolOptions::new()
        .min_connections(connections)
        .max_connections(connections)
        // The default pings the database before every statement.
        .test_before_acquire(false)
        .connect(&env::var("DATABASE_URL")?)
        .await?;
    let keys = Arc::new(Keys::new(env::var("JWT_SECRET")?.as_bytes()));
    let router = Router::new()
        .route("/api/patients", get(patients::list).post(patients::create))
        .route("/api/patients/{id}", get(patients::get).patch(patients::update))
        .route("/api/mappings/{patient_id}", get(mappings::doctors))
        .with_state(App { pool, keys });
    let port = env::var("PORT")?.parse()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    println!("listening address={}", listener.local_addr()?);
    let listener = listener.tap_io(|socket| {
        // An error of the socket shows when it is read.
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

/// The errors of a request.
enum Failure {
    Unauthorized,
    NotFound,
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Database(error) => {
                eprintln!("{error}");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
        .into_response()
    }
}
