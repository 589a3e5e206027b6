# `make run` serves, `make test` tests all of it, `make chaos` breaks what it relies on, `make load`
# and `make bench` measure. What is missing is installed, and nothing is asked.

.PHONY: run test chaos load bench package test-packages

run:
	.ci/install postgresql
	cargo build --release --quiet
	exec target/release/healthcare-backend serve --examples

test:
	.ci/install postgresql newman openapi docs deny prometheus curl
	cargo fmt --check
	.ci/deny
	cargo clippy --all-targets -- -D warnings
	cargo test
	cargo test --benches
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items
	.ci/postman
	.ci/openapi
	.ci/docs
	.ci/metrics

# All faults for long, on the release program; or some rows: make chaos ROWS="create cut, table locked".
chaos:
	.ci/install postgresql
	ROWS="$(ROWS)" cargo test --release --test chaos -- --ignored --exact --nocapture every_bound_holds

# The whole table, and its picture; or some rows: make load DURATION=3 ROUNDS=1 ROWS="get page".
load:
	.ci/install postgresql wrk matplotlib
	target/load/python/bin/python benches/load/run $(or $(ROWS),--picture benches/load/results.svg)

bench:
	.ci/install postgresql
	cargo bench

# The Debian package, in target/debian.
package:
	.ci/install cargo-deb
	PATH="$$PWD/target/cargo-deb/bin:$$PATH" cargo deb --locked

# As root, with podman and podman-compose.
test-packages:
	.ci/install cargo-deb
	.ci/deb
	.ci/container
