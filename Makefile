# `make run` serves, `make test` tests all of it. Both install what is missing and ask nothing.

.PHONY: run test

run:
	.ci/install postgresql
	cargo build --release --quiet
	exec target/release/healthcare-backend serve --examples

test:
	.ci/install postgresql newman
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test
	cargo test --benches
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items
	.ci/postman
