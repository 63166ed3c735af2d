# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the clients of the sample application do: every kind of change that a database knows, one function each.

A client changes rows of its own only (a share of those that are there, and what it made), so clients wait for each
other, but never in a circle. Each change counts on rows being there, and says so when one is not.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg2

# Changes that a subscription does not carry: of large objects, unlogged tables, and positions of sequences.
NOT_REPLICATED = ("large_objects", "unlogged", "sequences")
# Changes of rows that have no replica identity in the sample; publishing such a table as it is breaks these.
WITHOUT_IDENTITY = ("reviews", "tracking")
# Changes that the owner of the table may not make itself: nor may a subscription that applies them as the owner.
NOT_BY_OWNER = ("without_owners_right", "forced_row_security")


@dataclass(frozen=True)
class Change:
    """``make(client)`` does it in a transaction that the caller began and commits; ``weight`` is how often."""

    make: Callable[[Any], None]
    weight: float
    by_app: bool  # the application's role may do it; else only a superuser, or the owners
    first: int  # major


CHANGES: dict[str, Change] = {}


def change(weight: float = 1, by_app: bool = True, first: int = 13) -> Callable:
    """Add a function to CHANGES, under its name."""

    def register(make: Callable[[Any], None]) -> Callable:
        CHANGES[make.__name__] = Change(make, weight, by_app, first)
        return make

    return register


KEYS = {
    "customers": "SELECT id FROM shop.customer WHERE tenant = 1 ORDER BY id LIMIT 2000",
    "products": "SELECT id FROM shop.product WHERE image IS NULL ORDER BY id LIMIT 500",
    "big_products": "SELECT id FROM shop.product WHERE length(image) > 2000 ORDER BY id LIMIT 50",
    "stock": "SELECT warehouse, product FROM logistics.stock ORDER BY product, warehouse LIMIT 500",
    "shipments": "SELECT id FROM logistics.shipment ORDER BY id LIMIT 200",
    "attachments": "SELECT id FROM public.attachment WHERE id > 0 ORDER BY id",
}


def shared_out(client: Any) -> dict[str, list]:
    """This client's share of the rows that are there, as far as its role sees them."""
    shares = {}
    for name, query in KEYS.items():
        try:
            found = client.run(query)
        except psycopg2.errors.InsufficientPrivilege:
            client.connection.rollback()
            continue
        shares[name] = [row[0] if len(row) == 1 else row for row in found][client.number :: client.process.clients]
    return shares


# --- shop ------------------------------------------------------------------------------------------------------------


@change(weight=4)
def order(client: Any) -> None:
    """Several statements and tables, an identity column, a foreign key that is checked at the end."""
    number = new_order(client)
    for line in range(1, client.random.randint(2, 5)):
        add_line(client, number, line)
    client.one('UPDATE shop."Order" SET total = 47.11, state = %s WHERE "Order No" = %s', ["paid", number])
    client.keep("orders", number)


def new_order(client: Any) -> int:
    """An order without lines; its number."""
    return client.one(
        """INSERT INTO shop."Order" (customer, state, "from", "Lieferung an") VALUES
        (%s, 'open', now(), ROW(%s, 'Wien', '1010', 'AT')::shop.address) RETURNING "Order No" """,
        [client.pick("customers"), client.word()],
    )[0]


def add_line(client: Any, number: int, line: int) -> None:
    """A line of an order."""
    row = [number, line, client.pick("products"), client.random.randint(1, 4), line + 0.25, client.word()]
    client.one("INSERT INTO shop.order_line VALUES (%s, %s, %s, %s, %s, %s)", row)


@change()
def new_customer(client: Any) -> None:
    """A row with an identity column that is always generated."""
    client.keep("customers", insert_customer(client))


def insert_customer(client: Any, email: str = "") -> int:
    """A customer's number."""
    return client.one(
        """INSERT INTO shop.customer (email, name, joined, home, tags, preferences) VALUES (%s, 'Zoë O''Neill', now(),
        ROW('Straße 1', '東京', '1', 'JP')::shop.address, ARRAY['new', NULL, 'with, comma'], '{"a": [1, null]}')
        RETURNING id""",
        [email or f"{client.word()}@example.org"],
    )[0]


@change(weight=3)
def customer(client: Any) -> None:
    """jsonb and arrays, and a generated column that follows."""
    client.one(
        """UPDATE shop.customer SET preferences = preferences || jsonb_build_object('seen', %s::text),
        tags = (tags || %s::text)[1:20], name = %s, status = 'vip' WHERE id = %s""",
        [client.word(), 'x, "y"', f"Özil {client.word()}", client.pick("customers")],
    )


