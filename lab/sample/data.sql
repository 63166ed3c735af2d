--- numbers that only look random
CREATE FUNCTION pg_temp.rows(n integer) RETURNS integer LANGUAGE sql IMMUTABLE
    AS $$ SELECT greatest(1, round(n * @{scale})::integer) $$;
CREATE FUNCTION pg_temp.pick(i bigint, salt integer, n integer) RETURNS integer LANGUAGE sql IMMUTABLE
    AS $$ SELECT ((hashint8extended(i, @{seed}::bigint * 1000 + salt) & 2147483647) % n)::integer $$;
CREATE FUNCTION pg_temp.key(i bigint, salt integer) RETURNS uuid LANGUAGE sql IMMUTABLE
    AS $$ SELECT md5(i || '/' || salt || '/@{seed}')::uuid $$;

--- countries and customers
SET ROLE @{owner};
INSERT INTO shop.country VALUES ('DE', 'Deutschland', 'EUR'), ('AT', 'Österreich', 'EUR'), ('CH', 'Schweiz', 'CHF'),
    ('FR', 'France', 'EUR'), ('GB', 'United Kingdom', 'GBP'), ('IS', 'Ísland', 'ISK'), ('JP', '日本', 'JPY'),
    ('CI', 'Côte d''Ivoire', 'XOF'), ('GR', 'Ελλάδα', 'EUR'), ('EG', 'مصر', 'EGP');
INSERT INTO shop.customer (tenant, email, name, status, home, preferences, tags, born, credit, joined)
SELECT 1 + i % 3,
       lower(given) || '.' || i || '@example.' || (ARRAY['com', 'org', 'net'])[1 + i % 3],
       given || ' ' || family,
       (ARRAY['new', 'active', 'active', 'vip', 'on hold', 'it''s closed', 'gelöscht'])[1 + pg_temp.pick(i, 3, 7)]::shop.customer_status,
       CASE WHEN i % 11 > 0 THEN ROW((ARRAY['Main St', 'Rue de l''Église', 'Straße des 17. Juni', 'High "Old" Road'])[1 + i % 4]
           || ' ' || i % 200, (ARRAY['Berlin', 'Wien', 'Zürich', 'Reykjavík', '東京'])[1 + pg_temp.pick(i, 4, 5)],
           10000 + pg_temp.pick(i, 5, 89999), (ARRAY['DE', 'AT', 'CH', 'IS', 'JP'])[1 + pg_temp.pick(i, 4, 5)])::shop.address END,
       jsonb_build_object('newsletter', i % 2 = 0, 'language', (ARRAY['de', 'en', 'fr'])[1 + i % 3], 'limit', i % 100 / 8.0,
           'theme', CASE WHEN i % 5 = 0 THEN 'dark' END),
       CASE WHEN i % 4 = 0 THEN ARRAY['b2b', 'with, comma', 'quote"d'] WHEN i % 7 = 0 THEN ARRAY['', NULL, 'null'] ELSE '{}' END,
       date '1950-01-01' + pg_temp.pick(i, 6, 20000),
       pg_temp.pick(i, 7, 100000) / 100.0 - 100,
       timestamptz '2019-01-01 00:00:00+00' + pg_temp.pick(i, 8, 150000000) * interval '1 second'
FROM (SELECT i, (ARRAY['Ada', 'Grace', 'Linus', 'Zoë', 'Jürgen', 'Søren', 'Nuño', 'Ирина', '花子', 'Aoife'])[1 + pg_temp.pick(i, 1, 10)] AS given,
             (ARRAY['Müller', 'O''Neill', 'Smith', 'Łuczak', 'de la Cruz', 'Nguyễn', 'Παππάς', 'Çelik'])[1 + pg_temp.pick(i, 2, 8)] AS family
      FROM generate_series(1, pg_temp.rows(24000)) AS i) AS people;
RESET ROLE;

