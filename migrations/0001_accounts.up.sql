-- Helpers for IDs that begin with a time (UUID version 7).

-- The lowest version 7 UUID of an instant: the bound of a partition.
CREATE FUNCTION kurir_uuid_from(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- A new version 7 UUID, for rows that are made inside a statement.
CREATE FUNCTION kurir_uuid_v7() RETURNS uuid
LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;

-- Makes the partition of one month, named parent_YYYYMM, of a table that is partitioned by range of a version 7 UUID.
CREATE FUNCTION kurir_add_month(parent text, month date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    part text := parent || '_' || to_char(month, 'YYYYMM');
    first timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
    next timestamptz := (date_trunc('month', month::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass(part) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
        part, parent, kurir_uuid_from(first), kurir_uuid_from(next));
    RETURN true;
END
$$;

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    email         text NOT NULL CHECK (length(email) BETWEEN 3 AND 254 AND email = lower(email)),
    password_hash text NOT NULL,
    role          text NOT NULL DEFAULT 'USER' CHECK (role IN ('USER', 'ADMINISTRATOR')),
    tier          text NOT NULL DEFAULT 'BASIC' CHECK (tier IN ('BASIC', 'PRO', 'MAX')),
    is_active     boolean NOT NULL DEFAULT true,
    token_version integer NOT NULL DEFAULT 1,
    last_login_at timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_email_key UNIQUE (email)
);
