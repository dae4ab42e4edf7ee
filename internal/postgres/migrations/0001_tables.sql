-- The records. A unique key of a partitioned table must hold the partition's
-- column, so that the index alone allows a coordinate (origin, index) once for
-- each occurred_at; the trigger below allows it once.
CREATE TABLE IF NOT EXISTS @table@ (
    event_id                text,
    schema_version          integer,
    occurred_at             timestamptz NOT NULL,
    action                  text,
    outcome                 text,
    actor_id                text,
    actor_type              text,
    actor_display_name      text,
    actor_roles             text[],
    actor_ip                text,
    actor_user_agent        text,
    target_id               text,
    target_type             text,
    target_display_name     text,
    tenant_id               text,
    org_id                  text,
    target                  jsonb,
    context                 jsonb,
    metadata                jsonb,
    diff                    jsonb,
    integrity               jsonb,
    retention_tag           text,
    metadata_truncated      boolean,
    diff_truncated          boolean,
    attributes              jsonb,
    resource                jsonb,
    message                 jsonb,
    occurred_at_nanoseconds bigint NOT NULL,
    origin                  text COLLATE "C" NOT NULL,
    index                   bigint NOT NULL,
    stream                  text NOT NULL,
    seq                     bigint NOT NULL,
    sealed_at               bigint NOT NULL,
    prev                    bytea NOT NULL,
    hash                    bytea NOT NULL,
    canonical               bytea NOT NULL
) PARTITION BY RANGE (occurred_at);

-- A row of more than 2 KB is compressed: lz4 takes a fraction of the time.
DO $do$
BEGIN
    ALTER TABLE @table@
        ALTER COLUMN canonical SET COMPRESSION lz4, ALTER COLUMN metadata SET COMPRESSION lz4,
        ALTER COLUMN diff SET COMPRESSION lz4, ALTER COLUMN attributes SET COMPRESSION lz4,
        ALTER COLUMN message SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL; -- this server was built without
END
$do$;

CREATE UNIQUE INDEX IF NOT EXISTS @name@_coordinate ON @table@ (origin, index, occurred_at);
CREATE INDEX IF NOT EXISTS @name@_time ON @table@ (occurred_at);
CREATE INDEX IF NOT EXISTS @name@_tenant ON @table@ (tenant_id, occurred_at);
CREATE INDEX IF NOT EXISTS @name@_actor ON @table@ (actor_id, occurred_at);
CREATE INDEX IF NOT EXISTS @name@_action ON @table@ (action, occurred_at);

-- What no month's partition takes.
CREATE TABLE IF NOT EXISTS @schema@.@name@_default PARTITION OF @table@ DEFAULT;

-- What stands for a record that the database refused.
CREATE TABLE IF NOT EXISTS @schema@.@name@_stubs (
    origin    text COLLATE "C" NOT NULL,
    index     bigint NOT NULL,
    stream    text NOT NULL,
    seq       bigint NOT NULL,
    sealed_at bigint NOT NULL,
    prev      bytea NOT NULL,
    hash      bytea NOT NULL,
    digest    bytea NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (origin, index)
);

-- Signed tree heads: the first size records of the origin.
CREATE TABLE IF NOT EXISTS @schema@.@name@_checkpoints (
    origin text COLLATE "C" NOT NULL,
    size   bigint NOT NULL,
    note   text NOT NULL,
    range  bytea[] NOT NULL,
    PRIMARY KEY (origin, size)
);

-- Refuses a coordinate that is stored twice. It looks once at the indices that
-- a statement spans, through the unique index. The lock orders writers of one
-- origin: the later one sees what the earlier one stored.
CREATE OR REPLACE FUNCTION @schema@.@name@_once() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $function$
DECLARE
    span  record;
    twice boolean;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'insert with the isolation read committed: any other does not see what others have stored meanwhile'
            USING ERRCODE = 'feature_not_supported';
    END IF;
    FOR span IN
        SELECT i.origin, min(i.index) AS lowest, max(i.index) AS highest, count(*) AS rows
        FROM inserted i GROUP BY i.origin ORDER BY i.origin
    LOOP
        PERFORM pg_advisory_xact_lock(hashtextextended(span.origin, @lock@));
        IF span.highest - span.lowest < 4 * span.rows + 64 THEN
            SELECT count(*) > count(DISTINCT e.index) INTO twice
            FROM @table@ e
            WHERE e.origin = span.origin AND e.index BETWEEN span.lowest AND span.highest;
        ELSE
            SELECT EXISTS (
                SELECT FROM (SELECT DISTINCT i.index FROM inserted i WHERE i.origin = span.origin) i
                JOIN @table@ e ON e.origin = span.origin AND e.index = i.index
                GROUP BY e.index HAVING count(*) > 1) INTO twice;
        END IF;
        IF twice THEN
            RAISE EXCEPTION 'a coordinate of @table@ is stored twice'
                USING ERRCODE = 'unique_violation', CONSTRAINT = '@name@_once';
        END IF;
    END LOOP;
    RETURN NULL;
END
$function$;

DROP TRIGGER IF EXISTS @name@_once ON @table@;
CREATE TRIGGER @name@_once AFTER INSERT ON @table@
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION @schema@.@name@_once();

-- Makes the partition of a month (in UTC) and says whether there is one: none
-- is made for months that are more than two years past or three months ahead.
-- It runs with the rights of its owner, so that a role that may only insert can
-- call it. Rows of the month that the default partition holds move over.
CREATE OR REPLACE FUNCTION @schema@.@name@_partition(month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $function$
DECLARE
    first timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
    after timestamptz := (date_trunc('month', month::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
    part  text := '@name@_' || to_char(month, 'YYYY_MM');
BEGIN
    IF first < now() - interval '25 months' OR first > now() + interval '3 months' THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('@table@ partitions', @lock@));
    IF EXISTS (
        SELECT FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
        WHERE h.inhparent = '@table@'::regclass AND c.relname = part) THEN
        RETURN true;
    END IF;
    BEGIN
        LOCK TABLE @schema@.@name@_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE @schema@.%I (LIKE @table@ INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)', part);
        EXECUTE format('WITH moved AS (DELETE FROM @schema@.@name@_default WHERE occurred_at >= %L AND occurred_at < %L RETURNING *)'
            ' INSERT INTO @schema@.%I SELECT * FROM moved', first, after, part);
        EXECUTE format('ALTER TABLE @table@ ATTACH PARTITION @schema@.%I FOR VALUES FROM (%L) TO (%L)', part, first, after);
    EXCEPTION WHEN invalid_object_definition THEN
        NULL; -- a partition of another name has the month, or a part of it
    END;
    RETURN true;
END
$function$;

REVOKE ALL ON FUNCTION @schema@.@name@_partition(date) FROM PUBLIC;
