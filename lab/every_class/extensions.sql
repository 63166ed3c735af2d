--- hstore: column and index
CREATE TABLE every.of_hstore (id integer PRIMARY KEY, h extensions.hstore DEFAULT 'a=>1');
INSERT INTO every.of_hstore VALUES (1, 'a=>NULL, "b c"=>"it''s"'), (2, DEFAULT);
CREATE INDEX of_hstore_h ON every.of_hstore USING gin (h);
COMMENT ON EXTENSION hstore IS 'A comment of our own';

--- citext: column and unique constraint
CREATE TABLE every.of_citext (words extensions.citext PRIMARY KEY);
INSERT INTO every.of_citext VALUES ('Straße'), ('other');

--- pg_trgm: operator classes
CREATE INDEX plain_trgm ON every.plain USING gin (words extensions.gin_trgm_ops);
CREATE INDEX plain_trgm_gist ON every.plain USING gist (words extensions.gist_trgm_ops);

--- btree_gist: exclusion constraint
CREATE TABLE every.of_btree_gist (room integer, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&));
INSERT INTO every.of_btree_gist VALUES (1, '[2025-01-01,2025-01-02)'), (2, '[2025-01-01,2025-01-02)');

--- btree_gin: index
CREATE INDEX plain_btree_gin ON every.plain USING gin (id, at);

--- ltree: column and index
CREATE TABLE every.of_ltree (path extensions.ltree, many extensions.ltree[]);
INSERT INTO every.of_ltree VALUES ('a.b.c', '{a,b.c}');
CREATE INDEX of_ltree_path ON every.of_ltree USING gist (path);

--- intarray: index
CREATE TABLE every.of_intarray (a integer[]);
INSERT INTO every.of_intarray VALUES ('{1,2,3}');
CREATE INDEX of_intarray_a ON every.of_intarray USING gin (a extensions.gin__int_ops);

--- cube and earthdistance: columns and domain
CREATE TABLE every.of_cube (c extensions.cube, e extensions.earth);
INSERT INTO every.of_cube VALUES ('(1,2),(3,4)', '(6378168,0,0)');
CREATE INDEX of_cube_c ON every.of_cube USING gist (c);

--- isn and seg: columns
CREATE TABLE every.of_isn (book extensions.isbn13, about extensions.seg);
INSERT INTO every.of_isn VALUES ('978-0-393-04002-9', '1.5 .. 2.5');

--- vector: column
CREATE TABLE every.of_vector (v extensions.vector(3));
INSERT INTO every.of_vector VALUES ('[1,2,3]');

--- uuid-ossp: default
CREATE TABLE every.of_uuid (id uuid DEFAULT extensions.uuid_generate_v4(), words text);
INSERT INTO every.of_uuid VALUES ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'x');

--- bloom: access method of an extension
CREATE INDEX plain_bloom ON every.plain USING bloom (id, words) WITH (length = 80, col1 = 2);

--- unaccent: text search configuration
CREATE TEXT SEARCH CONFIGURATION every.without_accents (COPY = pg_catalog.simple);
ALTER TEXT SEARCH CONFIGURATION every.without_accents ALTER MAPPING FOR hword, word WITH extensions.unaccent, simple;

--- tcn: trigger function of an extension
CREATE TRIGGER notify AFTER INSERT ON every.triggered FOR EACH ROW EXECUTE FUNCTION extensions.triggered_change_notification();

--- moddatetime: trigger with arguments
CREATE TRIGGER moddatetime BEFORE UPDATE ON every.plain FOR EACH ROW EXECUTE FUNCTION extensions.moddatetime('at');

--- privileges on an extension's function
REVOKE EXECUTE ON FUNCTION extensions.similarity(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION extensions.similarity(text, text) TO @{reader};

--- function that depends on an extension
CREATE FUNCTION every.on_trgm(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
ALTER FUNCTION every.on_trgm(text) DEPENDS ON EXTENSION pg_trgm;

--- file_fdw: foreign table, foreign partition
CREATE SERVER every_files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE every.echo (a integer, b text) SERVER every_files OPTIONS (program 'echo 1,echo', format 'csv');
CREATE TABLE every.partly_far (a integer, b text) PARTITION BY LIST (b);
CREATE TABLE every.partly_far_here PARTITION OF every.partly_far FOR VALUES IN ('here');
CREATE FOREIGN TABLE every.partly_far_echo PARTITION OF every.partly_far FOR VALUES IN ('echo') SERVER every_files OPTIONS (program 'echo 1,echo', format 'csv');
INSERT INTO every.partly_far VALUES (1, 'here');

--- postgres_fdw: server and foreign table
CREATE SERVER every_postgres FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere.invalid', dbname 'x', use_remote_estimate 'true');
CREATE USER MAPPING FOR @{owner} SERVER every_postgres OPTIONS (user 'x', password 'mapped secret');
CREATE FOREIGN TABLE every.over_there (id integer) SERVER every_postgres OPTIONS (schema_name 'public', table_name 'x');

--- plperl: function
CREATE FUNCTION every.in_perl() RETURNS text LANGUAGE plperl AS 'return "perl";';

--- plpython3u: function
CREATE FUNCTION every.in_python() RETURNS text LANGUAGE plpython3u AS 'return "python"';

--- pltcl: function
CREATE FUNCTION every.in_tcl() RETURNS text LANGUAGE pltcl AS 'return "tcl"';
