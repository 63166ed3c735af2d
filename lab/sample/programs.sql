--- functions, a procedure and an aggregate
SET ROLE @{owner};
CREATE FUNCTION shop.order_total(order_no bigint, OUT net numeric, OUT lines integer) LANGUAGE sql STABLE
    AS $$ SELECT sum(l.net * l.quantity), count(*)::integer FROM shop.order_line AS l WHERE l.order_no = $1 $$;
CREATE FUNCTION shop.customers_in(city text, VARIADIC states shop.customer_status[] DEFAULT '{active}') RETURNS SETOF shop.customer
    LANGUAGE plpgsql STABLE ROWS 50 COST 200 SECURITY DEFINER SET search_path = shop, pg_temp SET work_mem = '8MB' AS $body$
BEGIN
    -- unqualified on purpose: the function's own search_path finds the table
    RETURN QUERY SELECT * FROM customer AS c WHERE (c.home).city = customers_in.city AND c.status = ANY (states);
END $body$;
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.joined := coalesce(NEW.joined, OLD.joined);
    NEW.preferences := NEW.preferences || '{"touched": true}';
    RETURN NEW;
END $$;
CREATE FUNCTION analytics.note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO analytics.audit (what, row_before) VALUES (TG_OP || ' ' || TG_TABLE_NAME, to_jsonb(OLD));
    RETURN NULL;
END $$;
CREATE PROCEDURE shop.close_orders(before timestamptz, INOUT closed integer DEFAULT 0) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shop."Order" SET state = 'returned', "to" = now() WHERE state = 'open' AND "from" < before;
    GET DIAGNOSTICS closed = ROW_COUNT;
END $$;
CREATE FUNCTION shop."Prüf ""Ziffer"""(number text) RETURNS integer LANGUAGE sql IMMUTABLE
    AS 'SELECT sum(ascii(c))::integer % 10 FROM regexp_split_to_table(number, '''') AS c';
CREATE AGGREGATE shop.product_of(numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = '1', COMBINEFUNC = numeric_mul, PARALLEL = SAFE);
COMMENT ON PROCEDURE shop.close_orders(timestamptz, integer) IS 'Nightly';
COMMENT ON AGGREGATE shop.product_of(numeric) IS 'Like sum, but times';
RESET ROLE;

--- triggers
CREATE TRIGGER touch BEFORE UPDATE OF email, name ON shop.customer FOR EACH ROW WHEN (OLD.email IS DISTINCT FROM NEW.email) EXECUTE FUNCTION shop.touch();
CREATE TRIGGER "note change" AFTER UPDATE OR DELETE ON shop."Order" FOR EACH ROW EXECUTE FUNCTION analytics.note_change();
CREATE TRIGGER note_change AFTER DELETE ON logistics.tracking FOR EACH ROW EXECUTE FUNCTION analytics.note_change();
CREATE CONSTRAINT TRIGGER note_late AFTER DELETE ON billing.payment DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION analytics.note_change();
CREATE TRIGGER off_duty AFTER DELETE ON shop.product FOR EACH ROW EXECUTE FUNCTION analytics.note_change();
ALTER TABLE shop.product DISABLE TRIGGER off_duty;
COMMENT ON TRIGGER "note change" ON shop."Order" IS 'For the auditors';

--- views
SET ROLE @{owner};
CREATE VIEW shop.open_order AS SELECT o."Order No", o."from", c.name, c.email FROM shop."Order" AS o JOIN shop.customer AS c ON c.id = o.customer WHERE o.state = 'open';
CREATE VIEW shop.my_customer WITH (security_barrier) AS SELECT id, name, email, status FROM shop.customer WHERE tenant = 1 WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW shop.category_path (id, path) AS
    SELECT id, ARRAY[name] FROM shop.category WHERE parent IS NULL
    UNION ALL SELECT c.id, p.path || c.name FROM shop.category AS c JOIN category_path AS p ON p.id = c.parent;
ALTER VIEW shop.my_customer ALTER COLUMN status SET DEFAULT 'active';
COMMENT ON VIEW shop.open_order IS 'What is left to do';
COMMENT ON COLUMN shop.open_order.name IS 'The customer''s';
RESET ROLE;

--- a view upon another owner's tables
GRANT USAGE ON SCHEMA logistics TO @{admin};
GRANT SELECT ON logistics.warehouse, logistics.stock TO @{admin};
CREATE VIEW "Lager & Größe"."Große Sicht" AS SELECT w.name AS "Lager", sum(s.pieces) AS "Stück" FROM logistics.warehouse AS w JOIN logistics.stock AS s ON s.warehouse = w.id GROUP BY w.id, w.name;
ALTER VIEW "Lager & Größe"."Große Sicht" OWNER TO @{admin};

--- materialized views, one upon the other, and one never filled
SET ROLE @{owner};
CREATE MATERIALIZED VIEW analytics.sales_by_day AS SELECT ("from" AT TIME ZONE 'UTC')::date AS day, count(*) AS orders, sum(total::numeric) AS total FROM shop."Order" GROUP BY 1;
CREATE UNIQUE INDEX sales_by_day_key ON analytics.sales_by_day (day);
CREATE MATERIALIZED VIEW analytics."Sales by month" WITH (fillfactor = 95) AS SELECT date_trunc('month', day::timestamp)::date AS month, sum(total) AS total FROM analytics.sales_by_day GROUP BY 1;
CREATE MATERIALIZED VIEW analytics.a_first_by_name AS SELECT count(*) AS months FROM analytics."Sales by month";
CREATE MATERIALIZED VIEW analytics.not_yet AS SELECT count(*) AS views FROM analytics.page_view WITH NO DATA;
COMMENT ON MATERIALIZED VIEW analytics.sales_by_day IS 'Refreshed at night';
RESET ROLE;

--- rules
SET ROLE @{owner};
CREATE RULE insert_my_customer AS ON INSERT TO shop.open_order DO INSTEAD NOTHING;
CREATE RULE "log deletes" AS ON DELETE TO shop.review DO ALSO INSERT INTO analytics.audit (what) VALUES ('review ' || OLD.product);
COMMENT ON RULE "log deletes" ON shop.review IS 'Before there were triggers';
RESET ROLE;

--- row level security
ALTER TABLE shop.customer ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_tenant ON shop.customer FOR ALL TO @{app} USING (tenant = current_setting('shop.tenant', true)::smallint);
CREATE POLICY "readers see the active" ON shop.customer FOR SELECT TO @{readers} USING (status IN ('active', 'vip'));
CREATE POLICY no_big_credit ON shop.customer AS RESTRICTIVE FOR UPDATE TO PUBLIC USING (true) WITH CHECK (credit < 100000);
ALTER TABLE billing.internal_note ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON billing.internal_note USING (author = CURRENT_USER);
COMMENT ON POLICY by_tenant ON shop.customer IS 'One tenant sees one tenant';
