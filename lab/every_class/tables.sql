--- table
CREATE TABLE every.plain (id integer PRIMARY KEY, words text, n numeric DEFAULT 1.50, "Camel Case" text, at timestamptz);
INSERT INTO every.plain SELECT i, 'word ' || i, i / 3.0, E'tab\t' || i, timestamptz '2025-01-01+00' + i * interval '1 hour' FROM generate_series(1, 200) AS i;
ALTER TABLE every.plain OWNER TO @{owner};
COMMENT ON TABLE every.plain IS 'Nothing special';
COMMENT ON COLUMN every.plain."Camel Case" IS 'Special';
GRANT SELECT, INSERT (id), UPDATE ("Camel Case") ON every.plain TO @{reader} WITH GRANT OPTION;
GRANT SELECT (words) ON every.plain TO PUBLIC;

--- typed table
CREATE TABLE every.of_type OF every.pair (a WITH OPTIONS PRIMARY KEY DEFAULT 5, CHECK (a > 0)) WITH (fillfactor = 60);
INSERT INTO every.of_type VALUES (1, 'x', 'sad');

--- table with another table's row type
CREATE TABLE every.rows_in_rows (id integer, whole every.plain, several every.plain[]);
INSERT INTO every.rows_in_rows SELECT id, p, ARRAY[p, NULL] FROM every.plain AS p WHERE id < 4;

--- unlogged table
CREATE UNLOGGED TABLE every.unlogged (id serial PRIMARY KEY, words text);
INSERT INTO every.unlogged (words) VALUES ('may be lost');

--- table without columns, table without rows
CREATE TABLE every.no_columns ();
CREATE TABLE every."no rows" (id bigint PRIMARY KEY);

--- inheritance
CREATE TABLE every.parent (a integer NOT NULL, b text DEFAULT 'parent', CONSTRAINT a_positive CHECK (a > 0), CONSTRAINT here_only CHECK (b <> '') NO INHERIT);
CREATE TABLE every.other_parent (b text, c integer);
CREATE TABLE every.child (c integer DEFAULT 3, b text DEFAULT 'child', own text) INHERITS (every.parent, every.other_parent);
INSERT INTO every.parent VALUES (1);
INSERT INTO every.child (a, own) VALUES (2, 'own');
ALTER TABLE every.other_parent ADD later integer;

--- dropped columns in a table that was inherited from
CREATE TABLE every.left (a integer, b integer, c integer);
CREATE TABLE every.left_child () INHERITS (every.left);
INSERT INTO every.left_child VALUES (1, 2, 3);
ALTER TABLE every.left DROP COLUMN b;
ALTER TABLE ONLY every.left DROP COLUMN c;

--- partitioned tables of three kinds
CREATE TABLE every.by_range (id integer NOT NULL, at date NOT NULL, words text DEFAULT 'x') PARTITION BY RANGE (at, id);
CREATE TABLE every.by_range_1 PARTITION OF every.by_range FOR VALUES FROM (MINVALUE, MINVALUE) TO ('2025-01-01', 10);
CREATE TABLE every.by_range_2 PARTITION OF every.by_range (words DEFAULT 'y') FOR VALUES FROM ('2025-01-01', 10) TO (MAXVALUE, MAXVALUE) PARTITION BY LIST (id);
CREATE TABLE every.by_range_2_1 (words text, extra_gone integer, at date NOT NULL, id integer NOT NULL);
ALTER TABLE every.by_range_2_1 DROP COLUMN extra_gone;
ALTER TABLE every.by_range_2 ATTACH PARTITION every.by_range_2_1 FOR VALUES IN (1, 2, NULL);
CREATE TABLE "Every Other".by_range_2_rest PARTITION OF every.by_range_2 DEFAULT;
CREATE TABLE every.by_hash (id integer, at date) PARTITION BY HASH (id);
CREATE TABLE every.by_hash_0 PARTITION OF every.by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE every.by_hash_1 PARTITION OF every.by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE every.by_expression (id integer, words text) PARTITION BY LIST (lower(words));
CREATE TABLE every.by_expression_a PARTITION OF every.by_expression FOR VALUES IN ('a', 'it''s');
CREATE TABLE every.no_partitions (id integer) PARTITION BY LIST (id);
INSERT INTO every.by_range SELECT i, date '2024-12-01' + i FROM generate_series(1, 100) AS i;
INSERT INTO every.by_hash SELECT i, date '2024-12-01' + i FROM generate_series(1, 100) AS i;
INSERT INTO every.by_expression VALUES (1, 'A'), (2, 'IT''S');
COMMENT ON TABLE every.by_range IS 'In parts';

