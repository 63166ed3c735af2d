--- views
CREATE VIEW every.view WITH (security_barrier = true, check_option = cascaded) AS SELECT id, words AS "Wörter" FROM every.plain WHERE id > 0;
CREATE VIEW every.needs_key AS SELECT p.id, p.words, count(*) AS n FROM every.plain AS p JOIN every.by_hash AS h USING (id) GROUP BY p.id;
CREATE RECURSIVE VIEW every.recursive (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM recursive WHERE n < 5;
CREATE VIEW every.no_columns_view AS SELECT;
CREATE VIEW every.windows AS SELECT id, rank() OVER w AS r, GROUPING(n) AS g FROM every.plain GROUP BY ROLLUP (id, n) WINDOW w AS (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES);
ALTER VIEW every.view ALTER COLUMN id SET DEFAULT 9;
COMMENT ON VIEW every.view IS 'Can be written to';
COMMENT ON COLUMN every.view."Wörter" IS 'Words';
GRANT SELECT, UPDATE ("Wörter") ON every.view TO @{reader};

--- view with SEARCH and CYCLE (14+)
CREATE VIEW every.searching AS WITH RECURSIVE t (a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM t WHERE a < 3) SEARCH DEPTH FIRST BY a SET o CYCLE a SET c USING p SELECT a, c FROM t;

--- view with the caller's rights (15+)
CREATE VIEW every.invoker WITH (security_invoker = on) AS SELECT * FROM every.plain;

--- view of JSON (16+)
CREATE VIEW every.json_view AS SELECT JSON_OBJECT('a': id, 'b': words ABSENT ON NULL) AS o, words IS JSON OBJECT AS is_json, JSON_ARRAYAGG(id) OVER (PARTITION BY id) AS a FROM every.plain;

--- view of a JSON table (17+)
CREATE VIEW every.json_table_view AS SELECT * FROM JSON_TABLE(jsonb '[{"a": 1, "b": [1, 2]}]', '$[*]' COLUMNS (n FOR ORDINALITY, a integer PATH '$.a' DEFAULT 0 ON EMPTY, NESTED PATH '$.b[*]' COLUMNS (b integer PATH '$')));
CREATE VIEW every.json_query_view AS SELECT JSON_VALUE(jsonb '{"a": 1}', '$.a' RETURNING integer) AS a, JSON_EXISTS(jsonb '{}', '$.x') AS x, JSON_QUERY(jsonb '[1]', '$[0]' WITH WRAPPER) AS q;

--- materialized views
CREATE MATERIALIZED VIEW every.materialized WITH (fillfactor = 44) AS SELECT id % 10 AS tenth, count(*) AS n FROM every.plain GROUP BY 1;
CREATE UNIQUE INDEX materialized_key ON every.materialized (tenth);
CREATE MATERIALIZED VIEW every.a_materialized AS SELECT sum(n) AS n FROM every.materialized;
CREATE MATERIALIZED VIEW every.unfilled AS SELECT 1 AS one WITH NO DATA;
ALTER MATERIALIZED VIEW every.materialized OWNER TO @{owner};
ALTER MATERIALIZED VIEW every.materialized ALTER n SET STATISTICS 50;
COMMENT ON MATERIALIZED VIEW every.materialized IS 'As of then';

--- rules
CREATE RULE first_rule AS ON UPDATE TO every.plain WHERE NEW.id < 0 DO INSTEAD NOTHING;
CREATE RULE "second rule" AS ON DELETE TO every.plain DO ALSO (NOTIFY deleted; DELETE FROM every.checked WHERE a = OLD.id);
CREATE RULE third_rule AS ON INSERT TO every.needs_key DO INSTEAD INSERT INTO every.plain VALUES (NEW.id, NEW.words) RETURNING id, words, NULL::bigint;
ALTER TABLE every.plain DISABLE RULE first_rule, ENABLE ALWAYS RULE "second rule";
COMMENT ON RULE first_rule ON every.plain IS 'Asleep';

--- triggers in each enablement
CREATE FUNCTION every.on_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN COALESCE(NEW, OLD); END';
CREATE TABLE every.triggered (id integer PRIMARY KEY, words text);
CREATE TRIGGER on_origin BEFORE INSERT OR UPDATE OF words ON every.triggered FOR EACH ROW WHEN (NEW.id > 5) EXECUTE FUNCTION every.on_change('with', 'two ''arguments''');
CREATE TRIGGER "off" AFTER DELETE ON every.triggered FOR EACH ROW EXECUTE FUNCTION every.on_change();
CREATE TRIGGER on_replica AFTER DELETE ON every.triggered FOR EACH ROW EXECUTE FUNCTION every.on_change();
CREATE TRIGGER always AFTER TRUNCATE ON every.triggered EXECUTE FUNCTION every.on_change();
CREATE TRIGGER with_tables AFTER UPDATE ON every.triggered REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION every.on_change();
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON every.triggered FROM every.plain DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION every.on_change();
ALTER TABLE every.triggered DISABLE TRIGGER "off", ENABLE REPLICA TRIGGER on_replica, ENABLE ALWAYS TRIGGER always;
INSERT INTO every.triggered VALUES (1, 'one');
CREATE TRIGGER instead INSTEAD OF INSERT ON every.view FOR EACH ROW EXECUTE FUNCTION every.on_change();
COMMENT ON TRIGGER on_origin ON every.triggered IS 'The usual kind';

--- trigger of a partitioned table, disabled in one part
CREATE TRIGGER in_parts AFTER INSERT ON every.by_range FOR EACH ROW EXECUTE FUNCTION every.on_change();
ALTER TABLE every.by_range_1 DISABLE TRIGGER in_parts;

--- policies of each command
CREATE TABLE every.guarded (id integer, owner name DEFAULT CURRENT_USER);
INSERT INTO every.guarded VALUES (1, 'nobody');
ALTER TABLE every.guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY for_all ON every.guarded USING (owner = CURRENT_USER);
CREATE POLICY for_select ON every.guarded FOR SELECT TO @{reader}, @{owner} USING (EXISTS (SELECT FROM every.plain AS p WHERE p.id = guarded.id));
CREATE POLICY for_insert ON every.guarded FOR INSERT TO CURRENT_USER WITH CHECK (id > 0);
CREATE POLICY "for update" ON every.guarded AS RESTRICTIVE FOR UPDATE USING (id > 0) WITH CHECK (id < 10);
CREATE POLICY for_delete ON every.guarded FOR DELETE USING (false);
CREATE TABLE every.guarded_by_none (id integer);
ALTER TABLE every.guarded_by_none ENABLE ROW LEVEL SECURITY;
COMMENT ON POLICY for_all ON every.guarded IS 'Everybody''s own';

--- foreign data wrapper, server, user mapping, foreign table
CREATE FOREIGN DATA WRAPPER every_wrapper OPTIONS (debug 'true', "a b" 'it''s');
CREATE SERVER "Every Server" TYPE 'kind' VERSION '1.2' FOREIGN DATA WRAPPER every_wrapper OPTIONS (host 'nowhere.invalid');
CREATE USER MAPPING FOR PUBLIC SERVER "Every Server" OPTIONS ("user" 'anybody');
CREATE USER MAPPING FOR @{owner} SERVER "Every Server" OPTIONS ("user" 'somebody', password 'mapped secret');
CREATE FOREIGN TABLE every.far_away (id integer OPTIONS (column_name 'ID') NOT NULL, words text COLLATE "C" DEFAULT 'x', CHECK (id > 0)) SERVER "Every Server" OPTIONS (schema_name 'far', table_name 'away');
ALTER FOREIGN TABLE every.far_away ALTER words SET STATISTICS 5;
GRANT USAGE ON FOREIGN DATA WRAPPER every_wrapper TO @{owner} WITH GRANT OPTION;
GRANT USAGE ON FOREIGN SERVER "Every Server" TO @{reader};
ALTER SERVER "Every Server" OWNER TO @{owner};
COMMENT ON FOREIGN DATA WRAPPER every_wrapper IS 'Wraps nothing';
COMMENT ON SERVER "Every Server" IS 'Nowhere';
COMMENT ON FOREIGN TABLE every.far_away IS 'Cannot be read';
COMMENT ON COLUMN every.far_away.id IS 'Over there';

--- publications
CREATE PUBLICATION every_empty;
CREATE PUBLICATION "Every Table" FOR ALL TABLES WITH (publish = 'insert, truncate');
CREATE PUBLICATION every_some FOR TABLE every.plain, ONLY every.parent, every.by_range WITH (publish = 'insert', publish_via_partition_root = true);
ALTER PUBLICATION every_empty OWNER TO @{owner};
COMMENT ON PUBLICATION every_some IS 'Three';

--- publication with row filter and column list (15+)
CREATE PUBLICATION every_filtered FOR TABLE every.plain (id, words) WHERE (id > 10 AND words <> 'it''s'), every.identity_index WITH (publish = 'insert');

--- publication of schemas (15+)
CREATE PUBLICATION every_schema FOR TABLES IN SCHEMA "Every Other", TABLE every.plain WITH (publish = 'insert');

--- publication of generated columns (18+)
CREATE PUBLICATION every_generated FOR TABLE every.generated WITH (publish = 'insert', publish_generated_columns = stored);

--- subscription
CREATE SUBSCRIPTION every_subscription CONNECTION 'host=nowhere.invalid dbname=x password=secret_of_subscription' PUBLICATION a, "B c" WITH (connect = false, slot_name = NONE, synchronous_commit = local);
COMMENT ON SUBSCRIPTION every_subscription IS 'Not connected';

--- subscription with options (16+)
CREATE SUBSCRIPTION "Every Option" CONNECTION 'dbname=x' PUBLICATION a WITH (connect = false, slot_name = NONE, binary = true, streaming = parallel, two_phase = true, disable_on_error = true, origin = none, run_as_owner = true, password_required = false);

--- default privileges
ALTER DEFAULT PRIVILEGES FOR ROLE @{owner} GRANT SELECT ON TABLES TO @{reader};
ALTER DEFAULT PRIVILEGES FOR ROLE @{owner} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE @{owner} REVOKE USAGE ON TYPES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE @{owner} GRANT CREATE ON SCHEMAS TO @{reader} WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE @{owner} IN SCHEMA every GRANT ALL ON SEQUENCES TO @{reader};
ALTER DEFAULT PRIVILEGES FOR ROLE @{owner} IN SCHEMA "Every Other" GRANT INSERT ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA every GRANT EXECUTE ON FUNCTIONS TO @{reader};

--- default privileges on large objects (18+)
ALTER DEFAULT PRIVILEGES FOR ROLE @{owner} GRANT SELECT ON LARGE OBJECTS TO @{reader};

--- privilege to maintain (17+)
GRANT MAINTAIN ON every.plain TO @{reader};

--- privileges on system objects
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO @{reader};
REVOKE SELECT ON pg_catalog.pg_stat_activity FROM PUBLIC;
GRANT SELECT (rolname) ON pg_catalog.pg_authid TO @{reader};

--- privileges given by another than the owner
GRANT CREATE ON SCHEMA every TO @{reader};
SET ROLE @{reader};
GRANT SELECT ON every.plain TO pg_monitor;
GRANT USAGE ON SCHEMA every TO pg_monitor;
RESET ROLE;

--- owners
ALTER FUNCTION every.in_another(integer) OWNER TO @{owner};
ALTER TYPE every.mood OWNER TO @{owner};
ALTER DOMAIN every.percent OWNER TO @{owner};
ALTER COLLATION every.plain OWNER TO @{owner};
ALTER CONVERSION every.latin1_to_utf8 OWNER TO @{owner};
ALTER OPERATOR every.= (every.number, every.number) OWNER TO @{owner};
ALTER OPERATOR FAMILY every.number_family USING btree OWNER TO @{owner};
ALTER AGGREGATE every.mean(numeric) OWNER TO @{owner};
ALTER VIEW every.view OWNER TO @{owner};
ALTER TABLE every.by_hash OWNER TO @{owner};

--- security label
SECURITY LABEL ON TABLE every.plain IS 'classified';
