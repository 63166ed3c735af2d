--- the application's rights
GRANT USAGE ON SCHEMA shop, logistics TO @{app};
GRANT USAGE ON SCHEMA shop, billing, logistics, analytics, "Lager & Größe" TO @{readers};
GRANT ALL ON SCHEMA analytics TO @{reporting} WITH GRANT OPTION;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop, logistics TO @{app};
GRANT SELECT ON ALL TABLES IN SCHEMA shop, logistics, analytics TO @{readers};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA shop TO @{app};
REVOKE DELETE, TRUNCATE ON shop."Order" FROM @{app};
REVOKE INSERT ON shop.country FROM @{owner};
GRANT TRIGGER ON shop.cart TO @{guest};

--- rights to columns
GRANT SELECT (id, name, status), UPDATE (tags) ON shop.customer TO @{guest};
GRANT SELECT (id, amount, issued), REFERENCES (id) ON billing.invoice TO @{app} WITH GRANT OPTION;
GRANT SELECT ("order", "ÄÖÜ"), INSERT ("a.b") ON "Lager & Größe"."Tabelle mit ""Anführung"" und 'Apostroph'" TO @{readers};

--- rights to functions, types, languages
REVOKE EXECUTE ON FUNCTION shop.order_total(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shop.order_total(bigint) TO @{app};
GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA shop TO @{admin} WITH GRANT OPTION;
REVOKE USAGE ON TYPE shop.address FROM PUBLIC;
GRANT USAGE ON TYPE shop.address TO @{app}, @{readers};
GRANT USAGE ON DOMAIN billing.currency TO @{owner};
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql TO @{owner}, @{billing}, @{admin};

--- rights handed on by one who is not the owner
GRANT SELECT ON billing.payment, billing.journal TO @{reporting} WITH GRANT OPTION;
GRANT USAGE ON SCHEMA billing TO @{reporting};
SET ROLE @{reporting};
GRANT SELECT ON billing.payment TO @{analyst} WITH GRANT OPTION;
GRANT USAGE ON SCHEMA analytics TO @{guest};
SET ROLE @{analyst};
GRANT SELECT ON billing.payment TO @{guest};
RESET ROLE;
SET ROLE @{admin};
GRANT CREATE ON DATABASE @{database} TO @{app};
RESET ROLE;

--- rights of what is made later
ALTER DEFAULT PRIVILEGES FOR ROLE @{owner} IN SCHEMA shop GRANT SELECT ON TABLES TO @{readers};
ALTER DEFAULT PRIVILEGES FOR ROLE @{owner} IN SCHEMA shop GRANT USAGE ON SEQUENCES TO @{app} WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE @{billing} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE @{billing} GRANT SELECT ON TABLES TO @{reporting};
ALTER DEFAULT PRIVILEGES FOR ROLE @{admin} REVOKE ALL ON TYPES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE @{admin} GRANT USAGE ON SCHEMAS TO @{app};

--- planner statistics
ANALYZE;
