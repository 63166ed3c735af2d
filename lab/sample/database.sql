--- database
CREATE DATABASE @{database} OWNER @{owner} TEMPLATE template0 ENCODING 'UTF8' CONNECTION LIMIT 150;

--- what belongs to the database as a whole
COMMENT ON DATABASE @{database} IS E'The shop''s database\nschön, 日本語, 🚀';
REVOKE ALL ON DATABASE @{database} FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE @{database} TO @{app};
GRANT CONNECT ON DATABASE @{database} TO @{readers}, @{guest}, @{billing}, @{admin};
GRANT CREATE ON DATABASE @{database} TO @{admin} WITH GRANT OPTION;

--- settings of the database, and of roles in it
ALTER DATABASE @{database} SET timezone = 'Asia/Kolkata';
ALTER DATABASE @{database} SET datestyle = 'SQL, DMY';
ALTER DATABASE @{database} SET intervalstyle = 'iso_8601';
ALTER DATABASE @{database} SET bytea_output = 'escape';
ALTER DATABASE @{database} SET search_path = "$user", shop, "Lager & Größe", public;
ALTER DATABASE @{database} SET "shop.currency" = 'EUR';
ALTER ROLE @{app} IN DATABASE @{database} SET search_path = shop, billing, "Lager & Größe";
ALTER ROLE @{app} IN DATABASE @{database} SET "shop.tenant" = '1';
ALTER ROLE @{analyst} IN DATABASE @{database} SET statement_timeout = '10min';
