-- A row or two of every type, with the values at its edges, for all majors from 13 on.
CREATE SCHEMA x; SET search_path = x, public;
CREATE EXTENSION hstore SCHEMA x; CREATE EXTENSION citext SCHEMA x; CREATE EXTENSION ltree SCHEMA x;
CREATE EXTENSION cube SCHEMA x; CREATE EXTENSION isn SCHEMA x; CREATE EXTENSION seg SCHEMA x;
CREATE TYPE mood AS ENUM ('sad', 'it''s', 'ok, (so) "so"');
CREATE TYPE pair AS (a int, "b c" text);
CREATE DOMAIN code AS char(4) CHECK (VALUE <> 'none');
CREATE DOMAIN blob AS bytea;
CREATE TYPE floats AS RANGE (subtype = float8);
CREATE TABLE of_all (
    id int PRIMARY KEY, f4 float4, f8 float8, num numeric, num2 numeric(12, 4), mon money, ts timestamp,
    tstz timestamptz, d date, t time, ttz timetz, iv interval, b bytea, bl blob, j json, jb jsonb, c5 char(5), cd code,
    bp bpchar, vc varchar(9), nm name, q "char", bo boolean, bi bit(5), vb varbit, u uuid, i inet, ci cidr, ma macaddr,
    m8 macaddr8, x xml, tv tsvector, tq tsquery, pt point, ls lseg, pa path, po polygon, bx box, ce circle, li line,
    ir int4range, nr numrange, tr tstzrange, fr floats, mo mood, moods mood[], pr pair, prs pair[], ia int[],
    ta text[], ja jsonb[], hs hstore, ct citext, lt ltree, cu cube, isbn isbn13, sg seg, lsn pg_lsn, lsns pg_lsn[],
    sn txid_snapshot, o oid, rc regclass, rt regtype, rp regprocedure, tid tid, xi xid, jp jsonpath, acl aclitem[],
    gen text GENERATED ALWAYS AS (vc || '!') STORED);
INSERT INTO of_all (id, q) VALUES (0, (-61)::"char");
INSERT INTO of_all VALUES
(1, '-0', '-0', 'NaN', -0.0000, '-0.05', '-infinity', 'infinity', '4713-01-01 BC', '24:00', '00:00+15:59', '-1 mons +1 day -00:00:00.000001',
 '\x', '\x00ff', '{"b":1,  "a":1,"a":2}', '{"b":1,"a":{"z":[],"y":null}}', 'a', 'ab', 'tail  ', '', 'n', '', true, B'00000', B'',
 '00000000-0000-0000-0000-000000000000', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '<a b="c">ä</a>',
 'a:1A,2B b', 'a & !b <-> c:*', '(1e-300,-0)', '((0,0),(1,1))', '[(0,0)]', '((0,0),(0,1),(1,0))', '(1,1),(0,0)', '<(0,0),1e-10>', '{1,-1,0}',
 'empty', '(,)', '[-infinity,infinity]', '[NaN,NaN]', 'sad', '{}', '(,)', '{"(1,\"a b\")",NULL}', '[-1:1]={1,NULL,-3}', '{"",NULL,"NULL",a}',
 '{}', '"a"=>NULL, ""=>"x"', 'ÄÖ', 'a.b_c.d', '(1,2),(3,4)', '978-0-393-04002-9', '1.5 .. 2', '16/B374D848', '{0/1A0,NULL,FF/0}', '10:20:10,14,15', 4294967295,
 'x.of_all', 'int4', 'lower(text)', '(1,2)', '7', '$.a[*] ? (@.b > 1 && exists (@.c))', '{=r/postgres}'),
(2, 'NaN', '-Infinity', 123456789012345678901234567890.123456789, 99999999.9999, '92233720368547758.07', '294276-12-31 23:59:59.999999',
 '4714-11-24 00:00:00+00 BC', 'infinity', '00:00:00.000001', '12:34:56.789-15:59', '178000000 years', decode(repeat('00ff5c27', 999), 'hex'), '\x5c',
 '"\u00e9"', '1e400', 'a    ', 'a', '  x', E'\t\n\\', repeat('n', 63), 'a', false, B'11111', B'10101', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '1.2.3.4',
 '2001:db8::/32', 'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff', 'text', '', '''it''''s''', '(Infinity,NaN)', '((-1,1e15),(0.1,0.2))', '((1,2),(3,4))',
 '((0,0))', '(Infinity,1),(0,-Infinity)', '<(0.1,0.2),0>', '{0,1,0.3}', '[1,5)', '(-1e130,0.10]', '["2000-01-01 00:00+14",)', '(0.1,0.30000000000000004)',
 'ok, (so) "so"', '{sad,NULL}', '(1,)', '{}', '{{1,2},{3,4}}', '{"a b","c\\d",é}', ARRAY['{"a":1}', 'null']::jsonb[], '', 'x', '', '(0)', '978-3-16-148410-0',
 '<3', '0/0', '{}', '1:1:', 0, 'pg_class', 'x.mood', 'x.citext_eq(x.citext,x.citext)', '(0,1)', '0', 'strict $', '{postgres=arwdDxt/postgres}');
CREATE TABLE twice (a int, b text); INSERT INTO twice SELECT 1, 'x' FROM generate_series(1, 3);
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE "odd ""name" ("t" int, "odd "" column" text, "%s" text);
INSERT INTO "odd ""name" VALUES (1, NULL, ''), (2, '', NULL), (3, '😀', chr(1114109));
