-- The parser takes what a dot, a slash or an underscore holds together for one word: list.pdf, today.Thanks, example.com/shop. People
-- look for the parts, so these are words too, behind the others. Texts without such a place are as before.
CREATE FUNCTION kurir_words(source text) RETURNS tsvector LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN source ~ '[^\s./_][./_][^\s./_]'
        THEN to_tsvector('simple', source) || to_tsvector('simple', translate(source, './_', '   '))
        ELSE to_tsvector('simple', source) END
$$;

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
        words := kurir_words(kurir_fold(left(content, 16384)));
    ELSE
        words := kurir_words(kurir_fold(concat_ws(' ', left(content, 16384), left(caption, 16384), left(filename, 1024))));
    END IF;
    IF length(words) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN array_to_tsvector(ARRAY[kurir_session_lexeme(session_uid)]) || words;
END
$$;
