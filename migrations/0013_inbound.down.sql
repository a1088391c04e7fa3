DROP TRIGGER sessions_calls ON sessions;
DROP FUNCTION kurir_calls_changed();
