CREATE OR REPLACE FUNCTION kurir_document(session_uid uuid, kind text, content text, caption text, filename text, deleted_at timestamptz)
RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    words tsvector;
BEGIN
    IF deleted_at IS NOT NULL OR kind IN ('REACTION', 'EDIT', 'DELETE', 'VOTE') THEN
        RETURN NULL;
    END IF;
    IF caption IS NULL AND filename IS NULL THEN
        IF content = '' THEN
            RETURN NULL;
        END IF;
        words := to_tsvector('simple', kurir_fold(left(content, 16384)));
    ELSE
        words := to_tsvector('simple', kurir_fold(concat_ws(' ', left(content, 16384), left(caption, 16384), left(filename, 1024))));
    END IF;
    IF length(words) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN array_to_tsvector(ARRAY[kurir_session_lexeme(session_uid)]) || words;
END
$$;

DROP FUNCTION kurir_words(text);
