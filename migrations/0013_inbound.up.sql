-- A worker learns with the session's creation whether calls are to be refused. When that changes it counts as not
-- confirmed, so that the session is created again, at the same epoch, which a worker that holds it takes as news only.
CREATE FUNCTION kurir_calls_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.held_term := 0;
    NEW.held_at := NULL;
    RETURN NEW;
END $$;

CREATE TRIGGER sessions_calls BEFORE UPDATE OF settings ON sessions FOR EACH ROW
    WHEN (OLD.settings->'calls'->'reject' IS DISTINCT FROM NEW.settings->'calls'->'reject')
    EXECUTE FUNCTION kurir_calls_changed();