--- partition hashed by an enumerated type
CREATE TABLE every.by_mood (mood every.mood, words text) PARTITION BY HASH (mood);
CREATE TABLE every.by_mood_0 PARTITION OF every.by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE every.by_mood_1 PARTITION OF every.by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO every.by_mood SELECT m, m::text FROM unnest(enum_range(NULL::every.mood)) AS m;

--- partitioned index, attached and not
ALTER TABLE every.by_range ADD PRIMARY KEY (at, id);
CREATE INDEX by_range_words ON ONLY every.by_range (words);
CREATE INDEX by_range_1_words ON every.by_range_1 (words);
ALTER INDEX every.by_range_words ATTACH PARTITION every.by_range_1_words;
CREATE INDEX "Hash Index" ON every.by_hash (at) WITH (fillfactor = 55);

--- partition with foreign keys, from and to
CREATE TABLE every.refers_to_parts (id integer PRIMARY KEY, at date, part integer, FOREIGN KEY (at, part) REFERENCES every.by_range ON DELETE SET NULL);
ALTER TABLE every.by_hash ADD FOREIGN KEY (id) REFERENCES every.plain;
INSERT INTO every.refers_to_parts VALUES (1, '2024-12-02', 1), (2, NULL, NULL);

--- detached partition
CREATE TABLE every.once_a_part PARTITION OF every.by_range_2 FOR VALUES IN (3000);
INSERT INTO every.by_range VALUES (3000, '2026-01-01');
ALTER TABLE every.by_range_2 DETACH PARTITION every.once_a_part;

--- identity columns
CREATE TABLE every.identities (a bigint GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT -2 MINVALUE -100 MAXVALUE 9 CYCLE CACHE 3), b smallint GENERATED BY DEFAULT AS IDENTITY, c text);
INSERT INTO every.identities (c) VALUES ('one'), ('two');
ALTER SEQUENCE every.identities_b_seq OWNER TO CURRENT_USER;

--- identity column of a partitioned table (17+)
CREATE TABLE every.part_identity (id bigint GENERATED ALWAYS AS IDENTITY, words text) PARTITION BY HASH (id);
CREATE TABLE every.part_identity_0 PARTITION OF every.part_identity FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO every.part_identity (words) VALUES ('one'), ('two');

--- sequences
CREATE TABLE "Every Other".counted (id integer);
CREATE SEQUENCE every.counter AS smallint INCREMENT 5 MINVALUE -10 MAXVALUE 10000 START 20 CACHE 2 CYCLE;
CREATE SEQUENCE "Every Other"."Zähler" OWNED BY "Every Other".counted.id;
CREATE SEQUENCE every.called;
SELECT nextval('every.counter'), setval('every.called', 9223372036854775807), setval('"Every Other"."Zähler"', 3, false);
ALTER TABLE every.plain ALTER id SET DEFAULT nextval('every.counter');
COMMENT ON SEQUENCE every.counter IS 'By fives';
GRANT USAGE, SELECT ON SEQUENCE every.counter TO @{reader};

--- unlogged sequence (15+)
CREATE UNLOGGED SEQUENCE every.unlogged_counter;
SELECT setval('every.unlogged_counter', 77);

