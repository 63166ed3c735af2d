--- tables that tools forget
SET ROLE @{owner};
CREATE TABLE public.nothing_at_all ();
INSERT INTO public.nothing_at_all DEFAULT VALUES;
INSERT INTO public.nothing_at_all DEFAULT VALUES;
CREATE TABLE public.never_filled (id integer PRIMARY KEY, payload xid8);
CREATE TABLE public.dropped_column (a integer, gone text, b integer);
INSERT INTO public.dropped_column SELECT i, 'x', i * 2 FROM generate_series(1, 10) AS i;
ALTER TABLE public.dropped_column DROP COLUMN gone, ADD COLUMN later integer DEFAULT 42, ADD COLUMN "select" text DEFAULT E'it''s\n';
RESET ROLE;

--- names
SET ROLE @{admin};
CREATE TABLE "Lager & Größe"."Tabelle mit ""Anführung"" und 'Apostroph'" (
    "Spalte 1" integer PRIMARY KEY, "ÄÖÜ" text, "order" text, "a.b" text, "%s" text, "tab	stop" text, "日本語" text, "😀" text);
INSERT INTO "Lager & Größe"."Tabelle mit ""Anführung"" und 'Apostroph'" VALUES (1, 'ä', 'ö', 'ü', '%d', E'\t', '日本', '😀'), (2, NULL, '', NULL, NULL, NULL, NULL, NULL);
CREATE TABLE "Lager & Größe"."user" ("user" text, "table" text, "SELECT" text, UNIQUE ("user", "table"));
CREATE TABLE "Lager & Größe"."-- comment; DROP TABLE x" ("$1" integer, "back\slash" integer, "new
line" integer);
CREATE TABLE "Lager & Größe".a123456789b123456789c123456789d123456789e123456789f123456789xyz (id integer);
INSERT INTO "Lager & Größe"."-- comment; DROP TABLE x" VALUES (1, 2, 3);
RESET ROLE;

--- values
SET ROLE @{owner};
CREATE TABLE public.values_of_note (
    id integer PRIMARY KEY, words text, real4 real, real8 float8, number numeric, small smallint, big bigint, day date,
    moment timestamp, moment_tz timestamptz, clock time, clock_tz timetz, span interval, bytes bytea, flag boolean, fixed char(5),
    document json, binary_document jsonb, bits bit varying(70), path_of path, words_of text[], address inet, cash money, xmax_like xid,
    lexemes tsvector, question tsquery, ranged int8range);
INSERT INTO public.values_of_note (id) VALUES (0);
INSERT INTO public.values_of_note VALUES
    (1, '', 'NaN', 'NaN', 'NaN', -32768, -9223372036854775808, '-infinity', '-infinity', '-infinity', '00:00', '00:00+14', '-178000000 years', '', false, '', '{}', '{}', '', '((0,0))', '{}', '::', '-92233720368547758.08', '0', '', '''a'' & !''b''', 'empty'),
    (2, '\N', 'Infinity', 'Infinity', 1e130, 32767, 9223372036854775807, 'infinity', 'infinity', 'infinity', '24:00', '24:00-14', '1 mon -1 day +00:00:00.000001', '\x00', true, 'ab  ', '{"a" : 1,  "a":2}', '{"a": 2}', '101', '[(1,2),(3,4)]', '{NULL,"NULL",""}', '2001:db8::1/64', '0.01', '4294967295', '''it''''s'':1A', '''x'' <2> ''y''', '(,)'),
    (3, E'tab\there\nnew\rreturn\\back\bspace\fform\x0bvert', '-Infinity', '-Infinity', -0.000000000000000000000000000001, 0, 0, '4713-01-01 BC', '4713-01-01 00:00:00 BC', '4714-11-24 00:00:00+00 BC', '23:59:59.999999', '12:00+05:30', '-00:00:00.5', '\xdeadbeef', NULL, 'äöüß€', 'null', 'null', '0', '((0,0),(1,1),(2,0))', '{{a,b},{c,d}}', '10.1.2.3', '1', '3', 'a:1', '!''a''', '[1,2)'),
    (4, '\.', 1.17549435e-38, 2.2250738585072014e-308, 1.10, 1, 1, '5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', '12:34', '12:34:56.789+00', 'P1Y2M3DT4H5M6S', '\x5c4e', true, '\N', '"\u0000 as text"', '"\u00e9 \ud83d\ude00 \\ \""', '1', '((1,1))', '{"\\N",",",";","{}"}', '0.0.0.0/0', '-1', '4', 'b:2', '''c''', '[5,)'),
    (5, 'émoji 😀👩‍👩‍👧 Ω ﷽ e' || chr(769) || chr(65279) || chr(1114109), 3.4028235e38, 1.7976931348623157e308, 12345678901234567890123456789.000000, 5, 5, '2024-02-29', '0001-01-01 00:00', '0001-01-01 00:00+00 BC', '00:00:00.000001', '01:00-00:30', '0', (SELECT string_agg(set_byte('\x00', 0, b), '' ORDER BY b) FROM generate_series(0, 255) AS b), false, '  x', '[1e400, -0, 0.10]', '[0.10, 12345678901234567890.5]', '11', '((9,9))', ARRAY['[a]', E'\n', '''', '"'], '127.0.0.1', '5', '5', 'c:3', '''d'':*', '(-5,5]'),
    (6, repeat('x', 100), 0.1, 0.1, 0, 6, 6, '1582-10-10', '1900-01-01 00:00', '1900-01-01 00:00+00', '06:00', '06:00+00', '1 day 24:00', '\x27', true, 'x', '[]', '[]', '0000', '((6,6))', '[2:3]={x,y}', '1.2.3.4', '6', '6', 'd:4', '''e'' | ''f''', '[6,7)'),
    (7, 'null', '-0', '-0', 0.00, 7, 7, '2000-01-01', '2000-01-01 00:00', '2000-01-01 00:00+00', '07:00', '07:00+00', '7 days', '\x22', false, 'null', '0', '0', '01', '((7,7))', '{null,"null"}', 'fe80::1', '7', '7', 'e:5', '''g''', '[7,8)');
COMMENT ON TABLE public.values_of_note IS E'Values at the edges\ttab \\ backslash\nline';
RESET ROLE;

--- wide values, in and out of line
SET ROLE @{owner};
CREATE TABLE public.attachment (id integer PRIMARY KEY, kind text, body text, compressed text) WITH (toast_tuple_target = 256, toast.autovacuum_enabled = true);
INSERT INTO public.attachment
SELECT i, 'kind ' || i % 5, (SELECT string_agg(md5(i || ',' || j), '' ORDER BY j) FROM generate_series(1, 250 + i) AS j), repeat('squeeze me ', i * 100)
FROM generate_series(1, pg_temp.rows(200)) AS i;
INSERT INTO public.attachment VALUES (0, '1 MB', repeat(md5('@{seed}'), 32768), NULL), (-1, E'\\N', '', '');
RESET ROLE;

--- large objects
SELECT lo_from_bytea(870001, convert_to(E'Handbuch\nSeite 1\n', 'UTF8')), lo_from_bytea(870002, '\x'),
       lo_from_bytea(870003, (SELECT string_agg(decode(md5('@{seed}' || i), 'hex'), '' ORDER BY i) FROM generate_series(1, 5000) AS i)),
       lo_from_bytea(870004, '\x00ff5c');
ALTER LARGE OBJECT 870001 OWNER TO @{owner};
ALTER LARGE OBJECT 870002 OWNER TO @{admin};
ALTER LARGE OBJECT 870003 OWNER TO @{billing};
GRANT SELECT ON LARGE OBJECT 870001 TO PUBLIC;
GRANT SELECT, UPDATE ON LARGE OBJECT 870003 TO @{app} WITH GRANT OPTION;
COMMENT ON LARGE OBJECT 870001 IS 'Manual of product 1';
COMMENT ON LARGE OBJECT 870004 IS E'Owned by nobody''s role; 日本語';
UPDATE shop.product SET manual = 870001 WHERE id = 1;
