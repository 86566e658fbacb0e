#!/bin/bash
# What docker-entrypoint.sh of PostgreSQL's image does, by the same variables: a database in an empty volume, the scripts
# of /docker-entrypoint-initdb.d by its superuser over the socket, then the server on all of its addresses.
set -euo pipefail
sockets=/var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    read -ra options <<<"$POSTGRES_INITDB_ARGS"
    initdb --username=postgres --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --no-sync "${options[@]}" -D "$PGDATA"
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -w -o "-c listen_addresses= -k $sockets" start
    for script in /docker-entrypoint-initdb.d/*.sql; do
        PGPASSWORD=$POSTGRES_PASSWORD psql --no-psqlrc -v ON_ERROR_STOP=1 -h "$sockets" -U postgres -d postgres -f "$script"
    done
    pg_ctl -D "$PGDATA" -w -m fast stop
fi
exec postgres -D "$PGDATA" -c 'listen_addresses=*' -k "$sockets"
