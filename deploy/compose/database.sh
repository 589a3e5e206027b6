#!/bin/sh
# Run by the image of PostgreSQL when its volume is new. The service owns its database, and is no
# superuser.
set -eu
psql --quiet --username "${POSTGRES_USER:-postgres}" --set ON_ERROR_STOP=1 \
    --set password="$DATABASE_PASSWORD" << 'END'
CREATE ROLE healthcare LOGIN PASSWORD :'password';
CREATE DATABASE healthcare OWNER healthcare ENCODING 'UTF8' TEMPLATE template0;
END
