--- schemas
CREATE SCHEMA shop AUTHORIZATION @{owner};
CREATE SCHEMA billing AUTHORIZATION @{billing};
CREATE SCHEMA logistics AUTHORIZATION @{owner};
CREATE SCHEMA analytics AUTHORIZATION @{owner};
CREATE SCHEMA "Lager & Größe" AUTHORIZATION @{admin};
CREATE SCHEMA empty_handed AUTHORIZATION @{owner};
GRANT USAGE ON SCHEMA shop, billing TO @{owner}, @{billing};
GRANT CREATE ON SCHEMA public TO @{owner};
COMMENT ON SCHEMA shop IS 'What customers see';
COMMENT ON SCHEMA "Lager & Größe" IS E'Nicht-ASCII: äöüß € \\ ''';

--- types
SET ROLE @{owner};
CREATE TYPE shop.customer_status AS ENUM ('new', 'active', 'on hold', 'it''s closed', 'gelöscht');
CREATE TYPE shop."Order State" AS ENUM ('open', 'paid', 'shipped', 'returned');
CREATE TYPE shop.address AS (street text, city text, zip varchar(10), country char(2));
CREATE TYPE shop.price_range AS RANGE (subtype = numeric);
CREATE DOMAIN shop.email AS text CHECK (VALUE ~ '^[^@[:space:]]+@[^@[:space:]]+$');
CREATE DOMAIN shop.positive AS integer DEFAULT 1 NOT NULL CONSTRAINT positive_check CHECK (VALUE > 0);
ALTER TYPE shop.customer_status ADD VALUE 'vip' BEFORE 'on hold';
COMMENT ON TYPE shop.address IS 'Where parcels go';
COMMENT ON DOMAIN shop.email IS 'One @, no blanks';
RESET ROLE;

--- types of the second owner
SET ROLE @{billing};
CREATE DOMAIN billing.currency AS char(3) DEFAULT 'EUR' CHECK (VALUE ~ '^[A-Z]{3}$');
CREATE DOMAIN billing.money_amount AS numeric(14, 2);
CREATE TYPE billing.payment_method AS ENUM ('card', 'transfer', 'cash', 'voucher');
RESET ROLE;

--- functions that tables use
SET ROLE @{owner};
CREATE FUNCTION shop.normalized(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT lower(btrim(value)) $$;
CREATE FUNCTION shop.city_of(place shop.address) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT (place).city $$;
COMMENT ON FUNCTION shop.normalized(text) IS 'What indexes compare';
RESET ROLE;