@change()
def email(client: Any) -> None:
    """A unique index on an expression, and a trigger that changes the row."""
    client.one(
        "UPDATE shop.customer SET email = %s WHERE id = %s", [f"{client.word()}@Example.com", client.pick("customers")]
    )


@change()
def primary_key(client: Any) -> None:
    """A column of the primary key changes."""
    number = client.pick("orders") or new_order(client)
    line = client.random.randint(1000, 30000)
    client.run("DELETE FROM shop.order_line WHERE order_no = %s AND line IN (%s, %s)", [number, line, line + 1])
    add_line(client, number, line)
    client.one("UPDATE shop.order_line SET line = line + 1, net = 9 WHERE order_no = %s AND line = %s", [number, line])


@change()
def replica_identity(client: Any) -> None:
    """The index that is the table's replica identity is not its primary key."""
    client.one("UPDATE shop.product SET sku = %s WHERE id = %s", [client.word(), client.pick("products")])


@change()
def toasted_unchanged(client: Any) -> None:
    """A row changes whose wide values do not."""
    client.one("UPDATE shop.product SET weight = weight + 1 WHERE id = %s", [big_product(client)])


def big_product(client: Any) -> int:
    """A product with a picture and a long description: one that is there, or now and then a new one."""
    known = client.pick("big_products")
    if known and client.random.random() < 0.9:
        return known
    made = client.one(
        """INSERT INTO shop.product (category, sku, name, net, available, description, image)
        VALUES (1, %s, 'Wide', 1, '(,)', repeat('A long description. ', 400), %s) RETURNING id""",
        [client.word(), client.random.randbytes(9000)],
    )[0]
    client.keep("big_products", made)
    return made


@change()
def toasted_changed(client: Any) -> None:
    """Wide values change."""
    client.one(
        "UPDATE shop.product SET image = %s, description = %s, net = %s WHERE id = %s",
        [client.random.randbytes(5000), client.word() * 300, client.random.randint(1, 999) / 4, big_product(client)],
    )


@change()
def delete(client: Any) -> None:
    """An order with its lines, which are deleted by the foreign key, where the role may; else lines only."""
    number = new_order(client)
    add_line(client, number, 1)
    add_line(client, number, 2)
    client.commit()
    if client.by_app:
        client.one("DELETE FROM shop.order_line WHERE order_no = %s AND line = 1", [number])
    else:
        client.one('DELETE FROM shop."Order" WHERE "Order No" = %s', [number])


@change()
def types(client: Any) -> None:
    """Ranges, arrays, jsonb, and a generated column."""
    client.one(
        """UPDATE shop.product SET sizes = ARRAY[%s, NULL, 0.5], discount = shop.price_range(%s, NULL),
        attributes = attributes || '{"x": {"y": [1.50, "\\u00e9"]}}', available = '[2025-01-01,)', net = %s
        WHERE id = %s""",
        [
            client.random.randint(1, 99),
            client.random.randint(1, 9),
            client.random.randint(1, 999) / 8,
            client.pick("products"),
        ],
    )


@change()
def reviews(client: Any) -> None:
    """A table without any key. The delete is doubled by a rule."""
    body = f"A review of more than sixty letters, as the constraint wants it: {client.word()}"
    client.one(
        "INSERT INTO shop.review VALUES (%s, %s, 5, 'fine:1 product:2', %s)",
        [client.pick("products"), client.pick("customers"), body],
    )
    client.one("UPDATE shop.review SET stars = 1 WHERE body = %s", [body])
    if client.random.random() < 0.5:
        client.run("DELETE FROM shop.review WHERE body = %s", [body])


@change()
def unlogged(client: Any) -> None:
    """A table whose rows are in no WAL."""
    client.one(
        """INSERT INTO shop.cart SELECT md5(%s::text)::uuid, %s, '[]', now()
        ON CONFLICT (session) DO UPDATE SET touched = now()""",
        [client.random.randint(1, 500), client.pick("customers")],
    )


@change()
def sequences(client: Any) -> None:
    """Sequences of their own: downwards and around, in steps, cached."""
    client.run("""SELECT nextval('shop.ticket_no'), nextval('shop.exact_next'), nextval('shop."Nummer Kreis"')""")


# --- transactions ----------------------------------------------------------------------------------------------------


@change()
def savepoints(client: Any) -> None:
    """A part of the transaction fails and is taken back, another one is kept."""
    address = f"{client.word()}@example.net"
    insert_customer(client, address)
    client.run("SAVEPOINT one")
    new_order(client)
    try:
        insert_customer(client, address)
    except psycopg2.errors.UniqueViolation:
        client.run("ROLLBACK TO SAVEPOINT one")
    client.run("SAVEPOINT two")
    new_order(client)
    client.run("RELEASE SAVEPOINT two")


