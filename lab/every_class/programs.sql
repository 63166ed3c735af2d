--- procedural language
CREATE FUNCTION every.call_handler() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION every.inline_handler(internal) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_inline_handler';
CREATE FUNCTION every.validator(oid) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE TRUSTED LANGUAGE another_plpgsql HANDLER every.call_handler INLINE every.inline_handler VALIDATOR every.validator;
COMMENT ON LANGUAGE another_plpgsql IS 'plpgsql by another name';
GRANT USAGE ON LANGUAGE another_plpgsql TO @{reader} WITH GRANT OPTION;
CREATE FUNCTION every.in_another(i integer) RETURNS integer LANGUAGE another_plpgsql AS 'BEGIN RETURN i + 1; END';

--- functions
CREATE FUNCTION every.many_faces(INOUT a integer, VARIADIC rest text[] DEFAULT ARRAY['x', NULL], OUT c text) RETURNS SETOF record
    LANGUAGE plpgsql STABLE STRICT LEAKPROOF PARALLEL RESTRICTED COST 7 ROWS 3 SECURITY DEFINER
    SET search_path = every, "Every Other" SET "my.setting" = 'it''s' SET timezone FROM CURRENT AS $dollar$
BEGIN c := $$quoted \ twice$$; RETURN NEXT; END $dollar$;
CREATE FUNCTION every.as_table(n anyelement) RETURNS TABLE (twice anyarray, "Once" anyelement) LANGUAGE sql IMMUTABLE AS 'SELECT ARRAY[n, n], n';
CREATE FUNCTION every.row_number_too() RETURNS bigint LANGUAGE internal WINDOW IMMUTABLE AS 'window_row_number';
COMMENT ON FUNCTION every.row_number_too() IS 'A window function';
REVOKE EXECUTE ON FUNCTION every.as_table(anyelement) FROM PUBLIC;

--- function with a support function
CREATE FUNCTION every.like_too(text, text) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT SUPPORT textlike_support AS 'textlike';

--- procedure
CREATE PROCEDURE every.proceed(INOUT n integer DEFAULT 1) LANGUAGE plpgsql AS 'BEGIN n := n + 1; COMMIT; END';
COMMENT ON PROCEDURE every.proceed(integer) IS 'It commits';
GRANT EXECUTE ON PROCEDURE every.proceed(integer) TO @{reader};

--- procedure with OUT parameter (14+)
CREATE PROCEDURE every.give(a integer, OUT b integer) LANGUAGE sql AS 'SELECT $1 * 2';