--- products
SET ROLE @{owner};
INSERT INTO shop.category (parent, name) SELECT NULLIF(i / 3, 0), 'Category ' || i FROM generate_series(1, 40) AS i;
INSERT INTO shop.product (category, sku, name, net, tax, available, discount, sizes, attributes, description, image, weight)
SELECT 1 + pg_temp.pick(i, 11, 40), 'SKU-' || lpad(i::text, 7, '0'), 'Product ' || i || CASE WHEN i % 50 = 0 THEN ' "Größe XL" ☕' ELSE '' END,
       1 + pg_temp.pick(i, 12, 50000) / 100.0, CASE WHEN i % 6 = 0 THEN 0.07 ELSE 0.19 END,
       daterange(date '2020-01-01' + pg_temp.pick(i, 13, 1500), CASE WHEN i % 3 = 0 THEN date '2026-01-01' + i % 300 END),
       CASE WHEN i % 10 = 0 THEN shop.price_range(1.5, 9.99, '[]') WHEN i % 10 = 1 THEN 'empty' END,
       CASE WHEN i % 2 = 0 THEN ARRAY[i % 90 + 0.5, i % 70 + 0.25, NULL] END,
       jsonb_build_object('colour', (ARRAY['red', 'grün', 'bleu'])[1 + i % 3], 'ean', pg_temp.pick(i, 14, 2000000000), 'parts', jsonb_build_array(i, 'x', NULL)),
       CASE WHEN i % 20 = 0 THEN repeat(E'A long description\twith tabs\nand lines. ', 400) ELSE 'Short text ' || md5(i::text) END,
       CASE WHEN i % 25 = 0 THEN (SELECT string_agg(decode(md5(i || '-' || b), 'hex'), '' ORDER BY b) FROM generate_series(1, 700) AS b) END,
       pg_temp.pick(i, 15, 10000) / 7.0
FROM generate_series(1, pg_temp.rows(3000)) AS i;
INSERT INTO shop.review (product, customer, stars, words, body)
SELECT 1 + pg_temp.pick(i, 16, pg_temp.rows(3000)), 1000 + 3 * pg_temp.pick(i, 17, pg_temp.rows(24000)), 1 + pg_temp.pick(i, 18, 5),
       to_tsvector('pg_catalog.simple', 'review ' || i || ' fine product'), 'Review ' || i || ': ' || md5(i::text)
FROM generate_series(1, pg_temp.rows(8000)) AS i;
RESET ROLE;

--- orders
SET ROLE @{owner};
INSERT INTO shop."Order" (customer, state, "from", "to", "Lieferung an", total, "user")
SELECT 1000 + 3 * pg_temp.pick(i, 21, pg_temp.rows(24000)), (ARRAY['open', 'paid', 'shipped', 'shipped', 'returned'])[1 + pg_temp.pick(i, 22, 5)]::shop."Order State",
       placed, CASE WHEN i % 5 > 0 THEN placed + i % 40 * interval '6 hours' END,
       CASE WHEN i % 9 = 0 THEN ROW('Postfach ' || i, 'Wien', '1010', 'AT')::shop.address END,
       pg_temp.pick(i, 24, 100000) / 100.0, 'web'
FROM (SELECT i, timestamptz '2024-06-01 00:00:00+00' + pg_temp.pick(i, 23, 47000000) * interval '1 second' AS placed
      FROM generate_series(1, pg_temp.rows(60000)) AS i) AS orders;
INSERT INTO shop.order_line
SELECT i, line, 1 + pg_temp.pick(i * 8 + line, 25, pg_temp.rows(3000)), 1 + pg_temp.pick(i, 26, 4), 1 + pg_temp.pick(i + line, 27, 9000) / 100.0,
       CASE WHEN i % 30 = 0 THEN E'gift\\wrap; \\N is not null' END
FROM generate_series(1, pg_temp.rows(60000)) AS i, generate_series(1, 1 + i % 4) AS line;
INSERT INTO shop.cart SELECT pg_temp.key(i, 28), 1000 + 3 * pg_temp.pick(i, 28, pg_temp.rows(24000)), '[{"product": 1}]', timestamp '2025-11-01 12:00' + i * interval '1 s'
FROM generate_series(1, pg_temp.rows(2000)) AS i;
RESET ROLE;

--- invoices and payments
SET ROLE @{billing};
INSERT INTO billing.tax_rate VALUES ('DE', '[2007-01-01,2020-07-01)', 0.19), ('DE', '[2020-07-01,2021-01-01)', 0.16), ('DE', '[2021-01-01,)', 0.19);
INSERT INTO billing.invoice (number, order_no, currency, amount, issued, lines)
SELECT 'R' || 2025000000 + i, i, (ARRAY['EUR', 'CHF', 'GBP'])[1 + i % 3], pg_temp.pick(i, 24, 100000) / 100.0, date '2024-06-01' + pg_temp.pick(i, 31, 540),
       CASE WHEN i % 3 = 0 THEN jsonb_build_array(jsonb_build_object('text', 'position ' || i, 'net', i / 100.0)) END
