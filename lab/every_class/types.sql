--- schemas
CREATE SCHEMA every AUTHORIZATION @{owner};
CREATE SCHEMA "Every Other" AUTHORIZATION @{owner};
COMMENT ON SCHEMA every IS 'One of each';
GRANT USAGE ON SCHEMA every TO @{reader} WITH GRANT OPTION;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
COMMENT ON SCHEMA public IS 'No longer what initdb made';

--- shell type
CREATE TYPE every.shell_only;

--- base type, C and internal functions
CREATE TYPE every.number;
CREATE FUNCTION every.number_in(cstring) RETURNS every.number LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'int4in';
CREATE FUNCTION every.number_out(every.number) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'int4out';
CREATE FUNCTION every.number_recv(internal) RETURNS every.number LANGUAGE internal IMMUTABLE STRICT AS 'int4recv';
CREATE FUNCTION every.number_send(every.number) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'int4send';
CREATE TYPE every.number (INPUT = every.number_in, OUTPUT = every.number_out, RECEIVE = every.number_recv, SEND = every.number_send,
    LIKE = integer, CATEGORY = 'U', DEFAULT = '7', DELIMITER = ';');
CREATE FUNCTION every.c_function(oid) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_validator';
COMMENT ON TYPE every.number IS 'An integer in disguise';
COMMENT ON FUNCTION every.c_function(oid) IS 'Written in C';

--- enumerated type
CREATE TYPE every.mood AS ENUM ('sad', 'it''s ok', 'froh ☺');
ALTER TYPE every.mood ADD VALUE 'so-so' AFTER 'sad';
COMMENT ON TYPE every.mood IS 'One of four';

--- empty enumerated type
CREATE TYPE every.no_mood AS ENUM ();

--- composite type
CREATE TYPE every.pair AS (a integer, "B c" text COLLATE "C", gone integer, mood every.mood);
ALTER TYPE every.pair DROP ATTRIBUTE gone;
COMMENT ON COLUMN every.pair.a IS 'The first';
GRANT USAGE ON TYPE every.pair TO @{reader};

--- domain with several constraints
CREATE DOMAIN every.percent AS numeric(5, 2) DEFAULT 0
    CONSTRAINT not_negative CHECK (VALUE >= 0) CONSTRAINT "at most 100" CHECK (VALUE <= 100);
ALTER DOMAIN every.percent ADD CONSTRAINT later CHECK (VALUE <> 13) NOT VALID;
CREATE DOMAIN every.percents AS every.percent[] NOT NULL CHECK (cardinality(VALUE) < 10);
COMMENT ON DOMAIN every.percent IS 'From 0 to 100';
COMMENT ON CONSTRAINT not_negative ON DOMAIN every.percent IS 'Zero is allowed';
GRANT USAGE ON DOMAIN every.percent TO @{reader};

--- domain with a named not-null constraint (17+)
CREATE DOMAIN every.never_null AS text CONSTRAINT "must be there" NOT NULL;

--- range type
CREATE FUNCTION every.seconds_between(time, time) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT extract(epoch FROM $1 - $2)::float8';
CREATE TYPE every.time_range AS RANGE (SUBTYPE = time, SUBTYPE_DIFF = every.seconds_between);
CREATE TYPE every.text_range AS RANGE (SUBTYPE = text, COLLATION = "C", SUBTYPE_OPCLASS = text_pattern_ops);
COMMENT ON TYPE every.time_range IS 'Opening hours';

--- range type with a canonical function
CREATE TYPE every.whole_range;
CREATE FUNCTION every.whole_canonical(every.whole_range) RETURNS every.whole_range LANGUAGE internal IMMUTABLE STRICT AS 'int4range_canonical';
CREATE TYPE every.whole_range AS RANGE (SUBTYPE = integer, CANONICAL = every.whole_canonical, SUBTYPE_DIFF = int4range_subdiff);

--- multirange type with a name of its own (14+)
CREATE TYPE every.span AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi, MULTIRANGE_TYPE_NAME = every.spans);
COMMENT ON TYPE every.spans IS 'Several';

--- collation of libc
CREATE COLLATION every.plain (PROVIDER = libc, LOCALE = 'C');
CREATE COLLATION every.copied FROM "POSIX";
COMMENT ON COLLATION every.plain IS 'By bytes';

--- collation of ICU
CREATE COLLATION every.phone_book (PROVIDER = icu, LOCALE = 'de-u-co-phonebk');
CREATE COLLATION every.any_case (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false);
CREATE TABLE every.collated (a text COLLATE every.phone_book, b text COLLATE every.any_case UNIQUE);
INSERT INTO every.collated VALUES ('Ärger', 'One'), ('Arm', 'Two');

--- collation of ICU with rules (16+)
CREATE COLLATION every.with_rules (PROVIDER = icu, LOCALE = 'und', RULES = '&V << w <<< W');

--- builtin collation (17+)
CREATE COLLATION every.builtin (PROVIDER = builtin, LOCALE = 'C.UTF-8');

--- conversion
CREATE CONVERSION every.latin1_to_utf8 FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE DEFAULT CONVERSION every.latin9_to_utf8 FOR 'LATIN9' TO 'UTF8' FROM iso8859_to_utf8;
COMMENT ON CONVERSION every.latin1_to_utf8 IS 'From the last century';

--- table of own types
CREATE TABLE every.typed_values (id integer PRIMARY KEY, n every.number, ns every.number[], mood every.mood, pairs every.pair[],
    part every.percent, parts every.percents, hours every.time_range, whole every.whole_range, words text COLLATE every.plain);
INSERT INTO every.typed_values VALUES (1, '42', '{1;2}', 'froh ☺', ARRAY[ROW(1, 'x,"y"', 'sad')::every.pair], 99.5, '{1,NULL}', '[08:00,12:00)', '(1,5]', 'é'),
    (2, DEFAULT, NULL, NULL, '{}', 13.5, '{}', 'empty', NULL, '');
