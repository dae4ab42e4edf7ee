-- A role that may add and nothing else: it cannot read what a record says, nor
-- change or delete it. And one that may read.
DO $do$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['@name@_writer', '@name@_reader'] LOOP
        IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL; -- somebody else has just made it
            WHEN insufficient_privilege THEN
                RAISE WARNING 'role % was not made: that needs CREATEROLE. Run the output of "otelaudit schema postgres" as a role that has it.', role;
                CONTINUE;
        END;
    END LOOP;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '@name@_writer') THEN
        GRANT USAGE ON SCHEMA @schema@ TO "@name@_writer";
        GRANT INSERT, SELECT (origin, index, occurred_at, hash) ON @table@ TO "@name@_writer";
        GRANT INSERT, SELECT ON @schema@.@name@_stubs, @schema@.@name@_checkpoints TO "@name@_writer";
        GRANT SELECT ON @schema@.@name@_migrations TO "@name@_writer";
        GRANT EXECUTE ON FUNCTION @schema@.@name@_partition(date) TO "@name@_writer";
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '@name@_reader') THEN
        GRANT USAGE ON SCHEMA @schema@ TO "@name@_reader";
        GRANT SELECT ON @table@, @schema@.@name@_stubs, @schema@.@name@_checkpoints, @schema@.@name@_migrations TO "@name@_reader";
    END IF;
END
$do$;