--- SQL body, BEGIN ATOMIC (14+)
CREATE FUNCTION every.atomic(n integer) RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT atomic.n; SELECT count(*) + atomic.n FROM every.typed_values; END;
CREATE FUNCTION every.returning(n integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN n + 1;

--- SQL body with MERGE (15+)
CREATE PROCEDURE every.merge_in(n integer) LANGUAGE sql BEGIN ATOMIC
    MERGE INTO every.typed_values AS t USING (SELECT merge_in.n AS id) AS s ON t.id = s.id
        WHEN MATCHED AND t.part IS NULL THEN DELETE
        WHEN MATCHED THEN UPDATE SET words = 'merged'
        WHEN NOT MATCHED THEN INSERT (id, parts) VALUES (s.id, '{}');
END;

--- SQL body with MERGE ... RETURNING (17+)
CREATE FUNCTION every.merge_out(n integer) RETURNS TABLE (action text, id integer) LANGUAGE sql BEGIN ATOMIC
    MERGE INTO every.typed_values AS t USING (SELECT merge_out.n AS id) AS s ON t.id = s.id
        WHEN NOT MATCHED BY SOURCE THEN DO NOTHING
        WHEN MATCHED THEN UPDATE SET words = 'merged' RETURNING merge_action(), t.id;
END;

--- SQL body with RETURNING OLD and NEW (18+)
CREATE FUNCTION every.before_and_after() RETURNS TABLE (b text, a text) LANGUAGE sql BEGIN ATOMIC
    UPDATE every.typed_values SET words = upper(words) RETURNING WITH (OLD AS o, NEW AS n) o.words, n.words; END;

--- aggregate with serialization
CREATE AGGREGATE every.mean(numeric) (SFUNC = numeric_avg_accum, STYPE = internal, SSPACE = 128, FINALFUNC = numeric_avg,
    COMBINEFUNC = numeric_avg_combine, SERIALFUNC = numeric_avg_serialize, DESERIALFUNC = numeric_avg_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE every.mean(numeric) IS 'In parallel';

--- aggregate in moving windows
CREATE AGGREGATE every.moving_sum(float8) (SFUNC = float8pl, STYPE = float8, INITCOND = '0',
    MSFUNC = float8pl, MINVFUNC = float8mi, MSTYPE = float8, MINITCOND = '0');

--- aggregate over an ordered set
CREATE AGGREGATE every.percentile(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal,
    FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA, FINALFUNC_MODIFY = READ_WRITE);
COMMENT ON AGGREGATE every.percentile(float8 ORDER BY anyelement) IS 'Ordered';

--- aggregate, hypothetical and variadic
CREATE AGGREGATE every.rank_if(VARIADIC "any" ORDER BY VARIADIC "any") (SFUNC = ordered_set_transition_multi, STYPE = internal,
    FINALFUNC = rank_final, FINALFUNC_EXTRA, HYPOTHETICAL);

--- aggregate that an index can answer
CREATE AGGREGATE every.least_of(integer) (SFUNC = int4smaller, STYPE = integer, SORTOP = OPERATOR(pg_catalog.<));
GRANT EXECUTE ON FUNCTION every.least_of(integer) TO @{reader};

--- casts
CREATE CAST (every.number AS integer) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (integer AS every.number) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (every.number AS text) WITH INOUT;
CREATE FUNCTION every.mood_of(every.number) RETURNS every.mood LANGUAGE sql IMMUTABLE AS $$ SELECT 'sad'::every.mood $$;
CREATE CAST (every.number AS every.mood) WITH FUNCTION every.mood_of(every.number) AS ASSIGNMENT;
COMMENT ON CAST (every.number AS integer) IS 'Costs nothing';

--- operators
CREATE FUNCTION every.number_eq(every.number, every.number) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4eq';
CREATE FUNCTION every.number_ne(every.number, every.number) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4ne';
CREATE FUNCTION every.number_lt(every.number, every.number) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4lt';
CREATE FUNCTION every.number_le(every.number, every.number) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4le';
CREATE FUNCTION every.number_gt(every.number, every.number) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4gt';
CREATE FUNCTION every.number_ge(every.number, every.number) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4ge';
CREATE FUNCTION every.number_cmp(every.number, every.number) RETURNS integer LANGUAGE internal IMMUTABLE STRICT AS 'btint4cmp';
CREATE FUNCTION every.number_hash(every.number) RETURNS integer LANGUAGE internal IMMUTABLE STRICT AS 'hashint4';
CREATE FUNCTION every.number_minus(every.number) RETURNS every.number LANGUAGE internal IMMUTABLE STRICT AS 'int4um';
CREATE OPERATOR every.= (FUNCTION = every.number_eq, LEFTARG = every.number, RIGHTARG = every.number, COMMUTATOR = OPERATOR(every.=),
    NEGATOR = OPERATOR(every.<>), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES);
CREATE OPERATOR every.<> (FUNCTION = every.number_ne, LEFTARG = every.number, RIGHTARG = every.number, COMMUTATOR = OPERATOR(every.<>), NEGATOR = OPERATOR(every.=));
CREATE OPERATOR every.< (FUNCTION = every.number_lt, LEFTARG = every.number, RIGHTARG = every.number, COMMUTATOR = OPERATOR(every.>), NEGATOR = OPERATOR(every.>=), RESTRICT = scalarltsel);
CREATE OPERATOR every.<= (FUNCTION = every.number_le, LEFTARG = every.number, RIGHTARG = every.number);
CREATE OPERATOR every.> (FUNCTION = every.number_gt, LEFTARG = every.number, RIGHTARG = every.number, COMMUTATOR = OPERATOR(every.<));
CREATE OPERATOR every.>= (FUNCTION = every.number_ge, LEFTARG = every.number, RIGHTARG = every.number, NEGATOR = OPERATOR(every.<));
CREATE OPERATOR every.-|- (FUNCTION = every.number_minus, RIGHTARG = every.number);
COMMENT ON OPERATOR every.= (every.number, every.number) IS 'As integers are';
COMMENT ON OPERATOR every.-|- (NONE, every.number) IS 'A prefix';

--- operator families and classes
CREATE OPERATOR FAMILY every.number_family USING btree;
CREATE OPERATOR CLASS every.number_ops DEFAULT FOR TYPE every.number USING btree FAMILY every.number_family AS
    OPERATOR 1 every.<, OPERATOR 2 every.<=, OPERATOR 3 every.=, OPERATOR 4 every.>=, OPERATOR 5 every.>, FUNCTION 1 every.number_cmp(every.number, every.number);
CREATE OPERATOR CLASS every.number_hash_ops DEFAULT FOR TYPE every.number USING hash AS OPERATOR 1 every.=, FUNCTION 1 every.number_hash(every.number);
CREATE FUNCTION every.number_int_cmp(every.number, integer) RETURNS integer LANGUAGE internal IMMUTABLE STRICT AS 'btint4cmp';
CREATE FUNCTION every.number_int_lt(every.number, integer) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'int4lt';
CREATE OPERATOR every.< (FUNCTION = every.number_int_lt, LEFTARG = every.number, RIGHTARG = integer);
ALTER OPERATOR FAMILY every.number_family USING btree ADD OPERATOR 1 every.< (every.number, integer), FUNCTION 1 every.number_int_cmp(every.number, integer);
CREATE OPERATOR FAMILY every.empty_family USING gist;
COMMENT ON OPERATOR FAMILY every.number_family USING btree IS 'Numbers and integers';
COMMENT ON OPERATOR CLASS every.number_ops USING btree IS 'From low to high';
CREATE UNIQUE INDEX number_key ON every.typed_values (n);
CREATE INDEX number_hash ON every.typed_values USING hash (n);

--- operator class with a storage type
CREATE OPERATOR CLASS every.strange_array_ops FOR TYPE every.number[] USING gin AS STORAGE every.number;

--- transform
CREATE FUNCTION every.number_from_sql(internal) RETURNS internal LANGUAGE internal IMMUTABLE STRICT AS 'prsd_lextype';
CREATE TRANSFORM FOR every.number LANGUAGE plpgsql (FROM SQL WITH FUNCTION every.number_from_sql(internal), TO SQL WITH FUNCTION every.number_recv(internal));
CREATE TRANSFORM FOR every.number LANGUAGE sql (FROM SQL WITH FUNCTION every.number_from_sql(internal));
COMMENT ON TRANSFORM FOR every.number LANGUAGE plpgsql IS 'Never used';

--- text search
CREATE TEXT SEARCH PARSER every.own_parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
CREATE TEXT SEARCH TEMPLATE every.own_template (INIT = dsimple_init, LEXIZE = dsimple_lexize);
CREATE TEXT SEARCH DICTIONARY every.own_dictionary (TEMPLATE = every.own_template, ACCEPT = false);
CREATE TEXT SEARCH CONFIGURATION every.own_search (PARSER = every.own_parser);
ALTER TEXT SEARCH CONFIGURATION every.own_search ADD MAPPING FOR asciiword, word WITH every.own_dictionary, pg_catalog.simple;
CREATE TEXT SEARCH CONFIGURATION every."Copied Search" (COPY = pg_catalog.simple);
ALTER TEXT SEARCH DICTIONARY every.own_dictionary OWNER TO @{owner};
COMMENT ON TEXT SEARCH PARSER every.own_parser IS 'The default one';
COMMENT ON TEXT SEARCH TEMPLATE every.own_template IS 'The simple one';
COMMENT ON TEXT SEARCH DICTIONARY every.own_dictionary IS 'Knows no word';
COMMENT ON TEXT SEARCH CONFIGURATION every.own_search IS 'Finds little';

--- event triggers
CREATE FUNCTION every.on_event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER every_start ON ddl_command_start WHEN TAG IN ('CREATE VIEW', 'DROP VIEW') EXECUTE FUNCTION every.on_event();
CREATE EVENT TRIGGER "Every End" ON ddl_command_end EXECUTE FUNCTION every.on_event();
CREATE EVENT TRIGGER every_drop ON sql_drop EXECUTE FUNCTION every.on_event();
CREATE EVENT TRIGGER every_rewrite ON table_rewrite EXECUTE FUNCTION every.on_event();
ALTER EVENT TRIGGER "Every End" ENABLE ALWAYS;
ALTER EVENT TRIGGER every_drop ENABLE REPLICA;
ALTER EVENT TRIGGER every_rewrite DISABLE;
COMMENT ON EVENT TRIGGER every_start IS 'Does nothing';

--- event trigger at login (17+)
CREATE EVENT TRIGGER every_login ON login EXECUTE FUNCTION every.on_event();