--- generated columns, stored
CREATE TABLE every.generated (a integer, b integer GENERATED ALWAYS AS (a * 2) STORED, c text GENERATED ALWAYS AS (upper(a::text || 'x')) STORED);
INSERT INTO every.generated VALUES (1), (2), (NULL);

--- generated columns, virtual (18+)
CREATE TABLE every.virtual (a integer, b integer GENERATED ALWAYS AS (a * 2) VIRTUAL, c integer GENERATED ALWAYS AS (a + 1));
INSERT INTO every.virtual VALUES (1), (NULL);

--- check constraints
CREATE TABLE every.checked (a integer CONSTRAINT "a is small" CHECK (a < 100), b integer, CHECK (a <> b), CONSTRAINT "not yet" CHECK (true));
INSERT INTO every.checked VALUES (1, 50);
ALTER TABLE every.checked ADD CONSTRAINT not_valid CHECK (b < 10) NOT VALID;
COMMENT ON CONSTRAINT "a is small" ON every.checked IS 'Below a hundred';

--- constraints that are not enforced (18+)
CREATE TABLE every.unenforced (a integer CHECK (a > 0) NOT ENFORCED, b integer);
INSERT INTO every.unenforced VALUES (-1, 100000);
ALTER TABLE every.unenforced ADD FOREIGN KEY (b) REFERENCES every.plain NOT ENFORCED;

--- not-null constraints with names, not valid, not inherited (18+)
CREATE TABLE every.not_null (a integer CONSTRAINT "a is there" NOT NULL, b integer, c integer CONSTRAINT here_only NOT NULL NO INHERIT);
CREATE TABLE every.not_null_child () INHERITS (every.not_null);
INSERT INTO every.not_null VALUES (1, NULL, 3);
ALTER TABLE every.not_null ADD CONSTRAINT "b from now on" NOT NULL b NOT VALID;
COMMENT ON CONSTRAINT "a is there" ON every.not_null IS 'It has a name now';

--- temporal keys (18+)
CREATE TABLE every.temporal (id int4range, valid daterange, words text, PRIMARY KEY (id, valid WITHOUT OVERLAPS));
CREATE TABLE every.temporal_child (id integer, parent int4range, valid daterange, FOREIGN KEY (parent, PERIOD valid) REFERENCES every.temporal (id, PERIOD valid));
INSERT INTO every.temporal VALUES ('[1,2)', '[2024-01-01,2025-01-01)', 'then'), ('[1,2)', '[2025-01-01,)', 'now');
INSERT INTO every.temporal_child VALUES (1, '[1,2)', '[2024-06-01,2025-06-01)');

