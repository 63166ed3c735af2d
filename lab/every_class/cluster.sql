--- roles
CREATE ROLE @{owner} LOGIN PASSWORD @{secret};
CREATE ROLE @{reader} NOLOGIN;
GRANT @{reader} TO @{owner};

--- privileges on parameters (15+)
GRANT SET ON PARAMETER log_min_duration_statement TO @{owner} WITH GRANT OPTION;
GRANT ALTER SYSTEM ON PARAMETER work_mem TO @{reader};

--- database
CREATE DATABASE @{database} OWNER @{owner} TEMPLATE template0 ENCODING 'UTF8';

--- properties of the database
COMMENT ON DATABASE @{database} IS 'Every class of object that pg_dump knows';
GRANT TEMPORARY ON DATABASE @{database} TO @{reader} WITH GRANT OPTION;
ALTER DATABASE @{database} SET search_path = every, extensions;
ALTER ROLE @{owner} IN DATABASE @{database} SET search_path = "Every Other", every;