@change()
def rolled_back(client: Any) -> None:
    """Changes that are taken back, and another transaction."""
    number = new_order(client)
    add_line(client, number, 1)
    client.run("UPDATE shop.customer SET credit = 99 WHERE id = %s", [client.pick("customers")])
    client.connection.rollback()
    new_order(client)


@change()
def copy(client: Any) -> None:
    """Rows by COPY."""
    number = new_order(client)
    rows = "".join(f"{number}\t{line}\t{client.pick('products')}\t2\t1.5\t\\N\n" for line in range(1, 101))
    with client.connection.cursor() as cursor:
        cursor.copy_expert("COPY shop.order_line FROM STDIN", io.StringIO(rows))


@change(weight=0.5)
def pause(client: Any) -> None:
    """A transaction that stays open while the application thinks."""
    number = new_order(client)
    time.sleep(client.random.uniform(0, 2 * client.process.configuration["pause"]))
    add_line(client, number, 1)


@change(weight=0.2)
def big(client: Any) -> None:
    """Some thousand rows in one transaction, in an order that all clients keep to."""
    client.run(
        "UPDATE shop.customer SET credit = least(credit + 1, 90000) WHERE id = ANY (%s)",
        [sorted(client.keys["customers"])[:500]],
    )
    number = new_order(client)
    client.run(
        """INSERT INTO shop.order_line SELECT %s, i, %s, 1, i / 4.0, repeat('note ', 20)
        FROM generate_series(1, 2000) AS i""",
        [number, client.pick("products")],
    )


# --- logistics and analytics -----------------------------------------------------------------------------------------


@change()
def stock(client: Any) -> None:
    """A primary key of two columns."""
    warehouse, product = client.pick("stock")
    client.one(
        "UPDATE logistics.stock SET pieces = pieces + 1, counted = now() WHERE warehouse = %s AND product = %s",
        [warehouse, product],
    )


@change()
def tracking(client: Any) -> None:
    """Partitions below partitions, without a primary key: a row moves along the list and over the range."""
    row = [client.pick("shipments"), client.word()]
    client.one(
        """INSERT INTO logistics.tracking (shipment, place, at, code, detail)
        VALUES (%s, %s, '2025-06-01+00', 1, '{"n": 1}')""",
        row,
    )
    client.one("UPDATE logistics.tracking SET code = 4 WHERE shipment = %s AND place = %s", row)
    client.one(
        """UPDATE logistics.tracking SET at = '2024-06-01+00', detail = NULL
        WHERE shipment = %s AND place = %s""",
        row,
    )


@change(by_app=False)
def page_views(client: Any) -> None:
    """Partitions by range and hash: rows move between them."""
    key = client.number_of_its_own()
    client.one("INSERT INTO analytics.page_view VALUES (%s, '2025-02-01+00', 1, '/x', '10.0.0.1', '{}')", [key])
    client.commit()
    client.one(
        """UPDATE analytics.page_view SET viewed = '2025-09-01+00', path = '/é', client = '{"a": 1}'
        WHERE id = %s""",
        [key],
    )
    client.one("UPDATE analytics.page_view SET visitor = visitor + 1 + %s WHERE id = %s", [key % 7, key])
    if client.random.random() < 0.3:
        client.one("DELETE FROM analytics.page_view WHERE id = %s", [key])


@change(by_app=False)
def inheritance(client: Any) -> None:
    """A table that inherits from another, changed through that one."""
    key = client.one("INSERT INTO logistics.truck (plate, tons) VALUES (%s, 7.5) RETURNING id", [client.word()])[0]
    client.one("UPDATE logistics.vehicle SET plate = plate || '!' WHERE id = %s", [key])
    if client.random.random() < 0.5:
        client.one("DELETE FROM logistics.truck WHERE id = %s", [key])


# --- billing ---------------------------------------------------------------------------------------------------------


@change(weight=2, by_app=False)
def invoice(client: Any) -> None:
    """A serial column, a unique constraint that is checked at the end, a trigger that fires then."""
    key = client.one(
        """INSERT INTO billing.invoice (number, order_no, amount, issued, lines)
        VALUES (%s, %s, 47.11, '2025-12-01', '[{"text": "x"}]') RETURNING id""",
        [client.word(), new_order(client)],
    )[0]
    client.one("UPDATE billing.invoice SET number = number || '-A', amount = 12 WHERE id = %s", [key])
    paid = client.one(
        """INSERT INTO billing.payment (invoice, method, amount, paid) VALUES (%s, 'card', 12, now())
        RETURNING id""",
        [key],
    )[0]
    if client.random.random() < 0.3:
        client.one("DELETE FROM billing.payment WHERE id = %s", [paid])


