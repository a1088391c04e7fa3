DROP TABLE users;
DROP FUNCTION kurir_add_month(text, date);
DROP FUNCTION kurir_uuid_v7();
DROP FUNCTION kurir_uuid_from(timestamptz);