--- unique constraints
CREATE TABLE every.uniques (a integer, b integer, c integer, UNIQUE (a), UNIQUE (b) INCLUDE (c) WITH (fillfactor = 50), CONSTRAINT later UNIQUE (c, a) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO every.uniques VALUES (1, 1, 1), (NULL, NULL, NULL);
COMMENT ON CONSTRAINT later ON every.uniques IS 'At commit';

--- unique, nulls not distinct (15+)
CREATE TABLE every.nulls_once (a integer UNIQUE NULLS NOT DISTINCT, b integer);
CREATE UNIQUE INDEX nulls_once_b ON every.nulls_once (b) NULLS NOT DISTINCT;
INSERT INTO every.nulls_once VALUES (NULL, NULL), (1, 1);

--- foreign keys
CREATE TABLE every.refers (a integer REFERENCES every.plain MATCH FULL ON UPDATE CASCADE ON DELETE SET DEFAULT DEFERRABLE, self integer PRIMARY KEY REFERENCES every.refers DEFERRABLE INITIALLY DEFERRED, late integer);
INSERT INTO every.refers VALUES (1, 1, 999), (2, 2, 1);
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE every.refers ADD CONSTRAINT "not valid" FOREIGN KEY (late) REFERENCES every.plain NOT VALID;
COMMENT ON CONSTRAINT "not valid" ON every.refers IS 'One row breaks it';

--- foreign keys in a circle
CREATE TABLE every.hen (id integer PRIMARY KEY, egg integer);
CREATE TABLE every.egg (id integer PRIMARY KEY, hen integer REFERENCES every.hen);
INSERT INTO every.hen VALUES (1, 1);
INSERT INTO every.egg VALUES (1, 1);
ALTER TABLE every.hen ADD FOREIGN KEY (egg) REFERENCES every.egg;

--- foreign key that sets some columns null (15+)
CREATE TABLE every.two_columns (a integer, b integer, PRIMARY KEY (a, b));
CREATE TABLE every.sets_one (a integer, b integer, FOREIGN KEY (a, b) REFERENCES every.two_columns ON DELETE SET NULL (b));

--- exclusion constraint
CREATE TABLE every.excluded (during tsrange, room int4range, EXCLUDE USING gist (during WITH &&, room WITH &&) WHERE (NOT isempty(during)) DEFERRABLE);
INSERT INTO every.excluded VALUES ('[2025-01-01,2025-01-02)', '[1,2)'), ('[2025-01-02,2025-01-03)', '[1,2)');

--- indexes of every access method
CREATE INDEX plain_expression ON every.plain (lower(words) COLLATE "C" text_pattern_ops DESC NULLS LAST, (id % 7)) INCLUDE (n) WITH (fillfactor = 77, deduplicate_items = off) WHERE id > 3;
CREATE INDEX plain_hash ON every.plain USING hash (words);
CREATE INDEX plain_gin ON every.plain USING gin (to_tsvector('pg_catalog.simple', words)) WITH (fastupdate = off);
CREATE INDEX plain_gist ON every.plain USING gist (int4range(0, id)) WITH (buffering = on);
CREATE INDEX plain_spgist ON every.plain USING spgist (words);
CREATE INDEX plain_brin ON every.plain USING brin (at, id int4_minmax_ops) WITH (pages_per_range = 8, autosummarize = on);
ALTER INDEX every.plain_expression ALTER COLUMN 2 SET STATISTICS 300;
COMMENT ON INDEX every.plain_hash IS 'Only for equality';

--- operator class with parameters
CREATE TABLE every.searched (words tsvector, at timestamptz);
CREATE INDEX searched_words ON every.searched USING gist (words tsvector_ops (siglen = 100));

--- brin operator classes with parameters (14+)
CREATE INDEX searched_at ON every.searched USING brin (at timestamptz_minmax_multi_ops (values_per_range = 16));

--- clustered table
CREATE TABLE every.clustered (id integer CONSTRAINT clustered_id PRIMARY KEY);
INSERT INTO every.clustered VALUES (2), (1);
ALTER TABLE every.clustered CLUSTER ON clustered_id;

--- replica identity of each kind
CREATE TABLE every.identity_full (a integer);
ALTER TABLE every.identity_full REPLICA IDENTITY FULL;
CREATE TABLE every.identity_nothing (a integer PRIMARY KEY);
ALTER TABLE every.identity_nothing REPLICA IDENTITY NOTHING;
CREATE TABLE every.identity_index (a integer PRIMARY KEY, b integer NOT NULL UNIQUE);
ALTER TABLE every.identity_index REPLICA IDENTITY USING INDEX identity_index_b_key;

--- storage, statistics targets, options
CREATE TABLE every.stored (a text, b bytea, c jsonb, d text, e integer) WITH (fillfactor = 33, autovacuum_enabled = off, toast.autovacuum_freeze_max_age = 1000000, toast_tuple_target = 200, user_catalog_table = true);
ALTER TABLE every.stored ALTER a SET STORAGE PLAIN, ALTER b SET STORAGE EXTERNAL, ALTER c SET STORAGE MAIN, ALTER d SET STATISTICS 0, ALTER e SET STATISTICS 10000, ALTER e SET (n_distinct = -0.5, n_distinct_inherited = 3);
INSERT INTO every.stored VALUES ('a', '\x00ff', '{"a": [1, null]}', repeat('d', 9000), 1);

--- compression by pglz (14+)
ALTER TABLE every.stored ALTER d SET COMPRESSION pglz;

--- compression by lz4 (14+)
CREATE TABLE every.compressed (a text COMPRESSION lz4, b text COMPRESSION pglz);
INSERT INTO every.compressed VALUES (repeat('lz4 ', 3000), repeat('pglz ', 3000));

--- extended statistics
CREATE STATISTICS every.of_three ON id, words, n FROM every.plain;
CREATE STATISTICS "Every Other".of_two (mcv, ndistinct) ON id, n FROM every.plain;
ALTER STATISTICS every.of_three SET STATISTICS 77;
ALTER STATISTICS every.of_three OWNER TO @{owner};
COMMENT ON STATISTICS every.of_three IS 'All kinds';

--- extended statistics on expressions (14+)
CREATE STATISTICS every.of_expression ON (lower(words)), id, (n * 2) FROM every.plain;
CREATE STATISTICS every.of_one_expression ON (n + 1) FROM every.plain;

--- access method for tables
CREATE ACCESS METHOD every_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE every.another_heap (a integer) USING every_heap;
CREATE MATERIALIZED VIEW every.another_heap_view USING every_heap AS SELECT 1 AS one;
INSERT INTO every.another_heap VALUES (1);
COMMENT ON ACCESS METHOD every_heap IS 'heap by another name';

--- access method of a partitioned table (17+)
CREATE TABLE every.another_heap_parted (a integer) PARTITION BY LIST (a) USING every_heap;
CREATE TABLE every.another_heap_part PARTITION OF every.another_heap_parted DEFAULT;

--- access method for indexes
CREATE ACCESS METHOD every_gist TYPE INDEX HANDLER gisthandler;
CREATE OPERATOR CLASS every.every_box_ops DEFAULT FOR TYPE box USING every_gist AS
    OPERATOR 3 &&, OPERATOR 7 @>, OPERATOR 8 <@,
    FUNCTION 1 gist_box_consistent(internal, box, smallint, oid, internal), FUNCTION 2 gist_box_union(internal, internal),
    FUNCTION 5 gist_box_penalty(internal, internal, internal), FUNCTION 6 gist_box_picksplit(internal, internal), FUNCTION 7 gist_box_same(box, box, internal);
CREATE TABLE every.boxed (b box);
INSERT INTO every.boxed SELECT box(point(i, i), point(i + 1, i + 1)) FROM generate_series(1, 50) AS i;
CREATE INDEX boxed_index ON every.boxed USING every_gist (b);

--- tablespace
CREATE TABLE every.elsewhere (a integer CONSTRAINT elsewhere_key PRIMARY KEY USING INDEX TABLESPACE @{space}) TABLESPACE @{space};
CREATE INDEX elsewhere_index ON every.elsewhere ((a + 1)) TABLESPACE @{space};
CREATE MATERIALIZED VIEW every.elsewhere_view TABLESPACE @{space} AS SELECT 1 AS one;
INSERT INTO every.elsewhere VALUES (1);
COMMENT ON TABLESPACE @{space} IS 'Another directory';
GRANT CREATE ON TABLESPACE @{space} TO @{owner};

--- large objects
SELECT lo_from_bytea(760001, '\x0001feff'), lo_from_bytea(760002, '');
ALTER LARGE OBJECT 760001 OWNER TO @{owner};
GRANT SELECT ON LARGE OBJECT 760001 TO @{reader} WITH GRANT OPTION;
COMMENT ON LARGE OBJECT 760001 IS 'Four bytes';
COMMENT ON LARGE OBJECT 760002 IS 'None';