@change(by_app=False)
def equal_rows(client: Any) -> None:
    """A table whose replica identity is the whole row, and equal rows in it: one of them changes, one goes."""
    word = client.word()
    client.run("INSERT INTO billing.journal SELECT '2025-01-01', 1, 1.10, %s FROM generate_series(1, 3)", [word])
    one = "ctid = (SELECT ctid FROM billing.journal WHERE words = %s LIMIT 1)"
    client.one(f"UPDATE billing.journal SET amount = 2 WHERE {one}", [word])
    client.one(f"DELETE FROM billing.journal WHERE {one}", [word])


@change(by_app=False, first=14)
def multiranges(client: Any) -> None:
    """A type that came with 14."""
    client.one(
        """INSERT INTO billing.closed_period VALUES (%s, '{[2020-01-01,2020-02-01),[2021-01-01,)}')
        ON CONFLICT (year) DO UPDATE SET days = closed_period.days + '{[2022-01-05,2022-01-07)}'""",
        [3000 + client.number],
    )


# --- the rest --------------------------------------------------------------------------------------------------------


@change(weight=0.5, by_app=False)
def truncate(client: Any) -> None:
    """A table is emptied, and filled again."""
    client.run("TRUNCATE public.never_filled")
    client.run("INSERT INTO public.never_filled SELECT i, pg_current_xact_id() FROM generate_series(1, 20) AS i")


@change(by_app=False)
def attachments(client: Any) -> None:
    """Wide values of which some change and some do not."""
    key = client.pick("attachments")
    if not key:
        key = client.number_of_its_own() % 2_000_000_000 + 100
        client.one("INSERT INTO public.attachment SELECT %s, '', repeat(md5('x'), 200), md5('y')", [key])
        client.keep("attachments", key)
    client.one("UPDATE public.attachment SET kind = %s WHERE id = %s", [client.word(), key])
    client.one("UPDATE public.attachment SET compressed = repeat(%s, 900) WHERE id = %s", [client.word(), key])


@change(by_app=False)
def values(client: Any) -> None:
    """Types and values of note."""
    key = client.number_of_its_own() % 2_000_000_000 + 100
    client.run("DELETE FROM public.values_of_note WHERE id = %s", [key])
    client.one(
        """INSERT INTO public.values_of_note (id, words, real4, real8, number, moment_tz, span, bytes, flag,
        document, binary_document, words_of, address, lexemes, ranged) VALUES (%s, %s, 'NaN', '-0', 1e100, 'infinity',
        '1 mon -1 day', %s, NULL, '{"a" : 1, "a":2}', '[0.10]', '[2:3]={x,NULL}', '::1', '''it''''s'':1A', 'empty')""",
        [key, "tab\t, line\n, \\N, 😀", client.random.randbytes(300)],
    )
    client.one(
        "UPDATE public.values_of_note SET number = -number, bytes = bytes || '\\x00', cash = 1 WHERE id = %s", [key]
    )
    client.keep("values", key)
    if len(client.keys["values"]) > 50:
        client.one("DELETE FROM public.values_of_note WHERE id = %s", [client.keys["values"].pop(0)])


@change(by_app=False)
def odd_names(client: Any) -> None:
    """Names of tables and columns that have to be quoted."""
    client.one(
        """UPDATE "Lager & Größe"."Tabelle mit ""Anführung"" und 'Apostroph'" SET "%%s" = %s, "日本語" = %s
        WHERE "Spalte 1" = %s""",
        [client.word(), client.word(), 1 + client.number % 2],
    )


@change(weight=0.5, by_app=False)
def without_owners_right(client: Any) -> None:
    """The table's owner has revoked its own right to insert."""
    client.one(
        """INSERT INTO shop.country VALUES ('X' || %s, %s, 'EUR')
        ON CONFLICT (code) DO UPDATE SET name = excluded.name""",
        [client.number % 10, client.word()],
    )


@change(weight=0.5, by_app=False)
def forced_row_security(client: Any) -> None:
    """Row level security that holds for the table's owner, too."""
    client.one(
        """INSERT INTO billing.internal_note VALUES (%s, 'somebody', %s)
        ON CONFLICT (id) DO UPDATE SET body = excluded.body""",
        [1000 + client.number, client.word()],
    )


@change(weight=0.3, by_app=False)
def large_objects(client: Any) -> None:
    """A large object changes, another one is made. Who writes to one that is being written to gets an error."""
    client.run("SELECT lo_put(870004, 0, %s) FROM pg_advisory_xact_lock(870004)", [client.random.randbytes(100)])
    client.run("SELECT lo_from_bytea(0, %s)", [client.random.randbytes(100)])
