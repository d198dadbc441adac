-- Everything that somebody with CREATE on the schema "public" can offer to a session that finds it by its
-- search path: each operator for each pair of types that our statements may come to, each function with the
-- arguments of PostgreSQL's own and with closer ones, types, a collation and the catalogues. A session
-- that runs one of them gets an error that begins with "trojan".
SET search_path = pg_catalog;
DO $$
DECLARE
    ours text[] := ARRAY['"char"', 'bigint', 'boolean', 'double precision', 'integer', 'name', 'numeric', 'oid',
                         'regclass', 'smallint', 'text', 'timestamptz', 'uuid', 'varchar', 'pg_lsn'];
    a text; b text; o record; f record; gives text; variant text; made integer := 0;
    body text := ' LANGUAGE plpgsql AS $b$ BEGIN RAISE EXCEPTION ''trojan in public''; END $b$';
BEGIN
    FOREACH gives IN ARRAY ARRAY['boolean', 'bigint', 'text'] LOOP
        FOREACH a IN ARRAY ours LOOP
            EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s', 'trojan_' || gives, a, gives) || body;
            FOREACH b IN ARRAY ours LOOP
                EXECUTE format('CREATE FUNCTION public.%I(%s, %s) RETURNS %s', 'trojan_' || gives, a, b, gives) || body;
            END LOOP;
        END LOOP;
    END LOOP;
    -- In the order of the names, so that commutators are not made before their turn.
    FOR o IN SELECT oprname AS name, oprkind AS kind, bool_or(oprresult = 'boolean'::regtype) AS compares
             FROM pg_operator WHERE oprnamespace = 'pg_catalog'::regnamespace GROUP BY 1, 2 ORDER BY 1 LOOP
        gives := CASE WHEN o.compares THEN 'boolean' WHEN o.name = '||' THEN 'text' ELSE 'bigint' END;
        FOREACH b IN ARRAY ours LOOP
            IF o.kind = 'l' THEN
                EXECUTE format('CREATE OPERATOR public.%s (PROCEDURE = public.%I, RIGHTARG = %s)', o.name, 'trojan_' || gives, b);
                made := made + 1;
                CONTINUE;
            END IF;
            FOREACH a IN ARRAY ours LOOP
                EXECUTE format('CREATE OPERATOR public.%s (PROCEDURE = public.%I, LEFTARG = %s, RIGHTARG = %s)',
                               o.name, 'trojan_' || gives, a, b);
                made := made + 1;
            END LOOP;
        END LOOP;
    END LOOP;
    -- Functions: as they are, and with what our columns and results would fit better.
    FOR f IN SELECT p.proname AS name, pg_get_function_identity_arguments(p.oid) AS arguments, p.proargtypes,
                    format_type(p.prorettype, NULL) AS gives, p.proretset AS many
             FROM pg_proc AS p
             WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a') AND p.pronargs <= 4
               AND p.prorettype <> 'trigger'::regtype AND p.prorettype <> 'event_trigger'::regtype
               AND p.prorettype <> 'internal'::regtype LOOP
        FOREACH variant IN ARRAY ARRAY['as it is', 'varchar', 'text', 'bigint', 'integer', 'name', 'regclass', 'numeric'] LOOP
            a := (SELECT string_agg(CASE
                    WHEN variant = 'as it is' THEN format_type(t, NULL)
                    WHEN t IN ('text'::regtype, 'cstring'::regtype, 'name'::regtype, 'anyelement'::regtype, '"any"'::regtype)
                         AND variant IN ('varchar', 'text', 'name') THEN variant
                    WHEN t IN ('numeric'::regtype, 'double precision'::regtype, 'bigint'::regtype, 'integer'::regtype,
                               'oid'::regtype, 'anyelement'::regtype)
                         AND variant IN ('bigint', 'integer', 'regclass', 'numeric') THEN variant
                    ELSE format_type(t, NULL) END, ', ' ORDER BY n)
                  FROM unnest(f.proargtypes) WITH ORDINALITY AS u (t, n));
            BEGIN
                EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s%s', f.name, coalesce(a, ''),
                               CASE WHEN f.many THEN 'SETOF ' ELSE '' END, f.gives) || body;
                made := made + 1;
            EXCEPTION WHEN others THEN
                -- There is one, or PostgreSQL forbids it.
                NULL;
            END;
        END LOOP;
    END LOOP;
    IF made < 20000 THEN
        RAISE EXCEPTION 'only % trojans were made', made;
    END IF;
END
$$;
-- Found where "public" comes before pg_catalog.
CREATE FUNCTION public.trojan_check(anyelement) RETURNS boolean LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''trojan type''; END';
CREATE DOMAIN public.text AS pg_catalog.text CHECK (public.trojan_check(VALUE));
CREATE DOMAIN public.uuid AS pg_catalog.uuid CHECK (public.trojan_check(VALUE));
CREATE DOMAIN public.regclass AS pg_catalog.regclass CHECK (public.trojan_check(VALUE));
CREATE COLLATION public."C" (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE VIEW public.pg_class AS SELECT public.trojan_check(1) AS oid;
CREATE VIEW public.pg_attribute AS SELECT public.trojan_check(1) AS attrelid;
CREATE VIEW public.pg_proc AS SELECT public.trojan_check(1) AS oid;
CREATE VIEW public.pg_type AS SELECT public.trojan_check(1) AS oid;