FROM generate_series(1, pg_temp.rows(50000)) AS i;
INSERT INTO billing.payment (invoice, method, amount, paid, reference)
SELECT i, (ARRAY['card', 'transfer', 'cash', 'voucher'])[1 + pg_temp.pick(i, 32, 4)]::billing.payment_method, pg_temp.pick(i, 24, 100000) / 100.0,
       timestamptz '2024-06-02 00:00:00.123+00' + pg_temp.pick(i, 33, 47000000) * interval '1.001 second', pg_temp.key(i, 34)
FROM generate_series(1, pg_temp.rows(45000)) AS i;
INSERT INTO billing.journal SELECT timestamp '2025-01-01' + i / 2 * interval '1 minute', 1000 + i / 2 % 90, (i / 2 % 1000) * 1.10, 'booking ' || i / 2
FROM generate_series(1, pg_temp.rows(20000)) AS i;
INSERT INTO billing.internal_note VALUES (1, 'nobody', 'Only its author may read this'), (2, '@{seed}', NULL);
RESET ROLE;

--- logistics
SET ROLE @{owner};
INSERT INTO logistics.warehouse SELECT i, 'Lager ' || i, point(i * 1.1, -i / 3.0), polygon(box(point(0, 0), point(i, i))), ('10.' || i || '.0.0/16')::cidr
FROM generate_series(1, 12) AS i;
INSERT INTO logistics.stock SELECT w, p, pg_temp.pick(p * 16 + w, 41, 500), timestamptz '2025-10-01+00' + p % 86400 * interval '1 second'
FROM generate_series(1, 4) AS w, generate_series(1, pg_temp.rows(3000)) AS p;
INSERT INTO logistics.shipment
SELECT pg_temp.key(i, 42), i, 1 + i % 12, tstzrange(sent, CASE WHEN i % 7 > 0 THEN sent + interval '2 days 3 hours' END), ARRAY[i % 5, i % 3],
       ('08:00:2b:01:' || lpad(to_hex(i % 256), 2, '0') || ':ff')::macaddr
FROM (SELECT i, timestamptz '2024-06-03+00' + pg_temp.pick(i, 43, 50000000) * interval '1 second' AS sent FROM generate_series(1, pg_temp.rows(40000)) AS i) AS s;
INSERT INTO logistics.tracking
SELECT pg_temp.key(i, 42), timestamptz '2024-06-03+00' + pg_temp.pick(i, 43, 50000000) * interval '1 second' + hop * interval '5 hours',
       (ARRAY['Hamburg', 'Köln', 'Praha', 'Kraków'])[1 + pg_temp.pick(i + hop, 44, 4)], CASE WHEN i % 50 = 0 THEN 9 ELSE 1 + hop + i % 3 END,
       CASE WHEN hop = 2 THEN jsonb_build_object('signed', i % 2 = 0, 'by', 'Empfänger') END
FROM generate_series(1, pg_temp.rows(40000)) AS i, generate_series(0, 2) AS hop;
INSERT INTO logistics.vehicle (plate) SELECT 'B-XY ' || i FROM generate_series(1, 20) AS i;
INSERT INTO logistics.truck (plate, tons) SELECT 'K-T ' || i, 7.5 + i FROM generate_series(1, 20) AS i;
INSERT INTO logistics.lorry_archive (plate, bought, tons) VALUES ('HH-OLD 1', '1999-12-31', 40);
RESET ROLE;

--- analytics
SET ROLE @{owner};
INSERT INTO analytics.page_view
SELECT i, timestamptz '2024-12-20+00' + (i::float8 / pg_temp.rows(120000) * 380) * interval '1 day', pg_temp.pick(i, 51, 30000),
       '/' || (ARRAY['', 'shop', 'cart', 'über-uns', 'search?q=%20'])[1 + pg_temp.pick(i, 52, 5)] || '/' || pg_temp.pick(i, 53, 3000),
       ('192.0.2.' || i % 256)::inet, jsonb_build_object('agent', 'Browser/' || i % 40, 'ms', pg_temp.pick(i, 54, 900), 'mobile', i % 2 = 0)
FROM generate_series(1, pg_temp.rows(120000)) AS i;
INSERT INTO analytics.audit SELECT timestamptz '2025-02-01+00' + i * interval '1 minute', 'web', 'login', NULL FROM generate_series(1, pg_temp.rows(3000)) AS i;
INSERT INTO analytics.experiment VALUES ('blue button', ARRAY[ARRAY['a', 'b'], ARRAY['c', 'd']], '[2025-01-01 00:00+00,infinity)', 0.5), (NULL, '{}', 'empty', 'NaN');
RESET ROLE;
