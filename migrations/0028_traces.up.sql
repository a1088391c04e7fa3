-- What caused a row, where it is traced: a traceparent of the W3C, which is 55 characters. Null otherwise.
SET LOCAL lock_timeout = '2s';
ALTER TABLE messages ADD COLUMN trace varchar(55);
ALTER TABLE events ADD COLUMN trace varchar(55);
ALTER TABLE jobs ADD COLUMN trace varchar(55);
