--- owners and the application
CREATE ROLE @{owner} LOGIN PASSWORD @{owner_secret};
CREATE ROLE @{billing} LOGIN CONNECTION LIMIT 20 PASSWORD @{billing_secret};
CREATE ROLE @{app} LOGIN PASSWORD @{app_secret};
CREATE ROLE @{admin} LOGIN CREATEDB CREATEROLE NOINHERIT PASSWORD @{admin_secret} VALID UNTIL '2099-12-31 23:59:59+00';

--- groups and people
CREATE ROLE @{readers} NOLOGIN;
CREATE ROLE @{reporting} NOLOGIN BYPASSRLS;
CREATE ROLE @{analyst} LOGIN CONNECTION LIMIT 3 PASSWORD @{analyst_secret} VALID UNTIL 'infinity';
CREATE ROLE @{replicator} LOGIN REPLICATION PASSWORD @{replicator_secret};
CREATE ROLE @{locked} NOLOGIN PASSWORD @{locked_secret} VALID UNTIL '2020-01-01 00:00:00+00';
CREATE ROLE @{guest} LOGIN;

--- memberships
GRANT @{readers} TO @{reporting}, @{app};
GRANT @{readers} TO @{admin} WITH ADMIN OPTION;
GRANT @{reporting} TO @{analyst};
GRANT @{billing} TO @{admin} WITH ADMIN OPTION;
GRANT pg_monitor TO @{reporting};
GRANT pg_signal_backend TO @{admin};

--- a membership given by one who is not a superuser
SET ROLE @{admin};
GRANT @{readers} TO @{guest};
RESET ROLE;

--- memberships with options of their own (16+)
GRANT @{owner} TO @{admin} WITH ADMIN FALSE, INHERIT FALSE, SET TRUE;
GRANT @{billing} TO @{reporting} WITH INHERIT TRUE, SET FALSE;

--- memberships (13-15)
GRANT @{owner} TO @{admin};
GRANT @{billing} TO @{reporting};

--- settings of roles
ALTER ROLE @{app} SET lock_timeout = '5s';
ALTER ROLE @{app} SET search_path = shop, public;
ALTER ROLE @{analyst} SET work_mem = '64MB';
ALTER ROLE @{analyst} SET "shop.note" = 'it''s "quoted", \ and; separated';
ALTER ROLE @{reporting} SET default_transaction_read_only = on;

--- comments on roles
COMMENT ON ROLE @{owner} IS 'Owns the shop; it''s not a person';
COMMENT ON ROLE @{guest} IS E'Gäste\nzweite Zeile';
