--- primary keys and unique constraints
ALTER TABLE shop.customer ADD PRIMARY KEY (id);
ALTER TABLE shop.product ADD PRIMARY KEY (id) INCLUDE (name), ADD CONSTRAINT "sku is unique" UNIQUE (sku) WITH (fillfactor = 80);
ALTER TABLE shop."Order" ADD CONSTRAINT "Order PK" PRIMARY KEY ("Order No");
ALTER TABLE shop.order_line ADD PRIMARY KEY (order_no, line);
ALTER TABLE billing.invoice ADD PRIMARY KEY (id), ADD UNIQUE (number) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing.payment ADD PRIMARY KEY (id);
ALTER TABLE billing.tax_rate ADD CONSTRAINT one_rate_at_a_time EXCLUDE USING gist (valid WITH &&) WHERE (country = 'DE');
ALTER TABLE logistics.stock ADD PRIMARY KEY (warehouse, product);
ALTER TABLE logistics.shipment ADD PRIMARY KEY (id);
ALTER TABLE analytics.page_view ADD PRIMARY KEY (id, viewed, visitor);

--- indexes
CREATE UNIQUE INDEX customer_email ON shop.customer (shop.normalized(email));
CREATE INDEX customer_city ON shop.customer (shop.city_of(home)) WHERE status <> 'gelöscht';
CREATE INDEX customer_preferences ON shop.customer USING gin (preferences jsonb_path_ops);
CREATE INDEX customer_tags ON shop.customer USING gin (tags) WITH (fastupdate = off);
CREATE INDEX "Order by customer" ON shop."Order" (customer, "from" DESC NULLS LAST) INCLUDE (state);
CREATE INDEX order_line_product ON shop.order_line (product);
CREATE INDEX product_name ON shop.product (name text_pattern_ops, (net * 2) DESC);
CREATE INDEX product_available ON shop.product USING gist (available);
CREATE INDEX product_sku_hash ON shop.product USING hash (sku);
CREATE INDEX review_words ON shop.review USING gin (words);
CREATE INDEX invoice_order ON billing.invoice (order_no) WHERE amount > 10;
CREATE INDEX shipment_travel ON logistics.shipment USING spgist (travel);
CREATE INDEX tracking_at ON logistics.tracking USING brin (at) WITH (pages_per_range = 16);
CREATE INDEX tracking_shipment ON logistics.tracking (shipment);
CREATE INDEX page_view_visitor ON analytics.page_view_h1 (visitor);
ALTER INDEX shop.product_name ALTER COLUMN 2 SET STATISTICS 200;
COMMENT ON INDEX shop.customer_email IS 'Whatever the case';
COMMENT ON CONSTRAINT one_rate_at_a_time ON billing.tax_rate IS 'Rates do not overlap';

--- foreign keys
ALTER TABLE shop.product ADD FOREIGN KEY (category) REFERENCES shop.category;
ALTER TABLE shop."Order" ADD CONSTRAINT "who ordered" FOREIGN KEY (customer) REFERENCES shop.customer ON UPDATE CASCADE;
ALTER TABLE shop.order_line ADD FOREIGN KEY (order_no) REFERENCES shop."Order" ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    ADD FOREIGN KEY (product) REFERENCES shop.product;
GRANT REFERENCES ON shop."Order", shop.country TO @{billing};
ALTER TABLE billing.invoice ADD FOREIGN KEY (order_no) REFERENCES shop."Order";
ALTER TABLE billing.payment ADD FOREIGN KEY (invoice) REFERENCES billing.invoice DEFERRABLE;
ALTER TABLE billing.tax_rate ADD FOREIGN KEY (country) REFERENCES shop.country NOT VALID;
ALTER TABLE logistics.stock ADD FOREIGN KEY (warehouse) REFERENCES logistics.warehouse, ADD FOREIGN KEY (product) REFERENCES shop.product;
ALTER TABLE logistics.shipment ADD FOREIGN KEY (order_no) REFERENCES shop."Order", ADD FOREIGN KEY (warehouse) REFERENCES logistics.warehouse;
ALTER TABLE logistics.tracking ADD FOREIGN KEY (shipment) REFERENCES logistics.shipment ON DELETE CASCADE;
INSERT INTO shop.review VALUES (1, 999999999, 1, NULL, 'A customer who is not there: the constraint is not valid');
ALTER TABLE shop.review ADD CONSTRAINT review_customer FOREIGN KEY (customer) REFERENCES shop.customer NOT VALID,
    ADD CONSTRAINT long_enough CHECK (length(body) > 60) NOT VALID;

--- statistics, storage, replica identity, clustering
CREATE STATISTICS shop.order_statistics (ndistinct, dependencies) ON customer, state FROM shop."Order";
CREATE STATISTICS "Lager & Größe".customer_mcv (mcv) ON tenant, status FROM shop.customer;
ALTER STATISTICS "Lager & Größe".customer_mcv OWNER TO @{admin};
ALTER STATISTICS shop.order_statistics OWNER TO @{owner};
ALTER STATISTICS shop.order_statistics SET STATISTICS 250;
COMMENT ON STATISTICS shop.order_statistics IS 'Customers have habits';
ALTER TABLE shop."Order" ALTER customer SET STATISTICS 1000;
ALTER TABLE shop.order_line SET (autovacuum_analyze_threshold = 500, parallel_workers = 2);
ALTER TABLE shop.product REPLICA IDENTITY USING INDEX "sku is unique";
ALTER TABLE billing.journal REPLICA IDENTITY FULL;
ALTER TABLE analytics.audit REPLICA IDENTITY NOTHING;
ALTER TABLE billing.invoice CLUSTER ON invoice_pkey;
